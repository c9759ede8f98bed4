"""The API's certificate, and the addresses at which it is reached."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog

from wireloom.controller.hosts.joining import ApiAddress
from wireloom.errors import InvalidInput
from wireloom.fabric.authority import Authority, Certificate, fingerprint
from wireloom.settings import Settings

__all__ = ["ApiTls", "api_address", "own_names", "prepare_tls"]

log = structlog.get_logger(__name__)

_IP_S: Final = 5.0
#: An address for documentation (RFC 5737), which nobody has.
_FAR_AWAY: Final = ("192.0.2.1", 9)


@dataclass(frozen=True)
class ApiTls:
    """How the API proves who it is.

    :ivar ca: PEM of the installation's own authority, by which its certificate is judged; empty: it has one of the
        user's own, which machines judge by what they trust.
    """

    certificate: Certificate
    ca: str = ""


def prepare_tls(settings: Settings) -> ApiTls | None:
    """The certificate to serve with, made where there is none; ``None``: no TLS. Blocking.

    :raises InvalidInput: only half of a certificate is named, or its files are not there.
    """
    if not settings.serves_tls:
        return None
    if settings.tls_certificate or settings.tls_key:
        return ApiTls(_given(settings.tls_certificate, settings.tls_key))
    authority = Authority(settings.authority_folder)
    names = {*own_names(), *_further(settings), settings.listen_host} - {"0.0.0.0", "::", ""}  # noqa: S104
    return ApiTls(authority.ensure_server(names, name="api"), authority.certificate)


def _given(certificate: Path | None, key: Path | None) -> Certificate:
    if certificate is None or key is None:
        raise InvalidInput("tls_certificate and tls_key go together", hint="name both, or neither")
    for file in (certificate, key):
        if not file.is_file():
            raise InvalidInput(f"there is no file {file}", hint="look at tls_certificate and tls_key")
    return Certificate(certificate, key)


def _further(settings: Settings) -> Iterator[str]:
    yield from filter(None, (name.strip() for name in settings.api_names.split(",")))
    host = urlsplit(settings.api_url).hostname
    if host:
        yield host


def own_names() -> list[str]:
    """Names and addresses of this machine, loopback first. Blocking, a few milliseconds."""
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    full = socket.getfqdn()
    return list(dict.fromkeys([*names, *([] if "localhost" in full else [full]), *_addresses()]))


def _addresses() -> list[str]:
    """Addresses of interfaces that others may reach; none where it cannot be told."""
    try:
        done = subprocess.run(["ip", "-json", "address", "show", "up"], capture_output=True, timeout=_IP_S, check=False)
        found = [entry["local"] for link in json.loads(done.stdout or b"[]") for entry in link.get("addr_info", ())]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        log.warning("own addresses not known; set api_names", error=str(error))
        return []
    addresses = [ipaddress.ip_address(text) for text in found]
    return [str(item) for item in addresses if not (item.is_loopback or item.is_link_local)]


def api_address(settings: Settings, url: str, tls: ApiTls | None) -> ApiAddress:
    """What hosts elsewhere are told of the API that answers locally at ``url``."""
    ca = tls.ca if tls is not None else ""
    told = settings.api_url.rstrip("/") or _from_elsewhere(settings, url)
    return ApiAddress(url=told, ca=ca, fingerprint=fingerprint(ca) if ca else "")


def _from_elsewhere(settings: Settings, url: str) -> str:
    if settings.listen_host not in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        return url
    parts, name = urlsplit(url), _outgoing_address() or socket.gethostname()
    return f"{parts.scheme}://{name}:{parts.port}"


def _outgoing_address() -> str:
    """From where this machine would speak to one far away; empty: it has no such route."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(_FAR_AWAY)  # of a datagram socket: nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return ""
