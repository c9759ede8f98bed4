"""What is inside of an archive of the library: its configuration, its layers, and disks of machines in them.

These archives have come in by ``accept``, so their layers are plain parts of the file, which can be looked into without
reading what is between.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wireloom.library.archives.findings import Findings
from wireloom.library.archives.layout import Image, choose
from wireloom.library.archives.outer import read_outer
from wireloom.library.archives.streams import Window, compression_of
from wireloom.library.archives.tars import TarReader
from wireloom.library.archives.values import ArchiveConfig, InnerDisk
from wireloom.library.archives.writer import new_file
from wireloom.library.durable import copy_range
from wireloom.library.tar_format import BLOCK, is_header
from wireloom.library.values import ImageRefused, Limits, Progress, no_progress

__all__ = ["disks_inside", "extract_disk", "extract_layers", "read_config"]

_DEFAULT: Final = Limits()


def read_config(archive: Path, limits: Limits = _DEFAULT) -> ArchiveConfig:
    """The configuration of the image in ``archive``, of any kind that ``accept`` takes but a file tree.

    :raises ImageRefused: it is no archive, or does not hold together.
    """
    with _opened(archive, limits) as image:
        return image.config


def disks_inside(archive: Path, limits: Limits = _DEFAULT, progress: Progress = no_progress) -> tuple[InnerDisk, ...]:
    """Disks of machines in the image, as a container of it would see them: whiteouts and later layers respected.

    Largest first of those that stand alone, then those that name a base. Reads headers only. Blocking.

    :raises ImageRefused: ``archive`` is none of the library's own.
    """
    findings = Findings()
    with _opened(archive, limits) as image:
        windows = [blob.window for blob in image.blobs]
        total, done = sum(window.size for window in windows), 0
        for number, window in enumerate(windows):
            _check_plain(window)
            reader = TarReader(window, limits, f"layer {number + 1}", open_end=True)
            findings.begin_layer()
            for member in reader:
                findings.see(member, reader)
            done += window.size
            progress(done, total)
        found = [
            InnerDisk(
                path=f"/{path}",
                form=disk.form,
                size=disk.size,
                offset=windows[disk.layer].offset + disk.offset,
                layer=disk.layer,
                backed=disk.backed,
            )
            for path, disk in findings.disks().items()
        ]
    return tuple(sorted(found, key=lambda disk: (disk.backed, -disk.size, disk.path)))


def extract_disk(archive: Path, inner: InnerDisk, target: Path, limits: Limits, progress: Progress) -> Path:
    """Copy a disk that :func:`disks_inside` told of to the new file ``target``, whole or not at all. Blocking.

    It is as it was in the container: whether it may come in as an image is for ``disks.accept`` to say.

    :raises ImageRefused: ``size``, or ``truncated`` where the archive is not the one that was looked into.
    :raises CapacityExceeded: no space left.
    """
    if inner.size > limits.size:
        raise ImageRefused("size", f"{inner.path} has {inner.size} bytes, at most {limits.size} are allowed")
    _copy(archive, inner.offset, inner.size, target, progress)
    return target


def extract_layers(archive: Path, folder: Path, limits: Limits, progress: Progress) -> tuple[Path, ...]:
    """The layers as tar files in ``folder``, lowest first, to build upon them. A layer that comes twice is one file.

    :raises ImageRefused: ``archive`` is none of the library's own. :raises CapacityExceeded: no space left.
    """
    files: dict[str, Path] = {}
    with _opened(archive, limits) as image:
        windows = {digest: blob.window for digest, blob in zip(image.config.layers, image.blobs, strict=True)}
        done, total = 0, sum(window.size for window in windows.values())
        for digest, window in windows.items():
            _check_plain(window)
            files[digest] = folder / f"{digest.removeprefix('sha256:')}.tar"
            _copy(archive, window.offset, window.size, files[digest], _from(done, total, progress))
            done += window.size
        return tuple(files[digest] for digest in image.config.layers)


def _from(before: int, total: int, progress: Progress) -> Progress:
    return lambda done, _: progress(before + done, total)


@contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[Image]:
    with archive.open("rb", buffering=0) as file:
        if not is_header(os.pread(file.fileno(), BLOCK, 0)):
            raise ImageRefused("format", "the file is no archive of an image")
        yield choose(read_outer(file.fileno(), limits), limits)


def _check_plain(window: Window) -> None:
    head = os.pread(window.file, BLOCK, window.offset)
    if not is_header(head) and compression_of(head):
        raise ImageRefused("format", "a layer of the archive is packed", hint="import it first")


def _copy(archive: Path, offset: int, size: int, target: Path, progress: Progress) -> None:
    with archive.open("rb", buffering=0) as source, new_file(target) as copy:
        if copy_range(source, copy, offset, size, progress) < size:
            raise ImageRefused("truncated", f"{archive.name} ends before what was to be taken out of it")
