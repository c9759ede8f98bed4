"""A controller that is killed anywhere in an import ends it at its next start, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from library_imports_rig import DISK, a_medium, digest, hold, imported, unhold
from library_rig import Rig, make_library, until_quietly
from test_library_urls import Body

from wireloom.controller.library import imports
from wireloom.fabric.methods import EXPORT
from wireloom.model.images import (
    AdoptRequest,
    Choice,
    ImportRequest,
    JobState,
    PullRequest,
)
from wireloom.testing.memory_fabric import MemoryStream


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_library(tmp_path) as made:
        yield made


async def kill_when(rig: Rig, reached: asyncio.Event, go: asyncio.Event) -> None:
    """Kill the controller in the moment in which it stands at what :func:`hold` holds."""
    async with asyncio.timeout(60):
        await reached.wait()
    unhold(rig)
    killing = asyncio.create_task(rig.kill())
    await asyncio.sleep(0.02)
    go.set()
    await killing


@pytest.mark.parametrize("at", ["commit", "sniff", "accept_disk", "identify", "adopt", "add"])
async def test_a_kill_anywhere_is_made_good(tmp_path: Path, at: str) -> None:
    """The controller goes while it is at ``at``; the next one ends the job, and once."""
    rig = Rig(tmp_path)
    await rig.up()
    reached, go = asyncio.Event(), asyncio.Event()
    hold(rig, at, reached, go)
    upload = await rig.uploaded(b"gzip\n" + DISK, "vios.qcow2.gz")
    job = await rig.imports.import_file(ImportRequest(upload=upload))
    await kill_when(rig, reached, go)
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert ended.attempts == 2
    assert len(rig.catalogue.images) == 1
    assert [found for found, _, _ in rig.blobs.all()] == [digest(DISK)]
    assert rig.debris() == []
    assert await rig.store.image_work.uploads() == []
    await rig.down()


async def test_a_download_goes_on_after_a_kill(rig: Rig) -> None:
    taken, go = asyncio.Event(), asyncio.Event()

    class Stalls(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield DISK[:1000]
            taken.set()
            await go.wait()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        told = {"ETag": '"one"', "Content-Length": str(len(DISK))}
        if len(asked) == 1:
            return httpx.Response(200, headers=told, stream=Stalls())
        first = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
        told = {"ETag": '"one"', "Content-Range": f"bytes {first}-{len(DISK) - 1}/{len(DISK)}"}
        return httpx.Response(206, headers=told, stream=Body(DISK[first:]))

    asked: list[httpx.Request] = []
    rig.web = httpx.MockTransport(answer)
    await rig.restart()
    job = await rig.imports.import_file(ImportRequest(url="http://files.example/vios.qcow2"))
    await until_quietly(taken.is_set)
    await rig.kill()
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert asked[1].headers["Range"] == "bytes=1000-"
    assert rig.catalogue.get(ended.images[0]).digest == digest(DISK)


async def test_an_export_that_is_cut_off_by_a_kill_is_asked_for_again(rig: Rig) -> None:
    streams: list[MemoryStream] = []

    async def waits(question: object) -> MemoryStream:
        streams.append(MemoryStream())
        return streams[-1]

    await rig.fabric.serve_stream("h1", EXPORT, waits)
    job = await rig.imports.pull(PullRequest(reference="ceos:1"))
    await until_quietly(lambda: streams)
    await rig.kill()
    assert streams[0].closed.is_set()
    await until_quietly(lambda: len(streams) == 2)
    assert len(await rig.store.image_work.uploads()) == 1
    await rig.jobs.cancel(job.id)
    assert streams[1].closed.is_set()
    assert rig.debris() == []


async def test_a_controller_that_has_just_begun_waits_for_the_host_that_is_to_send(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_LOOK_S", 0.01)
    rig.let_wait()
    job = await rig.imports.adopt(AdoptRequest(host="h1", provider="libvirt", image="vios.qcow2"))
    rig.hosts.there.clear()
    await rig.kill()
    await until_quietly(lambda: rig.jobs.get(job.id).state is JobState.RUNNING)
    await rig.sends(DISK)
    await asyncio.sleep(0.05)
    rig.hosts.there.add("h1")
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error


async def test_a_host_that_stays_away_is_not_waited_for_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_LOOK_S", 0.01)
    monkeypatch.setattr(imports, "HEARD_S", 0.1)
    rig.let_wait()
    job = await rig.imports.adopt(AdoptRequest(host="h1", provider="libvirt", image="vios.qcow2"))
    rig.hosts.there.clear()
    await rig.kill()
    ended = await rig.ended(job)
    assert (ended.error or {})["code"] == "not-found"


async def test_an_iso_goes_on_with_what_is_left_after_a_kill(rig: Rig) -> None:
    a_medium(rig)
    rig.medium.files["image:bad"] = ("b.qcow2", DISK + b"b")
    job = await imported(rig, b"iso\n", "refplat.iso")
    reached, go = asyncio.Event(), asyncio.Event()
    hold(rig, "add", reached, go)
    await rig.jobs.choose(job.id, Choice(everything=True))
    await kill_when(rig, reached, go)
    ended = await rig.ended(job)
    assert ended.state is JobState.DONE, ended.error
    assert len(rig.catalogue.images) == 2
    assert rig.debris() == []
