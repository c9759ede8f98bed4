"""The fabric's interface within one process: for tests of what stands above it. No NATS, no sockets, no waiting.

It keeps the promises of ``fabric/README.md`` that matter to its users: watchers give current values first and never
lose the latest one, errors of handlers keep their class, a host without a handler is ``Unavailable``. In addition a
test may lose the store (:meth:`MemoryFabric.lose_store`), let a heartbeat run out and refuse writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from wireloom.errors import DeadlineExceeded, Unavailable
from wireloom.fabric.connection import KeyChange
from wireloom.fabric.consoles import SharedConsole
from wireloom.fabric.documents import ConsoleOpen, Event, HostFacts, Lease, Notice
from wireloom.fabric.image_documents import HostLibrary, HostShelf
from wireloom.fabric.methods import Method, StreamMethod
from wireloom.fabric.subjects import join_key
from wireloom.fabric.underlay_documents import HostEnds, HostPeers
from wireloom.model.base import Value
from wireloom.model.console import ConsoleCommand, ConsoleNotice
from wireloom.model.slice import Slice
from wireloom.model.state import SliceStatus
from wireloom.providers.contract import ByteStream

__all__ = ["MemoryFabric", "MemoryStream"]

V = TypeVar("V", bound=Value)
Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)


class _Bucket(Generic[V]):
    """Values by key, and who watches them."""

    def __init__(self) -> None:
        self.values: dict[str, V] = {}
        self._watchers: set[asyncio.Queue[KeyChange[V]]] = set()

    def put(self, key: str, value: V | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        for queue in self._watchers:
            queue.put_nowait(KeyChange(key, value))

    async def watch(self, prefix: str = "") -> AsyncIterator[KeyChange[V]]:
        queue: asyncio.Queue[KeyChange[V]] = asyncio.Queue()
        for key, value in self.values.items():
            queue.put_nowait(KeyChange(key, value))
        self._watchers.add(queue)
        try:
            while True:
                change = await queue.get()
                if change.key.startswith(prefix):
                    yield change
        finally:
            self._watchers.discard(queue)


class MemoryFabric:
    """One object is the whole fabric: controllers and agents of a test share it.

    :ivar connected: set it to false to make every write and question fail as if the server were away.
    :ivar published: every event so far, oldest first.
    """

    def __init__(self) -> None:
        self.connected = True
        self.published: list[Event] = []
        self._intents: _Bucket[Slice] = _Bucket()
        self._observations: _Bucket[SliceStatus] = _Bucket()
        self._hosts: _Bucket[HostFacts] = _Bucket()
        self._libraries: _Bucket[HostLibrary] = _Bucket()
        self._shelves: _Bucket[HostShelf] = _Bucket()
        self._peers: _Bucket[HostPeers] = _Bucket()
        self._ends: _Bucket[HostEnds] = _Bucket()
        self._readers: set[asyncio.Queue[Event]] = set()
        self._answers: dict[tuple[str, str], Callable[[Any], Awaitable[Any]]] = {}
        self._streams: dict[tuple[str, str], Callable[[Any], Awaitable[ByteStream]]] = {}
        self._on_rebuilt: list[Callable[[], None]] = []
        self._notice_handlers: list[Callable[[Notice], None]] = []
        self._lease_holders: dict[str, list[Callable[[Lease], None]]] = {}

    async def close(self) -> None:
        """Nothing is held."""

    def on_rebuilt(self, callback: Callable[[], None]) -> None:
        self._on_rebuilt.append(callback)

    # ---------------------------------------------------------------- what a test may do to it

    def lose_store(self) -> None:
        """Lose every document without a word to the watchers, as a server with an empty folder does."""
        stored = (
            self._intents,
            self._observations,
            self._hosts,
            self._libraries,
            self._shelves,
            self._peers,
            self._ends,
        )
        for bucket in stored:
            bucket.values.clear()
        for callback in self._on_rebuilt:
            callback()

    def expire_host(self, host: str) -> None:
        """Let the heartbeat of ``host`` run out."""
        self._hosts.put(join_key(host), None)

    @property
    def intent_keys(self) -> set[str]:
        """``<host>.<lab id>`` of every stored slice."""
        return set(self._intents.values)

    # ---------------------------------------------------------------- intent

    async def put_intent(self, host: str, document: Slice) -> None:
        self._check()
        self._intents.put(join_key(host, document.lab_id), document)

    async def delete_intent(self, host: str, lab_id: str) -> None:
        self._check()
        self._intents.put(join_key(host, lab_id), None)

    async def intents(self, host: str) -> dict[str, Slice]:
        self._check()
        prefix = f"{join_key(host)}."
        return {value.lab_id: value for key, value in self._intents.values.items() if key.startswith(prefix)}

    def watch_intents(self, host: str) -> AsyncIterator[KeyChange[Slice]]:
        return self._intents.watch(f"{join_key(host)}.")

    # ---------------------------------------------------------------- observation

    async def put_observation(self, status: SliceStatus) -> None:
        self._check()
        self._observations.put(join_key(status.host, status.lab_id), status)

    async def delete_observation(self, host: str, lab_id: str) -> None:
        self._check()
        self._observations.put(join_key(host, lab_id), None)

    def watch_observations(self) -> AsyncIterator[KeyChange[SliceStatus]]:
        return self._observations.watch()

    async def put_host(self, facts: HostFacts) -> None:
        self._check()
        self._hosts.put(join_key(facts.host), facts)

    async def delete_host(self, host: str) -> None:
        self._check()
        self._hosts.put(join_key(host), None)
        self._shelves.put(join_key(host), None)

    def watch_hosts(self) -> AsyncIterator[KeyChange[HostFacts]]:
        return self._hosts.watch()

    # ---------------------------------------------------------------- leases

    async def send_lease(self, lease: Lease) -> None:
        self._check()
        for handler in self._lease_holders.get(lease.host, ()):
            handler(lease)

    async def on_lease(self, host: str, handler: Callable[[Lease], None]) -> None:
        self._lease_holders.setdefault(host, []).append(handler)

    # ---------------------------------------------------------------- controllers

    async def tell_controllers(self, notice: Notice) -> None:
        self._check()
        for handler in self._notice_handlers:
            handler(notice)

    async def on_notice(self, handler: Callable[[Notice], None]) -> None:
        self._notice_handlers.append(handler)

    # ---------------------------------------------------------------- images

    async def put_library(self, document: HostLibrary) -> None:
        self._check()
        self._libraries.put(join_key(document.host), document)

    def watch_library(self, host: str) -> AsyncIterator[KeyChange[HostLibrary]]:
        return self._libraries.watch(join_key(host))

    def library(self, host: str) -> HostLibrary | None:
        """What ``host`` is told to do about images now."""
        return self._libraries.values.get(join_key(host))

    async def put_shelf(self, shelf: HostShelf) -> None:
        self._check()
        self._shelves.put(join_key(shelf.host), shelf)

    def watch_shelves(self) -> AsyncIterator[KeyChange[HostShelf]]:
        return self._shelves.watch()

    # ---------------------------------------------------------------- wires between hosts

    async def put_peers(self, document: HostPeers) -> None:
        self._check()
        self._peers.put(join_key(document.host), document)

    def watch_peers(self, host: str) -> AsyncIterator[KeyChange[HostPeers]]:
        return self._peers.watch(join_key(host))

    def peers(self, host: str) -> HostPeers | None:
        """Whom ``host`` is told that it has wires to."""
        return self._peers.values.get(join_key(host))

    async def put_ends(self, document: HostEnds) -> None:
        self._check()
        self._ends.put(join_key(document.target, document.source), document)

    def watch_ends(self, host: str, source: str) -> AsyncIterator[KeyChange[HostEnds]]:
        return self._ends.watch(join_key(host, source))

    # ---------------------------------------------------------------- history

    async def publish_event(self, event: Event) -> None:
        self._check()
        self.published.append(event)
        for queue in self._readers:
            queue.put_nowait(event)

    async def events(self, *, since: float | None = None) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        for event in self.published if since is not None else ():
            if event.time >= (since or 0):
                queue.put_nowait(event)
        self._readers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._readers.discard(queue)

    # ---------------------------------------------------------------- questions and streams

    async def call(self, host: str, method: Method[Q, A], question: Q, *, timeout_s: float | None = None) -> A:
        handler = self._handler(self._answers, host, method.name)
        try:
            async with asyncio.timeout(timeout_s or method.deadline_s):
                answer: A = await handler(question)
                return answer
        except TimeoutError:
            raise DeadlineExceeded(f"{host} took too long to answer {method.name}") from None

    async def serve(self, host: str, method: Method[Q, A], handler: Callable[[Q], Awaitable[A]]) -> None:
        self._answers[host, method.name] = handler

    async def open_stream(self, host: str, method: StreamMethod[Q], question: Q) -> ByteStream:
        handler = self._handler(self._streams, host, method.name)
        stream: ByteStream = await handler(question)
        return stream

    async def serve_stream(
        self, host: str, method: StreamMethod[Q], handler: Callable[[Q], Awaitable[ByteStream]]
    ) -> None:
        self._streams[host, method.name] = handler

    async def open_console(self, host: str, method: StreamMethod[Q], question: Q) -> SharedConsole:
        handler = self._handler(self._streams, host, method.name)
        console: SharedConsole = await handler(question)
        return console

    async def serve_console(
        self, host: str, method: StreamMethod[ConsoleOpen], handler: Callable[[ConsoleOpen], Awaitable[SharedConsole]]
    ) -> None:
        self._streams[host, method.name] = handler

    # ---------------------------------------------------------------- inside

    def _handler(self, table: dict[tuple[str, str], Any], host: str, name: str) -> Any:
        self._check()
        handler = table.get((host, name))
        if handler is None:
            raise Unavailable(f"no agent answers on host {host}")
        return handler

    def _check(self) -> None:
        if not self.connected:
            raise Unavailable("the fabric is away")


class MemoryStream:
    """A ``ByteStream`` (and a ``SharedConsole``) that a test plays the far end of.

    :ivar written: bytes that arrived; ``sizes``: resizes that arrived; ``closed``: set when the near end let go.
    :ivar commands: what was wanted of a shared console.
    """

    def __init__(self, *pieces: bytes, ends: bool = False) -> None:
        self.written: list[bytes] = []
        self.sizes: list[tuple[int, int]] = []
        self.commands: list[ConsoleCommand] = []
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        self._pieces: asyncio.Queue[bytes | ConsoleNotice | Exception] = asyncio.Queue()
        for piece in pieces:
            self.feed(piece)
        if ends:
            self.feed(b"")

    def feed(self, piece: bytes | ConsoleNotice | Exception) -> None:
        """What ``receive`` gives next; ``b""`` ends the stream, an exception is raised."""
        self._pieces.put_nowait(piece)

    async def read(self) -> bytes:
        while not isinstance(item := await self.receive(), bytes):
            pass
        return item

    async def command(self, command: ConsoleCommand) -> None:
        self.commands.append(command)
        self.arrived.set()

    async def receive(self) -> bytes | ConsoleNotice:
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def write(self, data: bytes) -> None:
        self.written.append(data)
        self.arrived.set()

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))
        self.arrived.set()

    async def close(self) -> None:
        self.closed.set()
