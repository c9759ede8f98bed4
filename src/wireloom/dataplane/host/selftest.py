"""Real frames over each kind of path, through throw-away ports: proof that this host's data plane works."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from wireloom.dataplane.contract import SELF_TEST_LAB, DataPlane
from wireloom.dataplane.host.namespaces import inside, new_namespace
from wireloom.dataplane.host.taps import attach_tap
from wireloom.errors import DataPlaneFailed, WireloomError
from wireloom.model.attachment import Attachment, NamespaceAttachment, TapAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PathTest, PlugPlan, PortAlias, PortPlan, SegmentAlias, SegmentPlan, WirePlan
from wireloom.model.vlans import Tagging, Vlans

__all__ = ["Stage", "run"]

#: The lab that throw-away ports and segments claim to belong to.

_ETH_P_ALL: Final = 0x0003
#: Nearest bridge: the group that every ordinary bridge eats (IEEE 802.1Q, table 8-1).
_LLDP_GROUP: Final = "01:80:c2:00:00:0e"
_LLDP_TYPE: Final = b"\x88\xcc"
_FRAME_LIMIT: Final = 4096
_DEADLINE_S: Final = 3.0
#: A bridge may take a moment to hear that its port has a carrier; frames until then are lost, as at a real switch.
_AGAIN_S: Final = 0.1
_CONTAINERS: Final = ("c0", "c1")
_MACHINES: Final = ("m0", "m1")


class _SocketEnd:
    """A guest in a namespace: its NIC's packet socket."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self) -> bytes:
        return self._socket.recv(_FRAME_LIMIT)


class _TapEnd:
    """A guest that is a machine: the hypervisor's side of its tap."""

    def __init__(self, opened: int) -> None:
        self._file = opened

    def fileno(self) -> int:
        return self._file

    def send(self, frame: bytes) -> None:
        os.write(self._file, frame)

    def receive(self) -> bytes:
        return os.read(self._file, _FRAME_LIMIT)


_End = _SocketEnd | _TapEnd


@dataclass
class Stage:
    """A namespace with a packet socket for each of the two containers in it; ``taps`` are opened when they exist."""

    namespace: int
    sockets: tuple[socket.socket, socket.socket]
    taps: list[int] = field(default_factory=list)

    @classmethod
    def open(cls) -> Stage:
        """Make one; for the data plane's worker thread. The caller closes it."""
        namespace = new_namespace()
        try:
            return cls(namespace, inside(namespace, lambda: (_packet_socket(), _packet_socket())))
        except BaseException:
            os.close(namespace)
            raise

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()
        for tap in self.taps:
            os.close(tap)
        os.close(self.namespace)


def _packet_socket() -> socket.socket:
    # Protocol 0 hears nothing until it is bound to one device.
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)


async def run(plane: DataPlane, stage: Stage, installation: str) -> tuple[PathTest, ...]:
    """Send a link-local frame both ways over each kind of path; a path that fails does not stop the others."""
    return await _Run(plane, stage, installation).all()


