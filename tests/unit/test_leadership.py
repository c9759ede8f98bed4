"""The lead of a lab: one controller at a time, by the database's clock there and by its own clock here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from wireloom.controller.leadership import INSTALLATION, LEASE_S, MARGIN_S, Leadership
from wireloom.errors import Unavailable


class Leases:
    """What :class:`LeaseStore` does, with a clock of a test."""

    shared = True

    def __init__(self) -> None:
        self.now = 0.0
        self.until: dict[str, float] = {}
        self.led: dict[str, tuple[str, int]] = {INSTALLATION: ("", 0), "lab": ("", 0)}
        self.away = False

    async def renew(self, controller: str, url: str, lease_s: float) -> Mapping[str, int]:
        if self.away:
            raise Unavailable("the database does not answer")
        self.until[controller] = self.now + lease_s
        self.until = {name: end for name, end in self.until.items() if end >= self.now}
        for lab_id, (leader, term) in self.led.items():
            if leader not in self.until:
                self.led[lab_id] = (controller, term + 1)
        return {lab_id: term for lab_id, (leader, term) in self.led.items() if leader == controller}

    async def leave(self, controller: str) -> None:
        self.until.pop(controller, None)


class Two:
    """Two controllers, whose clocks go alike and show other times."""

    def __init__(self) -> None:
        self.leases = Leases()
        self.one = Leadership(self.leases, monotonic=lambda: self.leases.now + 100, new_id=lambda: "one")  # type: ignore[arg-type]
        self.two = Leadership(self.leases, monotonic=lambda: self.leases.now - 5000, new_id=lambda: "two")  # type: ignore[arg-type]

    async def renew(self, *controllers: Leadership) -> None:
        for controller in controllers:
            await controller.renew()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_the_first_one_leads_and_the_other_takes_over_when_it_is_silent() -> None:
    pair = Two()
    await pair.renew(pair.one, pair.two)
    assert pair.one.leads("lab")
    assert pair.one.leads()
    assert not pair.two.leads("lab")
    pair.leases.now += LEASE_S + 0.1
    await pair.renew(pair.two)
    assert pair.two.leads("lab")
    assert not pair.one.leads("lab")


async def test_who_cannot_renew_stops_before_another_one_may_begin() -> None:
    pair = Two()
    await pair.renew(pair.one)
    pair.leases.now += LEASE_S - MARGIN_S
    assert not pair.one.leads("lab")
    await pair.renew(pair.two)
    assert not pair.two.leads("lab"), "the lease still counts for the database"


async def test_a_lab_is_led_only_after_it_was_read_and_reading_is_tried_again() -> None:
    pair = Two()
    reading = asyncio.Event()
    tries: list[str] = []

    async def read(lab_id: str) -> None:
        tries.append(lab_id)
        if len(tries) == 1:
            raise Unavailable("not now")
        await reading.wait()

    pair.one.on_gained(read)
    await pair.renew(pair.one)
    assert not pair.one.leads("lab")
    await pair.renew(pair.one)
    assert not pair.one.leads("lab")
    reading.set()
    await pair.renew(pair.one)
    assert pair.one.leads("lab")
    assert pair.one.leads(INSTALLATION)


async def test_a_controller_that_stops_hands_over_at_once() -> None:
    pair = Two()
    lost: list[str] = []
    pair.one.on_lost(lost.append)
    await pair.renew(pair.one, pair.two)
    await pair.one.stop()
    assert sorted(lost) == ["", "lab"]
    await pair.renew(pair.two)
    assert pair.two.leads("lab")


async def test_one_that_was_stopped_for_long_reads_everything_anew() -> None:
    pair = Two()
    gained: list[str] = []

    async def read(lab_id: str) -> None:
        gained.append(lab_id)

    pair.one.on_gained(read)
    await pair.renew(pair.one)
    pair.leases.now += 60
    assert not pair.one.leads("lab")
    await pair.renew(pair.one)
    assert pair.one.leads("lab")
    assert sorted(gained) == ["", "", "lab", "lab"]


async def test_while_the_database_is_away_nobody_leads() -> None:
    pair = Two()
    await pair.renew(pair.one)
    pair.leases.away = True
    pair.leases.now += LEASE_S
    assert not pair.one.leads("lab")
    pair.leases.away = False
    await pair.renew(pair.one)
    assert pair.one.leads("lab")


async def test_alone_it_leads_everything_and_asks_nobody() -> None:
    leases = Leases()
    leases.shared, leases.away = False, True
    alone = Leadership(leases)  # type: ignore[arg-type]
    assert alone.leads("anything")
    assert alone.leads()
    await alone.stop()
