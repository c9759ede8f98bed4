"""What the parts of this package give each other, and others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["RUNNABLE", "ArchiveConfig", "DiskForm", "InnerDisk", "architectures"]

#: Architectures that hosts run, best first.
RUNNABLE: Final = ("amd64", "386")

DiskForm = Literal["qcow2", "vmdk", "vhdx"]


def architectures() -> tuple[str, ...]:
    """The architectures, in Docker's words, that an image may be for; best first."""
    return RUNNABLE


@dataclass(frozen=True)
class ArchiveConfig:
    """What an image's configuration says.

    :ivar content: the engine's id of the image: the digest of ``raw``. :ivar layers: digests of the layers unpacked,
        lowest first. :ivar document: all of it, as parsed; :ivar raw: its bytes, which make the id.
    """

    content: str
    raw: bytes
    architecture: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InnerDisk:
    """A virtual machine's disk inside of a container's image.

    :ivar path: in the container. :ivar size: bytes, at ``offset`` of the archive. :ivar layer: counted from 0.
    :ivar backed: it names another file as its base, so it is no image of its own.
    """

    path: str
    form: DiskForm
    size: int
    offset: int
    layer: int
    backed: bool = False
