"""Images of virtual machines: read-only files in one folder of the host, or anywhere by absolute path."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from wireloom.errors import Conflict, ImageMissing, InvalidInput
from wireloom.model.runtime import ImageInfo
from wireloom.providers.libvirt import qemu_img
from wireloom.providers.libvirt.qemu_img import BaseImage

__all__ = ["DisksInUse", "FolderImages"]

#: Base files under disks of the host's domains, whoever owns these.
DisksInUse = Callable[[], Awaitable[frozenset[Path]]]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SUFFIXES: Final = (".qcow2", ".img", ".raw")

#: What changes when a file's content does: device, inode, size, time of the last change.
_Stamp = tuple[int, int, int, int]


class FolderImages:
    """The image store of one host; see ``ImageStore`` in the provider contract.

    :param folder: where images lie under their names; made when first needed.
    :param in_use: what :meth:`remove` must not pull away.
    """

    def __init__(self, folder: Path, in_use: DisksInUse) -> None:
        self._folder = folder
        self._in_use = in_use
        self._verified: dict[Path, tuple[_Stamp, BaseImage]] = {}
        self._digests: dict[Path, tuple[_Stamp, str]] = {}

    def path(self, image: str) -> Path:
        """Where ``image`` is or would be. :raises InvalidInput: neither a name nor an absolute path."""
        if image.startswith("/"):
            return Path(image)
        if not _NAME.fullmatch(image):
            raise InvalidInput(
                f"{image!r} is not the name of an image", hint="give a file name such as frr.qcow2, or a full path"
            )
        return self._folder / image

    async def has(self, image: str) -> bool:
        return self.path(image).is_file()

    async def base(self, image: str) -> BaseImage:
        """The verified file of ``image``. :raises ImageMissing: :raises InvalidInput: it does not stand alone."""
        path = self.path(image)
        try:
            real, stamp = _stamp(path)
        except OSError:
            raise _missing(image, path) from None
        known = self._verified.get(real)
        if known is None or known[0] != stamp:
            known = (stamp, await qemu_img.inspect(path))
            self._verified[real] = known
        return known[1]

    async def load(self, image: str, source: Path | None = None) -> ImageInfo:
        path = self.path(image)
        if source is not None:
            await qemu_img.inspect(source)
            await asyncio.to_thread(_install, source, path)
        await self.base(image)
        return await self._info(image, path)

    async def remove(self, image: str) -> None:
        path = self.path(image)
        if image.startswith("/"):
            raise InvalidInput(f"image {image} lies outside the image folder; remove the file yourself")
        if not path.exists():
            return
        real = path.resolve()
        if real in await self._in_use():
            raise Conflict(f"image {image} is in use by a runtime", hint="destroy the nodes that use it first")
        path.unlink()
        if real != path and real.parent == self._folder.resolve() and not self._links_to(real):
            real.unlink(missing_ok=True)

    async def list(self) -> Sequence[ImageInfo]:
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
        linked = {path.resolve() for path in files if path.is_symlink()}
        return [await self._info(path.name, path) for path in files if path.is_symlink() or path not in linked]

    def _links_to(self, target: Path) -> bool:
        return any(path.is_symlink() and path.resolve() == target for path in self._folder.iterdir())

    async def _info(self, image: str, path: Path) -> ImageInfo:
        try:
            real, stamp = _stamp(path)
        except OSError:
            raise _missing(image, path) from None
        known = self._digests.get(real)
        if known is None or known[0] != stamp:
            known = (stamp, await asyncio.to_thread(_digest, real))
            self._digests[real] = known
        return ImageInfo(name=image, digest=known[1], size=stamp[2])


def _missing(image: str, path: Path) -> ImageMissing:
    return ImageMissing(f"image {image} is not on this host", hint=f"put the disk image at {path}")


def _stamp(path: Path) -> tuple[Path, _Stamp]:
    real = path.resolve()
    facts = real.stat()
    return real, (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _install(source: Path, target: Path) -> None:
    """Copy ``source`` to ``target``, read-only; the name appears only when the copy is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.new")
    try:
        shutil.copyfile(source, unfinished)
        unfinished.chmod(0o444)
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
