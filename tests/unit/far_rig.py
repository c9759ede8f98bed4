"""Two hosts with agents that tell each other of their wires, over one fabric in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from agent_rig import INSTALLATION, Agent, Host, make_node

from wireloom.agent.underlay import Underlay, UnderlayRules
from wireloom.fabric.underlay_documents import HostPeers
from wireloom.model.slice import NodeIntent, PortRef, RemoteEnd, Slice, WireIntent
from wireloom.model.underlay import Peer
from wireloom.testing.memory_fabric import MemoryFabric

__all__ = ["ADDRESSES", "FarHost", "both", "far_lab", "tell_peers"]

ADDRESSES = {"h1": "192.0.2.1", "h2": "192.0.2.2"}
OTHER = {"h1": "h2", "h2": "h1"}


class FarHost(Host):
    """One of two; ``node``: the only one it has, ``a`` on h1 and ``b`` on h2."""

    def __init__(self, folder: Path, name: str, fabric: MemoryFabric, provider: str = "alpha") -> None:
        super().__init__(folder)
        self.name = name
        self.fabric = fabric
        self.node = make_node({"h1": "a", "h2": "b"}[name], provider, restart_policy="never")

    def underlay(self, heard: Callable[[Collection[str]], None], moved: Callable[[], None]) -> Underlay:
        return Underlay(self.name, self.fabric, UnderlayRules(address=ADDRESSES[self.name]), heard=heard, moved=moved)

    @property
    def device(self) -> str:
        return self.node.ports[1].device

    @property
    def up(self) -> bool:
        """What its guest sees of the cable."""
        port = self.network.ports.get(self.device)
        return port is not None and port.up


async def tell_peers(fabric: MemoryFabric, **changes: object) -> None:
    """As the controller does."""
    for host, other in OTHER.items():
        peer = Peer(host=other, address=ADDRESSES[other]).model_copy(update=changes)
        await fabric.put_peers(HostPeers(host=host, peers=(peer,)))


def far_lab(
    here: FarHost,
    there: FarHost,
    *,
    vni: int = 4711,
    up: bool = True,
    generation: int = 1,
    wired: bool = True,
    node: NodeIntent | None = None,
    removed: bool = False,
) -> Slice:
    """The slice of ``here``: its node, wired to the one of ``there``."""
    first, second = sorted((here, there), key=lambda host: host.name)
    remote = RemoteEnd(
        end="b" if here is first else "a",
        host=there.name,
        vni=vni,
        name=f"{there.node.name}:eth1",
        link_down=there.node.link_down,
    )
    wire = WireIntent(
        id="far",
        a=PortRef(node_id=first.node.id, index=1),
        b=PortRef(node_id=second.node.id, index=1),
        up=up,
        remote=remote,
    )
    return Slice(
        installation=INSTALLATION,
        lab_id="lab-1",
        lab="lab",
        generation=generation,
        nodes=(node or here.node,),
        wires=(wire,) if wired else (),
        removed=removed,
    )


@contextlib.asynccontextmanager
async def both(first: FarHost, second: FarHost) -> AsyncIterator[tuple[Agent, Agent]]:
    """The agents of two hosts, alive, with their slices."""
    async with Agent(first).alive() as one, Agent(second).alive() as two:
        one.reconciler.set_slice("lab-1", far_lab(first, second))
        two.reconciler.set_slice("lab-1", far_lab(second, first))
        yield one, two
