"""Ports: every declared port exists on the host before the guest's own code runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wireloom.agent.context import NodeContext
from wireloom.agent.hooks.base import Hook
from wireloom.agent.network import HostNetwork
from wireloom.model.attachment import Attachment
from wireloom.model.network import PortAlias, PortPlan
from wireloom.model.slice import PortIntent, Slice
from wireloom.model.state import NodeStep

__all__ = ["DEFAULT_MTU", "PortsHook", "link_mtus", "port_plan"]

DEFAULT_MTU: Final = 1500


class PortsHook(Hook):
    """Plugs ports in the phase in which the provider's attachments exist."""

    name = "ports"

    def __init__(self, network: HostNetwork, segment: str) -> None:
        self._network = network
        self._segment = segment

    async def before_start(self, context: NodeContext) -> None:
        if context.capabilities.attachments == "created":
            await self.plug(context, context.node.ports)

    async def gated(self, context: NodeContext) -> None:
        context.progress(NodeStep.WIRE)
        if context.capabilities.attachments == "gated":
            await self.plug(context, context.node.ports)

    async def destroyed(self, context: NodeContext) -> None:
        own = [device for device, port in self._network.ports.items() if port.alias.node_id == context.identity.node_id]
        await self._network.unplug(own)

    async def plug(self, context: NodeContext, ports: Iterable[PortIntent]) -> None:
        """Make the host side of ``ports`` now; a port whose attachment is not there yet is left out."""
        plans = []
        for port in ports:
            attachment = await context.provider.attachment(context.live_runtime_id, port)
            if attachment is not None:
                plans.append(port_plan(context, port, attachment, self._segment))
        if any(plan.segment is not None for plan in plans):
            await self._network.wait_for_segment()
        await self._network.plug(plans)


def port_plan(context: NodeContext, port: PortIntent, attachment: Attachment, segment: str) -> PortPlan:
    """The data plane's view of one port of a node."""
    management = context.lab.management if port.role == "mgmt" else None
    address = context.node.mgmt_ipv4 if management else None
    prefix = management.subnet.partition("/")[2] if management else ""
    return PortPlan(
        device=port.device,
        alias=PortAlias(
            installation=context.identity.installation,
            lab_id=context.identity.lab_id,
            node_id=context.identity.node_id,
            index=port.index,
            name=f"{context.identity.lab}/{context.identity.node}/{port.name}",
        ),
        attachment=attachment,
        guest_name=port.guest_name,
        mac=port.mac,
        mtu=link_mtus(context.lab, context.node.id).get(port.index, DEFAULT_MTU),
        segment=segment if management else None,
        addresses=(f"{address}/{prefix}",) if address else (),
        gateway=management.gateway if management and address else None,
        carrier=port.role == "mgmt",
    )


def link_mtus(lab: Slice, node_id: str) -> dict[int, int]:
    """MTUs of a node's links, by port index; the other ports have :data:`DEFAULT_MTU`."""
    wires = {ref.index: wire.mtu for wire in lab.wires for ref in (wire.a, wire.b) if ref.node_id == node_id}
    segments = {segment.id: segment.mtu for segment in lab.segments}
    plugs = {
        plug.port.index: segments[plug.segment]
        for plug in lab.plugs
        if plug.port.node_id == node_id and plug.segment in segments
    }
    return wires | plugs
