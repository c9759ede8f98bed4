"""Configurations that were read before a stop, kept in the nodes' folders until the controller has them, and after.

::

    <data>/nodes/<node id>/configs/held.json    mode 0600 in a folder of mode 0700: configurations hold secrets
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import structlog

from wireloom.agent.folder import FolderStore
from wireloom.errors import NotFound
from wireloom.fabric.config_documents import Extracted
from wireloom.model.base import Value

__all__ = ["Held", "HeldConfigs"]

log = structlog.get_logger(__name__)

_FOLDER: Final = "configs"
_FILE: Final = "held.json"


class Held(Value):
    """``revision`` is the number that the controller stored it under; 0: it has not yet."""

    extracted: Extracted
    revision: int = 0


class HeldConfigs:
    """At most one configuration a node; a newer one takes its place."""

    def __init__(self, folders: FolderStore) -> None:
        self._folders = folders
        self._waiting: dict[str, str] = {}
        self._changing = asyncio.Lock()  # a newer one may come while an older one is let go

    def load(self) -> None:
        """See what an earlier agent left, after the folders were loaded."""
        self._waiting = {}
        for node_id in self._folders.all():
            held = self._read(node_id)
            if held is not None and not held.revision:
                self._waiting[node_id] = held.extracted.sha256

    def waiting(self, node_id: str) -> str:
        """Hash of the configuration that waits for the controller; empty when none does."""
        return self._waiting.get(node_id, "")

    async def get(self, node_id: str) -> Held | None:
        """The last configuration that was kept, released or not."""
        return await asyncio.to_thread(self._read, node_id)

    async def keep(self, node_id: str, extracted: Extracted) -> None:
        """Hold ``extracted`` for the controller. :raises OSError: the host's file system refuses."""
        async with self._changing:
            await asyncio.to_thread(self._write, node_id, Held(extracted=extracted))
            self._waiting[node_id] = extracted.sha256

    async def release(self, node_id: str, sha256: str, revision: int) -> None:
        """The controller has it; without effect when a newer one is held by now. :raises OSError:"""
        async with self._changing:
            held = await self.get(node_id)
            if held is None or held.extracted.sha256 != sha256:
                return
            await asyncio.to_thread(self._write, node_id, held.model_copy(update={"revision": revision}))
            if self._waiting.get(node_id) == sha256:
                del self._waiting[node_id]

    async def forget_stored(self, node_id: str) -> None:
        """The node was given another configuration: what the controller has already is of no more use here."""
        async with self._changing:
            held = await self.get(node_id)
            path = self._path(node_id)
            if held is not None and held.revision and path is not None:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def forget(self, node_id: str) -> None:
        """The node's folder is gone."""
        self._waiting.pop(node_id, None)

    def _path(self, node_id: str) -> Path | None:
        folder = self._folders.get(node_id)
        return None if folder is None else folder.path / _FOLDER / _FILE

    def _read(self, node_id: str) -> Held | None:
        path = self._path(node_id)
        try:
            return None if path is None else Held.model_validate_json(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("held configuration not readable", node=node_id, error=str(error))
            return None

    def _write(self, node_id: str, held: Held) -> None:
        path = self._path(node_id)
        if path is None:
            raise NotFound("the node has no folder on this host")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(held.model_dump(mode="json"), file)
            file.flush()
            os.fsync(file.fileno())  # the guest it was read from may be gone a moment later
        temporary.replace(path)
