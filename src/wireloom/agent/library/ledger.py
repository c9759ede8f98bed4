"""What this host remembers of images of the library over restarts: when each was read, when it was used, what is wrong.

Nothing rests on it: a lost ledger means that images are read again later, and count as used today.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from wireloom.model.images import ImagePin, engine_name
from wireloom.records import read_record, write_record

__all__ = ["Entry", "Ledger", "file_key", "image_key", "key_of"]

#: Uses are known to the hour, so that a running lab does not write all the time.
_COARSE_S: Final = 3600.0


def image_key(pin: ImagePin) -> str:
    """Names an image by provider, name and content; the same one, however its name is written."""
    return key_of(pin.provider, pin.name, pin.content)


def key_of(provider: str, name: str, content: str) -> str:
    """The same, of what is not a pin."""
    return f"{provider} {engine_name(provider, name)} {content}"


def file_key(digest: str) -> str:
    """Names a file of an image."""
    return f"file {digest}"


@dataclass(frozen=True)
class Entry:
    """Of one image, or file; times are UNIX seconds. ``damage``: wire form of what was wrong when it was read last.

    :ivar seen: it was on this host, exactly as it should be.
    :ivar brought: it came from the library, and goes with it; what a host had of its own stays.
    :ivar ahead: it was brought before the controller knows it: it was pulled here for the library.
    """

    verified_at: float
    used_at: float
    damage: dict[str, Any] | None = None
    seen: bool = False
    brought: bool = False
    ahead: bool = False


class Ledger:
    """Held in memory, and written by :meth:`save`."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._dirty = False

    def load(self) -> None:
        """Read what was written; what cannot be read was nothing. Blocking."""
        entries = (read_record(self._path) or {}).get("read")
        for key, fields in entries.items() if isinstance(entries, dict) else ():
            try:
                self._entries[key] = Entry(**fields)
            except TypeError:
                continue

    def save(self) -> None:
        """Write what has changed. Blocking. :raises OSError: it stays in memory."""
        if self._dirty:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_record(self._path, {"read": {key: asdict(entry) for key, entry in self._entries.items()}})
            self._dirty = False

    def of(self, key: str) -> Entry:
        """What is remembered; what is seen for the first time counts as read and used now."""
        if key not in self._entries:
            self._put(key, Entry(verified_at=self._clock(), used_at=self._clock()))
        return self._entries[key]

    def damage(self, key: str) -> dict[str, Any] | None:
        """What is wrong with it, as far as is known."""
        entry = self._entries.get(key)
        return entry.damage if entry else None

    def note_read(self, key: str, damage: dict[str, Any] | None = None) -> None:
        """It was read whole just now, and is as it should be, or has ``damage``."""
        self._put(key, replace(self.of(key), verified_at=self._clock(), damage=damage))

    def note_used(self, key: str) -> None:
        """Something uses it now."""
        entry = self.of(key)
        if self._clock() - entry.used_at >= _COARSE_S:
            self._put(key, replace(entry, used_at=self._clock()))

    def note_seen(self, key: str) -> None:
        """It is on this host, exactly as it should be."""
        entry = self.of(key)
        if not entry.seen:
            self._put(key, replace(entry, seen=True))

    def seen(self, key: str) -> bool:
        """Whether it ever was on this host, as far as is known."""
        entry = self._entries.get(key)
        return entry is not None and entry.seen

    def note_brought(self, key: str) -> None:
        """It comes from the library."""
        self._put(key, replace(self.of(key), brought=True))

    def note_pulled(self, key: str) -> None:
        """It was fetched here for the library, which is told of it only now."""
        self._put(key, replace(self.of(key), brought=True, ahead=True))

    def brought(self, key: str) -> bool:
        """Whether it came from the library, as far as is known."""
        entry = self._entries.get(key)
        return entry is not None and entry.brought

    def keep(self, keys: Iterable[str]) -> None:
        """Forget all others, but for those that are ahead of whoever names the keys."""
        known = set(keys)
        for key, entry in list(self._entries.items()):
            if key in known and entry.ahead:
                self._put(key, replace(entry, ahead=False))
            elif key not in known and not entry.ahead:
                del self._entries[key]
                self._dirty = True

    def _put(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._dirty = True
