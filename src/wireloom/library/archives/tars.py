"""Reads tar files from hostile hands, member by member, without ever holding more than one header of them.

Python's ``tarfile`` is not used: it takes a cut file for a whole one, applies records that the engine ignores, and
allocates what a header asks for. This reader runs in our own process because there is nothing in it to exploit: it is
Python over ``bytes``, allocates at most ``EXTENDED_MOST`` for a header, and does a bounded amount of work for a block.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wireloom.library.archives.paths import check_characters, clean_path, decode_name, shown_name
from wireloom.library.archives.streams import Source
from wireloom.library.tar_format import BLOCK, EXTENDED_MOST, ZEROS, Header, Records, parse_header, parse_records
from wireloom.library.values import ImageRefused, Limits

__all__ = ["Kind", "Member", "TarReader"]

#: Zeros after the end, as writers of whole records leave them.
_PADDING_MOST: Final = 1 << 20
#: Records of a global header that change what follows. The engine ignores them, other readers do not.
_CHANGING: Final = frozenset({"path", "linkpath", "size"})


class Kind(enum.Enum):
    """What a member is, by its type in the header."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    FOLDER = b"5"
    FIFO = b"6"


_KINDS: Final = {kind.value: kind for kind in Kind} | {b"\x00": Kind.FILE}
_LINKS: Final = (Kind.HARD_LINK, Kind.SYMLINK)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file.

    :ivar path: without ``./`` and closing slashes, free of ``..`` and control characters; empty: the root.
    :ivar size: bytes of its content, which stand at ``offset`` of the tar file. :ivar target: of a link, as written.
    :ivar xattrs: names of its extended attributes.
    """

    path: str
    kind: Kind
    size: int
    offset: int
    target: str
    mode: int
    mtime: int
    device: tuple[int, int]
    xattrs: tuple[str, ...]


@dataclass(slots=True)
class _Ahead:
    """What headers before a member's own say of it."""

    records: Records | None = None
    name: bytes | None = None
    link: bytes | None = None

    @property
    def empty(self) -> bool:
        return self.records is None and self.name is None and self.link is None


