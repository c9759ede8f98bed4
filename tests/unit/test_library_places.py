"""Places that jobs take, so many of each kind of work."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from wireloom.controller.library.places import Places


def make(network: int = 1, disk: int = 1) -> tuple[Places, list[str]]:
    freed: list[str] = []
    return Places({"network": network, "disk": disk}, lambda: freed.append("freed")), freed


async def test_lanes_are_bounded_each_for_itself() -> None:
    places, freed = make()
    assert places.take("a", "network")
    assert places.take("a", "network")
    assert not places.take("b", "network")
    assert places.take("b", "disk")
    assert freed == []
    places.leave("a")
    places.leave("a")
    assert freed == ["freed"]


async def test_who_goes_over_keeps_no_place_and_goes_before_who_has_not_begun() -> None:
    places, freed = make()
    assert places.take("busy", "disk")
    assert places.take("mover", "network")
    over = asyncio.create_task(places.wait("mover", "disk"))
    await asyncio.sleep(0)
    assert freed == ["freed"]
    assert places.take("next", "network")
    places.leave("busy")
    assert not places.take("new", "disk")
    await over
    places.leave("mover")
    assert places.take("new", "disk")


async def test_a_place_that_is_freed_on_the_way_is_taken_by_no_other() -> None:
    taken: list[bool] = []
    places = Places({"network": 1, "disk": 1}, lambda: taken.append(places.take("waits", "disk")))
    assert places.take("mover", "network")
    assert places.take("mover", "disk")
    assert taken == [False]


async def test_who_waits_no_more_is_given_nothing() -> None:
    places, _ = make()
    assert places.take("busy", "disk")
    waits = asyncio.create_task(places.wait("gone", "disk"))
    await asyncio.sleep(0)
    waits.cancel()
    with suppress(asyncio.CancelledError):
        await waits
    places.leave("gone")
    places.leave("busy")
    assert places.take("new", "disk")


async def test_places_that_are_freed_at_the_same_time_are_all_given_on() -> None:
    taken: list[bool] = []
    places = Places({"network": 1, "disk": 2}, lambda: taken.append(places.take("new", "disk")))
    assert places.take("one", "disk")
    assert places.take("two", "disk")
    waits = asyncio.create_task(places.wait("waits", "disk"))
    await asyncio.sleep(0)
    places.leave("one")
    places.leave("two")
    assert taken == [True]
    await waits


async def test_who_was_cancelled_while_it_waited_stands_in_nobody_s_way() -> None:
    taken: list[bool] = []
    places = Places({"network": 1, "disk": 1}, lambda: taken.append(places.take("new", "disk")))
    assert places.take("busy", "disk")
    waits = asyncio.create_task(places.wait("gone", "disk"))
    await asyncio.sleep(0)
    waits.cancel()
    places.leave("busy")
    assert taken == [True]
    with suppress(asyncio.CancelledError):
        await waits
