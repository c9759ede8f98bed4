"""Bounded budgets: what a failure does to a node's record. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wireloom.planning.plan import NodeRecord

__all__ = ["FAILURE_BUDGET", "STABLE_AFTER_S", "after_failure", "after_stuck", "backoff_s"]

#: After so many failures in a row a node is left alone until the user clears it.
FAILURE_BUDGET = 5
#: A node that ran this long has proved itself: the next failure counts as the first.
STABLE_AFTER_S = 30.0
_LONGEST_WAIT_S = 30.0


def backoff_s(failures: int) -> float:
    """Seconds to wait after the ``failures``-th failure in a row: 1, 2, 4, 8, … up to 30."""
    return float(min(2 ** max(failures - 1, 0), _LONGEST_WAIT_S))


def after_failure(
    record: NodeRecord, error: dict[str, Any], *, now: float, attention: int, verb: str = "up", ran_s: float = 0.0
) -> NodeRecord:
    """The record after one more failure.

    :param verb: what failed; a node that ended by itself failed to be ``up``.
    :param error: wire form of what happened; the first cause in a row is the one that is kept.
    :param attention: the user's counter when it happened, so that only a later one clears it.
    :param ran_s: how long the node had been running before.
    """
    first = record.failures == 0 or ran_s >= STABLE_AFTER_S or record.attention < attention
    failures = 1 if first else record.failures + 1
    terminal = not error.get("retryable", False) or failures >= FAILURE_BUDGET
    return replace(
        record,
        failures=failures,
        retry_at=now + backoff_s(failures),
        terminal=terminal,
        failed=verb,
        attention=attention,
        error=error if first or record.error is None else record.error,
    )


def after_stuck(record: NodeRecord, error: dict[str, Any], *, now: float, attention: int) -> NodeRecord:
    """The record of a running node whose guest does not get on without a restart.

    It is counted like a failure to start, however long the guest stood there, until the user clears it. The error that
    is shown is the first cause, although each start in between has cleared the record's own.

    :param error: wire form of what the dialogue ended with; ``attention``: see :func:`after_failure`.
    """
    fresh = record.failures == 0 or record.attention < attention
    cause = error if fresh or record.stuck is None else record.stuck
    counted = after_failure(record, {**error, "retryable": True}, now=now, attention=attention)
    asked = "" if counted.terminal else str(error.get("message", "")) or "it does not get on"
    return replace(counted, error=cause, stuck=cause, restart_for=asked)
