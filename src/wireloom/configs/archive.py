"""Several configurations as one file. Equal content gives equal bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["ArchivedConfig", "zip_configs"]

#: The first moment that a zip file can name: the archive says nothing of when it was made.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_CONTENTS: Final = "configs.json"
_PRIVATE_FILE: Final = 0o100600 << 16
_UNIX: Final = 3


@dataclass(frozen=True)
class ArchivedConfig:
    """One node's configuration: revision ``number``, taken at the UNIX time ``taken_at``."""

    node: str
    device: str
    number: int
    taken_at: float
    sha256: str
    text: str


def zip_configs(lab: str, configs: Iterable[ArchivedConfig]) -> bytes:
    """``<lab>/<node>.cfg`` for each configuration, and ``<lab>/configs.json`` that says which revisions they are."""
    ordered = sorted(configs, key=lambda config: config.node)
    contents = [
        {
            "node": config.node,
            "file": f"{config.node}.cfg",
            "device": config.device,
            "revision": config.number,
            "taken_at": config.taken_at,
            "sha256": config.sha256,
        }
        for config in ordered
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, f"{lab}/{_CONTENTS}", json.dumps({"lab": lab, "configs": contents}, indent=2) + "\n")
        for config in ordered:
            _add(archive, f"{lab}/{config.node}.cfg", config.text)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = _PRIVATE_FILE  # configurations hold secrets
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, text)
