"""What a machine keeps, for another host: disks are files of its folder, and stand on the image by its path here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from wireloom.errors import Conflict, ImageMissing
from wireloom.model.identity import short_hash
from wireloom.providers.libvirt import qemu_img
from wireloom.providers.libvirt.disks import backing_file
from wireloom.providers.libvirt.domains import Domain
from wireloom.providers.libvirt.images import FolderImages

__all__ = ["DiskPorter"]

_DISKS: Final = "*.qcow2"
_KEY: Final = "base of "


class DiskPorter:
    """A :class:`~wireloom.providers.contract.StoragePorter`.

    :param get: the domain with that id. :raises NotFound:
    """

    def __init__(self, get: Callable[[str], Awaitable[Domain]], images: FolderImages) -> None:
        self._get = get
        self._images = images

    async def pack(self, runtime_id: str | None, folder: Path) -> Mapping[str, str]:
        """Digests of what the disks stand on."""
        if runtime_id is not None and (await self._get(runtime_id)).active:
            raise Conflict("the node runs", hint="stop it first")
        facts = {}
        for disk in sorted((folder / "storage").glob(_DISKS)):
            base = backing_file(disk)
            if base is not None:
                facts[f"{_KEY}{disk.name}"] = await self._images.content_of(base)
        return facts

    async def settle(self, folder: Path, image: str, facts: Mapping[str, str]) -> None:
        """Have the disks stand on the image as it lies here. The header alone is written."""
        disks = {disk: facts.get(f"{_KEY}{disk.name}", "") for disk in sorted((folder / "storage").glob(_DISKS))}
        disks = {disk: content for disk, content in disks.items() if content}
        if not disks:
            return
        base = await self._images.base(image)
        here = await self._images.content_of(base.path)
        for disk, content in disks.items():
            if content == here:
                await qemu_img.stand_on(disk, base)
            elif short_hash(image, length=8) in disk.name:
                raise ImageMissing(
                    f"image {image} is another one here than where the node was: its disk cannot stand on it",
                    hint="give both hosts the same image: put it into the library, or copy the file",
                    details={"wanted": content, "found": here},
                )

    async def unpack(self, runtime_id: str, folder: Path) -> None:
        """Its disks are where it looks for them."""
