"""A whole agent with the image library: documents in, shelves out, questions and exports answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from agent_library_rig import Depot, Network, eventually, make_pin
from agent_rig import INSTALLATION, NoShell, make_lab, make_node
from tus_rig import FarEnd

from wireloom.agent.channels import KeptShell
from wireloom.agent.library import Rules, keeper
from wireloom.agent.reconciler import ManagementPlane
from wireloom.agent.service import AgentParts, AgentService
from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import Unavailable
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts, ImagesQuestion
from wireloom.fabric.image_documents import (
    ExportMessage,
    ExportOpen,
    HostImagesQuestion,
    HostLibrary,
    HostShelf,
    VerifyQuestion,
)
from wireloom.fabric.methods import EXPORT, HOST_IMAGES, IMAGES, VERIFY_IMAGES
from wireloom.library.blobs import BlobStore
from wireloom.model.images import PresenceState
from wireloom.model.runtime import RuntimePhase
from wireloom.model.state import SliceStatus
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.testing.memory_fabric import MemoryFabric

CONTENT = os.urandom(9_000)
PIN = make_pin(CONTENT)


class LonelyShell(NoShell):
    """There is no guest."""

    async def close(self) -> None: ...

    def forget(self, _: str) -> None: ...


class ClosingNetwork(Network):
    async def close(self) -> None: ...


class Installation:
    """A host with an agent, and the fabric as the controller sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fabric = MemoryFabric()
        self.world = SimulatedWorld()
        self.world.add_image("simulated/image")
        self.depot = Depot()
        self.far = FarEnd(token="t")  # noqa: S106 - of nobody
        self.shelf: HostShelf | None = None
        self.status: SliceStatus | None = None

    @contextlib.asynccontextmanager
    async def agent(self, rules: Rules | None = None) -> AsyncIterator[AgentService]:
        parts = AgentParts(
            host="h1",
            installation=INSTALLATION,
            host_boot="boot-1",
            data_dir=self.folder,
            fabric=cast("Fabric", self.fabric),
            providers={"alpha": SimulatedProvider(INSTALLATION, self.world, name="alpha")},
            dataplane=SimulatedDataPlane(INSTALLATION, SimulatedNetwork()),
            management=ManagementPlane(),
            segment="wlbtest",
            shell=cast("KeptShell", LonelyShell()),
            authorized_keys="",
            facts=lambda: HostFacts(host="h1", installation=INSTALLATION, version="1", time=0),
            images=rules or Rules(),
        )
        service = AgentService(parts)
        tasks = [asyncio.create_task(each) for each in (service.run(), self._watch_shelf(), self._watch_status())]
        try:
            await eventually(self._answers)
            yield service
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _answers(self) -> bool:
        return ("h1", EXPORT.name) in self.fabric._streams

    async def _watch_shelf(self) -> None:
        async for change in self.fabric.watch_shelves():
            self.shelf = change.value

    async def _watch_status(self) -> None:
        async for change in self.fabric.watch_observations():
            self.status = change.value

    async def tell(self, generation: int = 1, **fields: object) -> None:
        sources = (self.depot.source(),)
        await self.fabric.put_library(
            HostLibrary.model_validate({"host": "h1", "generation": generation, "sources": sources, **fields})
        )

    async def until(self, state: PresenceState | None, generation: int = 1) -> None:
        """The shelf says that of the image."""

        def check() -> bool:
            if self.shelf is None or self.shelf.generation != generation:
                return False
            states = [entry.state for entry in self.shelf.entries if entry.name == PIN.name]
            return states == ([state] if state else [])

        await eventually(check)

    async def until_phase(self, phase: RuntimePhase) -> None:
        await eventually(lambda: self.status is not None and self.status.nodes[0].phase is phase)


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    made = Installation(tmp_path)
    monkeypatch.setattr(keeper, "ThreadedHttp", lambda *_: ClosingNetwork(made.depot))
    far = made.far.client()
    monkeypatch.setattr(keeper.httpx, "AsyncClient", lambda **_: far)
    monkeypatch.setattr("wireloom.agent.library.shelf._PROGRESS_S", 0.002)
    monkeypatch.setattr("wireloom.agent.library.shelf._CALM_S", 0.002)
    return made


async def test_an_image_comes_and_goes_by_documents_alone(installation: Installation) -> None:
    installation.depot.put(CONTENT)
    async with installation.agent():
        await installation.tell(wanted=(PIN,), known=(PIN,))
        await installation.until(PresenceState.PRESENT)
        await installation.tell(2, unwanted=(PIN,))
        await installation.until(None, 2)
        told = ["image.fetching", "image.present", "image.removed"]
        await eventually(
            lambda: [event.kind for event in installation.fabric.published if event.kind.startswith("image.")] == told
        )
    assert PIN.name not in installation.world.images


