"""Changes of our devices as the kernel tells them, without the noise."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from wireloom.dataplane.host import links
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import open_transport
from wireloom.dataplane.host.protocol import messages
from wireloom.model.network import PortAlias, PortEvent, SegmentAlias, TunnelAlias

__all__ = ["Filter", "drain", "subscribe", "watch"]

_RTMGRP_LINK = 0x1
_DATAGRAM = 128 * 1024


class Receiver(Protocol):
    """The one thing that reading needs of a socket."""

    def recv(self, size: int, /) -> bytes: ...


class Filter:
    """Turns link messages into events: ours alone, and only when something that we show has changed."""

    def __init__(self, installation: str) -> None:
        self._installation = installation
        self._seen: dict[str, Link] = {}

    def events(self, data: bytes) -> list[PortEvent]:
        """Events for one datagram of the kernel; several changes of a device are one event."""
        found: dict[str, PortEvent] = {}
        for message in messages(data):
            if message.kind not in {links.RTM_NEWLINK, links.RTM_DELLINK}:
                continue
            link = links.parse_link(message.body)
            # A bridge repeats its ports' messages in its own words, without kind and alias.
            if not self._is_ours(link):
                continue
            if message.kind == links.RTM_DELLINK:
                self._seen.pop(link.name, None)
                found[link.name] = PortEvent(device=link.name, removed=True)
            elif self._seen.get(link.name) != link:
                self._seen[link.name] = link
                found[link.name] = PortEvent(device=link.name, up=link.up, carrier=link.lower_up)
        return list(found.values())

    def forget(self) -> None:
        """Messages were lost: take the next one of each device as news."""
        self._seen.clear()

    def _is_ours(self, link: Link) -> bool:
        alias = SegmentAlias.parse(link.alias) or TunnelAlias.parse(link.alias) or PortAlias.parse(link.alias)
        return alias is not None and alias.installation == self._installation


def drain(opened: Receiver, news: Filter) -> Iterable[PortEvent]:
    """All events that wait on the socket, one for each device; an empty device: some were lost."""
    found: dict[str, PortEvent] = {}
    while True:
        try:
            data = opened.recv(_DATAGRAM)
        except BlockingIOError:
            return found.values()
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            news.forget()
            found[""] = PortEvent()
            continue
        found.update({event.device: event for event in news.events(data)})


def subscribe() -> socket.socket:
    """A socket that hears of every change of a device from now on."""
    opened = open_transport(groups=_RTMGRP_LINK, timeout_s=None)
    opened.setblocking(False)
    return opened


async def watch(opened: socket.socket, installation: str, closed: asyncio.Event) -> AsyncIterator[PortEvent]:
    """Events of ``installation``'s devices from a subscribed socket until ``closed`` is set; closes the socket."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(opened, readable.set)
    end = asyncio.create_task(closed.wait())
    end.add_done_callback(lambda _: readable.set())
    news = Filter(installation)
    try:
        while True:
            await readable.wait()
            if closed.is_set():
                return
            readable.clear()
            for event in drain(opened, news):
                yield event
    finally:
        end.cancel()
        loop.remove_reader(opened)
        opened.close()
