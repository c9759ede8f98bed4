"""What an agent needs to join its installation: the fabric's address, its own login, the installation's id.

The controller writes it for the agent beside it; a host elsewhere gets it when it joins. Mode 0600.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wireloom.errors import Unavailable

__all__ = ["AgentLogin"]

_POLL_S = 0.1


@dataclass(frozen=True)
class AgentLogin:
    """``installation``: its id; ``url``: of the fabric, without credentials."""

    installation: str
    url: str
    user: str
    password: str = field(repr=False)

    @staticmethod
    def path(data_dir: Path) -> Path:
        return data_dir / "agent" / "login.json"

    def save(self, data_dir: Path) -> None:
        """Write it atomically, for the owner only."""
        path = self.path(data_dir)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
        temporary.replace(path)

    @classmethod
    def load(cls, data_dir: Path) -> AgentLogin | None:
        """The stored login; ``None`` when there is none yet."""
        try:
            return cls(**json.loads(cls.path(data_dir).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @classmethod
    async def wait(cls, data_dir: Path, timeout_s: float) -> AgentLogin:
        """The stored login, as soon as the controller has written it.

        :raises Unavailable: none came within ``timeout_s``.
        """
        for _ in range(max(int(timeout_s / _POLL_S), 1)):
            login = cls.load(data_dir)
            if login is not None:
                return login
            await asyncio.sleep(_POLL_S)
        raise Unavailable(
            f"no login for the agent in {cls.path(data_dir)}",
            hint="start the controller first (`wireloom up` starts both)",
        )
