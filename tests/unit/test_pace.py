"""The pace of the agent's loop."""

from __future__ import annotations

import pytest

from wireloom.agent.pace import BURST_S, LONGEST_PAUSE_S, PAUSE_FACTOR, SETTLE_S, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def passed(clock: Clock, pace: Pace, seconds: float) -> None:
    clock.now += seconds
    pace.spent(seconds)


def test_a_few_passes_in_a_row_wait_only_for_events_that_belong_together(clock: Clock) -> None:
    pace = Pace(clock)
    for _ in range(4):
        passed(clock, pace, BURST_S / 5)
        assert pace.pause() == SETTLE_S


def test_a_pass_long_ago_delays_nothing(clock: Clock) -> None:
    pace = Pace(clock)
    passed(clock, pace, 3)
    clock.now += LONGEST_PAUSE_S
    assert pace.pause() == SETTLE_S


def test_no_pause_is_longer_than_people_would_notice(clock: Clock) -> None:
    pace = Pace(clock)
    passed(clock, pace, 60)
    assert pace.pause() == pytest.approx(LONGEST_PAUSE_S)


def test_in_the_long_run_looking_takes_a_small_share_of_the_time(clock: Clock) -> None:
    pace = Pace(clock)
    began, looked = clock.now, 0.0
    for _ in range(200):
        clock.now += pace.pause()
        passed(clock, pace, 0.02)
        looked += 0.02
    assert looked / (clock.now - began) == pytest.approx(1 / PAUSE_FACTOR, rel=0.1)
