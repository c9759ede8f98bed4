"""What is left on hosts while nodes are being placed, and what keeps a unit off a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from wireloom.errors import CapacityExceeded, Conflict, Unsupported, WireloomError
from wireloom.planning.placement.types import HostOffer, NodeWish, PlacementOptions, Suits
from wireloom.planning.placement.units import Unit

__all__ = ["Room", "Rooms"]


@dataclass
class Room:
    """A host being filled; ``groups``: how many nodes of each group of anti-affinity it has; ``nodes``: of the lab."""

    offer: HostOffer
    used_mb: int
    used_cpus: float
    groups: Counter[str] = field(default_factory=Counter)
    nodes: int = 0

    @property
    def free_mb(self) -> int:
        return self.offer.memory_mb - self.used_mb


class Rooms:
    """All hosts that live, by name."""

    def __init__(self, offers: Mapping[str, HostOffer], options: PlacementOptions, suits: Suits) -> None:
        self._options = options
        self._suits = suits
        self.rooms = {name: Room(offers[name], offers[name].used_mb, offers[name].used_cpus) for name in sorted(offers)}
        self._suitable: dict[Hashable, tuple[dict[str, Room], dict[str, str]]] = {}

    @property
    def factors(self) -> tuple[float, ...]:
        """How far memory may be promised: what is there at first, and more only where nothing else is left."""
        most = self._options.overcommit_memory
        return (1.0, most) if most > 1 else (most,)

    def put(self, node: NodeWish, host: str, sign: int = 1) -> None:
        """``node`` is on ``host`` now; ``sign`` -1: it is there no more."""
        room = self.rooms.get(host)
        if room is None:
            return
        room.used_mb += sign * node.memory_mb
        room.used_cpus += sign * node.cpus
        room.nodes += sign
        for group in (*node.apart, *node.apart_preferred):
            room.groups[group] += sign

    def put_unit(self, unit: Unit, host: str, sign: int = 1) -> None:
        """As :meth:`put`, of all of its nodes."""
        for node in unit.members:
            self.put(node, host, sign)

    def suitable(self, unit: Unit) -> tuple[Mapping[str, Room], Mapping[str, str]]:
        """Hosts that suit ``unit``, whatever is on them, and why each other one does not."""
        known = self._suitable.get(unit.key)
        if known is None:
            good: dict[str, Room] = {}
            bad: dict[str, str] = {}
            for name, room in self.rooms.items():
                error = next((error for node in unit.members if (error := self.unfit(node, name))), None)
                if error is None:
                    good[name] = room
                else:
                    bad[name] = error.message
            known = self._suitable[unit.key] = (good, bad)
        return known

    def unfit(self, node: NodeWish, host: str) -> WireloomError | None:
        """Why ``node`` cannot be on ``host``, whatever is on it."""
        offer = self.rooms[host].offer
        if offer.closed:
            return Conflict(
                f"{host} takes nothing new: {offer.closed}", node=node.name, hint=f"`wireloom host uncordon {host}`"
            )
        lacking = [f"{key}={value}" for key, value in node.labels.items() if offer.labels.get(key) != value]
        if lacking:
            return Unsupported(
                f"host {host} has no label {', '.join(lacking)}",
                node=node.name,
                hint=f"`wireloom host label {host} {lacking[0]}`",
            )
        return self._suits(node.name, host)

    def fits(self, unit: Unit, room: Room, factor: float) -> bool:
        """Whether there is room for ``unit``, and nothing that it must be apart from."""
        offer, limit = room.offer, self._options.overcommit_cpu
        if _too_much(unit, room, factor):
            return False
        if limit and offer.cpus and unit.cpus and room.used_cpus + unit.cpus > offer.cpus * limit:
            return False
        return not any(room.groups[group] for group in unit.apart)

    def full(self, unit: Unit, node: NodeWish, host: str) -> WireloomError | None:
        """Why ``host`` as it is filled now cannot take ``unit``, told to ``node``."""
        room = self.rooms[host]
        if self.fits(unit, room, self.factors[-1]):
            return None
        group = next((group for group in unit.apart if room.groups[group]), "")
        if group:
            return CapacityExceeded(
                f"host {host} has a node of group {group} already",
                node=node.name,
                hint="let another host join, or change `apart` to `apart-preferred`",
            )
        return self._no_room(unit, node, room)

    def _no_room(self, unit: Unit, node: NodeWish, room: Room) -> WireloomError:
        host, offer = room.offer.name, room.offer
        more = f" for {node.name} and the nodes of its segments:" if len(unit.members) > 1 else " for"
        if _too_much(unit, room, self.factors[-1]):
            return CapacityExceeded(
                f"host {host} has no room{more} {unit.memory_mb} MiB: {room.used_mb} MiB of"
                f" {offer.memory_mb} MiB are promised already",
                node=node.name,
                hint="stop other nodes, lower `memory`, or use a larger host",
            )
        return CapacityExceeded(
            f"host {host} has no room{more} {unit.cpus:g} cores: {room.used_cpus:g} of {offer.cpus:g} are promised"
            " already",
            node=node.name,
            hint="stop other nodes, lower `cpu`, or use a larger host",
        )


def _too_much(unit: Unit, room: Room, factor: float) -> bool:
    """Whether ``unit`` would use more memory than the host may promise."""
    has = room.offer.memory_mb
    return bool(unit.memory_mb and has) and (unit.largest_mb > has or room.used_mb + unit.memory_mb > has * factor)
