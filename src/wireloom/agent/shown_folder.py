"""A folder of the node's storage that is shown to the guest, and holds its configuration.

The guest saves its own configuration over ours, so a file is written only when it is not what was put there last:
a node that is made anew for another reason keeps what the guest saved. A wipe removes it all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from wireloom.errors import InvalidInput, RuntimeFailed
from wireloom.model.identity import short_hash

__all__ = ["ShownFolder"]

#: Nobody but root gets at the folders from the host's side; the guest enters through its mount.
_HOST_MODE: Final = 0o700
_GUEST_MODE: Final = 0o755


class ShownFolder:
    """:param storage: the node's own; :param target: where the guest sees the folder."""

    def __init__(self, storage: Path, target: PurePosixPath) -> None:
        if not target.is_absolute() or target == PurePosixPath("/"):
            raise InvalidInput(f"{str(target)!r} cannot be a folder that a guest is shown")
        self._target = target
        self._parent = storage / "shown"
        self._name = short_hash(str(target), length=12)
        self.path = self._parent / self._name

    def put(self, files: Mapping[PurePosixPath, bytes], mode: int, *, choice: int = 0) -> None:
        """Write what changed since the last time; everything when the user's ``choice`` is another. Paths: the guest's.

        :raises InvalidInput: a path that is not below the folder. :raises RuntimeFailed: the file system refuses.
        """
        below = {self._below(path): content for path, content in files.items()}
        try:
            self._parent.mkdir(mode=_HOST_MODE, parents=True, exist_ok=True)
            self.path.mkdir(exist_ok=True)
            self.path.chmod(_GUEST_MODE)
            before, put = self._put_before()
            for name, content in below.items():
                digest = hashlib.sha256(content).hexdigest()
                if choice != before or put.get(name) != digest or not os.path.lexists(self.path / name):
                    self._write(name, content, mode)
                    put[name] = digest
            self._remember(choice, put)
        except OSError as error:
            raise RuntimeFailed(f"cannot write the configuration to {self.path}: {error.strerror}") from error

    def _below(self, path: PurePosixPath) -> str:
        if not path.is_relative_to(self._target) or ".." in path.parts or path == self._target:
            raise InvalidInput(f"day-0 file {path} is not below {self._target}, which the guest is shown")
        return str(path.relative_to(self._target))

    def _write(self, name: str, content: bytes, mode: int) -> None:
        """Write in place, since the guest may have the folder open, and follow no link that the guest made."""
        *folders, last = PurePosixPath(name).parts
        folder = self.path
        for part in folders:
            folder = folder / part
            if folder.is_symlink():
                folder.unlink()
            folder.mkdir(mode=_GUEST_MODE, exist_ok=True)
        temporary, final = folder / f".{last}.new", folder / last
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
        temporary.replace(final)

    @property
    def _notes(self) -> Path:
        return self._parent / f"{self._name}.json"

    def _put_before(self) -> tuple[int, dict[str, str]]:
        """The user's choice that was followed last, and the hash of what was put by name; nothing in a new folder."""
        try:
            known = json.loads(self._notes.read_text())
            return int(known["choice"]), {str(name): str(digest) for name, digest in known["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return 0, {}

    def _remember(self, choice: int, put: Mapping[str, str]) -> None:
        temporary = self._notes.with_suffix(".new")
        temporary.write_text(json.dumps({"choice": choice, "files": dict(put)}))
        temporary.replace(self._notes)
