"""Measures the ways to other hosts: whether packets arrive, in both directions, and how large they may be.

Each host asks each of its peers once a second, and says in the same message whether it hears the other one: so a way
that is cut in one direction is told from one that is cut in both. Packets carry "do not fragment"; the largest that is
answered is the MTU of the way there. Answers are small, and only peers get any.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from wireloom.agent.underlay.messages import HEARS, KNOWS, PROBE, REPLY, Message, decode, encode, is_signed
from wireloom.agent.underlay.search import largest
from wireloom.model.underlay import Path, Peer

__all__ = ["PathProber"]

log = structlog.get_logger(__name__)

_EVERY_S: Final = 1.0
#: How long an answer may take, in turns; so many questions without one, or turns without a word: a way counts as cut.
_PATIENCE: Final = 0.5
_LOST: Final = 4
_SILENCE: Final = 5
#: A size counts as too large after so many tries.
_TRIES: Final = 3
_VERIFY_S: Final = 60.0
_MEASURE_S: Final = 600.0
_RETRY_S: Final = 5.0

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_HEADERS: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}  # of IP and UDP, bytes


@dataclass
class _Way:
    """The way to one peer, and what is known of it."""

    peer: Peer
    silence_s: float
    since: float = field(default_factory=time.monotonic)
    heard_at: float | None = None
    reaches: bool | None = None
    answered: bool | None = None
    missed: int = 0
    mtu: int = 0
    measured_at: float = 0.0
    verified_at: float = 0.0
    waiting: dict[int, asyncio.Future[None]] = field(default_factory=dict)

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ipaddress.ip_address(self.peer.address).version == 6 else socket.AF_INET

    @property
    def secret(self) -> bytes:
        return bytes.fromhex(self.peer.secret)

    @property
    def hears(self) -> bool | None:
        """Whether the peer is heard; ``None``: it is too early to say."""
        now = time.monotonic()
        if self.heard_at is not None and now - self.heard_at < self.silence_s:
            return True
        return False if now - self.since >= self.silence_s else None

    @property
    def flags(self) -> int:
        return 0 if self.hears is None else KNOWS | (HEARS if self.hears else 0)

    def path(self) -> Path:
        """As it is told to others."""
        return Path(
            host=self.peer.host,
            address=self.peer.address,
            heard=self.hears,
            answered=self.answered,
            reaches=self.reaches if self.hears else None,
            mtu=self.mtu if self.answered else 0,
        )


class PathProber:
    """One per host. :meth:`run` makes its sockets in the calling thread's network namespace.

    :param every_s: how often each peer is asked.
    :param changed: called when what is known of a way is another than before.
    :ivar problem: why nothing can be measured; empty: it can.
    """

    def __init__(
        self, host: str, port: int, changed: Callable[[], None] = lambda: None, *, every_s: float = _EVERY_S
    ) -> None:
        self._every_s = every_s
        self._patience_s = every_s * _PATIENCE
        self._host = host
        self._port = port
        self._changed = changed
        self._ways: dict[str, _Way] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._told: dict[str, Path] = {}
        self.problem = ""

    @property
    def paths(self) -> Mapping[str, Path]:
        """Ways by host."""
        return {host: way.path() for host, way in self._ways.items()}

    def set_peers(self, peers: Mapping[str, Peer]) -> None:
        """Whom to measure the way to, by name. What is known of a way whose peer stays as it is, stays."""
        for host in [host for host, way in self._ways.items() if peers.get(host) != way.peer]:
            del self._ways[host]
            if (task := self._tasks.pop(host, None)) is not None:
                task.cancel()
        for host, peer in peers.items():
            if host not in self._ways and peer.probe_port and peer.secret and peer.address:
                self._ways[host] = _Way(peer, self._every_s * _SILENCE)
                if self._sockets:
                    self._begin(host)

    async def run(self) -> None:
        """Measure until cancelled."""
        while not self._port:
            await asyncio.Event().wait()
        while True:
            try:
                self._open()
                break
            except OSError as error:
                self.problem = f"ways to other hosts are not measured: UDP port {self._port}: {error.strerror}"
                log.warning("underlay.no-probes", port=self._port, error=str(error))
                await asyncio.sleep(_RETRY_S)
        self.problem = ""
        try:
            for host in self._ways:
                self._begin(host)
            await asyncio.Event().wait()
        finally:
            await self._close()

    def _begin(self, host: str) -> None:
        self._tasks[host] = asyncio.get_running_loop().create_task(self._keep(self._ways[host]), name=f"path-{host}")

    def _open(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                opened = _bound(family, self._port)
            except OSError:
                if family is socket.AF_INET6 and self._sockets:  # a kernel without it
                    continue
                self._close_sockets()
                raise
            self._sockets[family] = opened
            asyncio.get_running_loop().add_reader(opened, self._read, opened)

    def _close_sockets(self) -> None:
        for opened in self._sockets.values():
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        self._sockets.clear()

    async def _close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_sockets()

    # -- asking --------------------------------------------------------------------------------------------

    async def _keep(self, way: _Way) -> None:
        while True:
            try:
                await self._look(way)
            except Exception:  # the edge of the task of one way: a defect must not end it
                log.exception("defect in a measurement", host=way.peer.host)
            await asyncio.sleep(self._every_s)

    async def _look(self, way: _Way) -> None:
        if await self._ask(way, 0):
            way.answered, way.missed = True, 0
        else:
            way.missed += 1
            if way.missed >= _LOST:
                way.answered = False
        self._tell(way)
        if way.answered and not way.missed:
            await self._measure_if_due(way)
            self._tell(way)

    async def _measure_if_due(self, way: _Way) -> None:
        now = time.monotonic()
        if way.mtu and now - way.verified_at > _VERIFY_S:
            way.verified_at = now
            if not await self._passes(way, way.mtu):
                way.mtu = 0
        if not way.mtu or now - way.measured_at > _MEASURE_S:
            found = await largest(lambda size: self._passes(way, size), 256)
            if await self._ask(way, 0):  # else it was cut meanwhile, and the noes said nothing
                way.mtu, way.measured_at, way.verified_at = found, now, now

    async def _passes(self, way: _Way, size: int) -> bool:
        for _ in range(_TRIES):
            if await self._ask(way, size):
                return True
        return False

    async def _ask(self, way: _Way, size: int) -> bool:
        """Whether a packet of ``size`` bytes, headers included, was answered; 0: the smallest."""
        nonce = secrets.randbits(64)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        way.waiting[nonce] = answer
        try:
            message = Message(PROBE, way.flags, nonce, self._host, way.peer.host)
            data = encode(message, way.secret, max(size - _HEADERS[way.family], 0))
            if not self._send(way.family, data, (way.peer.address, way.peer.probe_port)):
                if not size:
                    await asyncio.sleep(self._patience_s)
                return False
            async with asyncio.timeout(self._patience_s):
                await answer
            return True
        except TimeoutError:
            return False
        finally:
            del way.waiting[nonce]

    def _send(self, family: socket.AddressFamily, data: bytes, to: tuple[str, int]) -> bool:
        """Whether it left this host: what the NIC does not take in one piece does not, nor what has no route."""
        opened = self._sockets.get(family)
        if opened is None:
            return False
        for _ in range(2):
            try:
                opened.sendto(data, to)
                return True
            except OSError as error:
                # What an earlier packet met is told at the next one: that one has not been sent.
                if error.errno not in {errno.ECONNREFUSED, errno.EHOSTUNREACH}:
                    return False
        return False

    # -- listening -----------------------------------------------------------------------------------------

    def _read(self, opened: socket.socket) -> None:
        for datagram, sender in _datagrams(opened):
            found = decode(datagram)
            way = self._ways.get(found[0].source) if found is not None else None
            if found is None or way is None or found[0].target != self._host:
                continue
            message, signature = found
            if is_signed(message, signature, way.secret):
                self._hear(way, message, opened, sender)

    def _hear(self, way: _Way, message: Message, opened: socket.socket, sender: tuple[str, int]) -> None:
        way.heard_at = time.monotonic()
        way.reaches = bool(message.flags & HEARS) if message.flags & KNOWS else None
        if message.kind == REPLY:
            waiting = way.waiting.get(message.nonce)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        elif message.kind == PROBE:
            reply = Message(REPLY, way.flags, message.nonce, self._host, way.peer.host)
            with contextlib.suppress(OSError):
                opened.sendto(encode(reply, way.secret), sender)

    def _tell(self, way: _Way) -> None:
        path = way.path()
        if self._told.get(way.peer.host) != path:
            before = self._told.get(way.peer.host)
            self._told[way.peer.host] = path
            if before is None or before.problem != path.problem:
                log.info("underlay.path", **path.model_dump(), problem=path.problem)
            self._changed()


def _bound(family: socket.AddressFamily, port: int) -> socket.socket:
    """A socket whose packets are not cut into pieces, whatever the kernel knows of their way."""
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family is socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        opened.bind(("", port))
    except OSError:
        opened.close()
        raise
    return opened


def _datagrams(opened: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    """What has arrived, a bounded number of them."""
    for _ in range(64):
        try:
            datagram, sender = opened.recvfrom(65536)
        except BlockingIOError:
            return
        except OSError:  # what an earlier packet of ours met
            continue
        yield datagram, sender
