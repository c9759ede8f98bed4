"""What the parts of the library give each other inside the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wireloom.controller.library.places import Lane
from wireloom.model.images import (
    DeviceProposal,
    ImageFormat,
    ImagePin,
    ImageView,
    JobChoices,
    JobStage,
    Provenance,
)

__all__ = ["ImageCatalogue", "JobCancelled", "JobContext", "NewImage"]


class JobCancelled(Exception):
    """The job is to end: a user cancelled it, or the controller goes. Let it pass, and leave nothing half."""


@dataclass(frozen=True)
class NewImage:
    """An image whose bytes are in the blob store under ``digest``.

    :ivar content: as of :class:`ImagePin`. :ivar device: what the user says it is, or what it is with certainty; empty:
        not known, ``proposals`` say what it may be. :ivar default: it becomes that device's default.
    """

    name: str
    provider: str
    format: ImageFormat
    digest: str
    content: str
    size: int
    provenance: Provenance
    virtual_size: int = 0
    architecture: str = ""
    version: str = ""
    needs: tuple[str, ...] = ()
    device: str = ""
    default: bool = False
    proposals: tuple[DeviceProposal, ...] = ()


class ImageCatalogue(Protocol):
    """What there is. Reads are from memory; writes are in the database before they return."""

    def all(self) -> Sequence[ImageView]:
        """By name."""
        ...

    def get(self, image_id: str) -> ImageView:
        """:raises NotFound: no such image."""
        ...

    def named(self, name: str) -> ImageView | None: ...

    def pin(self, provider: str, name: str) -> ImagePin | None:
        """Exactly which image a node of ``provider`` means by ``name``; ``None``: none of the library."""
        ...

    def default(self, device: str, provider: str) -> str | None:
        """Name of the image of nodes that name none; ``None``: what the device itself says."""
        ...

    async def add(self, new: NewImage) -> ImageView:
        """Take it up. The same name with the same content is no error, and what is there is returned.

        :raises Conflict: the name belongs to another content, or to an image that is being deleted.
        """
        ...


class JobContext(Protocol):
    """A job at work. What it needs after a restart of the controller is in ``request`` and ``memory``.

    :ivar request: as it was submitted, without secrets. :ivar secrets: in memory alone; empty after a restart.
    :ivar folder: its own, for files on their way; goes with the job. Is kept across restarts.
    """

    id: str
    request: Mapping[str, Any]
    secrets: Mapping[str, str]
    folder: Path

    @property
    def memory(self) -> Mapping[str, Any]:
        """What :meth:`remember` stored."""
        ...

    async def remember(self, **facts: Any) -> None:
        """Store JSON-compatible facts for the next attempt, durably."""
        ...

    def progress(self, stage: JobStage, done: int = 0, total: int = 0) -> None:
        """Tell how far it is; from any thread, as often as one likes. :raises JobCancelled: it is to end."""
        ...

    async def turn(self, lane: Lane | None) -> None:
        """Go over to work of that kind: return when there is a place for it. ``None``: it only waits for now."""
        ...

    def report(self, line: str) -> None:
        """Add a line to its log and report; from any thread."""
        ...

    async def choose(self, choices: JobChoices) -> Sequence[str]:
        """Keys that a user chose of ``choices``; waits for them, over restarts too (the job begins anew then)."""
        ...

    async def made(self, *, images: Sequence[str] = (), devices: Sequence[str] = ()) -> None:
        """It made these (ids of images, names of devices)."""
        ...
