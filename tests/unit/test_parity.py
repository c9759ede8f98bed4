"""The parity table: outcomes survive the page and the record, and a page never claims what did not run."""

from __future__ import annotations

from wireloom.testing.conformance.parity import FAILED, PASSED, SUITES, Cell, absent, dump, load, parse, render

CELLS = [
    Cell(key, check, backend, way)
    for key, suite in SUITES.items()
    for check in suite.checks
    for backend in suite.backends
    for way in suite.ways
]
OUTCOMES = {cell: (PASSED, FAILED, absent("exec and binds are not declared"))[n % 3] for n, cell in enumerate(CELLS)}


def test_outcomes_survive_the_page() -> None:
    assert parse(render(OUTCOMES)) == OUTCOMES
    assert parse(render({CELLS[0]: PASSED})) == {CELLS[0]: PASSED}


def test_outcomes_survive_the_record() -> None:
    assert load(dump(OUTCOMES)) == OUTCOMES


def test_a_page_without_a_run_claims_nothing() -> None:
    assert parse(render({})) == {}
    assert render({}).count("not run |") == sum(len(suite.checks) * len(suite.backends) for suite in SUITES.values())


def test_what_the_suites_do_not_have_is_left_out_of_the_page() -> None:
    assert render({Cell("provider", "no_such_check", "docker", "direct"): PASSED}) == render({})


def test_every_check_says_what_it_shows() -> None:
    assert [check for suite in SUITES.values() for check, sentence in suite.checks.items() if not sentence] == []
