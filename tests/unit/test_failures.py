"""The failure budget: back-off, first cause, terminal, and what clears it."""

from __future__ import annotations

from wireloom.errors import ImageMissing, RuntimeFailed
from wireloom.planning.failures import FAILURE_BUDGET, STABLE_AFTER_S, after_failure, backoff_s
from wireloom.planning.plan import NodeRecord

NOW = 100.0


def fail(record: NodeRecord, message: str = "busy", *, attention: int = 0, ran_s: float = 0.0) -> NodeRecord:
    return after_failure(record, RuntimeFailed(message).to_wire(), now=NOW, attention=attention, ran_s=ran_s)


def test_back_off_doubles_up_to_a_limit() -> None:
    assert [backoff_s(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_the_budget_ends_in_a_terminal_error_with_its_first_cause() -> None:
    record = NodeRecord()
    for number in range(FAILURE_BUDGET):
        assert not record.terminal
        record = fail(record, f"cause {number}")
    assert record.terminal
    assert record.error is not None
    assert record.error["message"] == "cause 0"


def test_an_error_that_cannot_pass_is_terminal_at_once() -> None:
    assert after_failure(NodeRecord(), ImageMissing("none").to_wire(), now=NOW, attention=0).terminal


def test_a_failure_after_a_long_run_counts_as_the_first() -> None:
    record = fail(fail(NodeRecord()))
    assert fail(record).failures == 3
    assert fail(record, ran_s=STABLE_AFTER_S).failures == 1


def test_a_failure_after_the_user_asked_again_counts_as_the_first() -> None:
    record = fail(fail(NodeRecord()))
    again = fail(record, "new", attention=1)
    assert again.failures == 1
    assert again.error is not None
    assert again.error["message"] == "new"
