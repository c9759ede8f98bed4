"""A node's folder on its host: disks, media, sockets, logs, and the record of what was done.

::

    <data>/nodes/<node id>/
        record.json     identity and counters (see NodeRecord)
        storage/        disks; survive everything but a wipe
        media/          day-0 media
        console/ logs/  serial sockets and logs

The folder is found by its name (the immutable node id) and read back after a restart, so it carries the same
identity as the labels of the runtime beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from wireloom.model.identity import Identity
from wireloom.planning.plan import NodeRecord

__all__ = ["FolderStore", "NodeFolder"]

#: Folders that a runtime leaves between its lives; ``storage`` is not among them.
_SUBFOLDERS = ("storage", "media", "console", "logs")
#: A hypervisor that runs as another user must be able to pass through and read media, not to list.
_FOLDER_MODE = 0o755


@dataclass(frozen=True)
class NodeFolder:
    """One node's folder; cheap to make, nothing is touched until asked."""

    path: Path
    identity: Identity
    record: NodeRecord

    def prepare(self) -> None:
        """Make the folder and its sub-folders."""
        for part in (self.path, *(self.path / name for name in _SUBFOLDERS)):
            part.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)


class FolderStore:
    """All node folders of one installation on this host.

    The records are held in memory after :meth:`load`, and written through: small files, written atomically.
    """

    def __init__(self, root: Path, installation: str) -> None:
        self.root = root
        self._installation = installation
        self._folders: dict[str, NodeFolder] = {}

    def load(self) -> None:
        """Read every folder; one that cannot be read (no record yet) is kept out and found by ``unknown``."""
        self.root.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        self._folders = {}
        for path in self.root.iterdir():
            folder = self._read(path)
            if folder is not None and folder.identity.installation == self._installation:
                self._folders[path.name] = folder

    def of_lab(self, lab_id: str) -> dict[str, NodeFolder]:
        return {key: folder for key, folder in self._folders.items() if folder.identity.lab_id == lab_id}

    def all(self) -> dict[str, NodeFolder]:
        return dict(self._folders)

    def get(self, node_id: str) -> NodeFolder | None:
        return self._folders.get(node_id)

    def ensure(self, identity: Identity) -> NodeFolder:
        """The node's folder, made when missing."""
        folder = self._folders.get(identity.node_id)
        if folder is None:
            folder = NodeFolder(self.root / identity.node_id, identity, NodeRecord())
            folder.prepare()
            self._write(folder)
        return folder

    def update(self, node_id: str, **changes: Any) -> NodeFolder | None:
        """Change fields of the record and write it; ``None`` when the node has no folder any more."""
        folder = self._folders.get(node_id)
        if folder is None:
            return None
        record = replace(folder.record, **changes)
        if record == folder.record:
            return folder
        updated = replace(folder, record=record)
        self._write(updated)
        return updated

    def wipe(self, node_id: str) -> None:
        """Remove storage and everything made from it; the record stays with its counters reset."""
        folder = self._folders.get(node_id)
        if folder is None:
            return
        for name in _SUBFOLDERS:
            shutil.rmtree(folder.path / name, ignore_errors=True)
        folder.prepare()
        self._write(replace(folder, record=NodeRecord(attention=folder.record.attention)))

    def remove(self, node_id: str) -> None:
        """Remove the folder and all that is in it; idempotent."""
        self._folders.pop(node_id, None)
        shutil.rmtree(self.root / node_id, ignore_errors=True)

    def unknown(self) -> list[Path]:
        """Folders below the root that carry no readable record of ours: debris of a crash."""
        return [path for path in self.root.iterdir() if path.name not in self._folders] if self.root.exists() else []

    def _read(self, path: Path) -> NodeFolder | None:
        try:
            document = json.loads((path / "record.json").read_text())
            known = {field.name for field in fields(NodeRecord)}
            record = NodeRecord(**{key: value for key, value in document["record"].items() if key in known})
            return NodeFolder(path, Identity.model_validate(document["identity"]), record)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, folder: NodeFolder) -> None:
        document = {"identity": folder.identity.model_dump(), "record": vars(folder.record)}
        target = folder.path / "record.json"
        temporary = target.with_suffix(".new")
        temporary.write_text(json.dumps(document))
        os.replace(temporary, target)
        self._folders[folder.identity.node_id] = folder
