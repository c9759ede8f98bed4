"""Nodes are made of exactly the image that their slice names, and wait for it without holding up others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from agent_library_rig import Depot, Warehouse, eventually, make_pin
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.hooks.image import ImageHook
from wireloom.agent.images import ImageQuestions
from wireloom.agent.library import download, fetcher
from wireloom.agent.library.ledger import Ledger
from wireloom.agent.library.stock import Stock
from wireloom.agent.library.usage import Usage
from wireloom.fabric.documents import ImagesQuestion
from wireloom.model.images import ImagePin
from wireloom.model.slice import Slice
from wireloom.model.state import NodeState, NodeStep

CONTENT = os.urandom(9_000)
PIN = make_pin(CONTENT)


class LibraryAgent(Agent):
    """An agent that brings images from a depot."""

    def __init__(self, host: Host, depot: Depot) -> None:
        super().__init__(host)
        warehouse = Warehouse(host.folder / "cache", depot)
        usage = Usage(lambda: self.reconciler.slices, self.world.runtimes)
        self.stock = Stock(
            self.providers,
            warehouse.fetcher,
            Ledger(host.folder / "ledger.json"),
            keeps_files=False,
            tell=self._tell,
        )
        hook = ImageHook(
            self.stock,
            lambda context: usage.is_wanted(context.lab.lab_id, context.node, context.lab.pin(context.node)),
        )
        self.runner._hooks = (hook, *self.runner._hooks[1:])
        self.runner._transfer = self.actions.note_transfer


def pinned(lab: Slice, *pins: ImagePin) -> Slice:
    return lab.model_copy(update={"images": pins})


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(download, "_BATCH", 1_000)
    monkeypatch.setattr(fetcher, "_SPARE", 0)
    monkeypatch.setattr("wireloom.agent.hooks.image._LOOK_S", 0.01)
    monkeypatch.setattr("wireloom.agent.actions._SHOW_TRANSFER_S", 0.0)


@pytest.fixture
def depot() -> Depot:
    depot = Depot()
    depot.put(CONTENT)
    return depot


async def test_nodes_are_made_of_the_image_that_their_slice_names(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path)
    nodes = [make_node(f"n{index}", image=PIN.name) for index in range(6)]
    async with LibraryAgent(host, depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", pinned(make_lab(*nodes), PIN))
        await agent.until(settled())
        kinds = [event.kind for event in agent.reports.events if event.kind.startswith("image.")]
    assert host.worlds["alpha"].images[PIN.name].digest == PIN.content
    assert host.worlds["alpha"].calls["load"] == 1
    assert kinds == ["image.fetching", "image.present"]


async def test_another_image_of_the_name_is_not_used(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path)
    host.worlds["alpha"].put_image(PIN.name, b"another")
    async with LibraryAgent(host, depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", pinned(make_lab(make_node("n1", image=PIN.name)), PIN))
        await agent.until(settled())
    assert host.worlds["alpha"].images[PIN.name].digest == PIN.content


async def test_progress_shows_in_the_nodes_status(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    async with LibraryAgent(Host(tmp_path), depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", pinned(make_lab(make_node("n1", image=PIN.name)), PIN))
        status = await agent.until(lambda status: status.nodes[0].total == len(CONTENT))
        assert status.nodes[0].step is NodeStep.IMAGE
        assert status.nodes[0].done < len(CONTENT)
        depot.gate.set()
        status = await agent.until(settled())
        assert status.nodes[0].total == 0


async def test_nodes_that_wait_for_an_image_hold_up_no_others(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    waiting = [make_node(f"w{index}", image=PIN.name) for index in range(12)]
    async with LibraryAgent(Host(tmp_path), depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", pinned(make_lab(*waiting, make_node("free")), PIN))
        await agent.until(lambda status: status.nodes[-1].state is NodeState.RUNNING)
        assert {node.step for node in agent.reports.statuses["lab-1"].nodes[:-1]} == {NodeStep.IMAGE}
        depot.gate.set()
        await agent.until(settled())


async def test_a_node_that_is_not_wanted_any_more_stops_waiting(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    async with LibraryAgent(Host(tmp_path), depot).alive() as agent:
        lab = pinned(make_lab(make_node("n1", image=PIN.name)), PIN)
        agent.reconciler.set_slice("lab-1", lab)
        await eventually(lambda: depot.running)
        agent.reconciler.set_slice("lab-1", lab.model_copy(update={"removed": True, "generation": 2}))
        status = await agent.until(lambda status: status.generation == 2 and status.converged)
        assert status.nodes == ()
        assert not depot.running
        assert not agent.folders.all()


async def test_a_node_that_is_switched_off_while_it_waits_has_not_failed(tmp_path: Path, depot: Depot) -> None:
    depot.gate = asyncio.Event()
    async with LibraryAgent(Host(tmp_path), depot).alive() as agent:
        node = make_node("n1", image=PIN.name)
        agent.reconciler.set_slice("lab-1", pinned(make_lab(node), PIN))
        await eventually(lambda: depot.running)
        off = node.model_copy(update={"power": "off"})
        agent.reconciler.set_slice("lab-1", pinned(make_lab(off, generation=2), PIN))
        status = await agent.until(lambda status: status.generation == 2 and status.converged)
        assert (status.nodes[0].state, status.nodes[0].failures) == (NodeState.ABSENT, 0)


async def test_an_image_that_cannot_come_fails_its_nodes_and_no_others(tmp_path: Path) -> None:
    async with LibraryAgent(Host(tmp_path), Depot()).alive() as agent:
        nodes = make_node("n1", image=PIN.name), make_node("n2")
        agent.reconciler.set_slice("lab-1", pinned(make_lab(*nodes), PIN))
        status = await agent.until(lambda status: status.nodes[0].state is NodeState.FAILED)
        assert status.nodes[0].error is not None
        assert status.nodes[0].error["code"] == "image-missing"
        await agent.until(lambda status: status.nodes[1].state is NodeState.RUNNING)


async def test_a_source_that_is_away_counts_in_the_nodes_budget(tmp_path: Path, depot: Depot) -> None:
    depot.statuses = [503] * 4
    async with LibraryAgent(Host(tmp_path), depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", pinned(make_lab(make_node("n1", image=PIN.name)), PIN))
        status = await agent.until(lambda status: status.nodes[0].failures == 1)
        assert status.nodes[0].state is NodeState.CREATING
        await agent.until(settled())


async def test_an_agent_that_is_killed_while_it_fetches_goes_on(tmp_path: Path, depot: Depot) -> None:
    host = Host(tmp_path)
    lab = pinned(make_lab(make_node("n1", image=PIN.name)), PIN)
    depot.gate = asyncio.Event()
    async with LibraryAgent(host, depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        await eventually(lambda: depot.running)
    depot.gate.set()
    async with LibraryAgent(host, depot).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        await agent.until(settled())
    assert depot.requests[-1].start > 0


async def test_a_look_before_the_first_change_counts_what_the_library_has(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.worlds["alpha"].put_image("here:1", b"here")
    pins = {
        "here:1": make_pin(b"here", "here:1"),
        "drifted:1": make_pin(b"drifted", "drifted:1"),
        "away:1": make_pin(b"away", "away:1"),
    }
    host.worlds["alpha"].put_image("drifted:1", b"another")
    questions = ImageQuestions(host.providers(), lambda _, image: pins.get(image))
    answer = await questions.images(ImagesQuestion(wanted={"alpha": ("here:1", "drifted:1", "away:1", "nowhere:1")}))
    assert answer.absent == {"alpha": ("drifted:1", "away:1")}
    assert answer.missing["alpha"].keys() == {"nowhere:1"}
