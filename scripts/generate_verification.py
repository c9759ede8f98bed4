"""Make docs/reference/device-verification.md from the catalogue and the record of tests/system/test_guest_access.py.

``generate_verification.py [--from FILE]`` puts what the last runs (or FILE) showed into the page; what they were not
about stays, see :func:`wireloom.testing.conformance.guest_table.overlaid`.
``--print FILE`` prints the page with the entries that it has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from wireloom.devices import DeviceCatalogue
from wireloom.testing.conformance.guest_table import PAGE, RECORD, load, overlaid, parse, render

REPOSITORY: Final = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    page = REPOSITORY / PAGE
    entries = parse(page.read_text(encoding="utf-8")) if page.exists() else frozenset()
    if not options.print:
        recorded = load((options.record or REPOSITORY / RECORD).read_text(encoding="utf-8"))
        entries = overlaid(entries, recorded)
    text = render(entries, DeviceCatalogue.load())
    if options.print:
        sys.stdout.write(text)
    else:
        page.write_text(text, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="record", type=Path, metavar="FILE", help=f"recorded entries, else {RECORD}")
    parser.add_argument("--print", choices=[PAGE], help="write nothing; print the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
