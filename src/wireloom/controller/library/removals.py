"""Images that are to go from hosts: remembered until each host has said that it has not got them, however late."""

from __future__ import annotations

from collections.abc import Callable, Collection

from wireloom.controller.library.shelves import ImageKey, Shelves, key_of
from wireloom.controller.store.images import ImageStore, Removal
from wireloom.fabric.image_documents import HostShelf
from wireloom.model.images import ImagePin, ImageView

__all__ = ["Removals"]


class Removals:
    """What is in the database, in memory as well. Reads return at once."""

    def __init__(self, store: ImageStore, shelves: Shelves, clock: Callable[[], float]) -> None:
        self._store = store
        self._shelves = shelves
        self._clock = clock
        self._waiting: dict[str, dict[ImageKey, Removal]] = {}  # by host
        self._hosts: dict[ImageKey, set[str]] = {}
        self._generation = 0

    async def load(self) -> None:
        """Read what is stored."""
        for removal in await self._store.removals():
            self._keep(removal)

    def next_generation(self) -> int:
        """Greater than all before, also than those before a restart: the time in milliseconds, or one more."""
        self._generation = max(self._generation + 1, int(self._clock() * 1000))
        return self._generation

    def for_host(self, host: str) -> tuple[ImagePin, ...]:
        """What ``host`` is to drop."""
        return tuple(removal.pin for _, removal in sorted(self._waiting.get(host, {}).items()))

    def hosts_of(self, image: ImageView) -> frozenset[str]:
        """Hosts that have not said yet that it is gone."""
        return frozenset(self._hosts.get(key_of(image), ()))

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts that are to drop anything."""
        return frozenset(self._waiting)

    async def begin(self, image: ImageView, hosts: Collection[str]) -> None:
        """Store ``image`` as one that is being deleted, and ask ``hosts`` to drop it."""
        for removal in await self._store.begin_removal(image, hosts, self.next_generation()):
            self._keep(removal)

    def reached(self, generation: int) -> None:
        """That generation was given out: the next one is greater."""
        self._generation = max(self._generation, generation)

    async def heard(self, shelf: HostShelf) -> bool:
        """A host told what it has; whether anything is gone from it that had to go.

        A word about an older document than the one that asked says nothing.
        """
        has = self._shelves.keys(shelf.host)
        gone = [
            removal
            for key, removal in self._waiting.get(shelf.host, {}).items()
            if removal.generation <= shelf.generation and key not in has
        ]
        if gone:
            await self._store.confirm(gone)
        for removal in gone:
            self._drop(removal.host, key_of(removal.pin))
        return bool(gone)

    async def forget_host(self, host: str) -> None:
        """Nothing is expected of ``host`` any more."""
        await self._store.forget_host(host)
        for key in list(self._waiting.get(host, ())):
            self._drop(host, key)

    def _keep(self, removal: Removal) -> None:
        key = key_of(removal.pin)
        self._waiting.setdefault(removal.host, {})[key] = removal
        self._hosts.setdefault(key, set()).add(removal.host)
        self.reached(removal.generation)

    def _drop(self, host: str, key: ImageKey) -> None:
        """Idempotent: a host may tell twice while the first time is being stored."""
        _discard(self._hosts, key, host)
        waiting = self._waiting.get(host, {})
        waiting.pop(key, None)
        if not waiting:
            self._waiting.pop(host, None)


def _discard(index: dict[ImageKey, set[str]], key: ImageKey, host: str) -> None:
    hosts = index.get(key, set())
    hosts.discard(host)
    if not hosts:
        index.pop(key, None)
