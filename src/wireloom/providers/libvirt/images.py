"""Images of virtual machines: read-only files in one folder of the host, or anywhere by absolute path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from wireloom.commands import run
from wireloom.errors import Conflict, ImageMissing, InvalidInput, RuntimeFailed
from wireloom.model.identity import short_hash
from wireloom.model.images import ImageFormat
from wireloom.model.orphans import Leftover
from wireloom.model.runtime import ImageInfo
from wireloom.providers.contract import Credentials
from wireloom.providers.libvirt import qemu_img
from wireloom.providers.libvirt.digests import KnownDigests, Stamp, stamp_of
from wireloom.providers.libvirt.qemu_img import BaseImage
from wireloom.providers.newfile import another_image, check_room, new_file, publish, refused

__all__ = ["DisksInUse", "FolderImages"]

#: Base files under disks of the host's domains, whoever owns these.
DisksInUse = Callable[[], Awaitable[frozenset[Path]]]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SUFFIXES: Final = (".qcow2", ".img", ".raw")
_COPY_S: Final = 3600.0
_READ_ONLY: Final = 0o444
_WRITE_BITS: Final = 0o222
#: What is made for somebody may hold what a guest keeps to itself.
_PRIVATE: Final = 0o600


class FolderImages:
    """The image store of one host; see ``ImageStore`` in the provider contract.

    :param folder: where images lie under their names; made when first needed.
    :param in_use: what :meth:`remove` must not pull away.
    :param installation: marks what is not finished, because several may share a folder.
    """

    format: ImageFormat = "qcow2"

    def __init__(self, folder: Path, in_use: DisksInUse, installation: str) -> None:
        self._folder = folder
        self._in_use = in_use
        self._mark = short_hash("images", installation)
        self._verified: dict[Path, tuple[Stamp, BaseImage]] = {}
        self._digests = KnownDigests(folder)
        self._locks: dict[str, asyncio.Lock] = {}
        self._claims: Counter[Path] = Counter()
        self._parts: set[Path] = set()

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

    async def info(self, image: str) -> ImageInfo | None:
        path = self.path(image)
        return await self._info(image, path) if path.is_file() else None

    async def content_of(self, path: Path) -> str:
        """Digest of the image's file at ``path``. :raises ImageMissing: it is gone."""
        try:
            return await self._digests.of(path.resolve())
        except OSError:
            raise _missing(path.name, path) from None

    async def base(self, image: str) -> BaseImage:
        """The verified file of ``image``. :raises ImageMissing: :raises InvalidInput: it does not stand alone."""
        path = self.path(image)
        try:
            real, stamp = _seen(path)
        except OSError:
            raise _missing(image, path) from None
        known = self._verified.get(real)
        if known is None or known[0] != stamp:
            known = (stamp, await qemu_img.inspect(path))
            self._verified[real] = known
        return known[1]

    @contextmanager
    def claimed(self, image: str) -> Iterator[None]:
        """A runtime is being made on the image: it counts as used before there is a disk that says so."""
        real = self.path(image).resolve()
        self._claims[real] += 1
        try:
            yield
        finally:
            self._claims[real] -= 1

    # ------------------------------------------------------------------ in

    async def load(
        self, image: str, source: Path | None = None, *, content: str = "", credentials: Credentials | None = None
    ) -> ImageInfo:
        del credentials  # there is no registry of disks
        path = self.path(image)
        if source is None:
            await self.base(image)
            found = await self._info(image, path)
            if content and found.digest != content:
                raise another_image(image, content, found.digest, "load it from the library's file")
            return found
        self._check_own(image)
        async with self._locks.setdefault(image, asyncio.Lock()):
            return await self._bring(image, path, source, content)

    async def _bring(self, image: str, path: Path, source: Path, content: str) -> ImageInfo:
        known = await self.info(image)
        if content and known is not None:
            if known.digest == content:
                await self.base(image)
                return known
            await self._check_free(image, path)
        async with self._placed(source, path) as part:
            digest = await self._digests.of(part, again=True)
            if content and digest != content:
                raise another_image(image, content, digest, f"{source} is not the file that was stored")
            await self._check_image(image, part)
            if known is None or known.digest != digest:
                await self._check_free(image, path)
                await asyncio.to_thread(self._install, part, path)
                await self._digests.note(path, digest)
        await self.base(image)
        return await self._info(image, path)

    @asynccontextmanager
    async def _placed(self, source: Path, path: Path) -> AsyncIterator[Path]:
        """The file, read-only, in the image folder but not yet under its name."""
        part = path.with_name(f".{path.name}.{self._mark}-{secrets.token_hex(4)}.new")
        self._parts.add(part)
        try:
            await asyncio.to_thread(self._prepare, source)
            if not await asyncio.to_thread(_link, source, part):
                await _copy(source, part, _READ_ONLY)
            yield part
        except OSError as error:
            raise refused(error, path) from error
        finally:
            part.unlink(missing_ok=True)
            self._parts.discard(part)

    def _prepare(self, source: Path) -> None:
        """:raises ImageMissing: there is no such file."""
        if not source.is_file():
            raise ImageMissing(f"there is no file {source}", hint="give the path of a disk image")
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f".*.{self._mark}-*.new"):
            if left not in self._parts:  # of an agent that was killed
                left.unlink(missing_ok=True)

    async def _check_image(self, image: str, part: Path) -> None:
        """:raises ImageMissing: it is none, or not what its name says."""
        try:
            base = await qemu_img.inspect(part)
        except (InvalidInput, RuntimeFailed) as error:
            raise ImageMissing(f"image {image} cannot be used: {error.message}", hint=error.hint or _CONVERT) from error
        if Path(image).suffix == ".qcow2" and base.format != "qcow2":  # anything at all would do for raw
            raise ImageMissing(f"image {image} is no qcow2 file", hint=_CONVERT)

    def _install(self, part: Path, path: Path) -> None:
        """Give it the name; a link that had it leaves the file behind that it led to."""
        old = path.resolve() if path.is_symlink() else None
        publish(part, path)
        if old is not None:
            self._drop_unlinked(old)

    # ------------------------------------------------------------------ out

    async def verify(self, image: str) -> ImageInfo:
        path = self.path(image)
        if not path.is_file():
            raise _missing(image, path)
        real, _ = _seen(path)
        try:
            await self._digests.of(real, again=True)
        except OSError as error:
            raise ImageMissing(f"image {image} cannot be read: {error.strerror}", hint="load it again") from error
        self._verified.pop(real, None)
        try:
            problem = await qemu_img.check(await self.base(image))
        except (InvalidInput, RuntimeFailed) as error:
            problem = error.message
        if problem:
            raise ImageMissing(f"image {image} is damaged: {problem}", hint="load it again")
        return await self._info(image, path)

    async def export(self, image: str, target: Path) -> None:
        base = await self.base(image)
        async with new_file(target) as part:
            if base.format == "qcow2":
                await _copy(base.path, part, _PRIVATE)
            else:
                await asyncio.to_thread(check_room, target.parent, base.path.stat().st_size)
                await qemu_img.flatten(base.path, base.format, part)
                part.chmod(_PRIVATE)

    async def remove(self, image: str) -> None:
        path = self.path(image)
        self._check_own(image)
        if not path.exists():
            path.unlink(missing_ok=True)  # a link that leads nowhere
            return
        await self._check_free(image, path)
        real = path.resolve()
        path.unlink(missing_ok=True)
        self._verified.pop(real, None)
        if real != path:
            self._drop_unlinked(real)

    async def list(self) -> Sequence[ImageInfo]:
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
        linked = {path.resolve() for path in files if path.is_symlink()}
        named = [path for path in files if not path.name.startswith(".")]
        found = []
        for path in named:
            if path.is_symlink() or path not in linked:
                with contextlib.suppress(ImageMissing):  # removed meanwhile
                    found.append(await self._info(path.name, path))
        return found

    async def leftovers(self) -> Sequence[Leftover]:
        """Files of ours in the folder that an interrupted step left, or that no name leads to any more."""
        used = await self._in_use()
        return await asyncio.to_thread(lambda: list(self._left(used)))

    def _left(self, used: frozenset[Path]) -> Iterator[Leftover]:
        if not self._folder.is_dir():
            return
        for path in self._folder.glob(f".*.{self._mark}-*.new"):
            if path not in self._parts:
                yield _leftover(path, "left by an interrupted step")
        for path in self._folder.glob("kept-*"):
            if path.resolve() not in used and not self._claims[path.resolve()]:
                yield _leftover(path, "kept under this name", unused=True)

    async def discard(self, leftover: Leftover) -> None:
        """:raises Conflict: it is of use by now."""
        path = self._folder / leftover.id
        if path in self._parts:
            raise Conflict(f"{leftover.name} is being written")
        if not path.name.startswith("."):
            await self.remove(path.name)
            return
        await asyncio.to_thread(path.unlink, missing_ok=True)

    # ------------------------------------------------------------------ inside

    def _check_own(self, image: str) -> None:
        if image.startswith("/"):
            raise InvalidInput(f"image {image} lies outside the image folder; its file is yours to change")

    async def _check_free(self, image: str, path: Path) -> None:
        """:raises Conflict: a disk of some domain stands on the file."""
        if not path.exists():
            return
        real = path.resolve()
        if self._claims[real] or real in await self._in_use():
            raise Conflict(f"image {image} is in use by a runtime", hint="destroy the nodes that use it first")

    def _drop_unlinked(self, real: Path) -> None:
        """Remove a file of the folder to which a link has led, unless another link does."""
        if real.parent != self._folder.resolve():
            return
        if not any(path.is_symlink() and path.resolve() == real for path in self._folder.iterdir()):
            real.unlink(missing_ok=True)

    async def _info(self, image: str, path: Path) -> ImageInfo:
        try:
            real, stamp = _seen(path)
            digest = await self._digests.of(real)
        except OSError:
            raise _missing(image, path) from None
        return ImageInfo(name=image, digest=digest, size=stamp[2])


