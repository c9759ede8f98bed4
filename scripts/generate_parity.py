"""Make docs/reference/parity.md from what a run of the contract tests has recorded.

``generate_parity.py [--from FILE]`` puts the outcomes of the last run (or of FILE) into the page; cells that the run
did not fill stay. ``--check`` fails when the page does not hold the checks and backends of the suites, with ``--from``
also when an outcome differs. ``--print FILE`` prints the page with the outcomes that it has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from wireloom.testing.conformance.parity import FAILED, PAGE, RECORD, load, parse, render

REPOSITORY: Final = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 1 when the page is stale or the recorded run failed."""
    options = _parser().parse_args(arguments)
    page = REPOSITORY / PAGE
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    outcomes = parse(old)
    if options.record is not None or not (options.check or options.print):
        recorded = load((options.record or REPOSITORY / RECORD).read_text(encoding="utf-8"))
        failed = [f"{cell.check} on {cell.backend}, {cell.way}" for cell, text in recorded.items() if text == FAILED]
        if failed:
            print("failed in the recorded run:", *failed, sep="\n  ")
            return 1
        outcomes |= recorded
    new = render(outcomes)
    if options.print:
        sys.stdout.write(new)
    elif not options.check:
        page.write_text(new, encoding="utf-8")
    elif old != new:
        print(f"stale: {PAGE}; run the contract tests and then scripts/generate_parity.py")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="record", type=Path, metavar="FILE", help=f"recorded outcomes, else {RECORD}")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")
    mode.add_argument("--print", choices=[PAGE], help="write nothing; print the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
