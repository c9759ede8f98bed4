"""Records what the conformance suites show, for the parity table, and holds the run against the published page."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import pytest

from wireloom.testing.conformance.parity import FAILED, NOT_RUN, PAGE, PASSED, RECORD, Cell, absent, dump, parse

OUTCOMES: Final = pytest.StashKey[dict[Cell, str]]()
PUBLISHED: Final = pytest.StashKey[dict[Cell, str]]()


def pytest_configure(config: pytest.Config) -> None:
    page = config.rootpath / PAGE
    config.stash[PUBLISHED] = parse(page.read_text(encoding="utf-8")) if page.exists() else {}
    config.stash[OUTCOMES] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    cell = _cell(item)
    if cell is None or not (report.when == "call" or report.failed):
        return report
    outcome = item.config.stash[OUTCOMES][cell] = _outcome(report, call)
    published = item.config.stash[PUBLISHED].get(cell, NOT_RUN)
    if not report.failed and outcome != published:
        report.outcome = "failed"
        report.longrepr = f"{PAGE} says {published!r}, the run {outcome!r}: run scripts/generate_parity.py"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    outcomes = session.config.stash[OUTCOMES]
    if outcomes:
        record = session.config.rootpath / RECORD
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(dump(outcomes), encoding="utf-8")


def _cell(item: pytest.Function) -> Cell | None:
    """The cell that a test of a conformance suite fills; other tests have none."""
    if item.originalname not in {"test_provider", "test_data_plane"}:
        return None
    parameters: dict[str, Any] = item.callspec.params
    if item.originalname == "test_provider":
        technology, way = parameters["rig"]
        return Cell("provider", parameters["check"].name, technology, way)
    check = parameters["check"].__name__.removeprefix("check_")
    return Cell("dataplane", check, parameters["factory"].name, "direct")


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if report.failed:
        return FAILED
    if call.excinfo is not None and isinstance(call.excinfo.value, pytest.skip.Exception):
        return absent(call.excinfo.value.msg or "")
    return PASSED
