"""Finding the controller: the environment first, then the files that a local controller leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wireloom.errors import InvalidInput, Unauthenticated, Unavailable
from wireloom.paths import ENV_CA, ENV_TOKEN, ENV_URL, Paths

__all__ = ["Endpoint", "find_endpoint"]


@dataclass(frozen=True)
class Endpoint:
    """Address and token of a controller, e.g. ``http://127.0.0.1:7430``.

    :ivar ca: certificates (PEM) by which it is known; empty: those that the machine trusts.
    """

    url: str
    token: str = field(repr=False)
    ca: str = field(default="", repr=False)


def find_endpoint(environ: Mapping[str, str] = os.environ, paths: Paths | None = None) -> Endpoint:
    """``WIRELOOM_URL``, ``WIRELOOM_TOKEN`` and ``WIRELOOM_CA``, else the local controller's files.

    :raises Unavailable: no controller runs here and the environment names none.
    :raises Unauthenticated: the token file cannot be read.
    :raises InvalidInput: the file with certificates cannot be read.
    """
    where = paths or Paths.from_environment(environ)
    url, ca = (environ[ENV_URL], "") if environ.get(ENV_URL) else _local_address(where.controller_file)
    if environ.get(ENV_CA):
        ca = _read_ca(Path(environ[ENV_CA]))
    token = environ.get(ENV_TOKEN) or _local_token(where.token_file)
    return Endpoint(url=url.rstrip("/"), token=token, ca=ca)


def _read_ca(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the certificates in {file} cannot be read", hint=f"check --ca and {ENV_CA}") from error


def _local_address(file: Path) -> tuple[str, str]:
    """Address, and certificates by which it is known."""
    try:
        document = json.loads(file.read_text())
        return str(document["url"]), str(document.get("ca", ""))
    except FileNotFoundError:
        raise Unavailable(
            "no Wireloom controller runs on this machine",
            hint=f"start one with `sudo wireloom up`, or set {ENV_URL} to a remote one",
        ) from None
    except PermissionError:
        raise Unauthenticated(f"{file} cannot be read", hint="run the command with sudo") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"{file} is damaged", hint="restart the controller") from error


def _local_token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        raise Unauthenticated("no API token is known", hint=f"set {ENV_TOKEN}") from None
    except PermissionError:
        raise Unauthenticated(
            f"the token in {file} may only be read by its owner", hint=f"run the command with sudo or set {ENV_TOKEN}"
        ) from None
