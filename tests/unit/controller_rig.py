"""A controller on a memory fabric and a temporary database, and hosts that obey at once or as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from wireloom.controller.controller import Controller
from wireloom.controller.library.library import LibraryOptions
from wireloom.controller.store import Store
from wireloom.devices import DeviceFolder
from wireloom.fabric.documents import HostFacts
from wireloom.fabric.logins import FabricLogins
from wireloom.model.impairment import LinkImpairment
from wireloom.model.runtime import Capabilities
from wireloom.model.slice import NodeIntent, PlugIntent, SegmentIntent, Slice, WireIntent
from wireloom.model.state import (
    LinkState,
    NodeState,
    NodeStatus,
    PlugStatus,
    Readiness,
    SegmentStatus,
    SliceStatus,
    WireStatus,
)
from wireloom.model.views import DeployRequest, OperationState, OperationView
from wireloom.testing.memory_fabric import MemoryFabric

TWO_NODES = """\
# two of them
name: pair
defaults: {device: linux, provider: simulated}
nodes:
  a:
  b:
links:
  - [a:eth1, b:eth1]
"""

SUBNET = "172.30.0.0/24"


class Host:
    """An agent without a host: it reports every slice as reached, unless a test says otherwise.

    :ivar failing: node name → error with which it ends. :ivar slow: nodes that stay ``creating``.
    :ivar refused: name of a segment → why it cannot be made.
    :ivar far: id of a link to another host → what its status says instead.
    """

    def __init__(self, fabric: MemoryFabric, name: str = "h1", **facts: Any) -> None:
        self.fabric = fabric
        self.name = name
        self.failing: dict[str, dict[str, Any]] = {}
        self.slow: set[str] = set()
        self.refused: dict[str, str] = {}
        self.far: dict[str, dict[str, Any]] = {}
        self.obeys = True
        self.slices: dict[str, Slice] = {}
        self.starts = 0
        self._runs: dict[str, tuple[tuple[int, int, str], float]] = {}
        defaults: dict[str, Any] = {
            "version": "1",
            "installation": "",
            "time": 0,
            "memory_mb": 8192,
            "management_subnet": SUBNET,
            "providers": (Capabilities(name="simulated", ports_fixed=True, fractional_cpu=True, binds=True),),
        }
        self.facts = HostFacts(host=name, **{**defaults, **facts})

    async def run(self) -> None:
        await self.fabric.put_host(self.facts)
        async with aclosing(cast(Any, self.fabric.watch_intents(self.name))) as changes:
            async for change in changes:
                if change.value is None:
                    self.slices.pop(change.lab_id, None)
                else:
                    self.slices[change.value.lab_id] = change.value
                    if self.obeys:
                        await self.report(change.value.lab_id)

    async def report(self, lab_id: str) -> None:
        """Say how the lab is on this host."""
        lab = self.slices[lab_id]
        nodes = () if lab.removed else tuple(self._status(node) for node in lab.nodes)
        going = any(node.state is NodeState.CREATING for node in nodes)
        await self.fabric.put_observation(
            SliceStatus(
                host=self.name,
                lab_id=lab.lab_id,
                lab=lab.lab,
                generation=lab.generation,
                observed_at=0,
                converged=not going,
                lease_s=None if lab.removed else lab.lease_s,
                nodes=nodes,
                wires=tuple(self._wire(lab, wire) for wire in lab.wires),
                plugs=tuple(self._plug(lab, plug) for plug in lab.plugs),
                segments=tuple(self._segment(segment) for segment in lab.segments),
            )
        )

    def _status(self, node: NodeIntent) -> NodeStatus:
        error = self.failing.get(node.name)
        state, ready = NodeState.RUNNING, Readiness.YES
        if node.power == "off":
            state, ready = NodeState.STOPPED, Readiness.NO
        elif error is not None:
            state, ready = NodeState.FAILED, Readiness.NO
        elif node.name in self.slow:
            state, ready = NodeState.CREATING, Readiness.NO
        version = (node.restarts, node.incarnation, node.spec_hash())
        if state is NodeState.RUNNING and self._runs.get(node.id, ((), 0))[0] != version:
            self.starts += 1
            self._runs[node.id] = (version, float(self.starts))
        elif state is NodeState.STOPPED:
            self._runs.pop(node.id, None)
        started = self._runs.get(node.id)
        return NodeStatus(
            id=node.id,
            name=node.name,
            provider=node.provider,
            state=state,
            ready=ready,
            error=error if state is NodeState.FAILED else None,
            started_at=started[1] if started else None,
        )

    def _wire(self, lab: Slice, wire: WireIntent) -> WireStatus:
        found = WireStatus(id=wire.id, state=self._state(lab, wire), mtu=wire.mtu, impairment=self._impairment(wire))
        return found if wire.remote is None else found.model_copy(update={"far": "up", **self.far.get(wire.id, {})})

    def _plug(self, lab: Slice, plug: PlugIntent) -> PlugStatus:
        segment = lab.segment(plug.segment)
        mtu = segment.mtu if segment else 0
        return PlugStatus(id=plug.id, state=self._state(lab, plug), mtu=mtu, impairment=self._impairment(plug))

    def _segment(self, segment: SegmentIntent) -> SegmentStatus:
        problem = self.refused.get(segment.name, "")
        return SegmentStatus(id=segment.id, state=LinkState.FAILED if problem else LinkState.UP, message=problem)

    def _state(self, lab: Slice, link: WireIntent | PlugIntent) -> LinkState:
        refs = link.local_ends if isinstance(link, WireIntent) else link.ends
        ends = [lab.node(end.node_id) for end in refs]
        running = all(end is not None and self._status(end).state is NodeState.RUNNING for end in ends)
        return LinkState.DOWN if not link.up else LinkState.UP if running else LinkState.PENDING

    def _impairment(self, link: WireIntent | PlugIntent) -> LinkImpairment:
        """What the host reads back, which knows of no end in time."""
        now = link.impairment.at(asyncio.get_running_loop().time())
        return now.model_copy(update={"forward_until": None, "backward_until": None})


class Rig:
    """Controller, fabric, hosts. ``restart`` makes a new controller on the same database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fabric = MemoryFabric()
        self.hosts: dict[str, Host] = {}
        self.logins: FabricLogins | None = None
        self.privileged = False
        self.seconds = 0.0  #: of the controller's clock that never jumps
        self._tasks: list[asyncio.Task[None]] = []
        self.controller: Controller
        self.store: Store

    async def up(self) -> Controller:
        devices = DeviceFolder(self.folder / "devices")
        self.store = await Store.open(f"sqlite+aiosqlite:///{self.folder / 'wireloom.sqlite'}")
        self.controller = await Controller.create(
            store=self.store,
            fabric=self.fabric,
            devices=devices.catalogue(),
            device_folder=devices,
            settings_schemas={},
            library=LibraryOptions(
                folder=self.folder / "library",
                secrets=self.folder / "secrets",
                references=self.folder / "images",
                own_host="h1",
            ),
            privileged_permitted=self.privileged,
            clock=lambda: asyncio.get_running_loop().time(),
            monotonic=lambda: self.seconds,
            logins=self.logins,
        )
        await self.controller.start()
        return self.controller

    async def down(self) -> None:
        await self.controller.stop()
        await self.store.close()

    async def restart(self) -> Controller:
        await self.down()
        return await self.up()

    async def add_host(self, name: str = "h1", **facts: Any) -> Host:
        host = self.hosts[name] = Host(self.fabric, name, **facts)
        self._tasks.append(asyncio.create_task(host.run()))
        await until(lambda: name in self.controller.live.alive)
        return host

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.down()

    async def deploy(self, topology: str = TWO_NODES, **changes: Any) -> OperationView:
        """Deploy, and wait for the end of the operation."""
        return await self.ended(await self.controller.labs.deploy(DeployRequest(topology=topology, **changes)))

    async def ended(self, operation: OperationView) -> OperationView:
        def view() -> OperationView:
            record = self.controller.board.operation(operation.id)
            assert record is not None
            return record.view()

        await until(lambda: view().state is not OperationState.RUNNING)
        return view()


async def until(condition: Callable[[], object]) -> None:
    """Give every task its turns until ``condition`` holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no one event that stands for all of them
            await asyncio.sleep(0)


@asynccontextmanager
async def make_rig(folder: Path) -> AsyncIterator[Rig]:
    rig = Rig(folder)
    await rig.up()
    try:
        yield rig
    finally:
        await rig.close()
