"""The remembered SSH host keys of one node, in the node's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import asyncssh

__all__ = ["HOST_KEY_FILE", "HostKeys"]

HOST_KEY_FILE: Final = "ssh-host-key.json"


class HostKeys:
    """``{"instance", "keys": {port: key}}``: keys of another instance of the node are as good as none.

    :param instance: one life of the guest's storage.
    """

    def __init__(self, folder: Path, instance: str, port: int) -> None:
        self._path = folder / HOST_KEY_FILE
        self._instance = instance
        self._port = str(port)

    def remembered(self) -> asyncssh.SSHKey | None:
        line = self._keys().get(self._port)
        try:
            return None if line is None else asyncssh.import_public_key(line)
        except asyncssh.KeyImportError:
            return None

    def remember(self, key: asyncssh.SSHKey) -> None:
        if not self._path.parent.is_dir():
            return  # the node is being removed
        keys = self._keys() | {self._port: key.export_public_key().decode().strip()}
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps({"instance": self._instance, "keys": keys}))
        scratch.replace(self._path)

    def _keys(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_text())
            if document["instance"] == self._instance:
                return dict(document["keys"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {}
