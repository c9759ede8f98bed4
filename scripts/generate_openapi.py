"""Generate docs/reference/openapi.json from the API's routes.

``generate_openapi.py`` writes it, ``--check`` fails when it is stale, ``--print FILE`` prints it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from wireloom.api.app import openapi_document

FILE: Final = "docs/reference/openapi.json"
REPOSITORY: Final = Path(__file__).resolve().parent.parent


def content() -> str:
    """The document as text; keys are sorted so that a change reads well."""
    return json.dumps(openapi_document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Returns the exit code: 1 when ``--check`` found it stale, 2 for a wrong call."""
    target = REPOSITORY / FILE
    match sys.argv[1:]:
        case []:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content(), encoding="utf-8")
            return 0
        case ["--check"]:
            if target.exists() and target.read_text(encoding="utf-8") == content():
                return 0
            print(f"stale: {FILE}; run scripts/generate_openapi.py")
            return 1
        case ["--print", file] if file == FILE:
            sys.stdout.write(content())
            return 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
