"""Guests that speak raw Ethernet: a NIC in a network namespace, and a tap with this process as its machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from wireloom.dataplane.host.namespaces import inside, open_namespace
from wireloom.dataplane.host.taps import attach_tap
from wireloom.testing.frames import source_of

__all__ = ["Guest", "NamespaceGuest", "TapGuest", "namespace", "receive", "run_command", "socket_in"]

_SOL_PACKET: Final = 263
_PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 8, 23
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
#: struct tpacket_auxdata: status, len, snaplen, mac, net, tag, tag's type.
_AUXDATA = struct.Struct("=IIIHHHH")
_SIOCGIFMTU, _SIOCETHTOOL = 0x8921, 0x8946
_ETHTOOL_GLINK: Final = 0x0A
_ETH_P_ALL: Final = 0x0003
_FRAME_LIMIT: Final = 65536


class Guest(Protocol):
    """The guest's side of a port; frames are as on a cable, tags included."""

    def fileno(self) -> int: ...

    def send(self, frame: bytes) -> None: ...

    def read(self) -> bytes | None:
        """The next frame that waits, or ``None``."""
        ...

    def close(self) -> None: ...


class NamespaceGuest:
    """The NIC ``name`` in the namespace at ``path``, through a packet socket."""

    def __init__(self, opened: socket.socket, name: str) -> None:
        self._socket = opened
        self._name = name

    @classmethod
    async def open(cls, path: str, name: str) -> NamespaceGuest:
        """:raises OSError: there is no such NIC."""
        opened = await socket_in(path, socket.AF_PACKET, socket.SOCK_RAW)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        opened.bind((name, _ETH_P_ALL))
        return cls(opened, name)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def read(self) -> bytes | None:
        try:
            frame, ancillary, _, _ = self._socket.recvmsg(_FRAME_LIMIT, socket.CMSG_SPACE(_AUXDATA.size))
        except BlockingIOError:
            return None
        for level, kind, data in ancillary:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                return _with_tag(frame, data)
        return frame

    def carrier(self) -> bool:
        """Whether the guest sees a cable (what ``ethtool`` calls "link detected")."""
        command = bytearray(struct.pack("=II", _ETHTOOL_GLINK, 0))
        # struct ifreq with a pointer to the command.
        self._ioctl(_SIOCETHTOOL, struct.pack("@P", _address(command)))
        return bool(struct.unpack("=II", command)[1])

    def mtu(self) -> int:
        """Bytes, as the guest's NIC has it."""
        answer = self._ioctl(_SIOCGIFMTU, bytes(4))
        return int(struct.unpack_from("=i", answer, 16)[0])

    def _ioctl(self, number: int, value: bytes) -> bytes:
        return fcntl.ioctl(self._socket, number, struct.pack("=16s24s", self._name.encode(), value))

    def close(self) -> None:
        self._socket.close()


class TapGuest:
    """A tap whose other side is this process, as it would be a hypervisor."""

    def __init__(self, opened: int) -> None:
        self._file = opened

    @classmethod
    def open(cls, device: str) -> TapGuest:
        """:raises DataPlaneFailed: the tap cannot be opened."""
        return cls(attach_tap(device))

    def fileno(self) -> int:
        return self._file

    def send(self, frame: bytes) -> None:
        os.write(self._file, frame)

    def read(self) -> bytes | None:
        try:
            return os.read(self._file, _FRAME_LIMIT)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _address(buffer: bytearray) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


async def socket_in(
    path: str, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0
) -> socket.socket:
    """A non-blocking socket that lives in the namespace at ``path``. :raises FileNotFoundError: it has gone."""

    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

    def enter() -> socket.socket:
        opened = open_namespace(path)
        if opened is None:
            raise FileNotFoundError(path)
        try:
            return inside(opened, lambda: socket.socket(family, kind | flags, protocol))
        finally:
            os.close(opened)

    return await asyncio.to_thread(enter)


def _with_tag(frame: bytes, auxdata: bytes) -> bytes:
    """Put back the outermost VLAN tag, which the kernel takes out of a frame and hands over beside it."""
    status, _, _, _, _, tag, tag_type = _AUXDATA.unpack_from(auxdata)
    if not status & _TP_STATUS_VLAN_VALID:
        return frame
    if not status & _TP_STATUS_VLAN_TPID_VALID:
        tag_type = 0x8100
    return frame[:12] + struct.pack("!HH", tag_type, tag) + frame[12:]


async def receive(guest: Guest, source: bytes | None, timeout_s: float = 2.0) -> bytes | None:
    """The next frame from ``source`` (``None``: anyone), or ``None`` when none came in time."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(guest.fileno(), readable.set)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                readable.clear()
                while (frame := guest.read()) is not None:
                    if source is None or source_of(frame) == source:
                        return frame
                await readable.wait()
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(guest.fileno())


async def run_command(*command: str) -> None:
    """:raises RuntimeError: it failed."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {errors.decode(errors='replace').strip()}")


@asynccontextmanager
async def namespace() -> AsyncIterator[str]:
    """A named namespace ``wlt-…`` without IPv6 chatter; its path. Gone with the block, if it is not before."""
    name = f"wlt-{secrets.token_hex(4)}"
    await run_command("ip", "netns", "add", name)
    path = f"/run/netns/{name}"
    try:
        await run_command("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        yield path
    finally:
        if Path(path).exists():
            await run_command("ip", "netns", "del", name)
