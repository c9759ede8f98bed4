"""What an archive holds: its members by name, each a part of the file. Reads headers only."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from wireloom.library.archives.paths import inside, shown_name
from wireloom.library.archives.streams import Window
from wireloom.library.archives.tars import Kind, Member, TarReader
from wireloom.library.values import ImageRefused, Limits

__all__ = ["Outer", "read_outer"]

#: Members of an archive that are kept in mind. A layer of a file tree has more, and needs none of them.
_KEPT_MOST: Final = 20_000
_HOPS_MOST: Final = 8
_MARKS: Final = frozenset({"manifest.json", "index.json", "oci-layout", "repositories"})
#: Folders of which a file tree of a system has one at least.
_SYSTEM: Final = frozenset({"bin", "sbin", "usr", "etc", "lib"})


@dataclass
class Outer:
    """The members of an archive, by name.

    :ivar complete: whether all are in ``parts`` and ``links``, or there were too many.
    :ivar tops: names at its top that tell what it is.
    :ivar odd: the first member that an archive of images has no use for; a file tree is judged as a layer instead.
    """

    file: int
    size: int
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    tops: set[str] = field(default_factory=set)
    complete: bool = True
    odd: ImageRefused | None = None

    def has(self, name: str) -> bool:
        return self._resolved(name) in self.parts

    def part(self, name: str) -> Window:
        """The content of a file, links followed inside of the archive. :raises ImageRefused: there is no such file."""
        found = self.parts.get(self._resolved(name))
        if found is None:
            if not self.complete:
                raise ImageRefused("unbounded", f"the archive has more than {_KEPT_MOST} members")
            raise ImageRefused("manifest", f"the archive names {shown_name(name)}, which is not in it")
        offset, size = found
        return Window(self.file, offset, size)

    def small(self, name: str, limits: Limits) -> bytes:
        """The content of a document. :raises ImageRefused: there is none, or it is larger than any."""
        window = self.part(name)
        if window.size > limits.json:
            raise ImageRefused(
                "unbounded", f"{shown_name(name)} has {window.size} bytes, at most {limits.json} are read"
            )
        return b"".join(window.chunks())

    def tree_like(self) -> bool:
        """Whether it looks like the file tree of a system."""
        return bool(self.tops & _SYSTEM)

    def _resolved(self, name: str) -> str:
        for _ in range(_HOPS_MOST):
            target = self.links.get(name)
            if target is None:
                return name
            name = target
        raise ImageRefused("link", f"{shown_name(name)} is a link that does not end")


def read_outer(file: int, limits: Limits) -> Outer:
    """The members of the open tar file ``file``. :raises ImageRefused: with the reason."""
    size = os.fstat(file).st_size
    outer = Outer(file, size)
    for member in TarReader(Window(file, 0, size), limits, "the archive"):
        top = member.path.partition("/")[0]
        if top in _MARKS or top in _SYSTEM or top == "blobs":
            outer.tops.add(top)
        if member.kind is not Kind.FOLDER:
            _keep(outer, member)
    return outer


def _keep(outer: Outer, member: Member) -> None:
    path = member.path
    if path in outer.parts or path in outer.links:
        raise ImageRefused("duplicate", f"the archive has {shown_name(path)} twice")
    if len(outer.parts) + len(outer.links) >= _KEPT_MOST and path not in _MARKS:
        outer.complete = False
    elif member.kind is Kind.FILE:
        outer.parts[path] = (member.offset, member.size)
    elif member.kind in {Kind.SYMLINK, Kind.HARD_LINK}:
        _keep_link(outer, member)
    elif outer.odd is None:
        outer.odd = ImageRefused("device-node", f"the archive holds the {member.kind.name.lower()} {shown_name(path)}")


def _keep_link(outer: Outer, member: Member) -> None:
    """Archives have links to a layer that another image of theirs has too."""
    folder = member.path.rpartition("/")[0] if member.kind is Kind.SYMLINK else ""
    if member.target.startswith("/") or not inside(folder, member.target):
        told = f"{shown_name(member.path)} of the archive leads out of it, to {shown_name(member.target)}"
        outer.odd = outer.odd or ImageRefused("link", told)
        return
    parts: list[str] = []
    for part in PurePosixPath(folder, member.target).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    outer.links[member.path] = "/".join(parts)
