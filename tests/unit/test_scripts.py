"""The small programs beside the package: limits, totals, the demonstration's checks, generated files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_generated
import check_limits
import demo_checks
import sum_reports

NEIGHBORS = """
Neighbor ID     Pri State           Up Time         Dead Time Address         Interface                        RXmtL
10.255.0.2        1 Full/-          12.3s             3.2s 10.0.12.2       eth1:10.0.12.1                   0     0
10.255.0.4        1 {state}/-          11.9s             3.1s 10.0.41.1       eth2:10.0.41.2                   0     0
"""


@pytest.mark.parametrize(("state", "full"), [("Full", True), ("Init", False), ("ExStart", False)])
def test_ospf_is_full_only_when_every_neighbour_is(state: str, full: bool) -> None:
    assert demo_checks.all_neighbors_full(NEIGHBORS.format(state=state)) is full


def test_no_neighbours_are_not_full() -> None:
    assert not demo_checks.all_neighbors_full("\nNeighbor ID     Pri State\n")


def test_long_modules_and_functions_are_reported_without_their_docstrings(tmp_path: Path) -> None:
    body = "".join(f"    x = {number}\n" for number in range(59))
    fits = f'def fits() -> None:\n    """One\n\n    two.\n    """\n{body}'
    long = f"def long() -> None:\n{body}    x = 0\n"
    module = tmp_path / "module.py"
    module.write_text(fits + long + "#\n" * 400)
    found = dict(check_limits.violations(module, "module.py"))
    assert set(found) == {"module.py", "module.py:long"}
    assert "has 61 lines" in found["module.py:long"]


def sum_reports_add_up_over_reports(tmp_path: Path) -> None:
    suite = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'
    (tmp_path / "unit.xml").write_text(suite.format(10, 1, 1, 2))
    (tmp_path / "system.xml").write_text(suite.format(5, 0, 0, 0))
    assert sum_reports.totals(tmp_path) == (11, 2, 2)


def test_stale_generated_files_fail_and_are_written_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_generated, "REPOSITORY", tmp_path)
    entry = check_generated.Generated("made/file.txt", ("-c", "print('fresh')"))
    monkeypatch.setattr(check_generated, "GENERATED", (entry,))
    monkeypatch.setattr(sys, "argv", ["check_generated.py"])
    assert check_generated.main() == 1
    assert "+fresh" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["check_generated.py", "--write"])
    assert check_generated.main() == 0
    monkeypatch.setattr(sys, "argv", ["check_generated.py"])
    assert check_generated.main() == 0
