"""A runtime's disks: made before the domain, kept for as long as the node's folder keeps them."""

from __future__ import annotations

import stat
import struct
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from wireloom.model.runtime import RuntimeSpec
from wireloom.providers.libvirt import layout, qemu_img
from wireloom.providers.libvirt.qemu_img import BaseImage
from wireloom.providers.libvirt.settings import LibvirtSettings

__all__ = ["access_hint", "backing_file", "ensure_disks", "ensure_folders", "is_open"]

#: The emulator runs as another user, which must pass through to its disks and media, but need not list them.
_FOLDER_MODE: Final = 0o711

_QCOW2_MAGIC: Final = b"QFI\xfb"
_GIB: Final = 1024**3


def ensure_folders(spec: RuntimeSpec, undo: AsyncExitStack) -> None:
    """Make the sub-folders that the domain's definition names."""
    for folder in (spec.storage, spec.folder / "console", spec.folder / "logs"):
        if not folder.exists():
            folder.mkdir()
            undo.callback(folder.rmdir)
        folder.chmod(_FOLDER_MODE)


async def ensure_disks(spec: RuntimeSpec, settings: LibvirtSettings, base: BaseImage, undo: AsyncExitStack) -> None:
    """Make the disks that do not exist yet; those of an earlier runtime of this incarnation are kept."""
    system = layout.system_disk(spec)
    wanted = round(spec.disk_gb * _GIB)
    if not system.exists():
        undo.callback(qemu_img.remove_quietly, [system])
        await qemu_img.create_overlay(system, base, size_bytes=max(wanted, base.virtual_size))
    elif wanted > await qemu_img.virtual_size(system):
        await qemu_img.grow(system, wanted)  # only ever larger: what the guest has written stays
    for number, extra in enumerate(settings.extra_disks):
        path = layout.extra_disk(spec, number)
        if not path.exists():
            undo.callback(qemu_img.remove_quietly, [path])
            await qemu_img.create_empty(path, round(extra.size_gb * _GIB))


def access_hint(disks: Sequence[Path]) -> str:
    """Advice when a folder above a disk lets nobody but its owner through, as the emulator's user must; or nothing."""
    closed = {folder for disk in disks for folder in disk.parents if folder.is_dir() and not _passable(folder)}
    return f"the emulator's user cannot enter {min(closed)}: chmod o+x" if closed else ""


def is_open(file: Path) -> bool:
    """Whether every user can read the file, as far as it is up to the file."""
    return bool(file.stat().st_mode & stat.S_IROTH)


def _passable(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def backing_file(disk: Path) -> Path | None:
    """The file under a qcow2 overlay, read from its header; ``None`` when it has none.

    ``qemu-img`` would do, but this is asked of many disks at once. Layout: docs/interop/qcow2.txt of QEMU.
    """
    try:
        with disk.open("rb") as file:
            header = file.read(20)
            if len(header) < 20 or header[:4] != _QCOW2_MAGIC:
                return None
            offset, length = struct.unpack(">QI", header[8:20])
            if not offset:
                return None
            file.seek(offset)
            return Path(file.read(min(length, 1023)).decode(errors="replace"))
    except OSError:
        return None
