"""Placement: what is fixed stays, all else is put where its wires are, and is then moved a little to save wires.

Nodes that exist stay where they are, and a pin is always kept or refused. All others are gone through along the links,
each to the host that most of its links lead to, as long as there is room; a host is filled before the next is begun.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush

from wireloom.errors import CapacityExceeded, NotPermitted, Unavailable, Unsupported, WireloomError
from wireloom.planning.placement.rooms import Room, Rooms
from wireloom.planning.placement.types import USUAL, Choice, HostOffer, NodeWish, Placement, PlacementOptions, Suits
from wireloom.planning.placement.units import Unit, connect, units_of

__all__ = ["place"]

_PASSES = 3  # over all nodes, to save wires
_ANYWHERE: Suits = lambda _node, _host: None  # noqa: E731

#: Links to the host that is being filled, negative; when it was touched first; position of the unit.
_Pulled = tuple[int, int, int]


def place(
    nodes: Sequence[NodeWish],
    links: Iterable[tuple[str, str]],
    segments: Mapping[str, Sequence[str]],
    hosts: Mapping[str, HostOffer],
    *,
    options: PlacementOptions = USUAL,
    suits: Suits = _ANYWHERE,
) -> Placement:
    """A host for each of ``nodes``, which are all nodes of a lab.

    :param links: names of both nodes of each link between nodes.
    :param segments: names of the nodes that plug into each segment, by its name.
    :param hosts: those that live.
    :param suits: what a node needs and a host has not; asked once per kind of node and host.
    """
    units = units_of(nodes, segments)
    connect(units, links)
    return _Search(units, Rooms(hosts, options, suits)).run()


class _Search:
    """One placement. ``where``: hosts of units by position, as they are found."""

    def __init__(self, units: list[Unit], rooms: Rooms) -> None:
        self._units = units
        self._rooms = rooms
        self._where: dict[int, str] = {}
        self._choices: dict[str, Choice] = {}
        self._fill: str | None = None
        self._rest_mb = 0

    def run(self) -> Placement:
        free = self._fix()
        self._rest_mb = sum(self._units[position].memory_mb for position in free)
        self._place_all(free)
        placed = [position for position in free if position in self._where]
        for _ in range(_PASSES):
            if not self._refine(placed):
                break
        for position in placed:
            self._tell(position)
        return Placement({node.name: self._choices[node.name] for unit in self._units for node in unit.members})

    # ---------------------------------------------------------------- what is fixed

    def _fix(self) -> list[int]:
        """Put what exists and what is pinned; the positions of units that are free."""
        held = [_held(unit) for unit in self._units]
        for unit in self._units:
            for node in unit.members:
                if node.current is not None and node.pin in {None, node.current}:
                    self._settle(node, node.current, "it is there already")
        for position, unit in enumerate(self._units):
            for node in unit.members:
                if node.pin is not None and node.pin != node.current:
                    self._pin(unit, node)
            if held[position] is not None:
                self._where[position] = held[position] or ""
        for position, unit in enumerate(self._units):
            if held[position] is not None:
                self._join(unit, held[position] or "")
        return [position for position in range(len(self._units)) if held[position] is None]

    def _settle(self, node: NodeWish, host: str, reason: str) -> None:
        self._rooms.put(node, host)
        self._choices[node.name] = Choice(host, (reason,))

    def _pin(self, unit: Unit, node: NodeWish) -> None:
        host = node.pin or ""
        error = self._away(node, host) or self._torn(unit, node, host) or self._one(unit, node, host)
        if error is None:
            self._settle(node, host, "the topology names the host")
            return
        if node.current is not None:
            self._rooms.put(node, node.current)
        reasons = () if node.current is None else (f"it stays where it is: {error.message}",)
        self._choices[node.name] = Choice(node.current, reasons, {host: error.message}, error)

    def _away(self, node: NodeWish, host: str) -> WireloomError | None:
        if host in self._rooms.rooms:
            return None
        living = ", ".join(self._rooms.rooms) or "none"
        return Unavailable(f"host {host} does not answer", node=node.name, hint=f"hosts that do: {living}")

    def _torn(self, unit: Unit, node: NodeWish, host: str) -> WireloomError | None:
        """Its segment is on another host, with nodes that exist there."""
        for other in unit.members:
            if other is not node and other.pin in {None, other.current} and other.current not in {None, host}:
                return Unsupported(
                    f"a segment ({', '.join(unit.segments)}) would span the hosts {host} and {other.current}, where"
                    f" {other.name} is",
                    node=node.name,
                    hint="put the segment and its nodes on one host with `host:`",
                )
        return None

    def _one(self, unit: Unit, node: NodeWish, host: str) -> WireloomError | None:
        alone = units_of([node], {})[0]
        return self._rooms.unfit(node, host) or self._rooms.full(alone, node, host)

    def _join(self, unit: Unit, host: str) -> None:
        """Nodes that share a segment with those that are fixed go where these are."""
        for node in unit.members:
            if node.name in self._choices:
                continue
            error = self._away(node, host) or self._one(unit, node, host)
            if error is not None:
                self._choices[node.name] = Choice(None, (), {host: error.message}, error)
            else:
                self._settle(node, host, f"segment {', '.join(unit.segments)} is there")

    # ---------------------------------------------------------------- what is free

    def _place_all(self, free: list[int]) -> None:
        """Grow what is on the host that is being filled by what most of its links lead to; then begin another."""
        left = dict.fromkeys(free)
        seeds = deque(item for item in free if any(other in self._where for other in self._units[item].wires))
        pull: Counter[int] = Counter()  # links to the host that is being filled
        heap: list[_Pulled] = []
        order: dict[int, int] = {}  # what was touched first comes first, so that a host gets a compact part
        while left:
            position = _next(left, heap, pull, seeds)
            del left[position]
            before = self._fill
            self._place(position)
            if self._fill != before:
                pull.clear()
                heap.clear()
                order.clear()
            here = self._where.get(position) == self._fill is not None
            for other, count in self._units[position].wires.items() if here else ():
                if other in left:
                    pull[other] += count
                    heappush(heap, (-pull[other], order.setdefault(other, len(order)), other))
                    if pull[other] == count:
                        seeds.append(other)

    def _place(self, position: int) -> None:
        unit = self._units[position]
        host = None if unit.clash else self._best(unit)
        if host is None:
            self._refuse(unit)
            return
        if self._fill is None or not self._fits(unit, self._fill, self._rooms.factors[0]):
            self._fill = host
        self._where[position] = host
        self._rooms.put_unit(unit, host)
        self._rest_mb -= unit.memory_mb

    def _best(self, unit: Unit) -> str | None:
        suitable, _ = self._rooms.suitable(unit)
        near = self._wires_by_host(unit)
        for factor in self._rooms.factors:
            first = dict.fromkeys((*near, *([self._fill] if self._fill else [])))
            found = [suitable[name] for name in first if name in suitable and self._fits(unit, name, factor)]
            if not found or self._could_be_better(unit, found, near):
                found = [room for room in suitable.values() if self._rooms.fits(unit, room, factor)]
            if found:
                return max(found, key=lambda room: self._score(unit, room, near)).offer.name
        return None

    def _fits(self, unit: Unit, host: str, factor: float) -> bool:
        return self._rooms.fits(unit, self._rooms.rooms[host], factor)

    def _could_be_better(self, unit: Unit, found: list[Room], near: Mapping[str, int]) -> bool:
        """Whether hosts that none of its links lead to are worth a look."""
        if all(any(room.groups[group] for group in unit.apart_preferred) for room in found):
            return True
        return not near and not all(unit.images <= room.offer.images for room in found)

    def _score(self, unit: Unit, room: Room, near: Mapping[str, int]) -> tuple[float | str, ...]:
        name = room.offer.name
        return (
            -sum(room.groups[group] for group in unit.apart_preferred),
            near.get(name, 0),
            room.nodes if self._fill is None else name == self._fill and unit.images <= room.offer.images,
            self._fill is None and room.free_mb >= self._rest_mb,
            len(unit.images & room.offer.images),
            name == self._fill,
            room.free_mb,
            name,
        )

    def _wires_by_host(self, unit: Unit) -> Counter[str]:
        wires: Counter[str] = Counter()
        for other, count in unit.wires.items():
            host = self._where.get(other)
            if host is not None:
                wires[host] += count
        return wires

    def _refine(self, placed: list[int]) -> bool:
        """Move units to where more of their links are; whether one was moved. Each move saves a wire at least."""
        moved = False
        for position in placed:
            unit, here = self._units[position], self._where[position]
            near = self._wires_by_host(unit)
            if unit.apart_preferred or (len(near) < 2 and here in near):
                continue
            there = max(near, key=lambda name: (near[name], name), default=here)
            suitable, _ = self._rooms.suitable(unit)
            if near[there] > near[here] and there in suitable and self._fits(unit, there, self._rooms.factors[0]):
                self._rooms.put_unit(unit, here, -1)
                self._rooms.put_unit(unit, there)
                self._where[position], moved = there, True
        return moved

    # ---------------------------------------------------------------- why

    def _tell(self, position: int) -> None:
        unit, host = self._units[position], self._where[position]
        _, rejected = self._rooms.suitable(unit)
        choice = Choice(host, tuple(self._reasons(unit, host)), rejected)
        for node in unit.members:
            self._choices[node.name] = choice

    def _reasons(self, unit: Unit, host: str) -> Iterator[str]:
        room, near, all_wires = self._rooms.rooms[host], self._wires_by_host(unit), unit.wires.total()
        if len(self._rooms.rooms) == 1:
            yield "it is the only host"
        elif len(self._rooms.suitable(unit)[0]) == 1:
            yield "no other host suits"
        if all_wires and near[host]:
            yield f"{near[host]} of {all_wires} links stay on the host"
        if len(unit.members) > 1:
            yield f"together with all of segment {', '.join(unit.segments)}"
        groups = [group for group in (*unit.apart, *unit.apart_preferred) if room.groups[group] == 1]
        if groups:
            yield f"apart from others of group {', '.join(groups)}"
        if unit.images and unit.images <= room.offer.images:
            yield "the image is there"
        if room.offer.memory_mb:
            yield (
                f"{room.free_mb} MiB of its memory are left then"
                if room.free_mb >= 0
                else f"{-room.free_mb} MiB more than it has are promised then"
            )

    def _refuse(self, unit: Unit) -> None:
        for node in unit.members:
            if unit.clash:
                error: WireloomError = Unsupported(
                    f"nodes of group {unit.clash} are to be apart, and segment {', '.join(unit.segments)} holds them"
                    " on one host",
                    node=node.name,
                    hint="connect them by links, or take one out of the group",
                )
                self._choices[node.name] = Choice(None, (), {}, error)
                continue
            errors = {name: self._why_not(unit, node, name) for name in self._rooms.rooms}
            rejected = {name: error.message for name, error in errors.items()}
            self._choices[node.name] = Choice(None, (), rejected, _nobody(node, errors))

    def _why_not(self, unit: Unit, node: NodeWish, host: str) -> WireloomError:
        """The node's own reason before those of others that it shares a segment with."""
        for member in (node, *unit.members):
            error = self._rooms.unfit(member, host)
            if error is not None:
                return error if member is node else _of_other(error, node, member)
        full = self._rooms.full(unit, node, host)
        return full or CapacityExceeded(f"host {host} has no room", node=node.name)


