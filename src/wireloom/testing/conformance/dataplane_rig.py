"""A data plane under test, with ports, guests and segments that are gone when the test is."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from wireloom.dataplane.contract import DataPlane
from wireloom.model.attachment import NamespaceAttachment, TapAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PortAlias, PortPlan, SegmentPlan
from wireloom.testing.guests import Guest, NamespaceGuest, TapGuest, namespace

__all__ = ["NET", "Plug", "Rig"]

#: One entry for each device of the host.
NET: Final = Path("/sys/class/net")


@dataclass(frozen=True)
class Plug:
    """A port with the guest that speaks on it."""

    plan: PortPlan
    guest: Guest

    @property
    def device(self) -> str:
        return self.plan.device

    @property
    def nic(self) -> NamespaceGuest:
        """The guest's NIC; only for ports into a namespace."""
        assert isinstance(self.guest, NamespaceGuest)
        return self.guest


class Rig:
    """A data plane of an installation of its own; leaves nothing behind, and says so if it does.

    :param factory: makes the data plane of an installation.
    """

    def __init__(self, factory: Callable[[str], DataPlane]) -> None:
        self.factory = factory
        self.installation = f"conformance-{secrets.token_hex(4)}"
        self.plane = factory(self.installation)
        self._stack = AsyncExitStack()
        self._devices: list[str] = []
        self._segments: list[str] = []

    async def __aenter__(self) -> Rig:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await self.plane.remove_ports(self._devices)
        for segment in self._segments:
            await self.plane.remove_segment(segment)
        left = await self.plane.observe()
        await self.plane.close()
        if kind is None:
            assert (left.ports, left.segments) == ({}, {}), "observe() still shows something after removal"
            assert not self.devices_left(), "devices are left after removal"

    def devices_left(self) -> list[str]:
        """Devices of this rig that the host still has, the bridge among them that Open vSwitch has its wires in."""
        names = (*self._devices, *self._segments, device_name("w", self.installation))
        return [name for name in names if (NET / name).exists()]

    async def restart(self) -> None:
        """Replace the data plane by a new instance, as after a restart of the agent."""
        await self.plane.close()
        self.plane = self.factory(self.installation)

    async def namespace(self) -> str:
        """A fresh namespace; its path."""
        return await self._stack.enter_async_context(namespace())

    def plan(self, netns: str | None, *, mtu: int = 1500, segment: str | None = None, carrier: bool = True) -> PortPlan:
        """A port into ``netns``, or a tap."""
        index = len(self._devices)
        device = device_name("p", self.installation, index)
        self._devices.append(device)
        return PortPlan(
            device=device,
            alias=PortAlias(
                installation=self.installation, lab_id="lab-1", node_id=f"n{index}", index=index, name=f"lab/n{index}/e"
            ),
            attachment=NamespaceAttachment(netns=netns) if netns else TapAttachment(),
            guest_name=f"eth{index}",
            mac=mac_address(self.installation, index),
            mtu=mtu,
            segment=segment,
            carrier=carrier,
        )

    async def plug(self, kind: str, *, mtu: int = 1500, segment: str | None = None) -> Plug:
        """Make a port of ``kind`` (``veth`` or ``tap``) and a guest on it."""
        plan = self.plan(await self.namespace() if kind == "veth" else None, mtu=mtu, segment=segment)
        await self.plane.ensure_ports([plan])
        return Plug(plan, await self.guest(plan))

    async def guest(self, plan: PortPlan) -> Guest:
        """Open the guest's side of a port that exists."""
        opened: Guest
        if isinstance(plan.attachment, NamespaceAttachment):
            opened = await NamespaceGuest.open(plan.attachment.netns, plan.guest_name)
        else:
            opened = TapGuest.open(plan.device)
            with suppress(OSError):
                # Reading it has the kernel act on the carrier now, not within a second.
                (NET / plan.device / "carrier").read_text()
        self._stack.callback(opened.close)
        return opened

    def segment_name(self) -> str:
        """The device of a segment that is not made yet, and is gone with the rig."""
        name = device_name("b", self.installation, len(self._segments))
        self._segments.append(name)
        return name

    async def segment(self, address: str | None = None) -> str:
        name = self.segment_name()
        alias = f"wireloom segment i={self.installation} name={name}"
        await self.plane.ensure_segment(SegmentPlan(name=name, alias=alias, address=address))
        return name
