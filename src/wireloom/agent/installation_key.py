"""The key pair with which an installation logs in to its nodes; made once on each host."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

__all__ = ["InstallationKey"]

_NAME = "id_ed25519"


@dataclass(frozen=True)
class InstallationKey:
    """``public_line`` is a line for ``authorized_keys``; ``private`` never leaves the host."""

    path: Path
    public_line: str
    private: asyncssh.SSHKey = field(repr=False, compare=False)

    @classmethod
    def ensure(cls, folder: Path) -> InstallationKey:
        """The key in ``folder`` (mode 0600), made on first use. Blocking, some milliseconds."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / _NAME
        if not path.exists():
            _make(path)
        private = asyncssh.read_private_key(path)
        line = private.export_public_key().decode().strip()
        return cls(path=path, public_line=line, private=private)


def _make(path: Path) -> None:
    """Write a new key unless somebody else was quicker; the file appears whole or not at all."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment="wireloom")
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.export_private_key())
        os.link(scratch, path)
        path.with_suffix(".pub").write_bytes(key.export_public_key())
    except FileExistsError:
        return
    finally:
        scratch.unlink()
