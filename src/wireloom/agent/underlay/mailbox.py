"""What this host and the others tell each other of the ends of their wires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from typing import Final, Protocol, TypeVar, cast

import structlog

from wireloom.errors import WireloomError
from wireloom.fabric.connection import KeyChange
from wireloom.fabric.underlay_documents import HostEnds, HostPeers
from wireloom.model.base import Value
from wireloom.model.underlay import FarEnd

__all__ = ["FarHeard", "Mailbox", "UnderlayFabric", "each_change"]

log = structlog.get_logger(__name__)

V = TypeVar("V", bound=Value)

#: Told of wires, by id, whose far ends another host has said something new of.
FarHeard = Callable[[Collection[str]], None]

_RETRY_S: Final = 1.0
#: What changes within this time after something was told is told together.
_PAUSE_S: Final = 0.02


class UnderlayFabric(Protocol):
    """What is needed of the fabric."""

    def watch_peers(self, host: str) -> AsyncIterator[KeyChange[HostPeers]]: ...

    async def put_ends(self, document: HostEnds) -> None: ...

    def watch_ends(self, host: str, source: str) -> AsyncIterator[KeyChange[HostEnds]]: ...


class Mailbox:
    """Holds our ends until the fabric took them, and the last word of others.

    :param heard: see :data:`FarHeard`.
    """

    def __init__(self, host: str, fabric: UnderlayFabric, heard: FarHeard) -> None:
        self._host = host
        self._fabric = fabric
        self._heard = heard
        self._own: dict[str, dict[str, Mapping[str, FarEnd]]] = {}  # lab id → host → wire id → our end
        self._sent: dict[str, HostEnds] = {}
        self._far: dict[str, Mapping[str, FarEnd]] = {}  # host → wire id → its end
        self._following: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self.far_ends: dict[tuple[str, str], FarEnd] = {}

    @property
    def hosts(self) -> frozenset[str]:
        """Those that wires of this host lead to."""
        return frozenset(host for by_host in self._own.values() for host in by_host)

    # -- ours ----------------------------------------------------------------------------------------------

    def tell(self, lab_id: str, ends: Mapping[str, Iterable[FarEnd]], *, whole: bool) -> None:
        """Our ends of a lab's wires, by the host that they lead to: all of them, or some that are news."""
        if not whole and lab_id not in self._own:  # of a lab that has gone meanwhile, or of which all comes next
            return
        before = self._own.get(lab_id, {})
        told = {host: {end.id: end for end in items} for host, items in ends.items()}
        after: dict[str, Mapping[str, FarEnd]] = dict(told)
        if not whole:
            after = dict(before) | {host: {**before.get(host, {}), **items} for host, items in told.items()}
        if after == before:
            return
        self._own[lab_id] = after
        if not after:
            del self._own[lab_id]
        self._wake.set()

    def forget(self, lab_id: str) -> None:
        """The lab is no concern of this host any more."""
        self.tell(lab_id, {}, whole=True)

    def resend(self) -> None:
        """The fabric may have lost everything."""
        self._sent.clear()
        self._wake.set()

    async def run(self) -> None:
        """Tell and follow for ever."""
        self._wake.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._follow()
                try:
                    await self._send()
                except WireloomError as error:
                    log.warning("ends not delivered", error=str(error))
                    self._wake.set()
                    await asyncio.sleep(_RETRY_S)
                await asyncio.sleep(_PAUSE_S)
        finally:
            await self._stop(list(self._following))

    async def _send(self) -> None:
        hosts = self.hosts
        for host in sorted(hosts | self._sent.keys()):
            found = {wire: end for by_host in self._own.values() for wire, end in by_host.get(host, {}).items()}
            ends = tuple(found[wire] for wire in sorted(found))
            document = HostEnds(source=self._host, target=host, ends=ends)
            if self._sent.get(host) != document:
                await self._fabric.put_ends(document)
                self._sent[host] = document
            if host not in hosts:
                del self._sent[host]

    # -- theirs --------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Listen to every host that wires lead to, and to no other."""
        hosts = self.hosts
        for host in [host for host in self._following if host not in hosts]:
            self._following.pop(host).cancel()
            self._enter(host, {})
        for host in hosts - self._following.keys():
            task = asyncio.get_running_loop().create_task(self._listen(host), name=f"ends-{host}")
            self._following[host] = task

    async def _listen(self, host: str) -> None:
        async for change in each_change(lambda: self._fabric.watch_ends(self._host, host), f"ends of {host}"):
            # What the store lost is not taken back: the last word holds until there is another one.
            if change.value is not None:
                self._enter(host, {end.id: end for end in change.value.ends})

    def _enter(self, host: str, ends: Mapping[str, FarEnd]) -> None:
        before = self._far.get(host, {})
        self._far[host] = ends
        changed = {wire for wire in before.keys() | ends.keys() if before.get(wire) != ends.get(wire)}
        if changed:
            self.far_ends = {
                (other, wire): end for other, by_wire in self._far.items() for wire, end in by_wire.items()
            }
            self._heard(changed)

    async def _stop(self, hosts: Iterable[str]) -> None:
        tasks = [self._following.pop(host) for host in hosts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def each_change(
    watch: Callable[[], AsyncIterator[KeyChange[V]]], what: str
) -> AsyncGenerator[KeyChange[V], None]:
    """What a watcher of the fabric tells, for ever: one that failed is begun anew."""
    while True:
        try:
            async with aclosing(cast(AsyncGenerator[KeyChange[V], None], watch())) as changes:
                async for change in changes:
                    yield change
        except WireloomError as error:
            log.warning("not followed", what=what, error=str(error))
        await asyncio.sleep(_RETRY_S)
