"""Devices without a label: which of them are ours, and when they are left-overs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wireloom.dataplane.host.leftovers import Leftovers, is_unlabelled
from wireloom.dataplane.host.links import Link
from wireloom.model.identity import device_name, is_device_name

BRIDGE = Link(index=7, name=device_name("s", "made"), kind="bridge")


@pytest.mark.parametrize("name", ["wlbr0", "wlan0", "wlp2s0", "wls0123456789a", "wls0123456789abc", "wlS0123456789ab"])
def test_names_that_others_may_give_are_not_ours(name: str) -> None:
    assert not is_device_name(name)
    assert not is_unlabelled(replace(BRIDGE, name=name), "bridge")


def test_device_with_any_label_or_of_another_kind_is_no_left_over() -> None:
    assert is_unlabelled(BRIDGE, "bridge")
    assert not is_unlabelled(replace(BRIDGE, alias="rack 4"), "bridge")
    assert not is_unlabelled(replace(BRIDGE, kind="tun"), "bridge")


def test_left_over_is_due_once_its_maker_had_the_time_to_label_it() -> None:
    now = 100.0
    leftovers = Leftovers("bridge", lambda: now)
    assert leftovers.due([BRIDGE]) == []
    now += 29
    assert leftovers.due([BRIDGE]) == []
    now += 1
    assert leftovers.due([BRIDGE]) == [BRIDGE.name]


def test_device_that_was_made_anew_gets_the_time_again() -> None:
    now = 100.0
    leftovers = Leftovers("bridge", lambda: now)
    leftovers.due([BRIDGE])
    now += 60
    assert leftovers.due([replace(BRIDGE, index=8)]) == []
    assert leftovers.due([]) == []
    assert leftovers.due([BRIDGE]) == []