class _Run:
    """One test. It has an id of its own: two agents may test at the same time."""

    def __init__(self, plane: DataPlane, stage: Stage, installation: str) -> None:
        self._plane = plane
        self._stage = stage
        self._installation = installation
        self._id = secrets.token_hex(4)
        self._ends: dict[str, _End] = {}

    async def all(self) -> tuple[PathTest, ...]:
        paths: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("wire between containers", lambda: self._wire("c0", "c1")),
            ("wire between a container and a virtual machine", lambda: self._wire("c0", "m0")),
            ("wire between virtual machines", lambda: self._wire("m0", "m1")),
            ("segment", lambda: self._segment("none")),
        ]
        if not (await self._plane.abilities()).vlans:
            paths.append(("segment with VLANs", lambda: self._segment("802.1q")))
        try:
            return tuple([await _tested(name, path) for name, path in paths])
        finally:
            await self._plane.remove_ports([self._device(name) for name in (*_CONTAINERS, *_MACHINES)])

    async def _wire(self, first: str, second: str) -> None:
        await self._have(first, second)
        await self._plane.ensure_wires([WirePlan(a=self._device(first), b=self._device(second))])
        await self._both_ways(first, second)

    async def _segment(self, tagging: Tagging) -> None:
        first, second = "c0", "m0"
        await self._have(first, second)
        alias = SegmentAlias(
            installation=self._installation,
            lab_id=SELF_TEST_LAB,
            segment_id=self._id,
            name=f"{SELF_TEST_LAB}/{self._id}",
        )
        name = device_name("s", self._installation, self._id)
        vlans = None if tagging == "none" else Vlans.access(10)
        try:
            await self._plane.ensure_segment(SegmentPlan(name=name, alias=alias.text(), tagging=tagging))
            await self._plane.ensure_plugs(
                [PlugPlan(device=self._device(end), segment=name, vlans=vlans) for end in (first, second)]
            )
            await self._both_ways(first, second)
        finally:
            await self._plane.remove_segment(name)

    async def _both_ways(self, first: str, second: str) -> None:
        await self._pass_frame(first, second)
        await self._pass_frame(second, first)

    async def _have(self, *names: str) -> None:
        """Make the ports of these guests that are not there yet."""
        for name in names:
            if name not in self._ends:
                await self._plane.ensure_ports([self._port(name)])
                self._ends[name] = self._open(name)

    def _open(self, name: str) -> _End:
        if name in _MACHINES:
            self._stage.taps.append(attach_tap(self._device(name)))
            return _TapEnd(self._stage.taps[-1])
        opened = self._stage.sockets[_CONTAINERS.index(name)]
        opened.bind((name, _ETH_P_ALL))
        return _SocketEnd(opened)

    def _device(self, name: str) -> str:
        return device_name("t", self._installation, self._id, name)

    def _port(self, name: str) -> PortPlan:
        attachment: Attachment = TapAttachment()
        if name in _CONTAINERS:
            attachment = NamespaceAttachment(netns=f"/proc/self/fd/{self._stage.namespace}")
        return PortPlan(
            device=self._device(name),
            alias=PortAlias(
                installation=self._installation,
                lab_id=SELF_TEST_LAB,
                node_id=f"{self._id}-{name}",
                index=1,
                name=f"{SELF_TEST_LAB}/{self._id}/{name}",
            ),
            attachment=attachment,
            guest_name=name,
            mac=mac_address(self._installation, self._id, name),
            carrier=True,
        )

    async def _pass_frame(self, sender: str, receiver: str) -> None:
        """:raises DataPlaneFailed: a frame that ``sender`` sends does not arrive."""
        source = bytes.fromhex(self._port(sender).mac.replace(":", ""))
        frame = bytes.fromhex(_LLDP_GROUP.replace(":", "")) + source + _LLDP_TYPE + secrets.token_bytes(46)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                while not await _arrives(frame, self._ends[sender], self._ends[receiver]):
                    pass
        except TimeoutError:
            raise DataPlaneFailed(
                f"a frame from {_KINDS[sender[0]]} to {_KINDS[receiver[0]]} did not arrive",
                hint=_HINTS.get(self._plane.name, "look at the log of the data plane's daemon"),
                details={"errno": "ETIMEDOUT", "device": self._device(sender), "operation": "self-test"},
            ) from None


_KINDS: Final = {"c": "a container", "m": "a virtual machine"}
_HINTS: Final = {"kernel": "the kernel needs tc with the ingress, u32 and mirred modules, and bridges for segments"}


async def _tested(name: str, path: Callable[[], Awaitable[None]]) -> PathTest:
    try:
        await path()
    except WireloomError as error:
        return PathTest(path=name, problem=error.message, hint=error.hint)
    except OSError as error:
        return PathTest(path=name, problem=str(error), hint="the agent needs to run as root")
    return PathTest(path=name)


async def _arrives(frame: bytes, sender: _End, receiver: _End) -> bool:
    """Send ``frame`` once, and see for a moment whether it comes out unchanged."""
    with _readable(receiver) as readable, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_AGAIN_S):
            sender.send(frame)
            while True:
                await readable.wait()
                readable.clear()
                with contextlib.suppress(BlockingIOError):
                    while True:
                        if receiver.receive() == frame:
                            return True
    return False


@contextlib.contextmanager
def _readable(end: _End) -> Iterator[asyncio.Event]:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(end.fileno(), event.set)
    try:
        yield event
    finally:
        loop.remove_reader(end.fileno())
