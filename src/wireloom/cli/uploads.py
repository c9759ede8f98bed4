"""Uploads that were cut off, remembered so that the same command goes on where it stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["UploadRecords"]

#: Controllers forget uploads as well.
_KEEP_S: Final = 7 * 24 * 3600.0


class UploadRecords:
    """Which file of which content goes to which upload; a file of this user's own.

    A record that cannot be read or written costs only that an upload begins anew.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or "/root") / ".cache")
        self._file = Path(cache) / "wireloom" / "uploads.json"

    def find(self, controller: str, file: Path, sha256: str = "") -> str | None:
        """URL of the upload of ``file``, as it is now, to ``controller``; announced with ``sha256``."""
        record = self._read().get(_key(controller, file, sha256))
        return str(record["upload"]) if record is not None else None

    def remember(self, controller: str, file: Path, upload: str, sha256: str = "") -> None:
        """``file`` goes to ``upload``."""
        self._write(self._read() | {_key(controller, file, sha256): {"upload": upload, "at": time.time()}})

    def forget(self, controller: str, file: Path, sha256: str = "") -> None:
        """Its import has begun, or it is given up."""
        records = self._read()
        if records.pop(_key(controller, file, sha256), None) is not None:
            self._write(records)

    def _read(self) -> dict[str, dict[str, object]]:
        try:
            found = json.loads(self._file.read_text())
            oldest = time.time() - _KEEP_S
            return {key: record for key, record in found.items() if record["at"] > oldest}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def _write(self, records: Mapping[str, Mapping[str, object]]) -> None:
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(json.dumps(records))
            draft.replace(self._file)
        except OSError:
            with suppress(OSError):
                draft.unlink()


def _key(controller: str, file: Path, sha256: str) -> str:
    facts = file.stat()
    return f"{controller} {file.resolve()} {facts.st_size} {facts.st_mtime_ns} {sha256}".rstrip()
