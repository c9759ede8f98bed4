"""WireGuard between hosts: this host's key, its one device, and who is known to it."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wireloom.dataplane.host import wireguard
from wireloom.dataplane.host.wireguard import KnownPeer
from wireloom.errors import InternalError, Unavailable, WireloomError
from wireloom.model.identity import device_name
from wireloom.model.underlay import INSIDE_PREFIX, Peer, Way, WireGuardPeer

__all__ = ["WireGuardLinks", "own_key"]

log = structlog.get_logger(__name__)

#: What WireGuard puts around a packet, at most: IPv6, UDP, its own header and tag, and what it is padded to.
_OVERHEAD: Final = 80
_USUAL_MTU: Final = 1500
_LEAST_MTU: Final = 576


class WireGuardLinks:
    """The host's half of all encrypted wires. The device is there only while there are peers.

    :param key_file: where the host's private key is, and is made where it is not; it never leaves the host.
    :param port: UDP port of the device.
    """

    def __init__(self, installation: str, key_file: Path, port: int) -> None:
        self._device = device_name("g", installation)
        self._key_file = key_file
        self._port = port
        self._key: X25519PrivateKey | None = None
        self._inside = ""
        self._known: frozenset[KnownPeer] = frozenset()
        self.mtu = _USUAL_MTU - _OVERHEAD
        self.problem = "it has not been tried yet"

    @property
    def facts(self) -> WireGuardPeer | None:
        """How others reach this host; which address it has inside is for the controller to say."""
        if self._key is None or self.problem:
            return None
        return WireGuardPeer(key=_public(self._key), port=self._port)

    def way(self, peer: Peer) -> Way | None:
        """How tunnels to ``peer`` are made; ``None``: it is not known here (yet)."""
        known = {item.key for item in self._known}
        if peer.wireguard is None or peer.wireguard.key not in known:
            return None
        return Way(remote=peer.wireguard.address, local=self._inside, mtu=self.mtu)

    async def probe(self) -> None:
        """Find out whether the kernel has it; :attr:`problem` says why not."""
        try:
            await asyncio.to_thread(wireguard.try_device, self._device)
            self._key = self._key or await asyncio.to_thread(own_key, self._key_file)
        except WireloomError as error:
            self.problem = error.message
        else:
            self.problem = ""

    async def ensure(self, inside: str, peers: Collection[Peer], path_mtu: int) -> bool:
        """Have the device know exactly ``peers``; whether anything is other than before.

        :param inside: this host's own address within; empty: not known (yet).
        :param path_mtu: of the narrowest way to them; 0: not known.
        """
        if self._key is None or self.problem:
            await self.probe()
        if self._key is None or self.problem:
            return False
        known = frozenset(item for peer in peers if (item := _known(peer)) is not None) if inside else frozenset()
        mtu = max(min(path_mtu or _USUAL_MTU, _USUAL_MTU) - _OVERHEAD, _LEAST_MTU)
        before = (self._inside, self._known, self.mtu)
        try:
            await asyncio.to_thread(self._apply, self._key, inside, known, mtu)
        except WireloomError as error:
            log.warning("underlay.wireguard", error=error.to_wire())
            self.problem = error.message
            return False
        self._inside, self._known, self.mtu = inside, known, mtu
        return before != (inside, known, mtu)

    def _apply(self, key: X25519PrivateKey, inside: str, known: frozenset[KnownPeer], mtu: int) -> None:
        if not known:
            wireguard.remove_device(self._device)
            return
        wireguard.ensure_device(
            self._device,
            private_key=_text(key.private_bytes_raw()),
            port=self._port,
            mtu=mtu,
            address=f"{inside}/{INSIDE_PREFIX}",
        )
        wireguard.set_peers(self._device, sorted(known, key=lambda peer: peer.key))


def _known(peer: Peer) -> KnownPeer | None:
    if peer.wireguard is None or not peer.wireguard.address:
        return None
    return KnownPeer(peer.wireguard.key, peer.address, peer.wireguard.port, peer.wireguard.address)


def own_key(file: Path) -> X25519PrivateKey:
    """The key in ``file``, made where there is none. Blocking.

    :raises Unavailable: the file cannot be read or written. :raises InternalError: it holds no key.
    """
    try:
        if file.exists():
            return X25519PrivateKey.from_private_bytes(base64.b64decode(file.read_text()))
        made = X25519PrivateKey.generate()
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(_text(made.private_bytes_raw()))
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(file)
    except OSError as error:
        raise Unavailable(f"the key file {file} cannot be had: {error.strerror}") from error
    except ValueError as error:
        raise InternalError(f"the key file {file} holds no key", hint="remove it, and another key is made") from error
    return made


def _public(key: X25519PrivateKey) -> str:
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return _text(key.public_key().public_bytes(*raw))


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
