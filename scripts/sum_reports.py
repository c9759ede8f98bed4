"""Add up the reports of the test lanes: ``sum_reports.py FOLDER`` prints one line with the totals."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def totals(folder: Path) -> tuple[int, int, int]:
    """Numbers of passed, failed (errors included) and skipped tests in all JUnit reports of a folder."""
    passed = failed = skipped = 0
    for report in folder.glob("*.xml"):
        # Written by our own test runs a moment ago.
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            left_out = int(suite.get("skipped", 0))
            passed += int(suite.get("tests", 0)) - bad - left_out
            failed += bad
            skipped += left_out
    return passed, failed, skipped


def main() -> None:
    """Print the totals; nothing when no test ran."""
    passed, failed, skipped = totals(Path(sys.argv[1]))
    if passed or failed or skipped:
        print(f"total: {passed} passed, {failed} failed, {skipped} skipped")


if __name__ == "__main__":
    main()