class TarReader:
    """Iterates over the members of ``source``; can be iterated over once.

    :param what: names the tar file in messages. :param open_end: whether it may end without its closing blocks, as
        some writers' layers do. Only for one whose digest is known, since a cut file looks the same.
    :raises ImageRefused: while it is iterated over, with the reason.
    """

    def __init__(self, source: Source, limits: Limits, what: str, *, open_end: bool = False) -> None:
        self._source, self._limits, self._what = source, limits, what
        self._open_end = open_end
        self._at = 0
        self._left = 0
        self.count = 0

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            self._left = member.size
            padding = -member.size % BLOCK
            yield member
            self._skip(self._left + padding)
        self._close()

    def head(self, count: int) -> bytes:
        """Up to ``count`` bytes of the content of the member that was given last."""
        data = self._exactly(min(count, self._left))
        self._left -= len(data)
        return data

    def _next(self) -> Member | None:
        ahead = _Ahead()
        while (block := self._block()) is not None:
            self.count += 1
            if self.count > self._limits.entries:
                raise ImageRefused("unbounded", f"{self._what} has more than {self._limits.entries} members")
            header = parse_header(block, self._where())
            if not self._look_ahead(header, ahead):
                return self._member(header, ahead)
        if not ahead.empty:
            raise ImageRefused("truncated", f"{self._what} ends between a member's headers")
        return None

    def _look_ahead(self, header: Header, ahead: _Ahead) -> bool:
        """Whether ``header`` is not a member's own, but tells of the one that follows it."""
        taken = {b"x": ahead.records, b"L": ahead.name, b"K": ahead.link, b"g": None}
        if header.type not in taken:
            return False
        if taken[header.type] is not None:
            raise ImageRefused("duplicate", f"{self._where()}: two extended headers for one member")
        if header.size > EXTENDED_MOST:
            raise ImageRefused("unbounded", f"{self._where()}: an extended header of {header.size} bytes")
        data = self._exactly(header.size)
        self._skip(-header.size % BLOCK)
        if header.type == b"L":
            ahead.name = data.partition(b"\x00")[0]
        elif header.type == b"K":
            ahead.link = data.partition(b"\x00")[0]
        elif header.type == b"x":
            ahead.records = parse_records(data, self._where())
        elif parse_records(data, self._where()).keys & _CHANGING:
            raise ImageRefused("format", f"{self._where()}: a global header that changes members")
        if ahead.records is not None and (ahead.name is not None or ahead.link is not None):
            raise ImageRefused("format", f"{self._where()}: extended headers of two kinds for one member")
        return True

    def _member(self, header: Header, ahead: _Ahead) -> Member:
        records = ahead.records or Records()
        where = self._where()
        name = records.path if records.path is not None else decode_name(ahead.name or header.name, where)
        path = clean_path(name, self._limits.name, where)
        kind = self._kind(header, name)
        size = header.size if records.size is None else records.size
        if kind is not Kind.FILE and size:
            raise ImageRefused("size", f"{where}: {shown_name(name)} is no file and says it has {size} bytes")
        target = ""
        if kind in _LINKS:
            target = records.link if records.link is not None else decode_name(ahead.link or header.link, where)
            check_characters(target, self._limits.name, where)
        mtime = header.mtime if records.mtime is None else records.mtime
        return Member(path, kind, size, self._at, target, header.mode, mtime, header.device, records.xattrs)

    def _kind(self, header: Header, name: str) -> Kind:
        if header.type == b"S":
            raise ImageRefused("sparse", f"{self._where()}: a file with holes", hint="pack it again without --sparse")
        kind = _KINDS.get(header.type)
        if kind is None:
            raise ImageRefused("format", f"{self._where()}: a member of the unknown type {header.type!r}")
        # Files whose names end in a slash are folders of writers older than the type for folders.
        return Kind.FOLDER if kind is Kind.FILE and name.endswith("/") else kind

    def _block(self) -> bytes | None:
        """The next header; ``None`` at the end."""
        block = self._source.take(BLOCK)
        self._at += len(block)
        if not block and self._open_end:
            return None
        if len(block) < BLOCK:
            raise ImageRefused(
                "truncated", f"{self._what} is cut: it ends at byte {self._at} without its closing blocks"
            )
        if block != ZEROS:
            return block
        closing = self._source.take(BLOCK)
        self._at += len(closing)
        if closing == ZEROS or (not closing and self._open_end):
            return None
        if len(closing) < BLOCK:
            raise ImageRefused("truncated", f"{self._what} is cut in its closing blocks, at byte {self._at}")
        raise ImageRefused("corrupt", f"{self._what} has members after its end, at byte {self._at}")

    def _close(self) -> None:
        """What follows the end is zeros, and not too many: the engine keeps it in memory."""
        count = 0
        while rest := self._source.take(BLOCK * 64):
            count += len(rest)
            if rest.count(0) != len(rest):
                raise ImageRefused("corrupt", f"{self._what} has other bytes after its end")
            if count > _PADDING_MOST:
                raise ImageRefused("size", f"{self._what} has more than {_PADDING_MOST} bytes after its end")

    def _exactly(self, count: int) -> bytes:
        data = self._source.take(count)
        self._at += len(data)
        if len(data) < count:
            raise ImageRefused("truncated", f"{self._what} is cut at byte {self._at}")
        return data

    def _skip(self, count: int) -> None:
        passed = self._source.skip(count)
        self._at += passed
        if passed < count:
            raise ImageRefused("truncated", f"{self._what} is cut at byte {self._at}, in the content of a member")

    def _where(self) -> str:
        return f"{self._what}, before byte {self._at}"
