"""Where a value comes from: which layer of the order of settings, and which place in which file."""

from __future__ import annotations

from typing import Literal

from wireloom.model.base import Value

__all__ = ["Layer", "Origin"]

#: In the order in which later ones win: the schema's own default, the device's file, an override of it, the profile
#: of the image, the image library (which image is the device's default, and what an image needs), the topology's
#: ``defaults``, the node.
Layer = Literal["default", "device", "override", "image", "library", "defaults", "node"]


class Origin(Value):
    """``where`` is a file, with a line where that is known: ``lab.yml:12``; empty for a default of the schema.

    :ivar off: the layer turned the value off.
    """

    layer: Layer
    where: str = ""
    off: bool = False

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.layer}{place}{', off' if self.off else ''}"
