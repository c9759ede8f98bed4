"""The post-boot records of one node, in its folder: the newest boots, each with its commands.

Commands and what guests answer hold secrets, so that only the owner reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from wireloom.model.post_boot import BootRecord

__all__ = ["BOOTS_KEPT", "OUTPUT_KEPT", "BootRecords", "shortened"]

BOOTS_KEPT: Final = 5
#: Characters of output that are kept of one command.
OUTPUT_KEPT: Final = 16_384
_FILE: Final = "post-boot.json"
_MODE: Final = 0o600


class BootRecords:
    """Read at once, written through. :param folder: the node's."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def all(self) -> tuple[BootRecord, ...]:
        """The newest first; none where nothing readable was written."""
        try:
            return tuple(BootRecord.model_validate(item) for item in json.loads(self._path.read_text()))
        except (OSError, ValueError, ValidationError):
            return ()

    def of(self, runtime_id: str, boot: float) -> BootRecord:
        """The record of that boot, empty when there is none yet."""
        known = (record for record in self.all() if (record.runtime_id, record.boot) == (runtime_id, boot))
        return next(known, BootRecord(runtime_id=runtime_id, boot=boot))

    def save(self, record: BootRecord) -> None:
        """Write ``record`` in the place of what was known of its boot. :raises OSError:"""
        if not self._path.parent.is_dir():
            return  # the node is being removed
        others = (known for known in self.all() if (known.runtime_id, known.boot) != (record.runtime_id, record.boot))
        kept = [record, *others][:BOOTS_KEPT]
        scratch = self._path.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        scratch.touch(_MODE)
        scratch.write_text(json.dumps([item.model_dump(mode="json") for item in kept]))
        scratch.replace(self._path)


def shortened(text: str) -> str:
    """The end of ``text``, which is where a command says how it went."""
    if len(text) <= OUTPUT_KEPT:
        return text
    return f"[the first {len(text) - OUTPUT_KEPT} characters are left out]\n{text[-OUTPUT_KEPT:]}"
