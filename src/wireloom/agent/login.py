"""What an agent needs to join its installation: the fabric's addresses, its own login, the installation's id.

The controller writes it for the agent beside it; a host elsewhere gets it when it joins. Mode 0600.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from wireloom.errors import Unavailable
from wireloom.fabric.login import Login
from wireloom.records import read_record, write_record

__all__ = ["AgentLogin"]

_POLL_S = 0.1


@dataclass(frozen=True)
class AgentLogin:
    """Either ``user`` and ``password``, or ``claims`` and ``seed`` (see :class:`~wireloom.fabric.login.Login`).

    :ivar installation: its id.
    :ivar urls: of the fabric's servers, without credentials.
    :ivar ca: certificates (PEM) by which the servers are known; empty: no TLS.
    :ivar api_url: where this host has reached the controllers' API; ``api_ca``: certificates (PEM) by which that is
        known, empty: those that the machine trusts.
    """

    installation: str
    urls: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    claims: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    api_url: str = ""
    api_ca: str = field(default="", repr=False)

    @staticmethod
    def path(data_dir: Path) -> Path:
        return data_dir / "agent" / "login.json"

    @property
    def login(self) -> Login:
        """Who the agent is. :raises InvalidInput: claims and seed do not belong together."""
        if self.claims:
            return Login.signed(self.claims, self.seed)
        return Login(user=self.user, password=self.password)

    def save(self, data_dir: Path) -> None:
        """Write it in one step, for the owner only. Blocking."""
        path = self.path(data_dir)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_record(path, {**asdict(self), "urls": list(self.urls)}, mode=0o600)

    @classmethod
    def load(cls, data_dir: Path) -> AgentLogin | None:
        """The stored login; ``None`` when there is none yet. Files of an earlier version name one ``url``."""
        document = read_record(cls.path(data_dir))
        if document is None:
            return None
        url = document.pop("url", None)
        urls = document.pop("urls", [url] if url else [])
        known = {item.name for item in fields(cls)}  # a later version may have written more
        try:
            return cls(urls=tuple(urls), **{name: value for name, value in document.items() if name in known})
        except TypeError:
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
            hint="start the controller first (`wireloom up` starts both), or join by a token",
        )
