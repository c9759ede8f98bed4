"""Ports of the node as packet sockets."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from . import frames, netmap, offloads

__all__ = ["BATCH", "PacketPort", "Port", "PortTable", "devices"]

#: Frames taken from one port before the others get their turn.
BATCH = 64

_ETH_P_ALL = 0x0003
#: Of linux/if_packet.h; Python has no names for them.
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_PACKET_OUTGOING = 4
_VLAN_VALID, _VLAN_TYPE_VALID = 1 << 4, 1 << 6
#: status, length, captured length, offset of link header, of network header, tag, its type
_AUXDATA = struct.Struct("=IIIHHHH")
_TAG = struct.Struct(">HH")
_VLAN_TYPE = 0x8100
_ADDRESSES = 12
_RECEIVE_BUFFER = 4 << 20
#: A segment that is to be cut has up to 64 KiB, and headers.
_LARGEST = 66 << 10

Buffers = Sequence["bytes | bytearray | memoryview"]


class Port(Protocol):
    """One end of a link of the node."""

    dropped: int

    def fileno(self) -> int:
        """What to wait for."""
        ...

    def receive(self) -> Iterator[Buffers]:
        """Frames that are there, in pieces; each is good until the next is taken."""
        ...

    def send(self, frame: memoryview) -> None:
        """Send a frame, or drop it: a port that is full or down waits for nobody."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class PacketPort:
    """A network device.

    :ivar device: its index. :ivar dropped: frames that could not be passed on, in either direction.
    :raises OSError: it is gone, or this is not permitted.
    """

    def __init__(self, name: str, device: int) -> None:
        self.device = device
        self.dropped = 0
        self._header = bytearray(offloads.SIZE)
        self._frame = bytearray(_LARGEST)
        self._view = memoryview(self._frame)
        # Listens to nothing until all is set, so that no frame comes in another form.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._set_up(name)
        except OSError:
            self._socket.close()
            raise

    def _set_up(self, name: str) -> None:
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        with contextlib.suppress(OSError):  # an older kernel; what goes out is told by its kind as well
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setblocking(False)
        self._socket.bind((name, _ETH_P_ALL))

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Iterator[Buffers]:
        for _ in range(BATCH):
            try:
                size, ancillary, flags, address = self._socket.recvmsg_into(
                    [self._header, self._frame], socket.CMSG_SPACE(_AUXDATA.size)
                )
            except OSError as error:
                # ENETDOWN is told once when the device goes down, EINVAL of a segment of an unknown kind.
                if error.errno in (errno.ENETDOWN, errno.EINVAL):
                    continue
                return
            if address[2] == _PACKET_OUTGOING:
                continue
            if flags & socket.MSG_TRUNC or size < offloads.SIZE + frames.SMALLEST_FRAME:
                self.dropped += 1
                continue
            tag = _tag(ancillary)
            for frame in offloads.finished(self._header, self._view[: size - offloads.SIZE]):
                if len(frame) + len(tag) > frames.LARGEST_FRAME:
                    self.dropped += 1
                elif tag:
                    yield frame[:_ADDRESSES], tag, frame[_ADDRESSES:]
                else:
                    yield (frame,)

    def send(self, frame: memoryview) -> None:
        try:
            self._socket.sendmsg((offloads.NOTHING_LEFT, frame))
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        self._socket.close()


def _tag(ancillary: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The VLAN tag that the kernel took out of a frame, as it stood there."""
    for level, kind, data in ancillary:
        if level == _SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= _AUXDATA.size:
            status, *_, tag, tag_type = _AUXDATA.unpack_from(data)
            if status & _VLAN_VALID:
                return _TAG.pack(tag_type if status & _VLAN_TYPE_VALID else _VLAN_TYPE, tag)
    return b""


def devices() -> dict[str, int]:
    """Network devices of the node: name → index."""
    return {name: index for index, name in socket.if_nameindex()}


class PortTable:
    """Ports by key, kept equal to what there is: they come late, go, and come back.

    :param look: what devices there are. :param open_port: opens one; an ``OSError`` leaves it for the next look.
    """

    def __init__(
        self,
        look: Callable[[], dict[str, int]] = devices,
        open_port: Callable[[str, int], Port] = PacketPort,
    ) -> None:
        self._look = look
        self._open = open_port
        self._known: dict[int, tuple[str, int]] = {}  # key → name and index of its device
        #: Never changed, only exchanged: another thread reads it.
        self.ports: dict[int, Port] = {}

    def update(self) -> tuple[tuple[tuple[int, Port], ...], tuple[Port, ...]]:
        """Look again; what came (with its key), and what went. Who is told of the latter closes them."""
        there: dict[int, tuple[str, int]] = {}
        for name, device in self._look().items():
            index = netmap.index_of_device(name)
            if index is not None:
                there[netmap.port_key(index)] = (name, device)
        gone = {key: port for key, port in self.ports.items() if there.get(key) != self._known.get(key)}
        kept = {key: port for key, port in self.ports.items() if key not in gone}
        came: dict[int, Port] = {}
        for key, (name, device) in there.items():
            if key not in kept:
                with contextlib.suppress(OSError):  # gone again
                    came[key] = self._open(name, device)
        self._known = {key: there[key] for key in (*kept, *came)}
        self.ports = {**kept, **came}
        return tuple(came.items()), tuple(gone.values())
