"""Secrets of the user's: licences and the like, which nodes of some devices are given.

Each is a file that only its owner can read, in a folder that nobody else can enter. Their contents leave it in the
slices of hosts that have a node which wants them, at the moment in which these are published, and on no other way: they
are in no database, no view, no event and no log.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets as randomness
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from wireloom.errors import InvalidInput, NotFound, Unavailable
from wireloom.model.slice import Slice

__all__ = ["LARGEST_SECRET", "Secrets", "check_secret_name"]

#: A slice with all secrets of its nodes has to fit into a message.
LARGEST_SECRET: Final = 64 * 1024
_MOST: Final = 256

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


def check_secret_name(name: str) -> str:
    """``name``, where a secret can have it. :raises InvalidInput: it cannot."""
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name!r} is not a name for a secret",
            hint="lower-case letters, digits, dot, dash and underscore, such as iol-licence",
        )
    return name


class Secrets:
    """The folder of secrets. What there is, is held in memory; writes are on the disk before they return.

    :param folder: made when it is missing. :param changed: told the name of each secret that was given or taken away.
    """

    def __init__(self, folder: Path, changed: Callable[[str], None] | None = None) -> None:
        self._folder = folder
        self._changed = changed
        self._lock = asyncio.Lock()
        self._known: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Secrets({self._folder})"

    async def load(self) -> None:
        """Read what is stored. :raises Unavailable: the folder cannot be read."""
        self._known = await asyncio.to_thread(_read_all, self._folder)

    def names(self) -> tuple[str, ...]:
        """Of all that were given."""
        return tuple(sorted(self._known))

    async def put(self, name: str, content: bytes) -> None:
        """Keep ``content`` under ``name``, in the place of what was there.

        Nodes that are there already keep what they were given.

        :raises InvalidInput: the name is none, or the content is empty or too large.
        :raises Unavailable: the disk refuses.
        """
        check_secret_name(name)
        if not 0 < len(content) <= LARGEST_SECRET:
            raise InvalidInput(f"a secret has 1 to {LARGEST_SECRET} bytes, and this one has {len(content)}")
        async with self._lock:
            if name not in self._known and len(self._known) >= _MOST:
                raise InvalidInput(f"there are {_MOST} secrets already", hint="take away those that nothing needs")
            await asyncio.to_thread(_write, self._folder, name, content)
            self._known[name] = content
        self._tell(name)

    async def delete(self, name: str) -> None:
        """Forget it. :raises NotFound: it was not given. :raises Unavailable: the disk refuses."""
        check_secret_name(name)
        async with self._lock:
            if name not in self._known:
                raise NotFound(f"there is no secret {name}")
            await asyncio.to_thread(_remove, self._folder / name)
            del self._known[name]
        self._tell(name)

    def fill(self, document: Slice) -> Slice:
        """``document`` with the secrets that its nodes want, as far as they were given; for its host alone."""
        wanted = {secret.name for node in document.nodes for secret in node.secrets}
        given = {name: self._known[name] for name in sorted(wanted) if name in self._known}
        return document.model_copy(update={"secrets": given}) if given else document

    def _tell(self, name: str) -> None:
        if self._changed is not None:
            self._changed(name)


def _read_all(folder: Path) -> dict[str, bytes]:
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(_FOLDER_MODE)
        return {path.name: _read(path) for path in sorted(folder.iterdir()) if _is_ours(path)}
    except OSError as error:
        raise Unavailable(f"the secrets in {folder} cannot be read: {error.strerror}") from error


def _is_ours(path: Path) -> bool:
    """Whether it is a secret; drafts of a write that was cut off go away."""
    if path.name.startswith("."):
        path.unlink(missing_ok=True)
        return False
    return _NAME.fullmatch(path.name) is not None and stat.S_ISREG(path.lstat().st_mode)


def _read(path: Path) -> bytes:
    path.chmod(_FILE_MODE)
    with path.open("rb") as file:
        return file.read(LARGEST_SECRET)


def _write(folder: Path, name: str, content: bytes) -> None:
    """Whole or not at all, and never readable for others."""
    draft = folder / f".{name}.{randomness.token_hex(4)}"
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)
        _sync(folder)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise Unavailable(f"cannot store the secret {name}: {error.strerror}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise Unavailable(f"cannot remove the secret {path.name}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
