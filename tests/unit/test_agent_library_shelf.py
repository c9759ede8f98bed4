"""A host acts on what the controller wants of its images, again and again until it is so, and tells how it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agent_library_rig import Depot, Warehouse, eventually, make_pin

from wireloom.agent.library import fetcher, shelf
from wireloom.agent.library.decide import Rules
from wireloom.agent.library.ledger import Ledger, file_key, image_key
from wireloom.agent.library.shelf import Served, Shelf, nothing_served
from wireloom.agent.library.stock import Stock
from wireloom.agent.library.upkeep import Upkeep
from wireloom.agent.library.usage import Usage
from wireloom.agent.reporter import untold
from wireloom.errors import Conflict, Unavailable
from wireloom.fabric.image_documents import HostLibrary, HostShelf, ShelfEntry
from wireloom.model.images import ImagePin, PresenceState
from wireloom.model.slice import NodeIntent, Slice
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld

CONTENT, MORE = os.urandom(6_000), os.urandom(7_000)
PIN, OTHER = make_pin(CONTENT), make_pin(MORE, "vendor/switch:2")


class Host:
    """One life of a host's shelf on a simulated engine; keeps what it told."""

    def __init__(
        self, folder: Path, depot: Depot, rules: Rules | None = None, served: Callable[[], Served] = nothing_served
    ) -> None:
        self.world = SimulatedWorld()
        self.depot = depot
        self.warehouse = Warehouse(folder, depot)
        self.ledger = Ledger(folder / "ledger.json")
        self.slices: dict[str, Slice] = {}
        self.runtimes: set[str] = set()
        self.told: list[HostShelf] = []
        self.refuses = False
        providers = {"alpha": SimulatedProvider("test", self.world, name="alpha")}
        rules = rules or Rules()
        self.stock = Stock(
            providers,
            self.warehouse.fetcher,
            self.ledger,
            keeps_files=bool(rules.serve),
            tell=untold,
            changed=self._changed,
        )
        self.shelf = Shelf(
            "here",
            self,
            providers=providers,
            stock=self.stock,
            fetcher=self.warehouse.fetcher,
            sources=self.warehouse.sources,
            ledger=self.ledger,
            uses=Usage(lambda: self.slices, self.runtimes),
            rules=rules,
            served=served,
        )
        self.upkeep = Upkeep(
            providers=providers,
            stock=self.stock,
            fetcher=self.warehouse.fetcher,
            ledger=self.ledger,
            rules=rules,
            library=lambda: self.shelf.library,
            clock=lambda: self.now,
        )
        self.now = 0.0

    def _changed(self) -> None:
        self.shelf.look()

    async def put_shelf(self, told: HostShelf) -> None:
        if self.refuses:
            raise Unavailable("the fabric is away")
        self.told.append(told)

    def want(self, generation: int = 1, **fields: Any) -> HostLibrary:
        document = HostLibrary(host="here", generation=generation, sources=(self.depot.source(),), **fields)
        self.shelf.set_library(document)
        return document

    def entry(self, pin: ImagePin = PIN) -> ShelfEntry | None:
        entries = self.told[-1].entries if self.told else ()
        return next((entry for entry in entries if entry.name == pin.name), None)

    async def until(self, state: PresenceState | None, pin: ImagePin = PIN, generation: int = 1) -> HostShelf:
        """What was told when the image was in that state; ``None``: it has no entry."""

        def check() -> bool:
            entry = self.entry(pin)
            said = entry.state if entry is not None else None
            return bool(self.told) and self.told[-1].generation == generation and said == state

        await eventually(check)
        return self.told[-1]

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[Host]:
        running = asyncio.create_task(self.shelf.run())
        try:
            yield self
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def using(pin: ImagePin, *, pinned: bool = True) -> Slice:
    node = NodeIntent(id="n1", name="r1", device="d", provider=pin.provider, image=pin.name)
    return Slice(
        installation="test", lab_id="l1", lab="lab", generation=1, nodes=(node,), images=(pin,) if pinned else ()
    )


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "_SPARE", 0)
    monkeypatch.setattr(shelf, "_PROGRESS_S", 0.002)
    monkeypatch.setattr(shelf, "_CALM_S", 0.002)


@pytest.fixture
def depot() -> Depot:
    depot = Depot()
    depot.put(CONTENT)
    depot.put(MORE)
    return depot


async def test_what_is_wanted_comes_and_is_told(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot).alive() as host:
        host.want(wanted=(PIN,), known=(PIN, OTHER))
        await host.until(PresenceState.PRESENT)
        assert host.entry(OTHER) is None
        assert host.world.images[PIN.name].digest == PIN.content