def _leftover(path: Path, detail: str, *, unused: bool = False) -> Leftover:
    size = path.stat().st_blocks * 512 if path.exists() else 0
    return Leftover(id=path.name, kind="file", name=str(path), size=size, unused=unused, detail=detail)


_CONVERT: Final = "convert it with: qemu-img convert -O qcow2"


def _missing(image: str, path: Path) -> ImageMissing:
    return ImageMissing(f"image {image} is not on this host", hint=f"put the disk image at {path}")


def _seen(path: Path) -> tuple[Path, Stamp]:
    real = path.resolve()
    return real, stamp_of(real)


def _link(source: Path, part: Path) -> bool:
    """Make ``part`` the same file as ``source``, where that is one that nobody changes; whether it was done."""
    real = source.resolve()
    facts = real.stat()
    if facts.st_mode & _WRITE_BITS or facts.st_uid != os.geteuid() or not stat.S_ISREG(facts.st_mode):
        return False
    try:
        os.link(real, part)
    except OSError:  # another file system, or one without links
        return False
    return True


async def _copy(source: Path, target: Path, mode: int) -> None:
    """A copy that shares its blocks where the file system can.

    :raises CapacityExceeded: no room for it. :raises RuntimeFailed: it cannot be made.
    """
    size = source.stat().st_size
    await asyncio.to_thread(check_room, target.parent, size)
    finished = await run("cp", "--reflink=auto", "--sparse=auto", "--", str(source), str(target), timeout_s=_COPY_S)
    if finished.code != 0:
        written = target.stat().st_size if target.exists() else 0
        await asyncio.to_thread(check_room, target.parent, size - written)  # others have taken the room meanwhile
        raise RuntimeFailed(f"cannot copy {source}: {finished.errors}")
    target.chmod(mode)
