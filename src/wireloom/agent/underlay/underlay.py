"""The underlay as one host sees it: where the others are, what the ways to them carry, what their ends are like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from wireloom.agent.underlay.address import address_of, find_address
from wireloom.agent.underlay.mailbox import Mailbox, UnderlayFabric, each_change
from wireloom.agent.underlay.prober import PathProber
from wireloom.agent.underlay.secure import SecureLinks
from wireloom.fabric.documents import HostFacts
from wireloom.model.underlay import Encryption, FarEnd, Path, Peer, Way

__all__ = ["Underlay", "UnderlayRules"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class UnderlayRules:
    """What the host's settings say.

    :ivar address: its own; empty: that of ``interface``, and without one found by its route to ``fabric``, the URLs of
        the fabric.
    :ivar probe_port: UDP port for measuring, ``probe_every_s`` to each peer; 0: nothing is measured.
    :ivar secure: WireGuard of the host; ``None``: it is not offered.
    """

    address: str = ""
    interface: str = ""
    fabric: tuple[str, ...] = ()
    probe_port: int = 0
    probe_every_s: float = 1.0
    secure: SecureLinks | None = None


class Underlay:
    """One per agent.

    :param heard: told of wires, by id, whose far ends have changed. :param moved: told that a way is another one.
    """

    def __init__(
        self,
        host: str,
        fabric: UnderlayFabric,
        rules: UnderlayRules,
        *,
        heard: Callable[[Collection[str]], None],
        moved: Callable[[], None],
    ) -> None:
        self._host = host
        self._fabric = fabric
        self._rules = rules
        self._tell_moved = moved
        self._ways: Mapping[tuple[str, Encryption], Way] | None = None
        self._mailbox = Mailbox(host, fabric, heard)
        self._prober = PathProber(host, rules.probe_port, self._moved, every_s=rules.probe_every_s)
        self._secure = rules.secure
        self._peers: Mapping[str, Peer] = {}
        self._inside = ""
        self._peers_changed = asyncio.Event()
        self.address = rules.address

    # -- what is known -------------------------------------------------------------------------------------

    @property
    def far_ends(self) -> Mapping[tuple[str, str], FarEnd]:
        """What other hosts told of their ends, by host and id of the wire."""
        return self._mailbox.far_ends

    @property
    def ways(self) -> Mapping[tuple[str, Encryption], Way]:
        """How tunnels to other hosts are made."""
        if self._ways is None:  # asked for with every plan, and seldom another one
            self._ways = self._make_ways()
        return self._ways

    def _moved(self) -> None:
        self._ways = None
        self._tell_moved()

    def _make_ways(self) -> Mapping[tuple[str, Encryption], Way]:
        paths = self._prober.paths
        found: dict[tuple[str, Encryption], Way] = {}
        for host, peer in self._peers.items():
            path = paths.get(host, Path(host=host))
            # Whom the user gave an address to is to be reached at it by all, and from it.
            local = self._rules.address if _same_kind(self._rules.address, peer.address) else ""
            found[host, "none"] = Way(remote=peer.address, local=local, problem=path.problem, mtu=path.mtu)
            inside = self._secure.way(peer) if self._secure is not None else None
            if inside is not None:
                found[host, "wireguard"] = inside.model_copy(update={"problem": path.problem or inside.problem})
        return found

    def complete(self, facts: HostFacts) -> HostFacts:
        """``facts`` with what others have to know of this host."""
        secure = self._secure.facts if self._secure is not None else None
        return facts.model_copy(
            update={
                "underlay": self.address,
                "underlay_mtu": _mtu_at(self.address, facts),
                "underlay_told": True,
                "probe_port": self._rules.probe_port,
                "paths": tuple(path for _, path in sorted(self._prober.paths.items())),
                "wireguard": secure,
                "wireguard_reason": self._secure.problem if self._secure is not None else "",
            }
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, for people."""
        paths = (path.problem for _, path in sorted(self._prober.paths.items()))
        return tuple(problem for problem in (self._prober.problem, *paths) if problem)

    # -- what is told --------------------------------------------------------------------------------------

    def tell(self, lab_id: str, ends: Mapping[str, Iterable[FarEnd]], *, whole: bool = True) -> None:
        """Our ends of a lab's wires, by the host that they lead to."""
        self._mailbox.tell(lab_id, ends, whole=whole)

    def forget(self, lab_id: str) -> None:
        """The lab is no concern of this host any more."""
        self._mailbox.forget(lab_id)

    def resend(self) -> None:
        """The fabric may have lost everything: tell it again."""
        self._mailbox.resend()

    # -- work ----------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Find out what others are told first."""
        await self.look()
        if self._secure is not None:
            await self._secure.probe()

    async def look(self) -> None:
        """Find the host's own address anew."""
        if self._rules.address:
            return
        interface = self._rules.interface
        found = await asyncio.to_thread(address_of, interface) if interface else ""
        if not interface:
            found = await asyncio.to_thread(find_address, self._rules.fabric)
        if found != self.address:
            log.info("underlay.address", address=found)
            self.address = found

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What is to be kept going."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "underlay-address": self._keep_looking,
            "underlay-peers": self._follow_peers,
            "underlay-ends": self._mailbox.run,
            "underlay-paths": self._prober.run,
        }
        if self._secure is not None:
            loops["underlay-secure"] = self._keep_secure
        return loops

    async def _keep_looking(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def _follow_peers(self) -> None:
        async for change in each_change(lambda: self._fabric.watch_peers(self._host), "peers"):
            if change.value is None:  # lost with the store; it comes again
                continue
            self._peers = {peer.host: peer for peer in change.value.peers}
            self._inside = change.value.inside
            self._prober.set_peers(self._peers)
            self._peers_changed.set()
            self._moved()

    async def _keep_secure(self) -> None:
        """Have WireGuard know exactly the peers; looked at now and then, for others may remove it."""
        assert self._secure is not None  # noqa: S101 - the loop is begun only then
        while True:
            self._peers_changed.clear()
            widths = [path.mtu for path in self._prober.paths.values() if path.mtu]
            if await self._secure.ensure(self._inside, tuple(self._peers.values()), min(widths, default=0)):
                self._moved()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._peers_changed.wait()
            except TimeoutError:
                continue


def _mtu_at(address: str, facts: HostFacts) -> int:
    """MTU of the NIC that has ``address``; 0: none has."""
    found = (nic.mtu for nic in facts.nics if address in {item.partition("/")[0] for item in nic.addresses})
    return next(found, 0) if address else 0


def _same_kind(own: str, other: str) -> bool:
    """Addresses of the same version of IP."""
    return bool(own) and bool(other) and (":" in own) == (":" in other)
