"""What an image tells by its files: what it could start, its system's release, disks inside, processors it is for.

Layers are taken lowest first. A file of a later layer takes the place of an earlier one, and whiteouts remove what is
below. Only files of interest are kept, so memory does not depend on the image.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

from wireloom.library.archives.rules import OPAQUE, whiteout_of
from wireloom.library.archives.tars import Kind, Member, TarReader
from wireloom.library.archives.values import DiskForm

__all__ = ["Disk", "Findings"]

#: Where a tree has its first program, best first, and how it is called then.
_INITS: Final = ("sbin/init", "usr/sbin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd", "init")
_SHELLS: Final = ("bin/bash", "usr/bin/bash", "bin/sh", "usr/bin/sh")
#: Files whose lines tell what the system is.
_RELEASES: Final = (
    "etc/os-release",
    "usr/lib/os-release",
    "etc/Eos-release",
    "etc/swi-version",
    "etc/redhat-release",
    "etc/version",
    "etc/sonic/sonic_version.yml",
    "VERSION",
)
_RELEASE_MOST: Final = 4096
_LINES_MOST: Final = 40
_LINE_MOST: Final = 200
#: Files of interest in all layers, links to them included.
_KEPT_MOST: Final = 256
_PATHS_MOST: Final = 8192
#: Folders below the root down to which every path is of interest; programs, down to twice that.
_NEAR: Final = 2
_PATH_MOST: Final = 200
_HEAD: Final = 512

_FORMS: Final[tuple[tuple[bytes, DiskForm], ...]] = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"))
_QCOW2_BACKING: Final = struct.Struct(">8xQ")

_ELF: Final = b"\x7fELF"
#: e_machine of elf.h, in Docker's words.
_MACHINES: Final = {62: "amd64", 3: "386", 183: "arm64", 40: "arm", 243: "riscv64", 21: "ppc64le", 22: "s390x"}
_PROGRAM_FOLDERS: Final = frozenset({"bin", "sbin"})
_EXECUTABLE: Final = 0o111


@dataclass(frozen=True)
class Disk:
    """A disk in a layer, ``offset`` counted from the layer's beginning."""

    form: DiskForm
    layer: int
    offset: int
    size: int
    backed: bool


@dataclass(frozen=True)
class _Release:
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _There:
    """A program that is there, as a file or a link."""


_Found = Disk | _Release | _There
_WANTED: Final = frozenset(_INITS + _SHELLS)


