"""The log that the emulator writes of a serial line, from power-on.

virtlogd writes it and starts a new file whenever it reaches its size limit: ``X`` becomes ``X.0``, ``X.0`` becomes
``X.1``, and so on up to its number of back-ups (2 MiB and 3 unless configured). A reader therefore starts at the
oldest part and goes on by inode, not by name. Before each power-on the provider puts the last run's log aside as
``X.previous-1`` … ``-3``, with its newest rotated parts as ``X.previous-1.0`` and so on.

A guest that reboots in its emulator goes on writing to the same file, so the log is cut there: ``X.cut-<bytes>`` is a
hard link to the part in which the present boot begins after so many bytes. It names that part however it is rotated,
and keeps it when virtlogd deletes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

from wireloom.model.runtime import Boot
from wireloom.providers.boots import KEPT_BOOTS, BootMarks, check_boot

__all__ = ["begin_boot", "begin_boot_in_place", "boots_of", "log_of_boot", "put_aside", "read_log"]

_CHUNK: Final = 64 * 1024
#: More than virtlogd keeps by default, for hosts that configured more.
_MOST_PARTS: Final = 16

#: Of an earlier run that overflowed; with virtlogd's own limits that is all of it.
_PREVIOUS_PARTS: Final = 3

#: A guest that resets twice in a moment (firmware does) has rebooted once; also when two listeners tell of it.
_SAME_REBOOT_S: Final = 1.0

#: Pause between looks at the file while somebody follows it.
_PAUSE_S: Final = 0.1


def begin_boot(logs: Sequence[Path], runtime_id: str, started_at: float) -> None:
    """The runtime is about to be powered on: put the logs of its lines aside, and note the time."""
    if logs:
        # A boot that failed before it wrote anything is forgotten, else it would push out one that says something.
        BootMarks(logs[0].parent, runtime_id).note(started_at, instead=not logs[0].exists())
    for log in logs:
        put_aside(log)


def begin_boot_in_place(logs: Sequence[Path], runtime_id: str, started_at: float) -> bool:
    """The guest has rebooted in its emulator, which goes on writing: cut the logs, and note the time. Blocks on files.

    :return: whether this is news. :raises OSError: the file system refuses.
    """
    if not logs:
        return True
    marks = BootMarks(logs[0].parent, runtime_id)
    if marks.times() and started_at - marks.times()[0] < _SAME_REBOOT_S:
        return False
    marks.note(started_at, instead=not logs[0].exists())
    for log in logs:
        if log.exists():
            _cut(log)
    return True


def boots_of(logs: Sequence[Path], runtime_id: str) -> tuple[Boot, ...]:
    """Boots of which the first line's log is kept, newest first."""
    return BootMarks(logs[0].parent, runtime_id).boots() if logs else ()


def log_of_boot(logs: Sequence[Path], runtime_id: str, boot: int) -> Path | None:
    """The first line's log of that boot; ``None``: the machine has no serial line. :raises NotFound: it is not kept."""
    check_boot(boot, boots_of(logs, runtime_id))
    if not logs:
        return None
    return logs[0] if boot == 0 else _previous(logs[0], boot)


def put_aside(log: Path) -> None:
    """Make room for the next run's log. The newest previous run is ``….previous-1``; nothing to put aside is fine."""
    if not log.exists():
        return
    _shift_previous(log)
    _forget_before_cut(log)
    for part in _older_parts(log)[:-_PREVIOUS_PARTS]:
        part.unlink(missing_ok=True)
    for part in _parts_of(log):
        part.replace(_renamed(part, log, _previous(log, 1)))


def _shift_previous(log: Path) -> None:
    """Make room for ``….previous-1``; the oldest is deleted."""
    for number in range(KEPT_BOOTS, 0, -1):
        for part in _parts_of(_previous(log, number)):
            if number == KEPT_BOOTS:
                part.unlink(missing_ok=True)
            else:
                part.replace(_renamed(part, _previous(log, number), _previous(log, number + 1)))


def _cut(log: Path) -> None:
    """What is logged from now on is of another boot; what is there of the present one is copied aside."""
    fresh = log.with_name(f"{log.name}.cut.new")
    fresh.unlink(missing_ok=True)
    fresh.hardlink_to(log)
    offset = fresh.stat().st_size  # of the link: the log itself may be rotated at this moment
    _shift_previous(log)
    _copy_present(log, _previous(log, 1), fresh, offset)
    old = [link for link, _ in _cuts(log)]
    link = fresh.replace(log.with_name(f"{log.name}.cut-{offset}"))
    for other in old:
        if other != link:
            other.unlink(missing_ok=True)


