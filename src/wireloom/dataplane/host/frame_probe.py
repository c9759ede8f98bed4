"""How large a frame gets through: real frames from one guest's NIC to another's, beside whatever else they do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host.namespaces import inside, open_namespace
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import failure
from wireloom.errors import NotFound, Unsupported
from wireloom.model.network import LargestPayload, ProbeEnd

__all__ = ["Probe", "largest_payload", "open_probe"]

_ETH_P_ALL: Final = 0x0003
#: Local experimental ethertype (IEEE 802, table of EtherTypes): no guest takes it for its own.
_EXPERIMENTAL: Final = b"\x88\xb5"
_TOKEN: Final = 16
#: The least payload of an Ethernet frame (IEEE 802.3, 3.2.7).
_LEAST: Final = 46
_FRAME_LIMIT: Final = 1 << 16
_TRIES: Final = 3


@dataclass(frozen=True)
class Probe:
    """Two packet sockets: at the NIC that sends, and where frames for the other guest come by."""

    sender: socket.socket
    receiver: socket.socket
    header: bytes

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


def open_probe(netlink: Netlink, sender: ProbeEnd, receiver: ProbeEnd) -> Probe:
    """For the data plane's worker thread. The caller closes it.

    :raises Unsupported: nobody can send for the sender's guest.
    :raises NotFound: an end is not there (any more).
    """
    if sender.attachment.kind != "namespace":
        raise Unsupported("frames cannot be sent in the name of a virtual machine")
    first = _open(netlink, sender)
    try:
        second = _open(netlink, receiver)
    except BaseException:
        first.close()
        raise
    return Probe(first, second, _mac(receiver.mac) + _mac(sender.mac) + _EXPERIMENTAL)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _open(netlink: Netlink, end: ProbeEnd) -> socket.socket:
    link = look_up(netlink, [end.device]).get(end.device)
    if link is None:
        raise NotFound(f"there is no port {end.device}")
    if end.attachment.kind != "namespace":
        # What goes out of a tap goes into its machine, and packet sockets see it on its way.
        return _bound(link.index)
    namespace = open_namespace(end.attachment.netns)
    if namespace is None:
        raise NotFound(f"the guest of {end.device} has gone")
    try:
        return inside(namespace, lambda: _bound(link.link))
    finally:
        os.close(namespace)


def _bound(index: int) -> socket.socket:
    """A packet socket at a device of the namespace in which the calling thread is."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        opened.bind((socket.if_indextoname(index), _ETH_P_ALL))
    except OSError as error:
        opened.close()
        raise failure(error.errno or errno.EIO, "listen at a guest's port", "") from error
    return opened


async def largest_payload(probe: Probe, most: int, patience_s: float, limit_s: float) -> LargestPayload:
    """The largest frame, up to ``most`` bytes of payload, that gets through.

    :param patience_s: how long a frame may take; ``limit_s``: all of them, at least two frames' time.
    """
    end = time.monotonic() + limit_s
    least = min(_LEAST, most)
    if not await _passes(probe, least, patience_s, end - patience_s):  # the largest is tried in any case
        return LargestPayload(passes=0, fails=least)
    if await _passes(probe, most, patience_s, end):
        return LargestPayload(passes=most)
    # What does not pass costs the most: nothing is begun that could not be ended in time.
    passes, fails = least, most
    while fails - passes > 1 and time.monotonic() + _TRIES * patience_s <= end:
        middle = (passes + fails) // 2
        if await _passes(probe, middle, patience_s, end):
            passes = middle
        else:
            fails = middle
    return LargestPayload(passes=passes, fails=fails)


async def _passes(probe: Probe, payload: int, patience_s: float, end: float) -> bool:
    """A link may lose frames on purpose: one of several tries is enough, of as many as there is time for."""
    for tries in range(_TRIES):
        if tries and time.monotonic() + patience_s > end:
            break
        frame = probe.header + secrets.token_bytes(_TOKEN).ljust(payload, b"\0")
        try:
            probe.sender.send(frame)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return False
            if error.errno in {errno.ENETDOWN, errno.ENXIO, errno.ENODEV}:
                raise failure(error.errno, "send from a guest's port", "") from error
            raise
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                loop = asyncio.get_running_loop()
                while (await loop.sock_recv(probe.receiver, _FRAME_LIMIT))[: len(frame)] != frame:
                    pass
                return True
    return False
