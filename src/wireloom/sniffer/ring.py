"""A packet socket with a ring of blocks that it shares with the kernel (packet(7), ``TPACKET_V3``).

The kernel fills blocks and hands each over when it is full or a moment old. Blocks that nobody gives back are what a
slow reader costs: the kernel then drops frames of this socket, counts them, and never holds up the device.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from wireloom.pcapng import Direction
from wireloom.sniffer.order import Point

__all__ = ["BLOCK", "BLOCK_AGE_MS", "Frame", "Ring", "open_listener"]

#: Larger than any frame, so that none is cut: a device hands over at most 64 KiB and its headers.
BLOCK: Final = 128 << 10
#: Milliseconds after which the kernel hands over a block that is not full.
BLOCK_AGE_MS: Final = 30

# linux/if_packet.h and linux/socket.h
_SOL_PACKET: Final = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _PACKET_IGNORE_OUTGOING = 5, 6, 10, 23
_TPACKET_V3: Final = 2
_SO_ATTACH_FILTER: Final = 26
_ETH_P_ALL: Final = 3
_OUTGOING: Final = 4  # PACKET_OUTGOING
_USER: Final = 1  # TP_STATUS_USER: the block is ours
_VLAN_VALID, _VLAN_TPID_VALID = 1 << 4, 1 << 6
_DOT1Q: Final = 0x8100
_RETURN: Final = 6  # BPF_RET | BPF_K: accept so many bytes

_BLOCK_HEAD: Final = struct.Struct("=8xIII")  # block_status, num_pkts, offset_to_first_pkt
_STATUS: Final = struct.Struct("=I")
_STATUS_AT: Final = 8
#: next offset, seconds, nanoseconds, captured, length, status, offset of the frame, then of its VLAN tag, and at the
#: 48th byte ``struct sockaddr_ll`` with the packet's type at its 10th.
_FRAME_HEAD: Final = struct.Struct("=IIIIIIH6xIH20xB")
_VLAN_TAG: Final = struct.Struct("!HH")
_MAC_ADDRESSES: Final = 12

_WANTED: Final = {
    "in": frozenset({Direction.INBOUND}),
    "out": frozenset({Direction.OUTBOUND}),
    "both": frozenset(Direction),
}


class Frame(NamedTuple):
    """A frame as it was on the device, with its VLAN tag back in place. ``length``: before it was cut."""

    time_ns: int
    interface: int
    direction: Direction
    data: bytes
    length: int


def open_listener() -> socket.socket:
    """A socket for a :class:`Ring`; opening one is all that takes a right. It hears nothing until it is bound.

    :raises OSError: the kernel refuses.
    """
    # Of no protocol until it is bound: not a frame comes before the filter is there.
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


class Ring:
    """Frames of one device, through a filter, from when it is first attended to.

    The device may go and come back under its name, as it does when its node is restarted.
    """

    def __init__(
        self,
        listener: socket.socket,
        point: Point,
        interface: int,
        program: Sequence[tuple[int, int, int, int]],
        blocks: int,
    ) -> None:
        """:param listener: of :func:`open_listener`; it is taken over. :raises OSError: the kernel refuses; nothing is
        left open."""
        self.point = point
        self._program = program
        self._interface = interface
        self._wanted = _WANTED[point.take]
        self._blocks = blocks
        self._next = 0
        self._index = 0
        self.received = self.dropped = self.delivered = self._taken = 0
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(listener)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
            if point.take == "in":
                self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            _attach(self._socket, program)
            request = struct.pack("=7I", BLOCK, blocks, BLOCK, blocks, BLOCK_AGE_MS, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            self._memory = mmap.mmap(self._socket.fileno(), BLOCK * blocks)
            undo.pop_all()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._memory.close()
        self._socket.close()

    def attend(self) -> bool:
        """Listen on the device if it is there and is not what is listened on already; whether it is there.

        An error that the device left behind (it went down, or away) is taken off the socket.
        """
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            index = socket.if_nametoindex(self.point.device)
            if index != self._index:
                self._socket.bind((self.point.device, _ETH_P_ALL))
        except OSError:
            self._index = 0
            return False
        self._index = index
        return True

    def take_block(self) -> Iterator[Frame]:
        """The frames of the next block, if one is ready; it is given back when they have been taken."""
        base = self._next * BLOCK
        status, count, position = _BLOCK_HEAD.unpack_from(self._memory, base)
        if not status & _USER:
            return
        position += base
        for _ in range(count):
            step, seconds, nanoseconds, size, length, flags, start, tci, tpid, kind = _FRAME_HEAD.unpack_from(
                self._memory, position
            )
            direction = Direction.OUTBOUND if kind == _OUTGOING else Direction.INBOUND
            if direction in self._wanted:
                data = self._memory[position + start : position + start + size]
                if flags & _VLAN_VALID and size >= _MAC_ADDRESSES:
                    tag = _VLAN_TAG.pack(tpid if flags & _VLAN_TPID_VALID else _DOT1Q, tci)
                    data = data[:_MAC_ADDRESSES] + tag + data[_MAC_ADDRESSES:]
                    length += len(tag)
                yield Frame(seconds * 1_000_000_000 + nanoseconds, self._interface, direction, data, length)
            position += step
        self._taken += count
        _STATUS.pack_into(self._memory, base + _STATUS_AT, 0)
        self._next = (self._next + 1) % self._blocks

    def hear(self) -> None:
        """Let frames come again after :meth:`deafen`."""
        _attach(self._socket, self._program)

    def deafen(self) -> None:
        """Let no more frames come; those that are there can still be taken."""
        _attach(self._socket, ((_RETURN, 0, 0, 0),))

    @property
    def left(self) -> int:
        """Frames that are there and not taken yet; the kernel hands them over in two turns of its timer."""
        self.count()
        return self.received - self.dropped - self._taken

    def count(self) -> None:
        """Add what the kernel has counted since the last time: ``dropped`` is a part of ``received``."""
        packets, drops, _ = struct.unpack("=III", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12))
        self.received += packets
        self.dropped += drops


def _attach(listener: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Give the socket its filter: ``struct sock_fprog``, which points to ``struct sock_filter``."""
    instructions = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    address, _ = instructions.buffer_info()
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), address))
