"""How a host joins an installation: with a token that a user has carried here, once.

The key pair is made here and written down before anybody is asked, so that an interrupted join is repeated with the
same key, which costs no further use of the token. The seed never leaves this machine. Whom we speak to is known by the
fingerprint in the token: the token's secret is shown to nobody else.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from wireloom import __version__
from wireloom.agent.login import AgentLogin
from wireloom.client import Client
from wireloom.client.discovery import Endpoint
from wireloom.errors import Conflict, InvalidInput, NotPermitted, Unavailable
from wireloom.fabric import nkeys
from wireloom.fabric.authority import fingerprint
from wireloom.fabric.keys import new_seed
from wireloom.model.host_tokens import TokenParts, read_token
from wireloom.model.host_views import JoinAnswer, JoinRequest
from wireloom.paths import DEFAULT_PORT
from wireloom.processes import ProcessId
from wireloom.records import read_record, write_record
from wireloom.settings import Settings

__all__ = ["Joined", "join"]

_ASK_S: Final = 30.0
_LARGEST_CA: Final = 64 * 1024
_API: Final = "/api/v1"


@dataclass(frozen=True)
class Joined:
    """:ivar before: installation that the host was of until now; empty: of none, or of this one.

    :ivar already: it had joined by this very token, and nobody was asked.
    """

    installation: str
    host: str
    labels: dict[str, str]
    before: str = ""
    already: bool = False


async def join(settings: Settings, token: str, url: str, *, plain: bool = False, ca: str = "") -> Joined:
    """Join, and leave the login where the agent finds it.

    :param url: of the controller's API; ``https`` and the usual port where it does not say.
    :param plain: an ``http`` address beyond loopback is meant: the way there is safe.
    :param ca: certificates (PEM) to trust instead of the authority that the token names.
    :raises InvalidInput: the token or the address is none. :raises NotPermitted: the token is not good, or who answers
        is not who made it. :raises Conflict: the name is taken, or this machine has a controller of its own.
    :raises Unavailable: nobody answers there.
    """
    parts, address = read_token(token), _address(url, plain=plain)
    await asyncio.to_thread(_refuse_own_controller, settings, address)
    stored = await asyncio.to_thread(AgentLogin.load, settings.data_dir)
    pending = await asyncio.to_thread(_read_pending, settings.data_dir)
    if stored is not None and pending is not None and pending.token == parts.id and pending.done:
        return Joined(stored.installation, settings.host, {}, already=True)
    if pending is None or pending.token != parts.id or not pending.seed:
        pending = _Pending(parts.id, new_seed(nkeys.Kind.USER))
        await asyncio.to_thread(pending.save, settings.data_dir)
    trusted = ca or await _authority(address, parts)
    request = JoinRequest(host=settings.host, public_key=nkeys.public_key(pending.seed), version=__version__)
    async with Client(Endpoint(address, token.strip(), trusted), timeout_s=_ASK_S) as client:
        answer = await client.host.join(request)
    await asyncio.to_thread(_keep, settings.data_dir, answer, pending, address, trusted)
    before = stored.installation if stored is not None and stored.installation != answer.installation else ""
    return Joined(answer.installation, answer.host, answer.labels, before=before)


@dataclass(frozen=True)
class _Pending:
    """The key of a join by the token with this id; ``done``: it was answered, and the login is written."""

    token: str
    seed: str
    done: bool = False

    @staticmethod
    def path(data_dir: Path) -> Path:
        return data_dir / "agent" / "join.json"

    def save(self, data_dir: Path) -> None:
        path = self.path(data_dir)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_record(path, {"token": self.token, "seed": self.seed, "done": self.done}, mode=0o600)


def _read_pending(data_dir: Path) -> _Pending | None:
    document = read_record(_Pending.path(data_dir)) or {}
    token, seed = document.get("token"), document.get("seed")
    if not isinstance(token, str) or not isinstance(seed, str):
        return None
    return _Pending(token, seed, done=document.get("done") is True)


def _keep(data_dir: Path, answer: JoinAnswer, pending: _Pending, address: str, trusted: str) -> None:
    AgentLogin(
        installation=answer.installation,
        urls=answer.fabric_urls,
        claims=answer.claims,
        seed=pending.seed,
        ca=answer.fabric_ca,
        api_url=address,
        api_ca=trusted,
    ).save(data_dir)
    # The seed is in the login now, where it is exchanged in time; here only the token's name is of use.
    _Pending(pending.token, "", done=True).save(data_dir)


def _address(url: str, *, plain: bool) -> str:
    """The address in its full form. :raises InvalidInput: it is none, or everybody could read what is said there."""
    text = url.strip().rstrip("/")
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in {"http", "https"} or parts.path or parts.query or parts.username:
        raise InvalidInput(f"{url} is no address of a controller", hint=f"for example https://192.0.2.7:{DEFAULT_PORT}")
    if parts.scheme == "http" and not plain and not _is_loopback(host):
        raise InvalidInput(
            f"what is said at {text} could be read by others, the token too",
            hint="use https://, or --plain-http where the way there is safe",
        )
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _authority(address: str, token: TokenParts) -> str:
    """The certificate by which the controller is known (PEM); empty: by what this machine trusts, or not at all.

    It comes over a connection that nothing is known of, which is why nothing is said there, and why what comes has to
    be what the token names.
    """
    if not address.startswith("https:") or not token.fingerprint:
        return ""
    try:
        async with httpx.AsyncClient(verify=_anybody(), trust_env=False, timeout=_ASK_S) as http:
            answer = await http.get(f"{address}{_API}/ca")
    except httpx.HTTPError as error:
        raise Unavailable(
            f"nobody answers at {address}: {error or type(error).__name__}",
            hint="does the controller listen there? `listen_host` in its settings",
        ) from error
    pem = answer.text if answer.is_success and len(answer.content) <= _LARGEST_CA else ""
    if not _is_named(pem, token.fingerprint):
        raise NotPermitted(
            f"who answers at {address} is not the controller that made the token",
            hint="check the address; if it is right, make a new token there: its authority may be a new one",
        )
    return pem


def _is_named(pem: str, wanted: str) -> bool:
    try:
        return hmac.compare_digest(fingerprint(pem), wanted)
    except InvalidInput:
        return False


def _anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _refuse_own_controller(settings: Settings, address: str) -> None:
    """A host of one installation's controller is no agent of another. :raises Conflict:"""
    try:
        document = json.loads(settings.paths.controller_file.read_text())
        own, pid = str(document["url"]), int(document["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if ProcessId.of(pid) is not None and own != address:
        raise Conflict(
            f"a controller runs on this machine, at {own}",
            hint="stop it first: `wireloom down`; its agent goes with it",
        )