def _next(left: Mapping[int, None], heap: list[_Pulled], pull: Mapping[int, int], seeds: deque[int]) -> int:
    """What is pulled most by the host that is being filled; else the next that touches anything; else any."""
    while heap:
        strength, _, position = heappop(heap)
        if position in left and pull[position] == -strength:
            return position
    while seeds:
        position = seeds.popleft()
        if position in left:
            return position
    return next(iter(left))


def _held(unit: Unit) -> str | None:
    """The host that fixed members give a unit: what exists and may stay there is stronger than a pin."""
    stays = (node.current for node in unit.members if node.current is not None and node.pin in {None, node.current})
    pins = (node.pin for node in unit.members if node.pin is not None)
    return next(stays, None) or next(pins, None)


def _of_other(error: WireloomError, node: NodeWish, member: NodeWish) -> WireloomError:
    return type(error)(f"{member.name}, of the same segment: {error.message}", node=node.name, hint=error.hint)


def _nobody(node: NodeWish, errors: Mapping[str, WireloomError]) -> WireloomError:
    """One error of all hosts' reasons; it is one that may end by itself, where one of them may."""
    if not errors:
        return Unavailable("no host is connected", node=node.name, hint="start an agent: `sudo wireloom up`")
    if len(errors) == 1:
        return next(iter(errors.values()))
    order = (Unavailable, CapacityExceeded, NotPermitted)
    kind = next((kind for kind in order if any(isinstance(error, kind) for error in errors.values())), Unsupported)
    by_reason: dict[str, list[str]] = {}
    for host, error in errors.items():
        by_reason.setdefault(error.message.replace(host, "{}"), []).append(host)
    told = "; ".join(
        reason.replace("{}", hosts[0])
        if len(hosts) == 1
        else f"{', '.join(hosts)}: {reason.replace('host {}', 'each').replace('{}', 'each')}"
        for reason, hosts in by_reason.items()
    )
    hint = next((error.hint for error in errors.values() if error.hint), "")
    return kind(f"no host can take it: {told}", node=node.name, hint=hint, details={"hosts": _messages(errors)})


def _messages(errors: Mapping[str, WireloomError]) -> dict[str, str]:
    return {host: error.message for host, error in errors.items()}