async def test_progress_is_told_while_it_comes(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    async with Host(tmp_path, depot).alive() as host:
        host.want(wanted=(PIN,))
        await host.until(PresenceState.FETCHING)
        entry = host.entry()
        assert entry is not None
        assert entry.total == len(CONTENT)
        depot.gate.set()
        await host.until(PresenceState.PRESENT)


async def test_a_host_that_has_everything_brings_what_is_known(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot, Rules(policy="everywhere")).alive() as host:
        host.want(known=(PIN, OTHER))
        await host.until(PresenceState.PRESENT)
        await host.until(PresenceState.PRESENT, OTHER)


@pytest.mark.parametrize(("others", "lists"), [(0, 0), (30, 1)])
async def test_a_users_own_images_are_not_read_for_a_few_of_the_librarys(
    tmp_path: Path, depot: Depot, others: int, lists: int
) -> None:
    async with Host(tmp_path, depot).alive() as host:
        host.world.put_image(PIN.name, CONTENT)
        more = tuple(make_pin(b"more", f"vendor/more:{number}") for number in range(others))
        host.want(known=(PIN, *more))
        await host.until(PresenceState.PRESENT)
        assert host.world.calls["list"] == lists


async def test_what_was_deleted_goes_from_engine_and_disk(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot, Rules(serve="192.0.2.1:1")).alive() as host:
        host.want(wanted=(PIN,))
        await host.until(PresenceState.PRESENT)
        assert host.warehouse.blobs.has(PIN.digest)
        host.want(generation=2, unwanted=(PIN,))
        await host.until(None, generation=2)
        assert PIN.name not in host.world.images
        assert not host.warehouse.blobs.has(PIN.digest)


async def test_a_file_that_another_image_has_too_stays(tmp_path: Path, depot: Depot) -> None:
    twin = PIN.model_copy(update={"name": "vendor/router:latest"})
    async with Host(tmp_path, depot, Rules(serve="192.0.2.1:1")).alive() as host:
        host.want(wanted=(PIN, twin))
        await host.until(PresenceState.PRESENT, twin)
        await host.until(PresenceState.PRESENT)
        host.want(generation=2, unwanted=(PIN,), known=(twin,))
        await host.until(None, generation=2)
        assert host.world.images.keys() == {twin.name}
        assert host.warehouse.blobs.has(PIN.digest)


async def test_what_is_used_is_told_as_leaving_until_it_can_go(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot).alive() as host:
        host.world.put_image(PIN.name, CONTENT)
        host.ledger.note_brought(image_key(PIN))
        host.slices["l1"] = using(PIN)
        host.want(unwanted=(PIN,))
        await host.until(PresenceState.REMOVING)
        entry = host.entry()
        assert entry is not None
        assert entry.error is not None
        assert "lab/r1" in entry.error["message"]
        host.slices.clear()
        host.shelf.look()
        await host.until(None)
        assert PIN.name not in host.world.images


async def test_a_runtime_of_somebody_elses_holds_it_up_too(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot).alive() as host:
        host.world.put_image(PIN.name, CONTENT)
        host.ledger.note_brought(image_key(PIN))
        host.world.fail("remove", Conflict("a runtime uses it"))
        host.want(unwanted=(PIN,))
        await eventually(lambda: (entry := host.entry()) is not None and entry.error is not None)
        assert PIN.name in host.world.images


async def test_what_nobody_wants_any_more_is_not_fetched_on(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    async with Host(tmp_path, depot).alive() as host:
        host.want(wanted=(PIN,))
        await eventually(lambda: depot.running)
        host.want(generation=2, unwanted=(PIN,))
        await eventually(lambda: not depot.running)
        await host.until(None, generation=2)
        assert not host.warehouse.has_drafts()


async def test_what_fails_is_told_and_tried_again_when_sources_change(tmp_path: Path, depot: Depot) -> None:
    depot.files.clear()
    async with Host(tmp_path, depot).alive() as host:
        host.want(wanted=(PIN,))
        await host.until(PresenceState.FAILED)
        tries = len(depot.requests)
        host.shelf.look()
        await asyncio.sleep(0.05)
        assert len(depot.requests) == tries
        depot.put(CONTENT)
        document = host.want(generation=2, wanted=(PIN,))
        moved = document.sources[0].model_copy(update={"digests": frozenset({PIN.digest})})
        host.shelf.set_library(document.model_copy(update={"sources": (moved,)}))
        await host.until(PresenceState.PRESENT, generation=2)


async def test_an_engine_that_is_away_loses_nothing(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot).alive() as host:
        host.world.put_image(PIN.name, CONTENT)
        host.want(known=(PIN,))
        await host.until(PresenceState.PRESENT)
        host.world.engine_up = False
        host.want(generation=2, unwanted=(PIN,))
        await host.until(PresenceState.PRESENT, generation=2)  # as it was told last: not gone
        host.world.engine_up = True
        host.shelf.look()
        await host.until(None, generation=2)


async def test_a_document_that_is_lost_removes_nothing(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot, Rules(keep_days=0)).alive() as host:
        host.want(known=(PIN,), wanted=(PIN,))
        await host.until(PresenceState.PRESENT)
        host.shelf.set_library(None)
        host.want(generation=2)
        await host.until(None, generation=2)
        assert PIN.name in host.world.images


async def test_what_was_not_used_for_long_goes_by_the_hosts_own_rule(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot, Rules(keep_days=0)).alive() as host:
        host.world.put_image(PIN.name, CONTENT)
        host.world.put_image(OTHER.name, MORE)
        host.world.put_image("user/own:1", b"own")
        host.slices["l1"] = using(OTHER, pinned=False)
        host.runtimes.add("n1")
        host.want(known=(PIN, OTHER))
        await host.until(PresenceState.PRESENT)  # what is seen for the first time counts as used
        host.ledger.note_brought(image_key(PIN))
        host.ledger.note_brought(image_key(OTHER))
        host.shelf.look()
        await eventually(lambda: PIN.name not in host.world.images)
        assert host.world.images.keys() == {OTHER.name, "user/own:1"}


async def test_what_is_told_is_told_again_after_the_fabric_was_away(tmp_path: Path, depot: Depot) -> None:
    async with Host(tmp_path, depot).alive() as host:
        host.refuses = True
        host.world.put_image(PIN.name, CONTENT)
        host.want(known=(PIN,))
        await eventually(lambda: host.world.calls["info"])
        host.refuses = False
        host.shelf.resend()
        await host.until(PresenceState.PRESENT)


async def test_what_is_served_is_told(tmp_path: Path, depot: Depot) -> None:
    served = Served("http://192.0.2.1:1", frozenset({PIN.digest}))
    async with Host(tmp_path, depot, served=lambda: served).alive() as host:
        host.want()
        await eventually(lambda: host.told)
        assert (host.told[-1].url, host.told[-1].digests) == (served.url, served.digests)


async def test_damage_that_is_found_in_the_background_is_mended(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot, Rules(verify_days=1))
    host.ledger._clock = lambda: host.now
    async with host.alive():
        document = host.want(wanted=(PIN,))
        await host.until(PresenceState.PRESENT)
        host.world.damage_image(PIN.name)
        await host.upkeep.read_one(document)
        assert not host.world.calls["verify"]
        host.now = 2 * 86_400.0
        await host.upkeep.read_one(document)
        assert host.world.calls["verify"] == 1
        await eventually(lambda: host.ledger.damage(image_key(PIN)) is None)
        await host.until(PresenceState.PRESENT)
        assert not host.world.damaged


async def test_files_that_are_served_are_read_again_too(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot, Rules(serve="192.0.2.1:1", verify_days=1))
    host.ledger._clock = lambda: host.now
    path = await host.warehouse.fetcher.fetch(PIN.digest, PIN.size)
    host.ledger.of(file_key(PIN.digest))
    path.chmod(0o600)
    path.write_bytes(bytes(PIN.size))
    host.now = 2 * 86_400.0
    await host.upkeep.read_one(HostLibrary(host="here", generation=1, known=(PIN,)))
    assert not host.warehouse.blobs.has(PIN.digest)


@pytest.mark.parametrize(("rules", "kept"), [(Rules(), False), (Rules(serve="192.0.2.1:1"), True)])
async def test_files_that_a_killed_agent_left_go_unless_they_are_served(
    tmp_path: Path, depot: Depot, rules: Rules, kept: bool
) -> None:
    host = Host(tmp_path, depot, rules)
    path = await host.warehouse.fetcher.fetch(PIN.digest, PIN.size)
    half = host.warehouse.draft(OTHER.digest)
    half.write_bytes(MORE[:9])
    library = HostLibrary(host="here", generation=1, known=(PIN,))
    host.now = path.stat().st_mtime + 7200
    await host.upkeep.tidy(library)
    assert host.warehouse.blobs.has(PIN.digest) is kept
    assert half.exists()
    host.now += 8 * 86_400
    await host.upkeep.tidy(library)
    assert not half.exists()


@pytest.mark.parametrize("keep_days", [-1, 3])
async def test_served_files_that_the_library_does_not_know_go_in_the_end(
    tmp_path: Path, depot: Depot, keep_days: float
) -> None:
    host = Host(tmp_path, depot, Rules(serve="192.0.2.1:1", keep_days=keep_days))
    path = await host.warehouse.fetcher.fetch(PIN.digest, PIN.size)
    await host.warehouse.fetcher.fetch(OTHER.digest, OTHER.size)
    library = HostLibrary(host="here", generation=1, known=(PIN,))
    host.now = path.stat().st_mtime + 2 * 86_400
    await host.upkeep.tidy(library)
    assert host.warehouse.blobs.has(OTHER.digest)
    host.now += 6 * 86_400
    await host.upkeep.tidy(library)
    assert not host.warehouse.blobs.has(OTHER.digest)
    assert host.warehouse.blobs.has(PIN.digest)
