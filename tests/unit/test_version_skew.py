"""Versions further apart are told of; an intent that cannot be understood changes nothing."""

from __future__ import annotations

import pytest

from wireloom.agent.later_intents import LaterIntents
from wireloom.controller.live import LiveState
from wireloom.controller.skew import skew_problem
from wireloom.fabric.documents import HostFacts
from wireloom.model.slice import SLICE_SCHEMA, Slice


@pytest.mark.parametrize(
    ("host", "controller", "told"),
    [
        ("0.1.0", "0.1.9", ""),
        ("0.1.0", "0.2.0", ""),
        ("0.3.0.dev1", "0.2.0", ""),
        ("0.1.0", "0.3.0", "upgrade this host"),
        ("0.9.0", "0.3.0", "upgrade the controller"),
        ("1.0.0", "0.9.0", "upgrade the controller"),
        ("", "0.1.0", ""),
        ("a build of somebody's", "0.1.0", ""),
    ],
)
def test_agents_up_to_one_minor_version_away_work_with_a_controller(host: str, controller: str, told: str) -> None:
    problem = skew_problem(host, controller)
    assert bool(problem) == bool(told)
    assert problem.endswith(told)


def test_a_host_of_a_version_further_away_says_so_among_its_problems() -> None:
    live = LiveState(lambda: 1.0)
    live.set_host("h1", HostFacts(host="h1", version="99.0.0", installation="i", time=1, problems=("a fan",)))
    facts = live.view("h1").facts
    assert facts is not None
    assert facts["problems"][0] == "a fan"
    assert "99.0.0" in facts["problems"][1]


def intent(schema: int) -> Slice:
    return Slice(schema_version=schema, installation="i", lab_id="l1", lab="campus", generation=1)


def test_an_intent_of_a_later_schema_is_not_acted_on_and_told_until_there_is_another() -> None:
    later = LaterIntents()
    assert later.take("l1", intent(SLICE_SCHEMA))
    assert not later.take("l1", intent(SLICE_SCHEMA + 1))
    assert "campus" in later.problems[0]
    assert later.take("l1", intent(SLICE_SCHEMA))
    assert later.problems == ()


def test_a_lab_that_has_gone_is_no_longer_told_of() -> None:
    later = LaterIntents()
    later.take("l1", intent(SLICE_SCHEMA + 1))
    assert later.take("l1", None)
    assert later.problems == ()
