"""What hosts said last of the images that they have. In memory: agents tell it, and the fabric keeps it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from wireloom.controller.live import LiveState
from wireloom.fabric.image_documents import HostShelf, ShelfEntry
from wireloom.model.images import ImagePin, ImageView, Presence, PresenceState

__all__ = ["ImageKey", "Shelves", "key_of"]

#: Provider, name and content: what an image on a host is known by.
ImageKey = tuple[str, str, str]


def key_of(image: ImagePin | ImageView | ShelfEntry) -> ImageKey:
    return image.provider, image.name, image.content


class Shelves:
    """The newest shelf of every host, also of those that are away.

    :param known_hosts: of the installation; what others told once is not shown.
    """

    def __init__(self, live: LiveState, known_hosts: Callable[[], frozenset[str]]) -> None:
        self._live = live
        self._known_hosts = known_hosts
        self._shelves: dict[str, HostShelf] = {}
        self._entries: dict[str, dict[ImageKey, ShelfEntry]] = {}
        self._hosts: dict[ImageKey, set[str]] = {}  # who says anything of it

    def get(self, host: str) -> HostShelf | None:
        return self._shelves.get(host)

    def entry(self, host: str, image: ImagePin | ImageView) -> ShelfEntry | None:
        """What ``host`` says of ``image``; ``None``: it has it not."""
        return self._entries.get(host, {}).get(key_of(image))

    def keys(self, host: str) -> frozenset[ImageKey]:
        """What ``host`` says anything of."""
        return frozenset(self._entries.get(host, ()))

    def put(self, host: str, shelf: HostShelf | None) -> frozenset[ImageKey]:
        """A host has told, or (``None``) its word was deleted; the images of which it says another thing now."""
        before = self._entries.pop(host, {})
        after = {} if shelf is None else {key_of(entry): entry for entry in shelf.entries}
        if shelf is None:
            self._shelves.pop(host, None)
        else:
            self._shelves[host] = shelf
            self._entries[host] = after
        for key in before.keys() - after.keys():
            self._hosts[key].discard(host)
            if not self._hosts[key]:
                del self._hosts[key]
        for key in after.keys() - before.keys():
            self._hosts.setdefault(key, set()).add(host)
        return frozenset(key for key in {*before, *after} if before.get(key) != after.get(key))

    def serving(self) -> Iterator[HostShelf]:
        """Shelves of hosts that live and give their files to others, by name."""
        alive = self._live.alive
        for host in sorted(self._shelves):
            shelf = self._shelves[host]
            if host in alive and shelf.url and shelf.digests:
                yield shelf

    def holders(self, image: ImageView) -> list[str]:
        """Hosts that live and have it, whole."""
        found = (host for host in sorted(self._hosts.get(key_of(image), ())) if self._live.facts(host) is not None)
        entries = ((host, self.entry(host, image)) for host in found)
        return [host for host, entry in entries if entry is not None and entry.state is PresenceState.PRESENT]

    def presence(self, image: ImageView, removing: Collection[str]) -> tuple[Presence, ...]:
        """Where ``image`` is, by host. ``removing``: hosts that have not said that it is gone."""
        telling = self._hosts.get(key_of(image))
        hosts = {*(telling & self._known_hosts() if telling else ()), *removing}
        return tuple(self._presence(host, image, host in removing) for host in sorted(hosts))

    def _presence(self, host: str, image: ImageView, removing: bool) -> Presence:
        entry = self.entry(host, image)
        if self._live.facts(host) is None:
            return Presence(host=host, state=PresenceState.AWAY)
        if entry is None:
            return Presence(host=host, state=PresenceState.REMOVING)
        state = PresenceState.REMOVING if removing else entry.state
        return Presence(host=host, state=state, done=entry.done, total=entry.total, error=entry.error)