def _copy_present(log: Path, target: Path, last: Path, end: int) -> None:
    """Copy the present boot's log up to byte ``end`` of its part ``last``, without the oldest of many parts."""
    parts = _present_parts(log)
    facts = last.stat()
    ending = next((i for i, (path, _) in enumerate(parts) if _is_file(path, facts)), len(parts))
    with target.open("wb") as copy:
        for path, begin in parts[:ending][-_PREVIOUS_PARTS:]:
            with contextlib.suppress(FileNotFoundError), path.open("rb") as part:
                part.seek(begin)
                shutil.copyfileobj(part, copy)
        begin = parts[ending][1] if ending < len(parts) else 0
        with last.open("rb") as part:
            part.seek(begin)
            copy.write(part.read(max(0, end - begin)))


def _present_parts(log: Path) -> list[tuple[Path, int]]:
    """Every part of the present boot's log with the byte at which it begins there, oldest first."""
    parts = _parts_of(log)
    for link, offset in reversed(_cuts(log)):
        facts = link.stat()
        at = next((i for i, part in enumerate(parts) if _is_file(part, facts)), None)
        rest = parts if at is None else parts[at + 1 :]
        return [(link if at is None else parts[at], offset), *((part, 0) for part in rest)]
    return [(part, 0) for part in parts]


def _cuts(log: Path) -> list[tuple[Path, int]]:
    """Links to the part in which the present boot begins, with its first byte there, the last made last.

    There is one, or none where the guest has not rebooted; two after a crash between making one and deleting another.
    """
    prefix = f"{log.name}.cut-"
    links = (path for path in log.parent.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal())
    found = [(path, int(path.name.removeprefix(prefix))) for path in links]
    return sorted(found, key=lambda cut: (cut[0].stat().st_mtime, cut[1]))


def _forget_before_cut(log: Path) -> None:
    """Leave of a log that nobody writes any more what is of its last boot."""
    present = _present_parts(log)
    kept = {path for path, _ in present}
    for part in _parts_of(log):
        if part not in kept:
            part.unlink(missing_ok=True)
    for path, begin in present:
        if begin and path in _parts_of(log):
            shorter = path.with_name(f"{path.name}.new")
            with path.open("rb") as whole, shorter.open("wb") as rest:
                whole.seek(begin)
                shutil.copyfileobj(whole, rest)
            shorter.replace(path)
    for link, _ in _cuts(log):
        link.unlink(missing_ok=True)


def _parts_of(log: Path) -> list[Path]:
    """Every part of one run's log, oldest first."""
    return [*_older_parts(log), *([log] if log.exists() else [])]


def _renamed(part: Path, old: Path, new: Path) -> Path:
    return part.with_name(new.name + part.name.removeprefix(old.name))


def _previous(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.previous-{number}")


def _older_parts(log: Path) -> list[Path]:
    """Parts of this run that virtlogd has rotated away, oldest first."""
    parts = (log.with_name(f"{log.name}.{number}") for number in range(_MOST_PARTS))
    return [part for part in reversed(list(parts)) if part.exists()]


async def read_log(log: Path, follow: Callable[[], bool] | None = None) -> AsyncIterator[bytes]:
    """What was logged since power-on, in chunks; with ``follow``, go on for as long as it returns true.

    One more look is taken after ``follow`` turned false, since virtlogd writes a moment after the emulator.
    """
    with closing(_Parts(log)) as parts:
        ending = False
        while True:
            while chunk := parts.read():
                yield chunk
                await asyncio.sleep(0)  # what is there already is read without a wait: others want to run in between
            if follow is None or ending:
                return
            ending = not follow()
            await asyncio.sleep(_PAUSE_S)


class _Parts:
    """Reads the parts of one run's log one after the other, as they are rotated."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file: BinaryIO | None = None

    def read(self) -> bytes:
        """The next bytes; ``b""`` when there are none now."""
        while True:
            if self._file is not None and (chunk := self._file.read(_CHUNK)):
                return chunk
            newer = self._next_part()
            if newer is None:
                return b""
            # What was written between the end of file and the rotation.
            rest = self._file.read() if self._file is not None else b""
            self.close()
            self._file = newer
            if rest:
                return rest

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _next_part(self) -> BinaryIO | None:
        """The part after the one that is open, or the oldest that is left; at first, where the boot begins."""
        if self._file is None:
            return _opened(_present_parts(self._log))
        paths = [*_older_parts(self._log), self._log]
        facts = os.fstat(self._file.fileno())
        same = [i for i, path in enumerate(paths) if _is_file(path, facts)]
        return _opened([(path, 0) for path in (paths[same[0] + 1 :] if same else paths)])


def _opened(parts: Sequence[tuple[Path, int]]) -> BinaryIO | None:
    """The first part that is there, at its byte; ``None``: all were rotated at this moment, the next look finds one."""
    for path, begin in parts:
        with contextlib.suppress(FileNotFoundError):
            file = path.open("rb", buffering=0)
            file.seek(begin)
            return file
    return None


def _is_file(path: Path, facts: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), facts)
    except FileNotFoundError:
        return False
