"""Files of images come once, whole, from whoever has them, and go on where they were."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from agent_library_rig import Depot, Warehouse, digest_of, eventually

from wireloom.agent.library import download, fetcher
from wireloom.errors import CapacityExceeded, ImageMissing, Unavailable
from wireloom.library.blobs import BlobStore

CONTENT = os.urandom(20_500)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(download, "_BATCH", 2_000)
    monkeypatch.setattr(fetcher, "_SPARE", 0)
    monkeypatch.setattr(fetcher, "_TOLD_S", 0.01)


async def fetch(warehouse: Warehouse, content: bytes = CONTENT) -> Path:
    return await warehouse.fetcher.fetch(digest_of(content), len(content))


async def test_a_file_comes_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    depot = Depot()
    depot.put(CONTENT)
    warehouse, told = Warehouse(tmp_path, depot), []
    path = await warehouse.fetcher.fetch(
        digest_of(CONTENT), len(CONTENT), progress=lambda done, total: told.append((done, total))
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(told) == told
    assert not warehouse.has_drafts()


async def test_a_file_that_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    depot = Depot()
    depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)
    await fetch(warehouse)
    await fetch(warehouse)
    assert len(depot.requests) == 1


async def test_many_wait_for_one_fetch(tmp_path: Path) -> None:
    depot = Depot()
    depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)
    paths = await asyncio.gather(*(fetch(warehouse) for _ in range(20)))
    assert len(set(paths)) == 1
    assert len(depot.requests) == 1


async def test_it_goes_on_where_an_agent_that_was_killed_left_it(tmp_path: Path) -> None:
    depot = Depot()
    digest = depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)
    warehouse.draft(digest).write_bytes(CONTENT[:7_777])
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert [request.start for request in depot.requests] == [7_777]


async def test_a_draft_that_is_whole_is_not_fetched_at_all(tmp_path: Path) -> None:
    depot = Depot()
    warehouse = Warehouse(tmp_path, depot)
    warehouse.draft(digest_of(CONTENT)).write_bytes(CONTENT)
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert not depot.requests


async def test_a_damaged_draft_is_begun_anew_and_its_source_is_not_blamed(tmp_path: Path) -> None:
    depot, other = Depot("one"), Depot("two")
    digest = depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot, other)
    warehouse.draft(digest).write_bytes(bytes(5_000))
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert [request.start for request in depot.requests] == [5_000, 0]
    assert warehouse.sources.order(digest)[0].url == depot.url


async def test_a_lost_connection_is_taken_up_again_as_long_as_something_comes(tmp_path: Path) -> None:
    depot = Depot(cuts=[3_000] * 6)
    depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert [request.start for request in depot.requests] == [0, 3_000, 6_000, 9_000, 12_000, 15_000, 18_000]


async def test_a_source_that_gives_nothing_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    depot = Depot(cuts=[3_000, 0, 0, 0, 0, 0])
    digest = depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)
    with pytest.raises(Unavailable, match="cannot be fetched"):
        await fetch(warehouse)
    assert warehouse.draft(digest).read_bytes() == CONTENT[:3_000]


async def test_the_next_source_goes_on_where_the_first_one_ended(tmp_path: Path) -> None:
    first, second = Depot("one", cuts=[3_000, 0, 0, 0, 0, 0]), Depot("two")
    first.put(CONTENT)
    second.put(CONTENT)
    warehouse = Warehouse(tmp_path, first, second)
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert [request.start for request in second.requests] == [3_000]


async def test_a_wrong_file_is_thrown_away_and_its_source_comes_last(tmp_path: Path) -> None:
    liar, honest = Depot("liar"), Depot("honest")
    digest = honest.put(CONTENT)
    liar.files[digest] = bytes(len(CONTENT))
    warehouse = Warehouse(tmp_path, liar, honest)
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert [request.start for request in honest.requests] == [0]
    assert [source.url for source in warehouse.sources.order(digest)] == [honest.url, liar.url]


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT + b"more"])
async def test_a_file_of_another_size_is_not_even_begun(tmp_path: Path, wrong: bytes) -> None:
    depot = Depot()
    depot.files[digest_of(CONTENT)] = wrong
    warehouse = Warehouse(tmp_path, depot)
    with pytest.raises(Unavailable, match="another size"):
        await fetch(warehouse)
    assert not list(warehouse.blobs.all())
    assert not warehouse.has_drafts()


async def test_a_source_that_sends_no_parts_begins_anew(tmp_path: Path) -> None:
    depot = Depot(ranges=False, cuts=[3_000])
    depot.put(CONTENT)
    assert (await fetch(Warehouse(tmp_path, depot))).read_bytes() == CONTENT


async def test_hosts_that_have_it_are_asked_before_the_controller(tmp_path: Path) -> None:
    controller, peer, other = Depot("controller"), Depot("peer"), Depot("other")
    digest = controller.put(CONTENT)
    peer.put(CONTENT)
    sources = (
        controller.source(),
        other.source("other", frozenset()),
        peer.source("peer", frozenset({digest})),
        peer.source("here", frozenset({digest})),
    )
    warehouse = Warehouse(tmp_path, controller, peer, other, sources=sources)
    assert [source.host for source in warehouse.sources.order(digest)] == ["peer", ""]
    await fetch(warehouse)
    assert not controller.requests
    assert not other.requests


async def test_a_source_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    depot = Depot(statuses=[503, 503, 200])
    depot.put(CONTENT)
    assert (await fetch(Warehouse(tmp_path, depot))).read_bytes() == CONTENT


async def test_a_source_that_trickles_is_given_up_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = Depot("slow"), Depot("quick")
    slow.put(CONTENT)
    quick.put(CONTENT)
    monkeypatch.setattr(download, "_SLOW_S", -1)
    with pytest.raises(Unavailable, match="gives less"):
        await fetch(Warehouse(tmp_path, slow, quick))
    monkeypatch.setattr(download, "_SLOW_S", 60)
    assert (await fetch(Warehouse(tmp_path, slow, quick))).read_bytes() == CONTENT


async def test_what_nobody_has_any_more_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageMissing):
        await fetch(Warehouse(tmp_path, Depot("one"), Depot("two")))


async def test_a_host_that_knows_no_source_says_so_and_may_try_again(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not know where"):
        await fetch(Warehouse(tmp_path))


async def test_a_token_that_is_refused_is_an_error_of_that_source_alone(tmp_path: Path) -> None:
    depot, other = Depot("one"), Depot("two")
    digest = other.put(CONTENT)
    closed = depot.source().model_copy(update={"token": "stale"})
    warehouse = Warehouse(tmp_path, depot, other, sources=(closed, other.source()))
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert [source.url for source in warehouse.sources.order(digest)] == [other.url, depot.url]


async def test_without_room_nothing_is_asked_for(tmp_path: Path) -> None:
    depot = Depot()
    depot.put(CONTENT)
    with pytest.raises(CapacityExceeded, match="no room"):
        await fetch(Warehouse(tmp_path, depot, free=lambda: len(CONTENT) - 1))
    assert not depot.requests


async def test_what_is_on_its_way_counts_as_taken(tmp_path: Path) -> None:
    depot, other = Depot(gate=asyncio.Event()), os.urandom(5_000)
    depot.put(CONTENT)
    depot.put(other)
    warehouse = Warehouse(tmp_path, depot, free=lambda: 22_000)
    coming = asyncio.create_task(fetch(warehouse))
    await eventually(lambda: depot.running)
    with pytest.raises(CapacityExceeded):
        await warehouse.fetcher.fetch(digest_of(other), len(other), urgent=lambda: True)
    assert depot.gate is not None
    depot.gate.set()
    await coming


async def test_a_disk_that_fills_up_ends_it_and_gets_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot = Depot()
    digest = depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)

    def full(*_: object) -> None:
        raise CapacityExceeded("the disk is full")

    monkeypatch.setattr(download._Sink, "_write", full)
    with pytest.raises(CapacityExceeded):
        await fetch(warehouse)
    assert not warehouse.draft(digest).exists()


async def test_only_so_many_come_at_once_and_what_is_urgent_comes_first(tmp_path: Path) -> None:
    depot = Depot(gate=asyncio.Event())
    contents = [os.urandom(3_000) for _ in range(6)]
    for content in contents:
        depot.put(content)
    warehouse = Warehouse(tmp_path, depot, most=2)
    coming = [asyncio.create_task(fetch(warehouse, content)) for content in contents[:5]]
    await eventually(lambda: depot.running)
    urgent = digest_of(contents[5])
    coming.append(asyncio.create_task(warehouse.fetcher.fetch(urgent, 3_000, urgent=lambda: True)))
    await eventually(lambda: depot.running == 2)  # one turn is kept for what is urgent
    assert depot.requests[1].digest == urgent
    assert depot.gate is not None
    depot.gate.set()
    await asyncio.gather(*coming)
    assert depot.most == 2


async def test_what_becomes_urgent_gets_its_turn_at_once(tmp_path: Path) -> None:
    depot = Depot(gate=asyncio.Event())
    first, second = os.urandom(3_000), os.urandom(3_000)
    depot.put(first)
    digest = depot.put(second)
    warehouse = Warehouse(tmp_path, depot, most=2)
    waiting = [asyncio.create_task(fetch(warehouse, first))]
    await eventually(lambda: depot.running)
    waiting.append(asyncio.create_task(fetch(warehouse, second)))
    await eventually(lambda: digest in warehouse.fetcher)
    waiting.append(asyncio.create_task(warehouse.fetcher.fetch(digest, 3_000, urgent=lambda: True)))
    await eventually(lambda: depot.running == 2)
    assert depot.gate is not None
    depot.gate.set()
    await asyncio.gather(*waiting)


async def test_it_ends_when_nobody_waits_any_more_and_goes_on_later(tmp_path: Path) -> None:
    depot = Depot(gate=asyncio.Event())
    digest = depot.put(CONTENT)
    warehouse = Warehouse(tmp_path, depot)
    waiting = [asyncio.create_task(fetch(warehouse)) for _ in range(2)]
    await eventually(lambda: depot.running)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert depot.running == 1
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    assert depot.running == 0
    assert digest not in warehouse.fetcher
    kept = warehouse.draft(digest).stat().st_size
    assert kept > 0
    assert depot.gate is not None
    depot.gate.set()
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert depot.requests[-1].start == kept


async def test_a_file_of_the_controllers_on_the_same_disk_is_linked(tmp_path: Path) -> None:
    near = BlobStore(tmp_path / "library")
    source = tmp_path / "file"
    source.write_bytes(CONTENT)
    near.adopt(source, digest_of(CONTENT), move=True)
    depot = Depot()
    warehouse = Warehouse(tmp_path / "cache", depot, near=near.folder)
    path = await fetch(warehouse)
    assert path.stat().st_ino == near.path(digest_of(CONTENT)).stat().st_ino
    assert not depot.requests


async def test_a_damaged_file_is_thrown_away_and_not_linked_again(tmp_path: Path) -> None:
    near, digest = BlobStore(tmp_path / "library"), digest_of(CONTENT)
    source = tmp_path / "file"
    source.write_bytes(bytes(len(CONTENT)))
    near.adopt(source, digest, move=True)
    depot = Depot()
    depot.put(CONTENT)
    warehouse = Warehouse(tmp_path / "cache", depot, near=near.folder)
    await fetch(warehouse)
    assert not await warehouse.fetcher.recheck(digest)
    assert (await fetch(warehouse)).read_bytes() == CONTENT
    assert await warehouse.fetcher.recheck(digest)


async def test_a_folder_of_the_controllers_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    depot = Depot()
    depot.put(CONTENT)
    await fetch(Warehouse(tmp_path / "cache", depot, near=tmp_path / "library"))
    assert not (tmp_path / "library").exists()
