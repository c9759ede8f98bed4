"""What the reader of media tells: values that cross from its process to ours."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from wireloom.library.media.definitions import ImageDefinition, NodeDefinition
from wireloom.library.values import Reason

__all__ = ["Answer", "Broken", "Extent", "ImageEntry", "Medium", "MediumFile", "NodeEntry", "Refusal"]

#: Offset and length in bytes.
Extent = tuple[int, int]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MediumFile(_Told):
    """A file on the medium; ``extents`` are where its bytes lie in the image, in order."""

    path: str
    size: int
    extents: tuple[Extent, ...]


class NodeEntry(_Told):
    definition: NodeDefinition


class ImageEntry(_Told):
    """``files``: of its disks that are there, in their order; ``missing``: names of those that are not."""

    definition: ImageDefinition
    files: tuple[MediumFile, ...] = ()
    missing: tuple[str, ...] = ()


class Refusal(_Told):
    reason: Reason
    message: str


class Broken(_Told):
    """A definition that cannot be used; the others can."""

    key: str
    title: str
    why: Refusal


class Medium(_Told):
    """``left_out``: in words, what of it was not looked at."""

    label: str
    nodes: tuple[NodeEntry, ...] = ()
    images: tuple[ImageEntry, ...] = ()
    broken: tuple[Broken, ...] = ()
    left_out: tuple[str, ...] = ()


class Answer(_Told):
    """Exactly one of the two."""

    medium: Medium | None = None
    refusal: Refusal | None = None
