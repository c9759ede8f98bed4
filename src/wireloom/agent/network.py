"""What the agent knows of its host's ports and wires: the data plane's state, cached between events.

Our own successful changes are entered at once, so that the wiring of a node that starts can see a neighbour
that was plugged a moment ago; the kernel's word replaces the cache whenever something changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import structlog

from wireloom.agent.refusals import Refusals
from wireloom.dataplane.contract import DataPlane
from wireloom.errors import DataPlaneFailed, Unavailable, WireloomError
from wireloom.model.network import DataPlaneState, HostPort, PortPlan, WirePlan
from wireloom.planning.wires import WirePlans

__all__ = ["HostNetwork"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_SEGMENT_S = 30.0


class HostNetwork:
    """The data plane with a cache in front. All calls are safe at the same time."""

    def __init__(self, dataplane: DataPlane) -> None:
        self.dataplane = dataplane
        self._ports: dict[str, HostPort] = {}
        self._state = DataPlaneState()
        self._changed: set[str] = set()
        self.refusals = Refusals()
        self._dirty = True
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

    @property
    def ports(self) -> Mapping[str, HostPort]:
        """Host ports by device name as last known."""
        return self._ports

    @property
    def state(self) -> DataPlaneState:
        return self._state.model_copy(update={"ports": self._ports})

    @property
    def settled(self) -> bool:
        """Whether :attr:`state` is what the kernel held when nothing was under way."""
        return not self._dirty

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

    async def refresh(self, *, force: bool = False) -> None:
        """Read the kernel when something changed since the last time."""
        if not (self._dirty or force):
            return
        async with self._lock:
            self._dirty = False
            self._changed.clear()
            try:
                self._state = await self.dataplane.observe()
            except WireloomError:
                self._dirty = True
                raise
            # Of what we changed while the kernel was read, our own word is the newer one.
            own = {device: port for device, port in self._ports.items() if device in self._changed}
            seen = {device: port for device, port in self._state.ports.items() if device not in self._changed}
            self._ports = seen | own
            self.refusals.keep(self._ports)

    async def change(self, plans: WirePlans) -> None:
        """Carry out what a plan says of ports and wires; what the kernel refuses holds up nothing else, and is found
        in :attr:`refusals`."""
        await self._each(self.unplug, plans.unplug, lambda device: (device,))
        await self._each(self.join, plans.join, lambda wire: (wire.a, wire.b))
        await self._each(self.cut, plans.cut, lambda wire: (wire.a, wire.b))
        carriers = list(plans.device_carriers.items())
        await self._each(lambda some: self.set_carriers(dict(some)), carriers, lambda carrier: (carrier[0],))

    async def _each(
        self,
        call: Callable[[Sequence[T]], Awaitable[None]],
        items: Sequence[T],
        devices: Callable[[T], Sequence[str]],
    ) -> None:
        """One call for all; when the kernel refuses it, one by one, to find out for whom. Calls are idempotent."""
        moment = time.time()
        due = [item for item in items if not self.refusals.pause(devices(item), moment)]
        concerned = [device for item in due for device in devices(item)]
        try:
            await call(due)
        except DataPlaneFailed as error:
            if len(due) > 1:
                for item in due:
                    await self._each(call, (item,), devices)
                return
            log.warning("the kernel refused", devices=concerned, error=error.to_wire())
            self.refusals.note(concerned, error.message, moment)
        else:
            self.refusals.clear(concerned)

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
                segment=port.segment,
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
        if not wires:
            return
        with self._changing():
            await self.dataplane.ensure_wires(wires)
        for wire in wires:
            self._enter(wire.a, peer=wire.b, mtu=wire.mtu)
            self._enter(wire.b, peer=wire.a, mtu=wire.mtu)

    async def cut(self, wires: Sequence[WirePlan]) -> None:
        if not wires:
            return
        with self._changing():
            await self.dataplane.remove_wires(wires)
        for wire in wires:
            self._enter(wire.a, peer=None)

    async def set_carriers(self, carriers: Mapping[str, bool]) -> None:
        if not carriers:
            return
        with self._changing():
            await self.dataplane.set_carrier(dict(carriers))
        for device, up in carriers.items():
            self._enter(device, up=up)

    def _enter(self, device: str, **changes: object) -> None:
        port = self._ports.get(device)
        self._changed.add(device)
        if port is not None:
            self._ports[device] = port.model_copy(update=changes)
