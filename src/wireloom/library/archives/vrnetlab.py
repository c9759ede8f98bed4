"""Recognises images of vrnetlab: a QEMU machine, its disk and a launcher, packed into a container."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from wireloom.library.archives.values import ArchiveConfig

__all__ = ["NEEDS", "is_vrnetlab"]

#: What such a container needs of its host.
NEEDS: Final = ("privileged", "kvm")

_LAUNCHER: Final = "launch.py"
_COMMON: Final = "vrnetlab.py"
_LABEL: Final = "vrnetlab"


def is_vrnetlab(config: ArchiveConfig, paths: Collection[str], disks: Collection[str]) -> bool:
    """Its launcher is what starts, and one more sign of three: the common module beside it, a disk, a label."""
    started = {PurePosixPath(word).name for word in config.entrypoint + config.command}
    if _LAUNCHER not in started:
        return False
    return bool(disks) or _COMMON in paths or any(name.startswith(_LABEL) for name in config.labels)
