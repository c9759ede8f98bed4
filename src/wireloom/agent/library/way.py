"""The way from this host to the controllers' files.

Controllers name an address of theirs that may be good on their own machine only, so a host elsewhere takes the one by
which it joined, and trusts what it has trusted then.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from wireloom.fabric.image_documents import HostLibrary

__all__ = ["ControllerWay"]


@dataclass(frozen=True)
class ControllerWay:
    """:ivar url: of the API, as this host reaches it; empty: as controllers say.

    :ivar ca: certificates (PEM) by which it is known; empty: those that the machine trusts.
    """

    url: str = ""
    ca: str = field(default="", repr=False)

    def reach(self, url: str) -> str:
        """``url`` of a controller's, as it is reached from here."""
        try:
            told = urlsplit(url)
            here = urlsplit(self.url)
            if not self.url or not _is_loopback(told.hostname or ""):
                return url
        except ValueError:
            return url
        return urlunsplit((here.scheme, here.netloc, told.path, told.query, told.fragment))

    def library(self, document: HostLibrary | None) -> HostLibrary | None:
        """``document`` with the controllers' sources as they are reached from here."""
        if document is None:
            return None
        sources = tuple(
            source if source.host else source.model_copy(update={"url": self.reach(source.url)})
            for source in document.sources
        )
        return document.model_copy(update={"sources": sources})

    def trust(self) -> ssl.SSLContext:
        """By what certificates are judged: the machine's, and the controllers' own authority. Blocking."""
        context = ssl.create_default_context()
        if self.ca:
            context.load_verify_locations(cadata=self.ca)
        return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
