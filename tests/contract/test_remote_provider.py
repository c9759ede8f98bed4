"""A provider at the far end of the fabric, when callers leave and the fabric is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fabric_rig import Rig as FabricRig
from fabric_rig import rig as fabric_rig

from wireloom.errors import ImageMissing, RuntimeFailed, Unavailable
from wireloom.fabric.remote import RemoteProvider
from wireloom.fabric.remote_serving import serve_provider
from wireloom.model.identity import Identity
from wireloom.model.runtime import EventKind, RuntimeSpec
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.testing.conformance.provider_rig import EventLog


@asynccontextmanager
async def remote(folder: Path) -> AsyncIterator[tuple[RemoteProvider, SimulatedWorld, FabricRig]]:
    world = SimulatedWorld()
    world.add_image("img")
    async with fabric_rig(folder / "nats") as fabric:
        await serve_provider(await fabric.agent("h1"), "h1", SimulatedProvider("site", world))
        yield await RemoteProvider.connect(fabric.controller, "h1", "simulated"), world, fabric


def spec(folder: Path, *, image: str = "img") -> RuntimeSpec:
    identity = Identity(installation="site", lab_id="l1", lab="lab", node_id="id-r1", node="r1")
    return RuntimeSpec(identity=identity, incarnation=1, spec_hash="h", hostname="r1", image=image, folder=folder)


async def test_errors_arrive_as_what_they_were(tmp_path: Path) -> None:
    async with remote(tmp_path) as (provider, world, _):
        with pytest.raises(ImageMissing) as caught:
            await provider.create(spec(tmp_path, image="none"))
        assert caught.value.hint
        world.fail("create", RuntimeFailed("no room", details={"left": 0}))
        with pytest.raises(RuntimeFailed) as other:
            await provider.create(spec(tmp_path))
        assert other.value.details == {"left": 0}


async def test_a_caller_that_leaves_takes_its_create_with_it(tmp_path: Path) -> None:
    async with remote(tmp_path) as (provider, world, _):
        world.delay("create", 30)
        asking = asyncio.create_task(provider.create(spec(tmp_path)))
        async with asyncio.timeout(5):
            while not world.calls["create"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        world.delay("create", 0)
        assert world.runtimes == {}
        await provider.create(spec(tmp_path))
        assert len(world.runtimes) == 1


async def test_a_host_that_serves_nothing_is_unavailable(tmp_path: Path) -> None:
    async with remote(tmp_path) as (_, __, fabric):
        with pytest.raises(Unavailable, match="h2"):
            await RemoteProvider.connect(fabric.controller, "h2", "simulated")


async def test_events_go_on_after_the_fabric_was_killed(tmp_path: Path) -> None:
    async with remote(tmp_path) as (provider, world, fabric):
        log = EventLog(provider.watch())
        try:
            await log.wait_for(EventKind.RESYNC)
            await fabric.kill()
            await provider.create(spec(tmp_path))
            async with asyncio.timeout(20):  # the stream lived on, or was opened anew
                while not {event.kind for _, event in log.seen} & {EventKind.CREATED, EventKind.RESYNC}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await provider.start(next(iter(world.runtimes)))
            await log.wait_for(EventKind.STARTED, node_id="id-r1", timeout_s=20)
        finally:
            await log.close()
