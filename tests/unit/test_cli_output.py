"""Tables, durations and errors as text."""

from __future__ import annotations

import pytest

from wireloom.cli.failures import diagnostic_lines, error_lines
from wireloom.cli.output import Output, duration
from wireloom.errors import RuntimeFailed, TopologyInvalid


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1, "0.0s"),
        (0.44, "0.4s"),
        (12.4, "12s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (7800, "2h10m"),
        (356400, "4d03h"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_table_without_a_terminal_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("name", "state"), [("r1", "running"), ("router-2", None)])
    assert capsys.readouterr().out == "NAME      STATE\nr1        running\nrouter-2  -\n"


def test_an_empty_table_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("name",), [], empty="no labs")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no labs\n")


def test_a_diagnostic_shows_its_line_with_a_caret() -> None:
    diagnostic = {"file": "lab.yml", "line": 2, "column": 3, "message": "unknown key", "suggestion": "did you mean x?"}
    assert diagnostic_lines(diagnostic, {"lab.yml": "nodes:\n  y: 1\n"}) == [
        "lab.yml:2:3: unknown key",
        "    2 |   y: 1",
        "      |   ^",
        "    = did you mean x?",
    ]


def test_the_caret_keeps_tabs() -> None:
    diagnostic = {"file": "f", "line": 1, "column": 2, "message": "m"}
    assert diagnostic_lines(diagnostic, {"f": "\tx"})[2] == "      | \t^"


def test_a_diagnostic_beyond_the_text_still_has_its_place() -> None:
    assert diagnostic_lines({"file": "f", "line": 9, "column": 1, "message": "m"}, {"f": "x"}) == ["f:9:1: m"]


def test_all_diagnostics_of_a_topology_are_shown_and_counted() -> None:
    found = [{"file": "f", "line": n, "column": 1, "message": f"m{n}"} for n in (1, 2)]
    error = TopologyInvalid("f has 2 mistakes", details={"diagnostics": found})
    assert error_lines(error.to_wire(), sources={}) == ["f:1:1: m1", "f:2:1: m2", "error: 2 mistakes"]


def test_an_error_names_its_node_and_says_what_to_do() -> None:
    error = RuntimeFailed("the guest ended", node="r1", hint="look at its log")
    assert error_lines(error.to_wire(), sources={}) == ["error: r1: the guest ended", "hint: look at its log"]


def test_preflight_problems_are_listed_per_node() -> None:
    problem = RuntimeFailed("no image", node="r2", hint="build it").to_wire()
    error = RuntimeFailed("preflight failed", details={"problems": [problem]})
    assert error_lines(error.to_wire(), sources={}) == [
        "error: preflight failed",
        "  r2: no image",
        "    hint: build it",
    ]
