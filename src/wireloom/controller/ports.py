"""What the controller needs of the fabric: its half of :class:`~wireloom.fabric.connection.Fabric`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from wireloom.fabric.consoles import SharedConsole
from wireloom.fabric.documents import Event, HostFacts, Lease, Notice
from wireloom.fabric.image_documents import HostLibrary, HostShelf
from wireloom.fabric.methods import Method, StreamMethod
from wireloom.fabric.underlay_documents import HostPeers
from wireloom.model.base import Value
from wireloom.model.slice import Slice
from wireloom.model.state import SliceStatus
from wireloom.providers.contract import ByteStream

__all__ = ["Change", "ControllerFabric"]

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)
V_co = TypeVar("V_co", covariant=True)


class Change(Protocol[V_co]):
    """A key's new value; ``None`` means deleted or expired."""

    @property
    def key(self) -> str: ...

    @property
    def value(self) -> V_co | None: ...


class ControllerFabric(Protocol):
    """See ``fabric/README.md`` for the meaning of each method."""

    @property
    def connected(self) -> bool: ...

    def on_rebuilt(self, callback: Callable[[], None]) -> None: ...

    async def put_intent(self, host: str, document: Slice) -> None: ...

    async def delete_intent(self, host: str, lab_id: str) -> None: ...

    async def intents(self, host: str) -> dict[str, Slice]: ...

    def watch_observations(self) -> AsyncIterator[Change[SliceStatus]]: ...

    async def delete_observation(self, host: str, lab_id: str) -> None: ...

    async def delete_host(self, host: str) -> None: ...

    def watch_hosts(self) -> AsyncIterator[Change[HostFacts]]: ...

    async def send_lease(self, lease: Lease) -> None: ...

    async def tell_controllers(self, notice: Notice) -> None: ...

    async def on_notice(self, handler: Callable[[Notice], None]) -> None: ...

    async def put_library(self, document: HostLibrary) -> None: ...

    def watch_shelves(self) -> AsyncIterator[Change[HostShelf]]: ...

    async def put_peers(self, document: HostPeers) -> None: ...

    async def publish_event(self, event: Event) -> None: ...

    def events(self, *, since: float | None = None) -> AsyncIterator[Event]: ...

    async def call(self, host: str, method: Method[Q, A], question: Q, *, timeout_s: float | None = None) -> A: ...

    async def open_stream(self, host: str, method: StreamMethod[Q], question: Q) -> ByteStream: ...

    async def open_console(self, host: str, method: StreamMethod[Q], question: Q) -> SharedConsole: ...
