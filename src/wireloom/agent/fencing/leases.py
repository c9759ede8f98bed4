"""The leases that this host holds, by a clock that never jumps and goes on while the host sleeps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from wireloom.fabric.documents import Lease
from wireloom.model.slice import Slice
from wireloom.records import read_record, write_record

__all__ = ["HeldLease", "LeaseBook", "boot_clock", "read_leases"]

log = structlog.get_logger(__name__)

#: Heartbeats that an answer may still come to.
_REMEMBERED_BEATS: Final = 64
_MODE: Final = 0o600


def boot_clock() -> float:
    """Seconds since the host was booted, its sleep counted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class HeldLease:
    """Of one lab. ``granted``: when the heartbeat was sent that the lease answers, by :func:`boot_clock`.

    ``granted`` is ``None`` for a lab that had none in this life of the host.
    """

    lab: str
    lease_s: float
    granted: float | None = None

    def left_s(self, now: float) -> float:
        """Seconds for which it still holds; 0 when it does not."""
        return 0.0 if self.granted is None else max(self.granted + self.lease_s - now, 0.0)


def read_leases(file: Path, host_boot: str) -> dict[str, HeldLease]:
    """What an agent of this host wrote down, by lab id. After a reboot nothing is held."""
    record = read_record(file) or {}
    found: dict[str, HeldLease] = {}
    for lab_id, entry in _entries(record):
        try:
            held = HeldLease(str(entry["lab"]), float(entry["lease_s"]), entry["granted"])
        except (KeyError, TypeError, ValueError):
            continue
        found[lab_id] = held if record.get("boot") == host_boot else replace(held, granted=None)
    return found


def _entries(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    labs = record.get("labs")
    return list(labs.items()) if isinstance(labs, dict) else []


class LeaseBook:
    """Written through to a file, so that an agent that is started anew, or a guard beside it, knows when they run out.

    :param file: in a folder that exists.
    """

    def __init__(self, file: Path, host_boot: str, clock: Callable[[], float] = boot_clock) -> None:
        self._file = file
        self._host_boot = host_boot
        self._clock = clock
        self._held: dict[str, HeldLease] = {}
        self._generations: dict[str, int] = {}
        self._sent: dict[str, float] = {}

    def load(self) -> None:
        """Read what an earlier agent held."""
        self._held = read_leases(self._file, self._host_boot)

    def beat(self) -> str:
        """A word for the heartbeat that is about to be sent."""
        word = secrets.token_hex(8)
        self._sent[word] = self._clock()
        while len(self._sent) > _REMEMBERED_BEATS:
            self._sent.pop(next(iter(self._sent)))
        return word

    def follow(self, lab_id: str, document: Slice | None) -> bool:
        """The intent of a lab came, changed or went; whether it waits for a lease now.

        A lab that is told of for the first time, or that needs a lease from now on, begins with one: nobody may give
        its nodes away before this host has reported that it goes by leases.
        """
        needed = None if document is None or document.removed else document.lease_s
        if document is None or needed is None:
            self._generations.pop(lab_id, None)
            if self._held.pop(lab_id, None) is not None:
                self._write()
            return False
        self._generations[lab_id] = document.generation
        before = self._held.get(lab_id)
        held = HeldLease(document.lab, needed, before.granted if before else self._clock())
        if held != before:
            self._held[lab_id] = held
            self._write()
        return held.left_s(self._clock()) <= 0

    def heard(self, lease: Lease) -> bool:
        """A controller answered a heartbeat; whether that renewed anything.

        A lab is renewed only where this host has the intent that the controller speaks of: it may have lost nodes.
        """
        sent = self._sent.get(lease.beat)
        if sent is None:
            return False
        renewed = False
        for lab_id, generation in lease.labs.items():
            held = self._held.get(lab_id)
            if held is None or self._generations.get(lab_id, -1) < generation:
                continue
            if held.granted is None or held.granted < sent:
                self._held[lab_id] = replace(held, granted=sent)
                renewed = True
        if renewed:
            self._write()
        return renewed

    @property
    def holds_any(self) -> bool:
        """Whether there is a lease that can still run out."""
        return self.next_lapse_s() is not None

    def lapsed(self) -> dict[str, HeldLease]:
        """Labs, by id, whose nodes may not run now."""
        now = self._clock()
        return {lab_id: held for lab_id, held in self._held.items() if held.left_s(now) <= 0}

    def next_lapse_s(self) -> float | None:
        """Seconds until the next one runs out; ``None``: none will."""
        now = self._clock()
        left = [left for held in self._held.values() if (left := held.left_s(now)) > 0]
        return min(left, default=None)

    def silence_s(self, lab_id: str) -> float | None:
        """Seconds since the heartbeat that was answered last for the lab; ``None``: none was."""
        held = self._held.get(lab_id)
        return None if held is None or held.granted is None else self._clock() - held.granted

    def _write(self) -> None:
        labs = {lab_id: asdict(held) for lab_id, held in self._held.items()}
        try:
            write_record(self._file, {"boot": self._host_boot, "labs": labs}, mode=_MODE)
        except OSError as error:  # what is written is older, so it runs out earlier: safe
            log.warning("leases not written down", error=str(error))
