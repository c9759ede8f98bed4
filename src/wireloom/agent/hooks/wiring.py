"""Wiring is part of start: wires to neighbours that are already plugged are joined before the guest runs."""

from __future__ import annotations

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.agent.network import HostNetwork
from wireloom.model.network import WirePlan
from wireloom.model.slice import PortIntent, PortRef

__all__ = ["WiringHook"]


class WiringHook(Hook):
    """Joins this node's wires and raises the carriers; a neighbour that comes later joins from its side."""

    name = "wiring"

    def __init__(self, network: HostNetwork) -> None:
        self._network = network

    async def gated(self, context: NodeContext) -> None:
        joins: list[WirePlan] = []
        raised: dict[int, bool] = {port.index: port.role == "mgmt" for port in context.node.ports}
        carriers: dict[str, bool] = {}
        for wire in context.lab.wires:
            mine, theirs = wire.a, wire.b
            if context.node.id not in {mine.node_id, theirs.node_id}:
                continue
            if mine.node_id != context.node.id:
                mine, theirs = theirs, mine
            here, there = _port(context, mine), _port(context, theirs)
            if here is None or there is None or there.device not in self._network.ports:
                continue
            joins.append(WirePlan(a=here.device, b=there.device, mtu=wire.mtu))
            raised[mine.index] = wire.up
            carriers[here.device] = wire.up
        await self._network.join(joins)
        if context.capabilities.carrier == "device":
            await self._network.set_carriers(carriers)
        elif context.provider.abilities.carrier is not None:
            await self._network.set_carriers({port.device: True for port in context.node.ports})
            await context.provider.abilities.carrier.set_carrier(context.live_runtime_id, raised)


def _port(context: NodeContext, ref: PortRef) -> PortIntent | None:
    node = context.lab.node(ref.node_id)
    return node.port(ref.index) if node else None
