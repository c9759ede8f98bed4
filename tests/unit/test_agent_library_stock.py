"""An image is there only when its provider says exactly its content, and it is brought once for all who ask."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from agent_library_rig import Depot, Warehouse, eventually, make_pin

from wireloom.agent.library import download, fetcher
from wireloom.agent.library.ledger import Ledger, image_key
from wireloom.agent.library.stock import Stock
from wireloom.errors import Conflict, ImageMissing, RuntimeFailed, Unavailable, Unsupported
from wireloom.fabric.documents import EventLevel
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImagePin, PresenceState
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld

CONTENT = os.urandom(9_000)
PIN = make_pin(CONTENT)


class Host:
    """A simulated engine, and the library's images on it."""

    def __init__(self, folder: Path, *depots: Depot, keeps_files: bool = False, near: Path | None = None) -> None:
        self.world = SimulatedWorld()
        self.warehouse = Warehouse(folder, *depots, near=near)
        self.ledger = Ledger(folder / "ledger.json")
        self.told: list[tuple[str, str, str]] = []
        self.stock = Stock(
            {"alpha": SimulatedProvider("test", self.world, name="alpha")},
            self.warehouse.fetcher,
            self.ledger,
            keeps_files=keeps_files,
            tell=self._tell,
        )

    def _tell(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None:
        self.told.append((lab, node, kind))

    def files(self) -> list[str]:
        return [digest for digest, _, _ in self.warehouse.blobs.all()]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(fetcher, "_SPARE", 0)


@pytest.fixture
def depot() -> Depot:
    depot = Depot()
    depot.put(CONTENT)
    return depot


async def test_an_image_is_fetched_loaded_and_told_of(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    await host.stock.bring(PIN, lab="lab", node="r1")
    assert host.world.images[PIN.name].digest == PIN.content
    assert host.told == [("lab", "r1", "image.fetching"), ("lab", "r1", "image.present")]
    assert host.files() == []


async def test_a_host_that_serves_files_keeps_them(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot, keeps_files=True)
    await host.stock.bring(PIN)
    assert host.files() == [PIN.digest]


async def test_what_is_there_is_not_fetched(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, CONTENT)
    await host.stock.bring(PIN)
    assert not depot.requests
    assert not host.told


async def test_many_who_ask_have_it_loaded_once(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    await asyncio.gather(*(host.stock.bring(PIN) for _ in range(50)))
    assert host.world.calls["load"] == 1
    assert len(depot.requests) == 1
    assert len(host.told) == 2


async def test_everybody_who_waits_is_told_how_far_it_is(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    host = Host(tmp_path, depot)
    told: list[tuple[int, int]] = []
    first = asyncio.create_task(host.stock.bring(PIN))
    await eventually(lambda: depot.running)
    second = asyncio.create_task(host.stock.bring(PIN, progress=lambda done, total: told.append((done, total))))
    await eventually(lambda: told)
    flight = host.stock.flight(PIN)
    assert flight is not None
    assert flight.phase == PresenceState.FETCHING
    depot.gate.set()
    await asyncio.gather(first, second)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert host.stock.flight(PIN) is None


async def test_somebody_s_own_image_of_that_name_gives_way_and_is_kept_under_another(
    tmp_path: Path, depot: Depot
) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, b"another")
    own = host.world.images[PIN.name].digest
    await host.stock.bring(PIN)
    assert host.world.images[PIN.name].digest == PIN.content
    kept = f"wireloom-kept/vendor/router:1-{own.removeprefix('sha256:')[:12]}"
    assert {name: info.digest for name, info in host.world.images.items() if name != PIN.name} == {kept: own}
    assert ("", "", "image.kept") in host.told


async def test_a_copy_of_the_library_s_gives_way_and_goes(tmp_path: Path, depot: Depot) -> None:
    depot.put(b"before")
    host = Host(tmp_path, depot)
    await host.stock.bring(make_pin(b"before"))
    await host.stock.bring(PIN)
    assert list(host.world.images) == [PIN.name]


async def test_an_image_that_has_another_name_needs_no_third(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, b"another")
    host.world.put_image("mine:1", b"another")
    await host.stock.bring(PIN)
    assert set(host.world.images) == {PIN.name, "mine:1"}


async def test_where_an_image_has_one_name_the_user_decides(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, b"another")
    host.world.fail("load", ImageMissing("there is no such file"))
    with pytest.raises(Conflict, match="would be lost") as refused:
        await host.stock.bring(PIN)
    assert "give it another name" in refused.value.hint
    assert host.world.images[PIN.name].digest != PIN.content
    assert not depot.requests


async def test_a_file_that_was_damaged_on_the_way_to_the_engine_is_fetched_again(tmp_path: Path, depot: Depot) -> None:
    near = BlobStore(tmp_path / "library")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes(len(CONTENT)))
    near.adopt(damaged, PIN.digest, move=True)
    host = Host(tmp_path / "cache", depot, near=near.folder)
    await host.stock.bring(PIN)
    assert host.world.images[PIN.name].digest == PIN.content
    assert len(depot.requests) == 1


async def test_an_engine_that_makes_another_image_of_a_whole_file_is_believed(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    wrong = PIN.model_copy(update={"content": "sha256:" + "0" * 64})
    with pytest.raises(ImageMissing):
        await host.stock.bring(wrong)
    assert PIN.name not in host.world.images
    assert host.told[-1] == ("", "", "image.failed")
    assert len(depot.requests) == 1


async def test_a_load_that_fails_keeps_the_file_for_the_next_try(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.fail("load", RuntimeFailed("the engine is confused"))
    with pytest.raises(RuntimeFailed):
        await host.stock.bring(PIN)
    assert host.files() == [PIN.digest]
    await host.stock.bring(PIN)
    assert len(depot.requests) == 1
    assert host.files() == []


async def test_an_engine_that_is_away_is_no_missing_image(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.engine_up = False
    with pytest.raises(Unavailable):
        await host.stock.bring(PIN)


@pytest.mark.parametrize("change", [{"provider": "nobody"}, {"format": "qcow2"}])
async def test_what_no_provider_of_the_host_takes_is_refused(
    tmp_path: Path, depot: Depot, change: dict[str, str]
) -> None:
    with pytest.raises(Unsupported):
        await Host(tmp_path, depot).stock.bring(ImagePin.model_validate({**PIN.model_dump(), **change}))
    assert not depot.requests


async def test_damage_is_remembered_and_mended_when_the_image_is_wanted(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, CONTENT)
    host.world.damage_image(PIN.name)
    with pytest.raises(ImageMissing):
        await host.stock.verify(PIN)
    host.ledger.save()
    reborn = Host(tmp_path, depot)
    reborn.ledger.load()
    assert reborn.ledger.damage(image_key(PIN)) is not None
    await host.stock.bring(PIN)
    assert len(depot.requests) == 1
    await host.stock.verify(PIN)


async def test_damage_that_somebody_else_mended_needs_no_fetch(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, CONTENT)
    host.ledger.note_read(image_key(PIN), {"code": "image-missing"})
    await host.stock.bring(PIN)
    assert not depot.requests
    assert host.ledger.damage(image_key(PIN)) is None


async def test_it_removes_exactly_that_image(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, b"another")
    assert not await host.stock.remove(PIN)
    assert PIN.name in host.world.images
    host.world.put_image(PIN.name, CONTENT)
    assert await host.stock.remove(PIN)
    assert PIN.name not in host.world.images
    assert not await host.stock.remove(PIN)


async def test_what_a_runtime_uses_is_not_removed(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.put_image(PIN.name, CONTENT)
    host.world.fail("remove", Conflict("a runtime uses it"))
    with pytest.raises(Conflict):
        await host.stock.remove(PIN)


async def test_a_load_that_nobody_waits_for_is_let_go_and_done_again_later(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path, depot)
    host.world.delay("load", 60)
    waiting = asyncio.create_task(host.stock.bring(PIN))
    await eventually(lambda: host.world.calls["load"])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not host.stock.busy
    assert PIN.name not in host.world.images
    host.world.delay("load", 0)
    await host.stock.bring(PIN)
    assert len(depot.requests) == 1
