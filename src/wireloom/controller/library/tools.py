"""What the library knows of formats, as the functions that coming in needs. They block, and belong into threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wireloom.library import archives, bundles, disks, iol
from wireloom.library.archives import InnerDisk
from wireloom.library.identify import CERTAIN, identify
from wireloom.library.sniff import Sniffed, sniff
from wireloom.library.unpack import unpack
from wireloom.library.values import Accepted, Facts, Limits, Progress
from wireloom.model.device import Device
from wireloom.model.images import DeviceProposal

__all__ = ["Accept", "Build", "Tools"]

Accept = Callable[[Path, str, Path, Limits, Progress], Accepted]


class Build(Protocol):
    """:func:`wireloom.library.iol.build`."""

    def __call__(
        self,
        binary: Path,
        base: Path,
        folder: Path,
        *,
        name: str,
        file_name: str,
        limits: Limits,
        progress: Progress,
        say: Callable[[str], None] | None,
    ) -> Accepted: ...


@dataclass(frozen=True)
class Tools:
    """See the functions of :mod:`wireloom.library` that stand here; tests may put others in their place."""

    sniff: Callable[[Path], Sniffed] = sniff
    unpack: Callable[[Path, Path, Limits, Progress], Path] = unpack
    take_out: Callable[[Path, Path, Limits, Progress], Path | None] = bundles.take_out
    accept_disk: Accept = disks.accept
    accept_archive: Accept = archives.accept
    disks_inside: Callable[[Path, Limits, Progress], Sequence[InnerDisk]] = archives.disks_inside
    extract_disk: Callable[[Path, InnerDisk, Path, Limits, Progress], Path] = archives.extract_disk
    find_base: Callable[[Path], Path] = iol.find_base
    build_iol: Build = iol.build
    identify: Callable[[Facts, Iterable[Device]], Sequence[DeviceProposal]] = identify
    certain: float = CERTAIN
