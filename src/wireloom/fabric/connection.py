"""The fabric as agents and controllers hold it; see README.md beside this file."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from wireloom.errors import Conflict, Unavailable
from wireloom.fabric.consoles import ConsoleTalk, RemoteConsole, SharedConsole
from wireloom.fabric.documents import ConsoleOpen, Event, HostFacts, Lease, Notice
from wireloom.fabric.history import EventFollower
from wireloom.fabric.image_documents import HostLibrary, HostShelf
from wireloom.fabric.kv import Entry, KeyLister, KeyValues, Watcher
from wireloom.fabric.link import Endpoint, Link, NoResponders
from wireloom.fabric.login import Login
from wireloom.fabric.methods import Method, StreamMethod
from wireloom.fabric.rpc import Answerer, ask, decode_answer, encode_answer, parse_question
from wireloom.fabric.stores import StoreKeeper, list_keys
from wireloom.fabric.streams import Plain, StreamServer, open_stream
from wireloom.fabric.subjects import (
    DESIRED,
    ENDS,
    HOSTS,
    LIBRARY,
    OBSERVED,
    PEERS,
    SHELVES,
    Bucket,
    agent_user,
    control_subject,
    decode_token,
    encode_token,
    event_subject,
    inbox_prefix,
    join_key,
    lease_subject,
    notice_subject,
    rpc_subject,
    split_key,
)
from wireloom.fabric.underlay_documents import HostEnds, HostPeers
from wireloom.model.base import Value
from wireloom.model.slice import Slice
from wireloom.model.state import SliceStatus
from wireloom.providers.contract import ByteStream

__all__ = ["Fabric", "KeyChange"]

log = structlog.get_logger(__name__)

V = TypeVar("V", bound=Value)
Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)

_CONNECT_S = 10.0
_INDEX_TRIES = 20
#: The queue of which one controller takes each question.
_CONTROLLERS = "controllers"


@dataclass(frozen=True)
class KeyChange(Generic[V]):
    """A key has a new value, or ``None``: it was deleted or has expired.

    ``key`` is ``<host>`` or ``<host>.<lab id>`` as stored; the properties give its parts as they were written.
    """

    key: str
    value: V | None

    @property
    def host(self) -> str:
        return split_key(self.key)[0]

    @property
    def lab_id(self) -> str:
        """Empty for keys that name a host only."""
        parts = split_key(self.key)
        return parts[1] if len(parts) > 1 else ""


class Fabric:
    """One process's connection to the fabric. Make it with :meth:`connect`; all methods are for its event loop."""

    def __init__(self, link: Link, *, creates_stores: bool, replicas: int = 1) -> None:
        self._link = link
        self._values = KeyValues(link)
        self._keeper = StoreKeeper(link, self._values, creates=creates_stores, replicas=replicas)
        self._answerer = Answerer(link)
        self._streams = StreamServer(link, self._answerer)
        self._watchers: set[Watcher] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._keeper.on_rebuilt.append(self._resync_watchers)

    @classmethod
    async def connect(
        cls,
        url: str | Sequence[str],
        *,
        name: str,
        login: Login | None = None,
        user: str = "",
        password: str = "",
        ca: str = "",
        creates_stores: bool = True,
        replicas: int = 1,
        timeout_s: float = _CONNECT_S,
    ) -> Fabric:
        """Connect, and from then on stay connected for ever.

        :param url: of one server or of several, of which any will do; ``tls://…`` takes no connection without TLS.
        :param login: instead of ``user`` and ``password``.
        :param ca: certificates (PEM) by which the servers are known; empty: those that the machine trusts.
        :param creates_stores: make the stores when they are missing; only controllers are permitted to.
        :param replicas: on how many servers of a cluster the stores are then kept.
        :raises Unavailable: nobody answers there within ``timeout_s``.
        :raises Unauthenticated: the login is refused.
        """
        urls = (url,) if isinstance(url, str) else tuple(url)
        link = Link(Endpoint(urls=urls, name=name, login=login or Login(user=user, password=password), ca=ca))
        await link.open(timeout_s)
        fabric = cls(link, creates_stores=creates_stores, replicas=replicas)
        fabric._keeping = asyncio.get_running_loop().create_task(fabric._keeper.run())
        return fabric

    async def close(self) -> None:
        """End streams and questions in flight, then let go; idempotent."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._streams.close()
        await self._answerer.close()
        await self._link.close()

    @property
    def connected(self) -> bool:
        """Whether the server can be reached right now."""
        return self._link.connected

    @property
    def refused(self) -> str:
        """Why the servers do not let us in, in words; empty: they do, or cannot be reached."""
        return self._link.refused

    async def exchange_login(self, login: Login, *, urls: Sequence[str] = (), ca: str = "") -> asyncio.Task[None]:
        """Go on as ``login``, of the same user, without losing a message.

        :param urls: of the servers from now on; empty: as before. ``ca``: the same.
        :returns: ends when nothing needs the earlier login any more.
        :raises Unauthenticated: it is refused. :raises Unavailable: no answer; either way all stays as it is.
        """
        return await self._link.exchange(login, urls=tuple(urls), ca=ca)

    def on_rebuilt(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the stores were lost and made anew: write every document again then."""
        self._keeper.on_rebuilt.append(callback)

    # -- intent -------------------------------------------------------------------------------------------------

    async def put_intent(self, host: str, document: Slice) -> None:
        """Store the slice of ``host``. :raises Unavailable: the store is away for longer than some seconds."""
        # The list first: whoever reads it before this change hears of the slice, which is stored after it.
        await self._change_index(host, add=document.lab_id)
        key = join_key(host, document.lab_id)
        await self._values.put(DESIRED, key, document.model_dump_json().encode())

    async def delete_intent(self, host: str, lab_id: str) -> None:
        """Remove the slice; idempotent."""
        await self._values.delete(DESIRED, join_key(host, lab_id))
        await self._change_index(host, remove=lab_id)

    async def intents(self, host: str) -> dict[str, Slice]:
        """The slices of ``host`` by lab id. :raises Unavailable: the store is not ready."""
        keys = sorted(await self._intent_keys(host))
        entries = await asyncio.gather(*(self._values.get(DESIRED, key) for key in keys))
        slices = (_decode(entry, Slice) for entry in entries if entry is not None)
        return {document.lab_id: document for document in slices if document is not None}

    def watch_intents(self, host: str) -> AsyncIterator[KeyChange[Slice]]:
        """Current slices of ``host``, then every change, for ever."""

        async def keys() -> set[str]:
            return await self._intent_keys(host)

        return self._watch(DESIRED, f"{encode_token(host)}.*", keys, Slice)

    # -- observation --------------------------------------------------------------------------------------------

    async def put_observation(self, status: SliceStatus) -> None:
        """Store what the agent of ``status.host`` saw."""
        key = join_key(status.host, status.lab_id)
        await self._values.put(OBSERVED, key, status.model_dump_json().encode())

    async def delete_observation(self, host: str, lab_id: str) -> None:
        """Remove an observation; idempotent."""
        await self._values.delete(OBSERVED, join_key(host, lab_id))

    def watch_observations(self) -> AsyncIterator[KeyChange[SliceStatus]]:
        """Current observations of all hosts, then every change, for ever."""
        return self._watch(OBSERVED, ">", self._lister(OBSERVED), SliceStatus)

    async def put_host(self, facts: HostFacts) -> None:
        """Store host facts; also the heartbeat, to be sent every few seconds."""
        await self._values.put(HOSTS, join_key(facts.host), facts.model_dump_json().encode())

    async def delete_host(self, host: str) -> None:
        """Take back what ``host`` told of itself; idempotent. Controllers only."""
        await self._values.delete(HOSTS, join_key(host))
        await self._values.delete(SHELVES, join_key(host))

    def watch_hosts(self) -> AsyncIterator[KeyChange[HostFacts]]:
        """Current hosts, then every heartbeat; value ``None`` when a host was not heard for its TTL.

        While this process itself is cut off, no host expires.
        """
        return self._watch(HOSTS, ">", self._lister(HOSTS), HostFacts)

    # -- leases -------------------------------------------------------------------------------------------------

    async def send_lease(self, lease: Lease) -> None:
        """Answer a heartbeat of ``lease.host``; not stored. :raises Unavailable: not connected."""
        await self._link.publish(lease_subject(lease.host), lease.model_dump_json().encode())

    async def on_lease(self, host: str, handler: Callable[[Lease], None]) -> None:
        """Call ``handler`` with every lease that a controller gives ``host`` from now on."""

        async def heard(message: Msg) -> None:
            handler(Lease.model_validate_json(message.data))

        await self._link.subscribe(lease_subject(host), heard)

    # -- controllers --------------------------------------------------------------------------------------------

    async def tell_controllers(self, notice: Notice) -> None:
        """Tell all controllers that something has changed; not stored. :raises Unavailable: not connected."""
        await self._link.publish(notice_subject(), notice.model_dump_json().encode())

    async def on_notice(self, handler: Callable[[Notice], None]) -> None:
        """Call ``handler`` with every notice from now on, those of this controller too."""

        async def heard(message: Msg) -> None:
            handler(Notice.model_validate_json(message.data))

        await self._link.subscribe(notice_subject(), heard)

    # -- images -------------------------------------------------------------------------------------------------

    async def put_library(self, document: HostLibrary) -> None:
        """Store what ``document.host`` is to do about images."""
        await self._values.put(LIBRARY, join_key(document.host), document.model_dump_json().encode())

    def watch_library(self, host: str) -> AsyncIterator[KeyChange[HostLibrary]]:
        """What ``host`` is to do about images, then every change, for ever."""

        async def keys() -> set[str]:
            return {join_key(host)}

        return self._watch(LIBRARY, encode_token(host), keys, HostLibrary)

    async def put_shelf(self, shelf: HostShelf) -> None:
        """Store what ``shelf.host`` has of the library."""
        await self._values.put(SHELVES, join_key(shelf.host), shelf.model_dump_json().encode())

    def watch_shelves(self) -> AsyncIterator[KeyChange[HostShelf]]:
        """What hosts have of the library, then every change, for ever; what an away host told last stays."""
        return self._watch(SHELVES, ">", self._lister(SHELVES), HostShelf)

    # -- wires between hosts ------------------------------------------------------------------------------------

    async def put_peers(self, document: HostPeers) -> None:
        """Store whom ``document.host`` has wires to."""
        await self._values.put(PEERS, join_key(document.host), document.model_dump_json().encode())

    def watch_peers(self, host: str) -> AsyncIterator[KeyChange[HostPeers]]:
        """Whom ``host`` has wires to, then every change, for ever."""

        async def keys() -> set[str]:
            return {join_key(host)}

        return self._watch(PEERS, encode_token(host), keys, HostPeers)

    async def put_ends(self, document: HostEnds) -> None:
        """Store what ``document.source`` tells ``document.target`` of its ends of their wires."""
        key = join_key(document.target, document.source)
        await self._values.put(ENDS, key, document.model_dump_json().encode())

    def watch_ends(self, host: str, source: str) -> AsyncIterator[KeyChange[HostEnds]]:
        """What ``source`` tells ``host``, then every change, for ever."""
        key = join_key(host, source)

        async def keys() -> set[str]:
            return {key}

        return self._watch(ENDS, key, keys, HostEnds)

    # -- history ------------------------------------------------------------------------------------------------

    async def publish_event(self, event: Event) -> None:
        """Store one event of history."""
        once = {"Nats-Msg-Id": secrets.token_hex(12)}  # a write that is tried again is stored once
        await self._values.publish(event_subject(event.host), event.model_dump_json().encode(), once)

    def events(self, *, since: float | None = None) -> AsyncIterator[Event]:
        """Events stored from UNIX time ``since`` on, in order and for ever; ``None``: only new ones."""
        return EventFollower(self._link, since).events()

    # -- questions and streams ----------------------------------------------------------------------------------

    async def call(self, host: str, method: Method[Q, A], question: Q, *, timeout_s: float | None = None) -> A:
        """Ask the agent of ``host``. :raises WireloomError: what its handler raised; ``Unavailable`` if it is away."""
        return await ask(self._link, host, method, question, timeout_s=timeout_s)

    async def serve(self, host: str, method: Method[Q, A], handler: Callable[[Q], Awaitable[A]]) -> None:
        """Answer ``method`` with ``handler``, each question in its own task, under the asker's deadline."""

        async def answer(message: Msg) -> bytes:
            return encode_answer(await handler(parse_question(message.data, method.question)))

        await self._answerer.serve(rpc_subject(host, method.name), answer)

    async def ask_controllers(self, host: str, method: Method[Q, A], question: Q) -> A:
        """As the agent of ``host``, ask whichever controller answers. :raises WireloomError: what it raised."""
        subject = control_subject(host, method.name)
        try:
            message = await self._link.request(
                subject, question.model_dump_json().encode(), timeout_s=method.deadline_s
            )
        except NoResponders as error:
            raise Unavailable("no controller answers", hint="is one running?") from error
        return decode_answer(message.data, method.answer)

    async def serve_hosts(self, method: Method[Q, A], handler: Callable[[str, Q], Awaitable[A]]) -> None:
        """Answer ``method`` of every host, named first to ``handler``; of several controllers one answers each."""

        async def answer(message: Msg) -> bytes:
            return encode_answer(await handler(asking(message), parse_question(message.data, method.question)))

        def asking(message: Msg) -> str:
            return decode_token(message.subject.split(".")[1])  # what the server has permitted, not what is claimed

        def goes_back(message: Msg) -> bool:
            # We may publish anything: an answer must not go where the asking host itself may not.
            return message.reply.startswith(f"{inbox_prefix(agent_user(asking(message)))}.")

        subject = control_subject("*", method.name)
        await self._answerer.serve(subject, answer, queue=_CONTROLLERS, taken=goes_back)

    async def open_stream(self, host: str, method: StreamMethod[Q], question: Q) -> ByteStream:
        """Open a byte stream to ``host``. :raises WireloomError: what its handler raised."""
        return await open_stream(self._link, host, method, question)

    async def serve_stream(
        self, host: str, method: StreamMethod[Q], handler: Callable[[Q], Awaitable[ByteStream]]
    ) -> None:
        """Serve ``method``: ``handler`` opens the local stream, which is closed when either end goes."""

        async def opened(question: Q) -> Plain:
            return Plain(await handler(question))

        await self._streams.serve(host, method, opened)

    async def open_console(self, host: str, method: StreamMethod[Q], question: Q) -> SharedConsole:
        """Open a console with its notices. :raises WireloomError: what its handler raised."""
        return RemoteConsole(await open_stream(self._link, host, method, question))

    async def serve_console(
        self, host: str, method: StreamMethod[ConsoleOpen], handler: Callable[[ConsoleOpen], Awaitable[SharedConsole]]
    ) -> None:
        """Serve consoles; like :meth:`serve_stream`, with notices for those who understand them."""

        async def opened(question: ConsoleOpen) -> ConsoleTalk:
            return ConsoleTalk(await handler(question), notices=question.notices)

        await self._streams.serve(host, method, opened)

    # -- inside -------------------------------------------------------------------------------------------------

    async def _watch(self, bucket: Bucket, pattern: str, keys: KeyLister, kind: type[V]) -> AsyncIterator[KeyChange[V]]:
        watcher = Watcher(self._link, self._values, bucket, pattern, keys)
        self._watchers.add(watcher)
        try:
            async with aclosing(watcher.changes()) as changes:
                async for entry in changes:
                    if entry.value is None:
                        yield KeyChange(entry.key, None)
                        continue
                    value = _decode(entry, kind)
                    if value is not None:
                        yield KeyChange(entry.key, value)
        finally:
            self._watchers.discard(watcher)

    def _resync_watchers(self) -> None:
        for watcher in self._watchers:
            watcher.resync()

    def _lister(self, bucket: Bucket) -> KeyLister:
        async def keys() -> set[str]:
            return await list_keys(self._link, bucket)

        return keys

    async def _intent_keys(self, host: str) -> set[str]:
        labs, _ = await self._index(host)
        return {join_key(host, lab_id) for lab_id in labs}

    async def _index(self, host: str) -> tuple[set[str], int]:
        """Lab ids with a slice for ``host``, and the sequence of that list (0: none).

        An agent may not list keys (the answer would name other hosts'), so each host has a list of its own.
        """
        entry = await self._values.get_soon(DESIRED, join_key(host))
        if entry is None:
            return set(), 0
        return set(json.loads(entry.value or b"[]")), entry.sequence

    async def _change_index(self, host: str, *, add: str | None = None, remove: str | None = None) -> None:
        """Edit the list by compare-and-set, because several controllers may write."""
        for _ in range(_INDEX_TRIES):
            labs, sequence = await self._index(host)
            wanted = (labs | ({add} if add else set())) - ({remove} if remove else set())
            if wanted == labs:
                return
            try:
                await self._values.put(DESIRED, join_key(host), json.dumps(sorted(wanted)).encode(), expected=sequence)
            except Conflict:
                continue
            return
        raise Conflict(f"the list of labs of host {host} is changed by others all the time")


def _decode(entry: Entry, kind: type[V]) -> V | None:
    """The document in ``entry``; ``None`` for a deletion or for what cannot be understood."""
    if entry.value is None:
        return None
    try:
        return kind.model_validate_json(entry.value)
    except ValidationError as error:
        # Never taken for a deletion: an unreadable slice must not take a lab away.
        log.warning("fabric.bad-document", key=entry.key, kind=kind.__name__, errors=error.error_count())
        return None
