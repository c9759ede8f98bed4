"""A certificate authority of our own: one certificate that hosts trust, and certificates of servers that it signs.

Files: ``ca.pem`` and ``ca.key`` (made once, twenty years), ``server.pem`` and ``server.key`` (a year, renewed in time).
Private keys have mode 0600. Certificates begin a day before they were made, because clocks differ.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority", "Certificate", "fingerprint"]


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate in ``pem``, in hexadecimal. :raises InvalidInput: there is none."""
    raise NotImplementedError


@dataclass(frozen=True)
class Certificate:
    """Files of a server: its certificate with the authority's behind it, and its private key."""

    chain: Path
    key: Path


class Authority:
    """The authority in ``folder``, made on first use (blocking, some milliseconds)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def certificate(self) -> str:
        """PEM that whoever connects has to trust."""
        raise NotImplementedError

    def ensure_server(self, names: Collection[str], *, name: str = "server") -> Certificate:
        """A certificate for all of ``names`` (DNS names and addresses); made anew when it lacks one or ends soon."""
        raise NotImplementedError