async def test_beside_a_controller_files_are_linked_and_nothing_of_them_is_left(installation: Installation) -> None:
    library, file = BlobStore(installation.folder / "library" / "blobs"), installation.folder / "file"
    file.write_bytes(CONTENT)
    library.adopt(file, PIN.digest, move=True)
    async with installation.agent():
        await installation.tell(wanted=(PIN,))
        await installation.until(PresenceState.PRESENT)
    assert not installation.depot.requests
    assert library.path(PIN.digest).stat().st_nlink == 1


async def test_a_lost_store_is_told_again(installation: Installation) -> None:
    installation.world.put_image(PIN.name, CONTENT)
    async with installation.agent():
        await installation.tell(known=(PIN,))
        await installation.until(PresenceState.PRESENT)
        installation.shelf = None
        installation.fabric.lose_store()
        await installation.until(PresenceState.PRESENT)


async def test_an_agent_that_was_killed_goes_on_with_what_is_wanted(installation: Installation) -> None:
    installation.depot.put(CONTENT)
    installation.depot.gate = asyncio.Event()
    async with installation.agent():
        await installation.tell(wanted=(PIN,))
        await eventually(lambda: installation.depot.running)
    installation.depot.gate.set()
    async with installation.agent():
        await installation.until(PresenceState.PRESENT)


async def test_it_says_which_images_the_host_has(installation: Installation) -> None:
    async with installation.agent():
        installation.world.put_image(PIN.name, CONTENT)
        answer = await installation.fabric.call("h1", HOST_IMAGES, HostImagesQuestion())
        assert {(image.provider, image.name, image.content) for image in answer.images} >= {
            ("alpha", PIN.name, PIN.content)
        }
        installation.world.fail("list", Unavailable("away"))
        answer = await installation.fabric.call("h1", HOST_IMAGES, HostImagesQuestion())
        assert answer.problems["alpha"]["code"] == "unavailable"


async def test_it_reads_images_again_when_asked_and_mends_what_is_wanted(installation: Installation) -> None:
    installation.depot.put(CONTENT)
    async with installation.agent():
        await installation.tell(wanted=(PIN,))
        await installation.until(PresenceState.PRESENT)
        question = VerifyQuestion(images=(PIN,))
        assert (await installation.fabric.call("h1", VERIFY_IMAGES, question)).damaged == {}
        installation.world.damage_image(PIN.name)
        assert (await installation.fabric.call("h1", VERIFY_IMAGES, question)).damaged.keys() == {PIN.name}
        await eventually(lambda: not installation.world.damaged)
        await installation.until(PresenceState.PRESENT)


async def test_what_the_library_has_is_absent_and_not_missing(installation: Installation) -> None:
    async with installation.agent():
        await installation.tell(known=(PIN,))
        await eventually(lambda: installation.shelf)
        question = ImagesQuestion(wanted={"alpha": (PIN.name, "nobody/has:it")})
        answer = await installation.fabric.call("h1", IMAGES, question)
        assert answer.absent == {"alpha": (PIN.name,)}
        assert answer.missing["alpha"].keys() == {"nobody/has:it"}


async def test_a_stopped_node_is_saved_and_a_start_waits_for_that(installation: Installation) -> None:
    world, far = installation.world, installation.far
    node = make_node("r1")
    async with installation.agent():
        await installation.fabric.put_intent("h1", make_lab(node))
        await installation.until_phase(RuntimePhase.RUNNING)
        off = node.model_copy(update={"power": "off"})
        await installation.fabric.put_intent("h1", make_lab(off, generation=2))
        await installation.until_phase(RuntimePhase.EXITED)
        world.delay("save", 0.3)
        wanted = ExportOpen(provider="alpha", lab_id="lab-1", node_id=node.id, upload=far.begin(), token="t")  # noqa: S106 - of nobody
        export = await installation.fabric.open_stream("h1", EXPORT, wanted)
        await eventually(lambda: world.calls["save"])
        starts = world.calls["start"]
        again = node.model_copy(update={"attention": 1})  # as every verb of a user counts
        await installation.fabric.put_intent("h1", make_lab(again, generation=3))
        messages = [ExportMessage.model_validate(json.loads(line)) async for line in lines(export)]
        assert messages[-1].stage == "done"
        assert len(far.uploads["1"].content) == messages[-1].total
        await installation.until_phase(RuntimePhase.RUNNING)
    assert world.calls["start"] == starts + 1
    assert not list((installation.folder / "cache" / "exports").iterdir())


async def lines(stream: object) -> AsyncIterator[bytes]:
    while line := await stream.read():  # type: ignore[attr-defined]
        yield line


async def test_an_address_that_nobody_can_reach_is_a_problem_of_the_host(installation: Installation) -> None:
    async with installation.agent(Rules(serve="0.0.0.0:9090")):
        await eventually(
            lambda: any(
                "image_serve" in problem
                for facts in installation.fabric._hosts.values.values()
                for problem in facts.problems
            )
        )