class Findings:
    """Shown every member of every layer; says at the end what the image has.

    :ivar data: bytes of files in the layer at hand. :ivar unpacked: of all layers.
    """

    def __init__(self) -> None:
        self.data = 0
        self.unpacked = 0
        self.machines: Counter[str] = Counter()
        self._layer = -1
        self._below: dict[str, _Found] = {}
        self._here: dict[str, _Found] = {}
        #: Everything below which something of a lower layer is kept, so that most members are passed at once.
        self._above: set[str] = set()
        self._paths: set[str] = set()

    def begin_layer(self) -> None:
        """The next layer's members follow."""
        self._below |= self._here
        self._here = {}
        self._above = {part for path in self._below for part in _with_folders(path)}
        self._layer += 1
        self.data = 0

    def see(self, member: Member, reader: TarReader) -> None:
        """Look at a member, and at the head of its content."""
        self.data += member.size
        self.unpacked += member.size
        folder, _, name = member.path.rpartition("/")
        if name == OPAQUE:
            self._hide(folder, contents_only=True)
            return
        if (removed := whiteout_of(member.path)) is not None:
            self._paths.discard(removed)
            self._hide(removed)
            return
        if member.kind is Kind.FOLDER:
            self._below.pop(member.path, None)
        else:
            self._hide(member.path)
        self._note_path(member, folder)
        # Long paths are nobody's disk or release, and would cost memory by their length and depth.
        if len(member.path) <= _PATH_MOST and (found := self._found(member, reader)) is not None:
            self._keep(member.path, found)

    def disks(self) -> dict[str, Disk]:
        """Disks by path, as the image has them with all its layers in place."""
        return {path: found for path, found in sorted(self._all().items()) if isinstance(found, Disk)}

    def text(self) -> tuple[str, ...]:
        """Lines of the files that tell the system's release."""
        everything = self._all()
        releases = [everything[path] for path in _RELEASES if path in everything]
        return tuple(dict.fromkeys(line for found in releases if isinstance(found, _Release) for line in found.lines))

    def paths(self) -> tuple[str, ...]:
        """Some of its paths: near the top, and programs; without a leading slash."""
        return tuple(sorted(self._paths | self._all().keys()))

    def init(self) -> str:
        """The program that the tree's own system starts first; empty when there is none."""
        return next((f"/{path}" for path in _INITS if path in self._all()), "")

    def shell(self) -> str:
        """A shell; empty when there is none."""
        return next((f"/{path}" for path in _SHELLS if path in self._all()), "")

    def _keep(self, path: str, found: _Found) -> None:
        if len(self._below) + len(self._here) < _KEPT_MOST or path in _WANTED or path in _RELEASES:
            self._here[path] = found

    def _all(self) -> dict[str, _Found]:
        return self._below | self._here

    def _hide(self, path: str, *, contents_only: bool = False) -> None:
        """Something of this layer hides what layers below have at ``path``. ``""`` with contents: everything."""
        if path and path not in self._above:
            return
        below = f"{path}/" if path else ""
        gone = [known for known in self._below if known.startswith(below) or (known == path and not contents_only)]
        for known in gone:
            del self._below[known]

    def _note_path(self, member: Member, folder: str) -> None:
        depth = member.path.count("/")
        near = depth < _NEAR or folder.rpartition("/")[2] in _PROGRAM_FOLDERS
        if member.kind is Kind.FILE and member.mode & _EXECUTABLE and depth < 2 * _NEAR:
            near = near or ".so" not in member.path  # libraries are executable, too, and tell nothing
        if near and member.path and len(member.path) <= _PATH_MOST and len(self._paths) < _PATHS_MOST:
            self._paths.add(member.path)

    def _found(self, member: Member, reader: TarReader) -> _Found | None:
        if member.kind is Kind.HARD_LINK:
            return self._here.get("/".join(part for part in member.target.split("/") if part not in {"", "."}))
        if member.path in _WANTED and member.kind in {Kind.FILE, Kind.SYMLINK}:
            if member.kind is Kind.FILE:
                self._note_machine(member, reader.head(_HEAD))
            return _There()
        if member.kind is not Kind.FILE:
            return None
        if member.path in _RELEASES:
            return _Release(_lines(reader.head(_RELEASE_MOST)))
        head = reader.head(_HEAD)
        self._note_machine(member, head)
        return self._disk(member, head)

    def _disk(self, member: Member, head: bytes) -> Disk | None:
        form = next((form for magic, form in _FORMS if head.startswith(magic)), None)
        if form is None or len(head) < _QCOW2_BACKING.size:
            return None
        backed = form == "qcow2" and _QCOW2_BACKING.unpack_from(head)[0] != 0
        return Disk(form, self._layer, member.offset, member.size, backed)

    def _note_machine(self, member: Member, head: bytes) -> None:
        parts = member.path.split("/")
        if len(head) < 20 or not head.startswith(_ELF) or len(parts) < 2 or parts[-2] not in _PROGRAM_FOLDERS:
            return
        if member.mode & _EXECUTABLE:
            machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
            self.machines[_MACHINES.get(machine, f"machine {machine}")] += 1


def _with_folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _lines(data: bytes) -> tuple[str, ...]:
    """Lines for matching and for showing: no others than plain text."""
    lines = (line.strip() for line in data.decode(errors="replace").splitlines()[:_LINES_MOST])
    return tuple(line[:_LINE_MOST] for line in lines if line and line.isprintable())
