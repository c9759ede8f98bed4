"""What the parts of the library give each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from wireloom.errors import FileRefused
from wireloom.model.images import ImageFormat, SourceKind

__all__ = ["GIB", "Accepted", "Facts", "ImageRefused", "Limits", "Progress", "Reason", "no_progress"]

GIB: Final = 1 << 30

#: Told while something runs: bytes done, bytes in all (0: not known). Called from any thread; may raise to cancel.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Nobody wants to know."""


Reason = Literal[
    "architecture",
    "backing-file",
    "bomb",
    "compressed-twice",
    "corrupt",
    "data-file",
    "device-node",
    "digest",
    "duplicate",
    "encrypted",
    "entrypoint",
    "format",
    "link",
    "loop",
    "manifest",
    "name",
    "overlap",
    "path",
    "size",
    "sparse",
    "truncated",
    "unbounded",
    "virtual-size",
]


class ImageRefused(FileRefused):
    """A file that must not come in; ``details["reason"]`` is a :data:`Reason`, stable for machines."""

    def __init__(self, reason: Reason, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, details={"reason": reason})


@dataclass(frozen=True)
class Limits:
    """Bounds of what comes in. Sizes in bytes, times in seconds.

    :ivar size: of a file as it comes, and of what it becomes. :ivar virtual_size: of a disk as a guest sees it.
    :ivar ratio: bytes unpacked for one packed, beyond the first ``free``.
    :ivar entries: members of an archive, or of an ISO; :ivar layers: of a container's image.
    :ivar name: bytes of a path inside of an archive. :ivar memory: of one process that reads hostile input.
    """

    size: int = 256 * GIB
    virtual_size: int = 4096 * GIB
    ratio: int = 200
    free: int = 64 << 20
    entries: int = 2_000_000
    layers: int = 127
    name: int = 4096
    json: int = 8 << 20
    memory: int = 2 * GIB
    inspect_s: float = 120
    convert_s: float = 4 * 3600


@dataclass(frozen=True)
class Facts:
    """What a file says of itself, for identification. Text from outside: never trusted, only matched.

    :ivar file: its name as it came, without a folder. :ivar tags: names in an archive. :ivar labels: of a container.
    :ivar entrypoint: entrypoint and command. :ivar volumes: labels of partitions, or of an ISO. :ivar paths: some
        paths inside of it. :ivar text: strings that tell a version, such as the head of an IOL binary.
    """

    file: str = ""
    kind: SourceKind = "qcow2"
    tags: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    size: int = 0
    virtual_size: int = 0
    md5: str = ""


@dataclass(frozen=True)
class Accepted:
    """An image as it is stored: a file of ``format``, which stands alone and was read whole.

    :ivar content: the engine's id of a container's image; empty for a disk, whose content is the file's digest.
    :ivar name: proposed by its content or file name; fits ``check_image_name``.
    :ivar notes: what was done to it, for its provenance. :ivar warnings: what its user should know.
    """

    file: Path
    format: ImageFormat
    kind: SourceKind
    name: str
    content: str = ""
    virtual_size: int = 0
    architecture: str = ""
    needs: tuple[str, ...] = ()
    facts: Facts = Facts()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
