"""From the files of a day-0 method to the medium that the guest sees."""

from __future__ import annotations

from collections.abc import Mapping

from wireloom.day0.fat import build_fat
from wireloom.day0.image import MediumImage
from wireloom.day0.iso import build_iso
from wireloom.model.device import Day0

__all__ = ["build_medium"]


def build_medium(day0: Day0, files: Mapping[str, bytes]) -> MediumImage:
    """The medium of a method that has one (``iso``, ``nocloud``, ``configdrive``, ``fat``).

    :raises InvalidInput: a label, name or amount that such a medium cannot hold.
    """
    if day0.method == "fat":
        return build_fat(day0.label, files, size_mb=day0.size_mb, partition=day0.partition)
    image = build_iso(day0.label, files, joliet=day0.joliet)
    return MediumImage(len(image), ((0, image),))
