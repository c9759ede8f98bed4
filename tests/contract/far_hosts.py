"""Two hosts of the kernel, each a namespace with an agent of its own, over one fabric in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_rig import Agent, make_node
from wiring_rig import RealHost

from wireloom.agent.underlay import Underlay, UnderlayRules
from wireloom.controller.peers import peer_secret
from wireloom.dataplane.contract import DataPlane
from wireloom.fabric.underlay_documents import HostPeers
from wireloom.model.identity import device_name, mac_address
from wireloom.model.impairment import LinkImpairment
from wireloom.model.network import HostPort
from wireloom.model.slice import NodeIntent, PortRef, RemoteEnd, Slice, WireIntent
from wireloom.model.underlay import Peer
from wireloom.providers.simulated import SimulatedRuntime
from wireloom.testing.conformance.dataplane_hosts import living_in
from wireloom.testing.guests import Guest, NamespaceGuest
from wireloom.testing.memory_fabric import MemoryFabric

__all__ = ["ADDRESSES", "FarHosts", "KernelHost", "far_hosts"]

ADDRESSES = {"h1": "192.0.2.1", "h2": "192.0.2.2"}
#: Kinds of nodes, by what ``plug`` of the conformance suite calls their ports.
PROVIDERS = {"veth": "alpha", "tap": "beta"}
LAB = "lab-1"


class KernelHost(RealHost):
    """One of two, with the node ``a`` on h1 and ``b`` on h2. What it does to the kernel it does in its namespace."""

    def __init__(
        self,
        folder: Path,
        factory: Callable[[str], DataPlane],
        *,
        name: str,
        space: str,
        fabric: MemoryFabric,
        kind: str,
        installation: str,
    ) -> None:
        super().__init__(folder, factory)
        self.name = name
        self.space = space
        self.fabric = fabric
        self.installation = installation
        self.node = self._make_node({"h1": "a", "h2": "b"}[name], PROVIDERS[kind])

    def _make_node(self, name: str, provider: str) -> NodeIntent:
        made = make_node(name, provider, restart_policy="never")
        template = made.ports[1]
        key = (self.installation, name, 1)
        return made.model_copy(
            update={
                "ports": (
                    template.model_copy(
                        update={"device": device_name("p", *key), "mac": mac_address(*key), "index": 1}
                    ),
                )
            }
        )

    def dataplane(self) -> DataPlane:
        with living_in(self.space):
            plane: Any = super().dataplane()
        watch = plane.watch

        def watch_here() -> object:
            with living_in(self.space):
                return watch()

        plane.watch = watch_here
        return plane  # type: ignore[no-any-return]

    def providers(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(super().providers())
        for provider in found.values():
            provider.start = self._here(provider.start)
        return found

    def _here(self, start: Callable[[str], Any]) -> Callable[[str], Any]:
        async def started(runtime_id: str) -> None:
            with living_in(self.space):
                await start(runtime_id)

        return started

    def underlay(self, heard: Callable[[Collection[str]], None], moved: Callable[[], None]) -> Underlay:
        rules = UnderlayRules(address=ADDRESSES[self.name], probe_port=47890, probe_every_s=0.2)
        return Underlay(self.name, self.fabric, rules, heard=heard, moved=moved)

    async def wake(self, agent: Agent) -> None:
        """Have the data plane's threads begin; they live where their maker does."""
        with living_in(self.space):
            await agent.network.dataplane.observe()
            await agent.network.dataplane.set_carrier({})

    @property
    def runtime(self) -> SimulatedRuntime:
        (found,) = (runtime for world in self.worlds.values() for runtime in world.runtimes.values())
        return found

    async def guest(self) -> Guest:
        """The guest's side of the node's port."""
        runtime, guests = self.runtime, self._guests[self.node.provider]
        if self.node.provider == "beta":
            return guests._taps[runtime.netns][1]
        return await NamespaceGuest.open(await guests.namespace(runtime.netns), "eth1")

    async def port(self, agent: Agent) -> HostPort | None:
        """As the kernel shows it."""
        return (await agent.network.dataplane.observe()).ports.get(self.node.ports[0].device)


@dataclass
class FarHosts:
    """Both, with their agents. ``mtu`` and ``vni`` are those of the wire ``far`` between ``a`` and ``b``."""

    hosts: tuple[KernelHost, KernelHost]
    fabric: MemoryFabric
    agents: list[Agent]
    vni: int = 4711
    mtu: int = 1500
    up: bool = True
    wired: bool = True
    removed: bool = False
    impairment: LinkImpairment = field(default_factory=LinkImpairment)
    generation: int = 0

    def apply(self) -> None:
        """Give both agents what is wanted now."""
        self.generation += 1
        for host, agent in zip(self.hosts, self.agents, strict=True):
            agent.reconciler.set_slice(LAB, self.document(host))

    def document(self, host: KernelHost) -> Slice:
        first, second = self.hosts
        there = second if host is first else first
        remote = RemoteEnd(
            end="b" if host is first else "a", host=there.name, vni=self.vni, name=f"{there.node.name}:eth1"
        )
        wire = WireIntent(
            id="far",
            a=PortRef(node_id=first.node.id, index=1),
            b=PortRef(node_id=second.node.id, index=1),
            mtu=self.mtu,
            up=self.up,
            impairment=self.impairment,
            remote=remote,
        )
        return Slice(
            installation=host.installation,
            lab_id=LAB,
            lab="lab",
            generation=self.generation,
            nodes=(host.node,),
            wires=(wire,) if self.wired else (),
            removed=self.removed,
        )

    async def settle(self, state: str = "up") -> None:
        """Wait until both agents have reached what they are to reach."""
        for agent in self.agents:
            await agent.until(
                lambda status: (
                    status.converged
                    and status.generation == self.generation
                    and all(wire.state == state for wire in status.wires)
                )
            )

    async def tell_peers(self) -> None:
        """As the controller does."""
        for host, other in (("h1", "h2"), ("h2", "h1")):
            peer = Peer(host=other, address=ADDRESSES[other], secret=peer_secret(b"s", host, other), probe_port=47890)
            await self.fabric.put_peers(HostPeers(host=host, peers=(peer,)))


@contextlib.asynccontextmanager
async def far_hosts(
    folder: Path,
    spaces: tuple[str, str],
    factories: tuple[Callable[[str], DataPlane], Callable[[str], DataPlane]],
    kinds: tuple[str, str] = ("veth", "tap"),
) -> AsyncIterator[FarHosts]:
    """Two hosts whose nodes run and are wired; nothing of them is left afterwards."""
    fabric = MemoryFabric()
    installation = f"far-{folder.name}"
    hosts = tuple(
        KernelHost(folder / name, factory, name=name, space=space, fabric=fabric, kind=kind, installation=installation)
        for name, space, factory, kind in zip(("h1", "h2"), spaces, factories, kinds, strict=True)
    )
    made = FarHosts((hosts[0], hosts[1]), fabric, [])
    async with contextlib.AsyncExitStack() as stack:
        for host in hosts:
            with living_in(host.space):
                agent = Agent(host)
                await host.wake(agent)
                made.agents.append(await stack.enter_async_context(agent.alive()))
                await asyncio.sleep(0.05)  # the loops open their sockets here
        await made.tell_peers()
        try:
            yield made
        finally:
            made.removed = True
            made.apply()
            await made.settle()
            for host, agent in zip(hosts, made.agents, strict=True):
                assert await host.port(agent) is None
                await agent.network.dataplane.close()
