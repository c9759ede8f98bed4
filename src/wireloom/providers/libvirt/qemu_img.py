"""``qemu-img`` as a bounded subprocess: inspect, check and flatten an image, make an overlay, make an empty disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wireloom.commands import Finished, run
from wireloom.errors import ImageMissing, InvalidInput, RuntimeFailed
from wireloom.library.bounded import Bounds, run_bounded_async
from wireloom.library.values import Limits

__all__ = [
    "BaseImage",
    "check",
    "create_empty",
    "create_overlay",
    "direct_io_reads",
    "direct_io_works",
    "flatten",
    "grow",
    "inspect",
    "remove_quietly",
    "stand_on",
    "virtual_size",
]

_INSPECT_TIMEOUT_S: Final = 20.0
_CREATE_TIMEOUT_S: Final = 60.0

#: Bounds of one process that reads a file of unknown making: its tables, all of the tables, all of it.
_INSPECTION: Final = Limits(inspect_s=20)
_CHECKING: Final = Limits(inspect_s=900)
_CONVERSION: Final = Limits(convert_s=7200)

#: Exit code of ``qemu-img check`` when clusters are taken that nothing refers to.
_LEAKED: Final = 3

#: Formats a guest may boot from; a raw file has no header, so it can name no other file.
_FORMATS: Final = frozenset({"qcow2", "raw"})


@dataclass(frozen=True)
class BaseImage:
    """A verified image: stands alone, in a format that is known. ``path`` has no symbolic links left."""

    path: Path
    format: str
    virtual_size: int


async def inspect(path: Path) -> BaseImage:
    """Verify that ``path`` is a bootable image that stands alone.

    :raises ImageMissing: there is no such file.
    :raises InvalidInput: another format, or an image that refers to further files of the host.
    """
    real = path.resolve()
    try:
        mode = real.stat().st_mode
    except OSError:
        raise ImageMissing(f"image {path} is not on this host", hint="give the path of a disk image") from None
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"image {path} is not a file")
    finished = await _bounded(_to_read(real), "info", "--output=json", "-U", str(real))
    if finished.code != 0:
        raise InvalidInput(f"image {path} cannot be read: {finished.errors}", hint="is the file whole?")
    info = json.loads(finished.output)
    _check(path, info)
    return BaseImage(path=real, format=info["format"], virtual_size=int(info["virtual-size"]))


def _check(path: Path, info: dict[str, Any]) -> None:
    if info["format"] not in _FORMATS:
        raise InvalidInput(
            f"image {path} has the format {info['format']}; qcow2 or raw is needed",
            hint="convert it with: qemu-img convert -O qcow2",
        )
    specific = info.get("format-specific", {}).get("data", {})
    if "backing-filename" in info or "data-file" in specific:
        raise InvalidInput(
            f"image {path} refers to another file; an image must stand alone",
            hint="flatten it with: qemu-img convert -O qcow2",
        )


async def check(base: BaseImage) -> str:
    """What is wrong with the tables of an image; empty: nothing. Leaked clusters are no damage."""
    if base.format != "qcow2":
        return ""
    finished = await _bounded(
        _to_read(base.path, limits=_CHECKING), "check", "--output=json", "-U", "-f", "qcow2", str(base.path)
    )
    return "" if finished.code in {0, _LEAKED} else finished.errors or "its tables are damaged"


async def flatten(disk: Path, image_format: str, target: Path, *below: Path) -> None:
    """Write ``disk``, with what it stands on, to the new qcow2 file ``target``. Holds off whoever would change it.

    :param below: the only files that it may stand on.
    :raises RuntimeFailed: it is in use, or cannot be read.
    """
    bounds = dataclasses.replace(Bounds.to_convert(_CONVERSION, disk, *below, folder=target.parent), privileged=True)
    finished = await _bounded(bounds, "convert", "-q", "-f", image_format, "-O", "qcow2", str(disk), str(target))
    if finished.code != 0:
        raise RuntimeFailed(f"cannot flatten {disk}: {finished.errors}")


async def create_overlay(path: Path, base: BaseImage, *, size_bytes: int) -> None:
    """Make the overlay ``path`` on ``base``, of the base's size or larger; all or nothing."""
    await _create(path, "-b", str(base.path), "-F", base.format, size=str(size_bytes))


async def stand_on(disk: Path, base: BaseImage) -> None:
    """Have ``disk``, which nothing has open, name ``base`` as what it stands on; its data stays as it is.

    :raises RuntimeFailed: it is no overlay, or in use.
    """
    await _run(
        "rebase", "-u", "-f", "qcow2", "-b", str(base.path), "-F", base.format, str(disk), timeout_s=_CREATE_TIMEOUT_S
    )


async def virtual_size(disk: Path) -> int:
    """Size of ``disk`` in bytes, as a guest sees it. :raises RuntimeFailed: it is no disk."""
    info = json.loads(await _run("info", "--output=json", "-U", str(disk), timeout_s=_INSPECT_TIMEOUT_S))
    return int(info["virtual-size"])


async def grow(disk: Path, size_bytes: int) -> None:
    """Make ``disk``, which nothing has open, larger. :raises RuntimeFailed: it is larger already."""
    await _run("resize", "-q", "-f", "qcow2", str(disk), str(size_bytes), timeout_s=_CREATE_TIMEOUT_S)


async def create_empty(path: Path, size_bytes: int) -> None:
    """Make an empty, sparse disk; all or nothing."""
    await _create(path, size=str(size_bytes))


async def _create(path: Path, *options: str, size: str = "") -> None:
    unfinished = path.with_name(f".{path.name}.new")
    try:
        command = ["create", "-q", "-f", "qcow2", *options, str(unfinished), *([size] if size else [])]
        await _run(*command, timeout_s=_CREATE_TIMEOUT_S)
        unfinished.chmod(0o600)
        unfinished.rename(path)
    finally:
        remove_quietly([unfinished])


def remove_quietly(paths: Sequence[Path]) -> None:
    """Remove files that may not exist."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def direct_io_works(folder: Path) -> bool:
    """Whether files in ``folder`` can be opened past the page cache."""
    probe = folder / f".direct-io-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    finally:
        remove_quietly([probe])
    return True


def direct_io_reads(file: Path) -> bool:
    """Whether an existing ``file`` can be read past the page cache."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def _run(*arguments: str, timeout_s: float) -> str:
    """Output of ``qemu-img``. :raises RuntimeFailed: it refused."""
    finished = await run("qemu-img", *arguments, timeout_s=timeout_s)
    if finished.code != 0:
        raise RuntimeFailed(f"qemu-img {arguments[0]}: {finished.errors}")
    return finished.output


async def _bounded(bounds: Bounds, *arguments: str) -> Finished:
    """``qemu-img`` on a file of unknown making: in bounds, and unable to open others."""
    return await run_bounded_async(["qemu-img", *arguments], bounds=bounds)


def _to_read(*files: Path, limits: Limits = _INSPECTION) -> Bounds:
    # The emulator's user owns disks that it has used: without its capabilities even root may not read them.
    return dataclasses.replace(Bounds.to_inspect(limits, *files), privileged=True)
