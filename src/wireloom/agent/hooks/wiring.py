"""Wiring is part of start: a node's links are made before its guest runs, as far as their far ends are there."""

from __future__ import annotations

from dataclasses import replace

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.agent.network import HostNetwork
from wireloom.agent.surroundings import Surroundings
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.state import RuntimePhase

__all__ = ["WiringHook"]


class WiringHook(Hook):
    """Joins this node's wires, puts its ports into their segments, impairs them, and raises the carriers.

    A neighbour that comes later joins from its side. What the host refuses does not keep the node from starting.
    """

    name = "wiring"

    def __init__(self, network: HostNetwork, surroundings: Surroundings) -> None:
        self._network = network
        self._surroundings = surroundings

    async def gated(self, context: NodeContext) -> None:
        node = context.node
        plans = self._surroundings.plan(
            context.lab,
            {node.id},
            runtimes={node.id: _gated(context)},
            capabilities={node.provider: context.capabilities},
        )
        own = {port.device for port in node.ports}
        # The carriers at far ends follow when the node is known to run.
        carriers = {device: up for device, up in plans.device_carriers.items() if device in own}
        await self._network.change(replace(plans, device_carriers=carriers))
        if context.capabilities.carrier == "provider" and context.provider.abilities.carrier is not None:
            lowered = plans.runtime_carriers.get(node.id, {})
            wanted = {port.index: lowered.get(port.index, True) for port in node.ports}
            await context.provider.abilities.carrier.set_carrier(context.live_runtime_id, wanted)


def _gated(context: NodeContext) -> RuntimeStatus:
    """The node as it is now; nobody has looked at it yet. Planning says which of its carriers are not to be up."""
    return RuntimeStatus(
        runtime_id=context.live_runtime_id,
        name=context.identity.runtime_name,
        identity=context.identity,
        incarnation=context.node.incarnation,
        spec_hash="",
        phase=RuntimePhase.GATED,
        carriers={port.index: True for port in context.node.ports},
    )
