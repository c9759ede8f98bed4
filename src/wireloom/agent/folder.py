"""A node's folder on its host: disks, media, sockets, logs, and the record of what was done.

::

    <data>/nodes/<node id>/
        record.json     identity and counters (see NodeRecord)
        storage/        disks, and folders shown to the guest; survive everything but a wipe
        media/          day-0 media, readable by root and the emulator only
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

from wireloom.errors import NotFound
from wireloom.model.identity import Identity
from wireloom.planning.plan import NodeRecord

__all__ = ["FolderStore", "NodeFolder", "write_record"]

#: Folders that a runtime leaves between its lives; ``storage`` is not among them.
_SUBFOLDERS = ("storage", "media", "console", "logs")
#: A hypervisor that runs as another user must be able to pass through and read media, not to list.
_FOLDER_MODE = 0o755
_RECORD = "record.json"
#: An error in it may quote what a guest said.
_RECORD_MODE = 0o600


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

    The records are held in memory after :meth:`load`, and written through: small files, written atomically. One that
    could not be written holds in memory, and is written with its next change.
    """

    def __init__(self, root: Path, installation: str) -> None:
        self.root = root
        self._installation = installation
        self._folders: dict[str, NodeFolder] = {}
        self._unwritten: set[str] = set()

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
        """The node's folder, made when missing. :raises OSError: the host's file system refuses."""
        folder = self._folders.get(identity.node_id)
        if folder is None:
            folder = NodeFolder(self.root / identity.node_id, identity, NodeRecord())
            self._hold(folder)
        if identity.node_id in self._unwritten:
            folder.prepare()
            self._write(folder)
        return folder

    def update(self, node_id: str, **changes: Any) -> NodeFolder | None:
        """Change fields of the record and write it; ``None`` when the node has no folder any more.

        :raises OSError: it holds in memory only.
        """
        folder = self._folders.get(node_id)
        if folder is None:
            return None
        record = replace(folder.record, **changes)
        if record == folder.record and node_id not in self._unwritten:
            return folder
        updated = replace(folder, record=record)
        self._write(updated)
        return updated

    def take(self, node_id: str) -> None:
        """A folder was put in its place beside the store: read it, and complete it. :raises OSError:"""
        folder = self._read(self.root / node_id)
        if folder is not None:
            folder.prepare()
            self._folders[node_id] = folder

    def numbered(self, node_id: str) -> NodeFolder:
        """The node's folder, its record with the lowest number that no other node has; it is kept until removal.

        :raises NotFound: it has none. :raises OSError: as :meth:`update`.
        """
        folder = self._folders.get(node_id)
        if folder is not None and not folder.record.number:
            taken = {other.record.number for other in self._folders.values()}
            free = next(number for number in range(1, len(taken) + 2) if number not in taken)
            folder = self.update(node_id, number=free)
        if folder is None:
            raise NotFound(f"node {node_id} has no folder")
        return folder

    def wipe(self, node_id: str) -> None:
        """Remove storage and everything made from it; the record stays with its counters reset."""
        folder = self._folders.get(node_id)
        if folder is None:
            return
        for name in _SUBFOLDERS:
            shutil.rmtree(folder.path / name, ignore_errors=True)
        folder.prepare()
        self._write(replace(folder, record=_fresh(folder.record)))

    def remove(self, node_id: str) -> None:
        """Remove the folder and all that is in it; idempotent. The record goes last: until then it is known whose
        folder this is.

        :raises OSError: some of it is left.
        """
        path = self.root / node_id
        for part in path.iterdir() if path.is_dir() else ():
            if part.name != _RECORD:
                _remove_tree(part)
        _remove_tree(path)
        self._folders.pop(node_id, None)
        self._unwritten.discard(node_id)

    def unknown(self) -> list[Path]:
        """Folders below the root that carry no readable record, of ours or of another installation: debris."""
        if not self.root.exists():
            return []
        return [path for path in self.root.iterdir() if self.is_unknown(path)]

    def is_unknown(self, path: Path) -> bool:
        return path.is_dir() and path.name not in self._folders and self._read(path) is None

    def _read(self, path: Path) -> NodeFolder | None:
        try:
            document = json.loads((path / _RECORD).read_text())
            known = {field.name for field in fields(NodeRecord)}
            record = NodeRecord(**{key: value for key, value in document["record"].items() if key in known})
            return NodeFolder(path, Identity.model_validate(document["identity"]), record)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _hold(self, folder: NodeFolder) -> None:
        self._folders[folder.identity.node_id] = folder
        self._unwritten.add(folder.identity.node_id)

    def _write(self, folder: NodeFolder) -> None:
        self._hold(folder)
        write_record(folder.path, folder.identity, folder.record)
        self._unwritten.discard(folder.identity.node_id)


def write_record(folder: Path, identity: Identity, record: NodeRecord) -> None:
    """Write the record of the node's ``folder``; whoever reads finds the old one or the new one. Blocking.

    :raises OSError: the host's file system refuses.
    """
    target = folder / _RECORD
    temporary = target.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    temporary.touch(_RECORD_MODE)
    temporary.write_text(json.dumps({"identity": identity.model_dump(), "record": vars(record)}))
    os.replace(temporary, target)


def _fresh(record: NodeRecord) -> NodeRecord:
    """What outlives a wipe."""
    return NodeRecord(attention=record.attention, number=record.number, arrived=record.arrived)


def _remove_tree(path: Path) -> None:
    """Remove a file or a folder with all that is in it; one that is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # files may vanish under our hands
        if path.exists():
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
