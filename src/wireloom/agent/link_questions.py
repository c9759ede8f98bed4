"""Questions about links: how large a frame passes, what passes, and whether the data plane works at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wireloom.agent.actions import Actions
from wireloom.agent.counters import CountersStream, SharedCounters
from wireloom.agent.dataplane_health import DataPlaneHealth
from wireloom.agent.network import HostNetwork
from wireloom.agent.reconciler import Reconciler
from wireloom.errors import Conflict, DeadlineExceeded, NotFound, Unsupported
from wireloom.fabric.connection import Fabric
from wireloom.fabric.link_documents import CountersOpen, MtuAnswer, MtuDirection, MtuQuestion
from wireloom.fabric.methods import CHECK_MTU, COUNTERS, SELF_TEST
from wireloom.model.impairment import Impairment
from wireloom.model.network import HostPort, LargestPayload, ProbeEnd
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, PortRef, RemoteEnd, Slice, WireIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import ByteStream

__all__ = ["LinkQuestions"]

#: A frame that is not held up on purpose takes far less.
_PATIENCE_S: Final = 0.25
#: What is left of the asker's time for the way there and back.
_MARGIN_S: Final = 5.0
_LIMIT_S: Final = CHECK_MTU.deadline_s - _MARGIN_S


@dataclass(frozen=True)
class _End:
    """An end of a link that is plugged; ``probe`` is how frames are sent and heard there."""

    name: str
    port: HostPort
    probe: ProbeEnd


class LinkQuestions:
    """Handlers for the rows of ``wireloom.fabric.methods`` that concern links."""

    def __init__(
        self, *, reconciler: Reconciler, actions: Actions, network: HostNetwork, health: DataPlaneHealth
    ) -> None:
        self._reconciler = reconciler
        self._actions = actions
        self._network = network
        self._health = health
        self._counters = SharedCounters(network.dataplane)

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve(host, CHECK_MTU, self.check_mtu)
        await fabric.serve(host, SELF_TEST, self._health.self_test)
        await fabric.serve_stream(host, COUNTERS, self.counters)

    async def counters(self, question: CountersOpen) -> ByteStream:
        """:raises NotFound: this host has nothing of the lab."""
        self._lab(question.lab_id)
        return CountersStream(self._network, self._counters, question.lab_id, question.interval_s)

    async def check_mtu(self, question: MtuQuestion) -> MtuAnswer:
        """:raises NotFound: no such link. :raises Conflict: it is down, or an end of it is not plugged."""
        lab = self._lab(question.lab_id)
        for wire in lab.wires:
            if wire.id == question.link_id:
                return await self._check_wire(lab, wire)
        for plug in lab.plugs:
            if plug.id == question.link_id:
                return await self._check_plug(lab, plug)
        raise NotFound("this host has no such link")

    async def _check_wire(self, lab: Slice, wire: WireIntent) -> MtuAnswer:
        _refuse_down(wire.up)
        if wire.remote is not None:
            return await self._check_remote(lab, wire, wire.remote)
        a, b = await self._end(lab, wire.a), await self._end(lab, wire.b)
        return await self._both_ways(a, b, wire.mtu)

    async def _check_remote(self, lab: Slice, wire: WireIntent, remote: RemoteEnd) -> MtuAnswer:
        """Nobody here can send for a guest of another host, nor hear what comes to it."""
        end = await self._end(lab, wire.local_ends[0])
        there = MtuDirection(
            source=end.name,
            target=remote.name,
            configured=wire.mtu,
            largest=min(end.port.mtu, wire.mtu),
            method="configured",
            reason=f"its other end is on host {remote.host}",
        )
        back = there.model_copy(update={"source": remote.name, "target": end.name})
        return MtuAnswer(forward=there, backward=back) if remote.end == "b" else MtuAnswer(forward=back, backward=there)

    async def _check_plug(self, lab: Slice, plug: PlugIntent) -> MtuAnswer:
        """A segment has no guest of its own: frames go to and come from a neighbour in it."""
        _refuse_down(plug.up)
        segment = lab.segment(plug.segment)
        if segment is None:
            raise NotFound("this host has no such segment")
        end = await self._end(lab, plug.port)
        neighbour = await self._neighbour(lab, plug, end)
        if neighbour is None:
            reason = "no other node in the segment can be heard"
            here = MtuDirection(
                source=end.name,
                target=segment.name,
                configured=segment.mtu,
                largest=min(end.port.mtu, segment.mtu),
                method="configured",
                reason=reason,
            )
            back = here.model_copy(update={"source": segment.name, "target": end.name})
            return MtuAnswer(forward=here, backward=back)
        return await self._both_ways(end, neighbour, segment.mtu)

    async def _both_ways(self, a: _End, b: _End, mtu: int) -> MtuAnswer:
        """At the same time: each may take all that there is."""
        ways = [asyncio.create_task(self._direction(*ends, mtu)) for ends in ((a, b), (b, a))]
        try:
            return MtuAnswer(forward=await ways[0], backward=await ways[1])
        finally:
            for way in ways:
                way.cancel()

    async def _neighbour(self, lab: Slice, plug: PlugIntent, end: _End) -> _End | None:
        """A running node in the same segment whose port is in the same VLANs."""
        for other in lab.plugs:
            if other.id == plug.id or other.segment != plug.segment or not other.up:
                continue
            try:
                found = await self._end(lab, other.port)
            except (Conflict, NotFound):
                continue
            if (found.port.segment, found.port.vlans) == (end.port.segment, end.port.vlans):
                return found
        return None

    async def _direction(self, sender: _End, receiver: _End, mtu: int) -> MtuDirection:
        reason = ""
        try:
            found = await self._send(sender, receiver, mtu)
        except (DeadlineExceeded, Unsupported) as error:
            largest, reason = min(sender.port.mtu, receiver.port.mtu), error.message
            found = LargestPayload(passes=largest, fails=largest + 1 if largest < mtu else None)
        return MtuDirection(
            source=sender.name,
            target=receiver.name,
            configured=mtu,
            largest=found.passes,
            method="configured" if reason else "sent",
            reason=reason,
            problem=_problem(found),
        )

    async def _send(self, sender: _End, receiver: _End, mtu: int) -> LargestPayload:
        """:raises Unsupported: nobody can send for the sender. :raises DeadlineExceeded: it would take too long."""
        patience_s = _patience_s((sender.port.from_guest, receiver.port.to_guest), mtu)
        if 2 * patience_s > _LIMIT_S:
            raise DeadlineExceeded(
                f"a frame may take {patience_s:.0f} s here, as the link is impaired: too long to wait for"
            )
        return await self._network.dataplane.largest_payload(
            sender.probe, receiver.probe, mtu, patience_s=patience_s, limit_s=_LIMIT_S
        )

    async def _end(self, lab: Slice, ref: PortRef) -> _End:
        node, port = _find(lab, ref)
        runtime = self._reconciler.world.runtimes.get(node.id)
        host_port = self._network.ports.get(port.device)
        if runtime is None or runtime.phase is not RuntimePhase.RUNNING or host_port is None:
            raise Conflict("the node is not running", node=node.name, hint="start it with `wireloom start`")
        attachment = await self._actions.target(lab, node, runtime).provider.attachment(runtime.runtime_id, port)
        if attachment is None:
            raise Conflict(f"its port {port.name} is not plugged", node=node.name)
        probe = ProbeEnd(device=port.device, attachment=attachment, mac=port.mac)
        return _End(f"{node.name}:{port.name}", host_port, probe)

    def _lab(self, lab_id: str) -> Slice:
        lab = self._reconciler.slices.get(lab_id)
        if lab is None or lab.removed:
            raise NotFound("this host has nothing of that lab")
        return lab


def _find(lab: Slice, ref: PortRef) -> tuple[NodeIntent, PortIntent]:
    node = lab.node(ref.node_id)
    port = node.port(ref.index) if node else None
    if node is None or port is None:
        raise NotFound("an end of the link is not on this host")
    return node, port


def _refuse_down(up: bool) -> None:
    if not up:
        raise Conflict("the link is down", hint="`wireloom link up` raises it")


def _problem(found: LargestPayload) -> str:
    if found.fails is None:
        return ""
    if not found.passes:
        return "no frame passes"
    if found.exact:
        return f"frames of more than {found.passes} bytes do not pass"
    return (
        f"frames of {found.fails} bytes do not pass, those of {found.passes} do; the link is too slow to find out more"
    )


def _patience_s(impairments: Iterable[Impairment | None], mtu: int) -> float:
    """How long a frame may take, held up on purpose as it is."""
    patience_s = _PATIENCE_S
    for held in impairments:
        if held is not None:
            sending_s = mtu * 8 / (held.rate_kbit * 1000) if held.rate_kbit else 0
            patience_s += (held.delay_ms + held.jitter_ms) / 1000 + sending_s
    return patience_s
