"""A disk of any format that we take becomes a qcow2 file that stands alone, or stays one.

The order matters: our own readers of headers look first, so that no program opens a file that names others. Then
QEMU's program, bounded and confined, checks the tables, and converts what is not qcow2 or not clean.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from wireloom.errors import CapacityExceeded
from wireloom.library import unpack
from wireloom.library.disks import ova, qemu_img
from wireloom.library.disks.labels import ReadAt, labels, partitioned
from wireloom.library.disks.qcow2 import Qcow2, is_cut, read_guest, read_qcow2
from wireloom.library.disks.reading import Header, check_virtual_size, file_size
from wireloom.library.disks.vhd import read_vhd
from wireloom.library.disks.vhdx import read_vhdx
from wireloom.library.disks.vmdk import read_vmdk
from wireloom.library.names import check_file_name, disk_name, shown
from wireloom.library.sniff import COMPRESSED, Sniffed, sniff
from wireloom.library.values import Accepted, Facts, ImageRefused, Limits, Progress, no_progress
from wireloom.model.images import SourceKind

__all__ = ["accept", "disk_labels", "stands_alone"]

_SECTOR: Final = 512
_CONVERTED: Final = "disk.qcow2"
_TAKEN_OUT: Final = ".disk"
_UNFINISHED: Final = ".disk.qcow2.part"


def accept(path: Path, file_name: str, folder: Path, limits: Limits, progress: Progress = no_progress) -> Accepted:
    """Validate a disk, and convert it where that is necessary; blocks, and leaves nothing behind when it fails.

    ``Accepted.file`` is ``path`` itself when that is a clean qcow2 file, else a new file in ``folder``. ``path`` is
    never changed. Formats: qcow2, raw, VMDK, VHD, VHDX, and OVA with one disk. Packed files are unpacked before.

    :raises ImageRefused: with the reason. :raises CapacityExceeded: no space left.
    :raises Unavailable: ``qemu-img`` is not installed.
    """
    check_file_name(file_name)
    sniffed = sniff(path)
    if sniffed.size > limits.size:
        raise ImageRefused("size", f"the file has {sniffed.size} bytes; {limits.size} may come in")
    course = _Course(folder, limits, progress)
    taken = course.from_ova(path) if sniffed.kind == "ova" else course.from_disk(path, sniffed)
    facts = dataclasses.replace(taken.facts, file=file_name, kind=taken.kind, size=sniffed.size)
    return dataclasses.replace(taken, name=disk_name(file_name), facts=facts)


def stands_alone(path: Path, limits: Limits) -> int:
    """Check a qcow2 file of ours once more, as before it is used; its virtual size.

    :raises ImageRefused: with the reason.
    """
    with path.open("rb", buffering=0) as file:
        header = read_qcow2(file, limits)
    _lost_clusters(path, header, limits)
    return header.virtual_size


def disk_labels(path: Path, limits: Limits) -> tuple[str, ...]:
    """Labels of partitions and file systems of a raw disk or a qcow2 file; none when it does not tell."""
    with path.open("rb", buffering=0) as file:
        return labels(_guest(file, limits))


def _guest(file: FileIO, limits: Limits) -> ReadAt:
    if os.pread(file.fileno(), 4, 0) != b"QFI\xfb":
        return lambda offset, length: os.pread(file.fileno(), length, offset) if offset < 1 << 62 else b""
    try:
        disk = read_qcow2(file, limits)
    except ImageRefused:
        return lambda _offset, _length: b""
    return lambda offset, length: read_guest(file, disk, offset, length)


@dataclass(frozen=True)
class _Course:
    """From a file to an accepted disk."""

    folder: Path
    limits: Limits
    progress: Progress

    def from_disk(self, path: Path, sniffed: Sniffed) -> Accepted:
        kind = _disk_kind(sniffed)
        with path.open("rb", buffering=0) as file:
            header = _READERS[kind](file, self.limits)
        if header.driver == "raw":
            return self._converted(path, kind, header)
        size = qemu_img.inspect(path, header.driver, self.limits)
        lost = _lost_clusters(path, header, self.limits)
        unclean = header.unclean + (("clusters that are used for nothing",) if lost else ())
        header = dataclasses.replace(header, virtual_size=size, unclean=unclean)
        if header.driver == "qcow2" and not unclean:
            return self._accepted(path, kind, header)
        return self._converted(path, kind, header)

    def _converted(self, path: Path, kind: SourceKind, header: Header) -> Accepted:
        used = path.stat().st_blocks * _SECTOR
        facts = os.statvfs(self.folder)
        if used > facts.f_bavail * facts.f_frsize:
            raise CapacityExceeded(
                f"conversion needs about {used} bytes in {self.folder}, which are not there", hint="free space there"
            )
        unfinished, target = self._beside(path, _UNFINISHED), self._beside(path, _CONVERTED)
        try:
            unfinished.unlink(missing_ok=True)  # of an attempt that was killed
            qemu_img.convert(path, header.driver, unfinished, self.limits, self.progress)
            with unfinished.open("rb", buffering=0) as file:
                read_qcow2(file, self.limits)
            unfinished.rename(target)
        finally:
            unfinished.unlink(missing_ok=True)
        why = f", because of {' and '.join(header.unclean)}" if header.unclean else ""
        return self._accepted(target, kind, header, f"converted from {kind} to qcow2{why}")

    def _beside(self, path: Path, name: str) -> Path:
        """A file in the folder, which is never the one that comes in, whatever that is called."""
        return self.folder / (name if name != path.name else f"{name}.new")

    def _accepted(self, file: Path, kind: SourceKind, header: Header, *notes: str) -> Accepted:
        return Accepted(
            file=file,
            format="qcow2",
            kind=kind,
            name="",
            virtual_size=header.virtual_size,
            facts=Facts(volumes=disk_labels(file, self.limits), virtual_size=header.virtual_size),
            notes=notes,
            warnings=header.warnings,
        )

    def from_ova(self, path: Path) -> Accepted:
        disk = self._beside(path, _TAKEN_OUT)
        with contextlib.ExitStack() as debris, path.open("rb", buffering=0) as file:
            found = ova.read_ova(file, self.limits)
            disk.unlink(missing_ok=True)  # of an attempt that was killed
            debris.callback(disk.unlink, missing_ok=True)
            ova.extract(file, found, disk, self.progress)
            sniffed = sniff(disk)
            if sniffed.kind in COMPRESSED:
                disk = unpack.unpack(disk, self.folder, self.limits, self.progress)
                debris.callback(disk.unlink, missing_ok=True)
                sniffed = sniff(disk)
            taken = self.from_disk(disk, sniffed)
            if taken.file == disk:
                taken = dataclasses.replace(taken, file=disk.rename(self._beside(path, _CONVERTED)))
        return dataclasses.replace(
            taken,
            kind="ova",
            facts=dataclasses.replace(taken.facts, text=found.text, paths=found.paths),
            notes=(f"{shown(found.disk.name)} was taken out of the OVA", *taken.notes),
            warnings=(*found.warnings, *taken.warnings),
        )


def _lost_clusters(path: Path, header: Header, limits: Limits) -> int:
    """How many clusters are used for nothing. :raises ImageRefused: ``truncated`` or ``corrupt``."""
    checked = qemu_img.check(path, header.driver, limits)
    if checked.damaged:
        with path.open("rb", buffering=0) as file:
            if isinstance(header, Qcow2) and is_cut(file, header):
                raise ImageRefused("truncated", "the file ends before the data of its disk")
        if isinstance(header, Qcow2) and header.dirty:
            return checked.leaks  # conversion counts anew
        raise ImageRefused("corrupt", f"{checked.damaged} entries of the disk's tables are damaged")
    return checked.leaks


def _disk_kind(sniffed: Sniffed) -> SourceKind:
    for kind in _READERS:
        if kind == sniffed.kind:
            return kind
    what = sniffed.detail or (sniffed.kind if sniffed.kind != "unknown" else "nothing that is known")
    raise ImageRefused("format", f"the file is no disk, but {what}", hint=_HINTS.get(sniffed.kind, ""))


def _read_raw(file: FileIO, limits: Limits) -> Header:
    """A raw disk has no header; its partitions tell where it ends at least."""
    size = (file_size(file) + _SECTOR - 1) // _SECTOR * _SECTOR
    extent = partitioned(_guest(file, limits))
    if extent.partitions > size:
        raise ImageRefused("truncated", "the file ends before its last partition does")
    warnings = ("its second table of partitions is missing: the file may be cut",) if extent.table > size else ()
    return Header("raw", check_virtual_size(size, limits), warnings=warnings)


_READERS: Final[dict[SourceKind, Callable[[FileIO, Limits], Header]]] = {
    "qcow2": read_qcow2,
    "raw": _read_raw,
    "vmdk": read_vmdk,
    "vhd": read_vhd,
    "vhdx": read_vhdx,
}
_HINTS: Final = {
    "iso": "a CD image is imported as a whole, not as a disk",
    "unknown": "disks are qcow2, VMDK, VHD, VHDX or OVA files, or raw ones with partitions or a file system",
}
