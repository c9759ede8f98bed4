"""Captures over the fabric."""

from __future__ import annotations

from typing import Literal

from wireloom.model.base import Value
from wireloom.model.capture import CaptureOptions

__all__ = ["CaptureOpen"]


class CaptureOpen(Value):
    """Capture frames of a lab; the stream carries pcapng, or with ``decode`` lines of ``CaptureMessage`` as JSON.

    :ivar kind: a ``wire`` is captured where frames come in at its two ends, a ``segment`` where they come in at any of
        its ports, so each frame is there once. A ``port``, and a ``plug``, which has one, is captured both ways.
    :ivar id: of a wire, plug or segment. :ivar node_id: with ``index`` a port.
    """

    lab_id: str
    kind: Literal["port", "wire", "plug", "segment"]
    id: str = ""
    node_id: str = ""
    index: int = 0
    options: CaptureOptions = CaptureOptions()
    decode: bool = False
