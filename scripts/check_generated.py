"""Check that generated files are fresh; with ``--write``, make them so.

Each entry of ``GENERATED`` is a file and the command that prints its content.
"""

from __future__ import annotations

import difflib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 120
SHOWN_LINES = 40


@dataclass(frozen=True)
class Generated:
    """A file (relative to the repository) and the arguments of Python that print its content."""

    file: str
    arguments: tuple[str, ...]


GENERATED: tuple[Generated, ...] = tuple(
    Generated(file, (script, "--print", file))
    for script, files in {
        "scripts/generate_schema.py": (
            "schemas/topology.schema.json",
            "docs/reference/topology.md",
            "schemas/device.schema.json",
            "schemas/cli.schema.json",
            "docs/reference/devices.md",
            "docs/reference/device-catalogue.md",
        ),
        "scripts/generate_cli_reference.py": ("docs/reference/cli.md", "docs/reference/settings.md"),
        "scripts/generate_openapi.py": ("docs/reference/openapi.json",),
        "scripts/generate_parity.py": ("docs/reference/parity.md",),
        "scripts/generate_verification.py": ("docs/reference/device-verification.md",),
    }.items()
    for file in files
)


def content_of(entry: Generated) -> str:
    """Run the entry's generator.

    :raises subprocess.CalledProcessError: the generator failed (its words are on standard error).
    """
    command = [sys.executable, *entry.arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_SECONDS, check=True
    )
    return done.stdout


def difference(file: str, old: str, new: str) -> str:
    """The first lines of a unified diff."""
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), f"{file} (committed)", f"{file} (fresh)", lineterm=""
    )
    return "\n".join(list(lines)[:SHOWN_LINES])


def main() -> int:
    """Compare or write every file; returns the exit code."""
    write = sys.argv[1:] == ["--write"]
    stale = 0
    for entry in GENERATED:
        path = REPOSITORY / entry.file
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = content_of(entry)
        if old == new:
            continue
        stale += 1
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"written: {entry.file}")
        else:
            print(difference(entry.file, old, new))
    print(f"{len(GENERATED)} generated files, {stale} {'written' if write else 'stale'}")
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main())
