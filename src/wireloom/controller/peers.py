"""Tells each host of the others that its wires lead to: where they are, and the secret that the two have in common."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import Store
from wireloom.controller.tasks import Supervisor
from wireloom.errors import WireloomError
from wireloom.fabric.documents import HostFacts
from wireloom.fabric.underlay_documents import HostPeers
from wireloom.model.slice import Slice
from wireloom.model.underlay import INSIDE, INSIDE_PREFIX, Peer

__all__ = ["PeerKeeper", "inside_addresses", "pairs_of", "peer_secret"]

log = structlog.get_logger(__name__)

_RESYNC_S: Final = 30.0
_RETRY_S: Final = 1.0
#: What happens together is told together.
_PAUSE_S: Final = 0.02


def pairs_of(slices: Iterable[Mapping[str, Slice]]) -> dict[str, frozenset[str]]:
    """Whom wires of each host lead to, by host."""
    found: dict[str, set[str]] = {}
    for by_host in slices:
        for host, document in by_host.items():
            for wire in document.wires:
                if wire.remote is not None:
                    found.setdefault(host, set()).add(wire.remote.host)
    return {host: frozenset(others) for host, others in found.items()}


def peer_secret(installation_secret: bytes, one: str, other: str) -> str:
    """The secret of a pair of hosts, hexadecimal: whoever of the two is named first."""
    return hmac.digest(installation_secret, "\0".join(sorted((one, other))).encode(), "sha256").hex()


def inside_addresses(hosts: Iterable[str]) -> dict[str, str]:
    """An address inside WireGuard for each host: by its name alone, unless one that comes before has the same."""
    size = 1 << (32 - INSIDE_PREFIX)
    taken: dict[int, str] = {}
    for host in sorted(hosts):
        place = int.from_bytes(hashlib.sha256(host.encode()).digest()[:8]) % size
        while place in taken or place in (0, size - 1):
            place = (place + 1) % size
        taken[place] = host
    return {host: str(ipaddress.IPv4Address(INSIDE) + place) for place, host in taken.items()}


class PeerKeeper:
    """Writes the bucket ``peers``, where this controller ``leads`` the installation. :meth:`wake` returns at once."""

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        store: Store,
        board: Board,
        live: LiveState,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leads = leads
        self._fabric = fabric
        self._store = store
        self._board = board
        self._live = live
        self._secret = b""
        self._known: dict[str, HostFacts] = {}
        self._put: dict[str, HostPeers] = {}
        self._awake = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        """Tell for ever."""
        self._fabric.on_rebuilt(self._forget)
        supervisor.start("tell hosts of their peers", self._run)

    def wake(self) -> None:
        """A lab or a host has changed."""
        self._awake.set()

    def gained(self) -> None:
        """It is for this controller to write from now on: what is there is not known."""
        self._forget()

    def _forget(self) -> None:
        self._put.clear()
        self._awake.set()

    async def _run(self) -> None:
        self._secret = await self._store.pair_secret()
        self._put.clear()
        while True:
            pause = _RESYNC_S
            try:
                await self._settle()
            except WireloomError as error:
                log.warning("peers not told", error=str(error))
                pause = _RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._awake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_PAUSE_S)
            self._awake.clear()

    async def _settle(self) -> None:
        # What was heard of a host holds while it is away: its address is still where its tunnels end.
        self._known |= {host: seen.facts for host, seen in self._live.hosts.items()}
        pairs = pairs_of(self._board.intents(lab_id) or {} for lab_id in self._board.lab_ids)
        inside = inside_addresses(host for host, facts in self._known.items() if facts.wireguard is not None)
        for host in sorted(pairs.keys() | self._put.keys()):
            others = sorted(pairs.get(host, ()))
            peers = tuple(self._peer(host, facts, inside) for other in others if (facts := self._known.get(other)))
            document = HostPeers(
                host=host, inside=inside.get(host, ""), peers=tuple(peer for peer in peers if peer.address)
            )
            if self._leads() and self._put.get(host) != document:
                await self._fabric.put_peers(document)
                self._put[host] = document

    def _peer(self, host: str, facts: HostFacts, inside: Mapping[str, str]) -> Peer:
        guard = facts.wireguard
        return Peer(
            host=facts.host,
            address=facts.underlay,
            secret=peer_secret(self._secret, host, facts.host),
            probe_port=facts.probe_port,
            wireguard=guard and guard.model_copy(update={"address": inside[facts.host]}),
        )
