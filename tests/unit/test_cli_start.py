"""How little the command line loads before it has anything to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What takes tens of milliseconds to load, and is of use only once a command is carried out.
HEAVY = ("asyncio", "httpx", "pydantic", "rich", "ruamel.yaml", "structlog", "websockets")


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_nothing_heavy_is_loaded_to_say_what_it_is(word: str) -> None:
    program = (
        "import sys\n"
        "from wireloom.cli.main import app\n"
        f"assert app([{word!r}], standalone_mode=False) in (None, 0)\n"
        f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
