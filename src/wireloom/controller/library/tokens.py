"""Tokens by which hosts read the library's files: made of one secret, so that there is nothing to store of each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

from wireloom.controller.token import ensure_token

__all__ = ["BlobTokens"]


class BlobTokens:
    """A token is the host's name and a code over it, for one purpose.

    :param secret: never leaves the controller. :param known_hosts: of the installation; no other host's token counts.
    """

    def __init__(self, secret: str, known_hosts: Callable[[], frozenset[str]]) -> None:
        self._secret = secret.encode()
        self._known_hosts = known_hosts

    @classmethod
    def of_file(cls, file: Path, known_hosts: Callable[[], frozenset[str]]) -> BlobTokens:
        """With the secret in ``file``, made at the first start. Blocking.

        :raises NotPermitted: others can read the file.
        """
        return cls(ensure_token(file), known_hosts)

    def host_token(self, host: str) -> str:
        """What ``host`` shows to the controller to read its files."""
        return f"{host}.{self._code('read', host)}"

    def serve_token(self, host: str) -> str:
        """What others show to ``host`` to read its files."""
        return self._code("serve", host)

    def may_read(self, token: str) -> bool:
        """Whether it is the token of a host of the installation."""
        host, _, code = token.partition(".")
        right = self._code("read", host)
        return hmac.compare_digest(code.encode(), right.encode()) and host in self._known_hosts()

    def _code(self, purpose: str, host: str) -> str:
        return hmac.new(self._secret, f"wireloom/blobs/{purpose}/{host}".encode(), hashlib.sha256).hexdigest()
