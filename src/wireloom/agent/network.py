"""What the agent knows of its host's ports and links: the data plane's state, cached between events.

Our own successful changes are entered at once, so that the wiring of a node that starts can see a neighbour
that was plugged a moment ago; so is what events of the kernel say. The kernel's word replaces the cache whenever
something changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import structlog

from wireloom.agent.refusals import Refusals
from wireloom.dataplane.contract import DataPlane
from wireloom.errors import DeadlineExceeded, Unavailable, WireloomError
from wireloom.model.network import (
    DataPlaneState,
    HostPort,
    ImpairmentPlan,
    PlugPlan,
    PortEvent,
    PortPlan,
    Segment,
    SegmentPlan,
    TunnelPlan,
    WirePlan,
)
from wireloom.planning.wires import WirePlans

__all__ = ["AdmitSegment", "HandOver", "HostNetwork", "nobody_hands_over"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_SEGMENT_S = 30.0

#: Asked before a segment is made; raises :class:`~wireloom.errors.Conflict` where it must not be.
AdmitSegment = Callable[[SegmentPlan], Awaitable[None]]

#: Has the host's other data planes give up what they hold; raises where one cannot.
HandOver = Callable[[], Awaitable[None]]


async def _admit_all(_: SegmentPlan) -> None:
    """No segment is refused."""


async def nobody_hands_over() -> None:
    """There is no other data plane."""


class HostNetwork:
    """The data plane with a cache in front. All calls are safe at the same time.

    :param hand_over: done once, before anything is read.
    """

    def __init__(
        self, dataplane: DataPlane, admit: AdmitSegment = _admit_all, hand_over: HandOver = nobody_hands_over
    ) -> None:
        self.dataplane = dataplane
        self._admit = admit
        self._hand_over = hand_over
        self._handed_over = False
        self._outage = ""
        self._ports: dict[str, HostPort] = {}
        self._state = DataPlaneState()
        self._changed: set[str] = set()
        self._refused = Refusals()
        # Apart from the others: frames pass over a link that cannot be impaired, and its carriers go on as ever.
        self._unimpaired = Refusals()
        # Likewise: what frames must not pass any more is ended, whatever else waits for a pause to be over.
        self._unended = Refusals()
        self._expected: frozenset[str] = frozenset()
        self._dirty = True
        self._known = False
        self._lock = asyncio.Lock()
        self._segment_there = asyncio.Event()

    def segment_there(self, there: bool) -> None:
        """The management segment came or went; nodes start without it and wait only to be plugged into it."""
        if there:
            self._segment_there.set()
        else:
            self._segment_there.clear()

    async def wait_for_segment(self) -> None:
        """:raises Unavailable: the management segment does not come."""
        try:
            async with asyncio.timeout(_SEGMENT_S):
                await self._segment_there.wait()
        except TimeoutError:
            raise Unavailable(
                "the host's management network is not there",
                hint="`wireloom status` shows the host's problems; `wireloom doctor` what it lacks",
            ) from None

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def ports(self) -> Mapping[str, HostPort]:
        """Host ports by device name as last known."""
        return self._ports

    @property
    def state(self) -> DataPlaneState:
        return self._state.model_copy(update={"ports": self._ports})

    @property
    def known(self) -> bool:
        """Whether the kernel was read at all: before that nothing is missing, it is just not known."""
        return self._known

    @property
    def settled(self) -> bool:
        """Whether :attr:`state` is what the kernel held when nothing was under way."""
        return not self._dirty

    @property
    def outage(self) -> str:
        """Why nobody knows what the host has of ports and links now, nor can change it; empty: it answers."""
        return self._outage

    @property
    def problems(self) -> Mapping[str, str]:
        """What was refused, by host device: a port's or a segment's."""
        return {**self._unimpaired.messages, **self._unended.messages, **self._refused.messages}

    def retry_at(self, now: float) -> float | None:
        """When something that was refused is to be tried again, in UNIX seconds."""
        times = (refusals.retry_at(now) for refusals in (self._refused, self._unimpaired, self._unended))
        return min((moment for moment in times if moment is not None), default=None)

    def expect_segments(self, devices: Collection[str]) -> None:
        """The segments that slices want: what was refused of any other is forgotten."""
        self._expected = frozenset(devices)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Whatever becomes of a change, half of it included, the kernel is looked at afterwards."""
        self._dirty = True
        try:
            yield
        finally:
            self._dirty = True

    def invalidate(self) -> None:
        """Something changed in the kernel: the next :meth:`refresh` looks."""
        self._dirty = True

    def note(self, event: PortEvent) -> HostPort | None:
        """Enter what the kernel told; the port as it was known, where it has gone or its guest's side has changed."""
        self._dirty = True
        known = self._ports.get(event.device)
        if known is None:
            return None
        self._changed.add(event.device)
        if event.removed:
            del self._ports[event.device]
            return known
        if event.up is None or event.carrier is None:
            return None
        self._ports[event.device] = known.model_copy(update={"up": event.up, "carrier": event.carrier})
        return known if event.up and event.carrier != known.carrier else None

    async def refresh(self, *, force: bool = False) -> None:
        """Read the kernel when something changed since the last time.

        :raises WireloomError: it cannot be read, see :attr:`outage`; what was known stays.
        """
        if not (self._dirty or force):
            return
        async with self._lock:
            self._dirty = False
            self._changed.clear()
            try:
                self._state = await self._read()
            except WireloomError as error:
                self._note_outage(error)
                raise
            self._known = True
            self._outage = ""
            # Of what changed while the kernel was read, our own word and its events are newer.
            own = {device: port for device, port in self._ports.items() if device in self._changed}
            seen = {device: port for device, port in self._state.ports.items() if device not in self._changed}
            self._ports = seen | own
            self._refused.keep(self._ports.keys() | self._expected)
            self._unimpaired.keep(self._ports)
            self._unended.keep(self._ports)

    async def _read(self) -> DataPlaneState:
        if not self._handed_over:
            await self._hand_over()
            self._handed_over = True
        return await self.dataplane.observe()

    def _note_outage(self, error: WireloomError) -> None:
        if str(error) != self._outage:
            log.warning("the host's networking does not answer", error=error.to_wire())
        self._outage = str(error)
        self._dirty = True

    # -- changes -------------------------------------------------------------------------------------------

    async def change(self, plans: WirePlans) -> None:
        """Carry out what a plan says of ports and links; what is refused holds up nothing else, and is found in
        :attr:`problems`. Where the host's networking does not answer at all the rest is left, see :attr:`outage`.
        """
        try:
            await self._carry_out(plans)
        except (Unavailable, DeadlineExceeded) as error:
            self._note_outage(error)

    async def _carry_out(self, plans: WirePlans) -> None:
        await self._each(self._make_segments, plans.segments, lambda plan: (plan.name,))
        await self._each(self.unplug, plans.unplug, _alone, self._unended)
        # What waits for its segment is no change: one would have us look at the host again and again.
        attach = [plug for plug in plans.attach if self._has_segment(plug.segment)]
        await self._each(self.attach, attach, lambda plug: (plug.device,))
        await self._each(self.join, plans.join, lambda wire: (wire.a, wire.b))
        await self._each(self.tunnel, plans.tunnels, lambda plan: (plan.device,))
        await self._each(self.detach, [*plans.detach, *self._stayed_in_segments(plans)], _alone, self._unended)
        cut = [*plans.cut, *self._stayed_wired(plans)]
        await self._each(self.cut, cut, lambda wire: (wire.a, wire.b), self._unended)
        await self._each(self.untunnel, [*plans.untunnel, *self._stayed_tunnelled(plans)], _alone, self._unended)
        await self._each(self.impair, plans.impair, lambda plan: (plan.device,), self._unimpaired)
        carriers = list(plans.device_carriers.items())
        await self._each(lambda some: self.set_carriers(dict(some)), carriers, lambda carrier: (carrier[0],))
        await self._each(self._drop_segments, plans.drop_segments, _alone)

    def _stayed_wired(self, plans: WirePlans) -> Iterator[WirePlan]:
        """Former wires of ports whose move was refused: nobody declares them, and the move has not ended them."""
        wanted = {device: peer for wire in plans.join for device, peer in ((wire.a, wire.b), (wire.b, wire.a))}
        for device in self._not_moved(plans):
            port = self._ports.get(device)
            if port is not None and port.peer not in {None, wanted.get(device)}:
                yield WirePlan(a=device, b=port.peer, mtu=port.mtu)

    def _stayed_in_segments(self, plans: WirePlans) -> Iterator[str]:
        """Ports that are in a segment still, or in VLANs of it, that they should have left by a move."""
        wanted = {plug.device: (plug.segment, plug.vlans) for plug in plans.attach}
        for device in self._not_moved(plans):
            port = self._ports.get(device)
            if port is not None and port.segment and (port.segment, port.vlans) != wanted.get(device):
                yield device

    def _stayed_tunnelled(self, plans: WirePlans) -> Iterator[str]:
        """Ports that lead to another host still, that they should have left by a move."""
        wanted = {plan.device: plan.vni for plan in plans.tunnels}
        for device in self._not_moved(plans):
            port = self._ports.get(device)
            if port is not None and port.tunnel is not None and port.tunnel.vni != wanted.get(device):
                yield device

    def _not_moved(self, plans: WirePlans) -> Iterator[str]:
        """Ports that a plan moves, and that are where they were: it was refused, or there is nowhere to move to."""
        refused = self._refused.messages
        yield from (device for wire in plans.join for device in (wire.a, wire.b) if device in refused)
        yield from (plan.device for plan in plans.tunnels if plan.device in refused)
        yield from (
            plug.device for plug in plans.attach if plug.device in refused or not self._has_segment(plug.segment)
        )

    async def _each(
        self,
        call: Callable[[Sequence[T]], Awaitable[None]],
        items: Sequence[T],
        devices: Callable[[T], Sequence[str]],
        refusals: Refusals | None = None,
    ) -> None:
        """One call for all; when that is refused, one by one, to find out for whom. Calls are idempotent.

        :raises Unavailable, DeadlineExceeded: whoever should do it does not answer; nothing is refused to anybody.
        """
        refusals = refusals or self._refused
        moment = time.time()
        due = [item for item in items if not refusals.pause(devices(item), moment)]
        if not due:
            return
        concerned = [device for item in due for device in devices(item)]
        try:
            await call(due)
        except (Unavailable, DeadlineExceeded):
            raise
        except WireloomError as error:
            if len(due) > 1:
                for item in due:
                    await self._each(call, (item,), devices, refusals)
                return
            log.warning("the host refused", devices=concerned, error=error.to_wire())
            refusals.note(concerned, str(error), moment)
        else:
            refusals.clear(concerned)

    async def plug(self, ports: Sequence[PortPlan]) -> None:
        """Make or mend host ports."""
        if not ports:
            return
        with self._changing():
            await self.dataplane.ensure_ports(ports)
        for port in ports:
            known = self._ports.get(port.device)
            self._changed.add(port.device)
            self._ports[port.device] = HostPort(
                device=port.device,
                alias=port.alias,
                kind="tap" if port.attachment.kind == "tap" else "veth",
                mtu=port.mtu,
                up=known.up if known else port.carrier,
                carrier=known.carrier if known else port.carrier,
                peer=known.peer if known else None,
                segment=port.segment or (known.segment if known else None),
                vlans=known.vlans if known else None,
                tunnel=known.tunnel if known and not port.segment else None,
                to_guest=known.to_guest if known else None,
                from_guest=known.from_guest if known else None,
            )

    async def unplug(self, devices: Sequence[str]) -> None:
        if not devices:
            return
        with self._changing():
            await self.dataplane.remove_ports(devices)
        for device in devices:
            self._changed.add(device)
            self._ports.pop(device, None)

    async def join(self, wires: Sequence[WirePlan]) -> None:
        with self._changing():
            await self.dataplane.ensure_wires(wires)
        for wire in wires:
            for device, peer in ((wire.a, wire.b), (wire.b, wire.a)):
                self._enter(device, peer=peer, mtu=wire.mtu, segment=None, vlans=None, tunnel=None)

    async def cut(self, wires: Sequence[WirePlan]) -> None:
        with self._changing():
            await self.dataplane.remove_wires(wires)
        for wire in wires:
            self._enter(wire.a, peer=None)

    async def tunnel(self, tunnels: Sequence[TunnelPlan]) -> None:
        """Join ports to other hosts."""
        with self._changing():
            await self.dataplane.ensure_tunnels(tunnels)
        numbers = {plan.vni for plan in tunnels}
        for device, port in list(self._ports.items()):
            if port.tunnel is not None and port.tunnel.vni in numbers:  # taken over from it, unless it is its own
                self._enter(device, tunnel=None)
        for plan in tunnels:
            self._enter(plan.device, tunnel=plan.tunnel, mtu=plan.mtu, peer=None, segment=None, vlans=None)

    async def untunnel(self, devices: Sequence[str]) -> None:
        """Cut ports off from other hosts."""
        with self._changing():
            await self.dataplane.remove_tunnels(devices)
        for device in devices:
            self._enter(device, tunnel=None)

    async def attach(self, plugs: Sequence[PlugPlan]) -> None:
        """Put ports into segments."""
        with self._changing():
            await self.dataplane.ensure_plugs(plugs)
        for plug in plugs:
            changes = {"segment": plug.segment, "vlans": plug.vlans, "mtu": plug.mtu}
            self._enter(plug.device, **changes, peer=None, tunnel=None)

    def _has_segment(self, name: str) -> bool:
        return name in self._state.segments or name in self._state.bridges

    async def detach(self, devices: Sequence[str]) -> None:
        """Take ports out of their segments."""
        with self._changing():
            await self.dataplane.remove_plugs(devices)
        for device in devices:
            self._enter(device, segment=None, vlans=None)

    async def impair(self, plans: Sequence[ImpairmentPlan]) -> None:
        """:raises Unsupported: the kernel lacks what a plan needs; the others are carried out."""
        with self._changing():
            await self.dataplane.impair(plans)
        for plan in plans:
            self._enter(plan.device, to_guest=plan.to_guest, from_guest=plan.from_guest)

    async def set_carriers(self, carriers: Mapping[str, bool]) -> None:
        if not carriers:
            return
        with self._changing():
            await self.dataplane.set_carrier(dict(carriers))
        for device, up in carriers.items():
            known = self._ports.get(device)
            # A port that was down told nothing of its guest's side. Its own event does, a moment later; until then it
            # is not to be taken for one that its guest has shut, which would take the far carrier away again.
            raised = up and known is not None and not known.up
            self._enter(device, up=up, **({"carrier": True} if raised else {}))

    async def _make_segments(self, plans: Sequence[SegmentPlan]) -> None:
        for plan in plans:
            await self._admit(plan)
            with self._changing():
                await self.dataplane.ensure_segment(plan)
            made = Segment(name=plan.name, alias=plan.alias, up=True, mtu=plan.mtu, tagging=plan.tagging)
            self._enter_segments({**self._state.segments, plan.name: made})

    async def _drop_segments(self, names: Sequence[str]) -> None:
        for name in names:
            with self._changing():
                await self.dataplane.remove_segment(name)
            kept = {other: segment for other, segment in self._state.segments.items() if other != name}
            self._enter_segments(kept)

    async def remove_segment(self, name: str) -> None:
        """Remove a segment that no slice wants."""
        await self._drop_segments([name])

    def _enter_segments(self, segments: dict[str, Segment]) -> None:
        self._state = self._state.model_copy(update={"segments": segments})

    def _enter(self, device: str, **changes: object) -> None:
        port = self._ports.get(device)
        self._changed.add(device)
        if port is not None:
            self._ports[device] = port.model_copy(update=changes)


def _alone(device: str) -> Sequence[str]:
    return (device,)
