"""A vendor's list of port names, as the few rules that device files write down. Pure.

``Gi0/0, Gi0/1, …`` becomes ``Gi0/{n}`` from 0 on; ``Et0/0 … Et0/3, Et1/0`` becomes ``Et{slot}/{port}`` with four ports
a slot. What follows no rule is cut off, and said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wireloom.model.ports import PortNaming

__all__ = ["PortPlan", "plan_ports"]

_LIMIT: Final = 512
_MOST_RESERVED: Final = 8
_MOST_SKIPPED: Final = 8
_NUMBERS: Final = re.compile(r"(\d{1,6})")
#: What definitions call a NIC that carries nothing.
_RESERVED: Final = re.compile(r"do[ _-]?not[ _-]?use.*|(?:un|not[ _-]?)used.*|reserved.*", re.IGNORECASE)


@dataclass(frozen=True)
class PortPlan:
    """:ivar naming: for the names; :ivar reserved: NICs before the first data port that carry nothing."""

    naming: PortNaming
    reserved: int = 0
    warnings: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """``ports`` of a device file, without what is its default."""
        naming, plain = self.naming, PortNaming()
        said: dict[str, Any] = {"name": naming.name}
        for key in ("first", "step", "per_slot", "first_slot", "skip"):
            value = getattr(naming, key)
            if value != getattr(plain, key):
                said[key.replace("_", "-")] = value
        return {**said, "management": naming.management, "limit": naming.limit}


def plan_ports(physical: Sequence[str], management: Collection[str] = ()) -> PortPlan:
    """Rules for the names ``physical``, which are in the order of NICs.

    :param management: those of them that are for management; only the first NIC can be.
    """
    names = list(dict.fromkeys(physical))
    own = names.pop(0) if names and names[0] in management else None
    reserved = 0
    while names and reserved < _MOST_RESERVED and _RESERVED.fullmatch(names[0]):
        names.pop(0)
        reserved += 1
    usable = next((at for at, name in enumerate(names) if _RESERVED.fullmatch(name)), len(names))
    naming = _naming(names[:usable]).model_copy(update={"management": own})
    naming = naming.model_copy(update={"limit": _without_clash(naming)})
    warnings = []
    if naming.limit < len(names):
        left = ", ".join(names[naming.limit : naming.limit + 3])
        warnings.append(f"{len(names) - naming.limit} of its ports, which follow no rule ({left}, …)")
    return PortPlan(naming, reserved, tuple(warnings))


def _naming(names: Sequence[str]) -> PortNaming:
    """The rule that fits most of ``names`` from the first one on."""
    if not names:
        return PortNaming(limit=0)
    best, most = PortNaming(name=_literal(names[0]), limit=1), 0
    for naming in _candidates(names):
        fitting = _fitting(naming, names)
        if fitting > most:
            best, most = naming.model_copy(update={"limit": fitting}), fitting
    return best


def _candidates(names: Sequence[str]) -> Iterator[PortNaming]:
    first = _NUMBERS.split(names[0])
    places = range(1, len(first), 2)
    for place in reversed(places):
        yield from _counted(first, place, names)
    for port in reversed(places):
        for slot in places:
            if slot < port:
                yield from _slotted(first, slot, port, names)


def _counted(first: Sequence[str], place: int, names: Sequence[str]) -> Iterator[PortNaming]:
    """One number counts."""
    naming = PortNaming(name=_template(first, {place: "{n}"}), first=int(first[place]), limit=_LIMIT)
    second = _NUMBERS.split(names[1]) if len(names) > 1 else []
    if len(second) == len(first) and int(second[place]) > int(first[place]):
        naming = naming.model_copy(update={"step": int(second[place]) - int(first[place])})
    yield naming


def _slotted(first: Sequence[str], slot: int, port: int, names: Sequence[str]) -> Iterator[PortNaming]:
    """Two numbers count: ports within slots. Some of the first slot's may be missing at its beginning."""
    split = [_NUMBERS.split(name) for name in names]
    in_first = next(
        (at for at, parts in enumerate(split) if len(parts) <= slot or parts[slot] != first[slot]), len(split)
    )
    naming = PortNaming(
        name=_template(first, {slot: "{slot}", port: "{port}"}),
        first_slot=int(first[slot]),
        per_slot=in_first,
        first=int(first[port]),
        limit=_LIMIT,
    )
    for skip in range(min(_MOST_SKIPPED, int(first[port]) + 1)):
        moved = {"skip": skip, "per_slot": in_first + skip, "first": int(first[port]) - skip}
        yield naming.model_copy(update=moved)


def _template(parts: Sequence[str], fields: dict[int, str]) -> str:
    return "".join(fields.get(at) or _literal(part) for at, part in enumerate(parts))


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _fitting(naming: PortNaming, names: Sequence[str]) -> int:
    """How many of ``names`` it gives, from the first one on."""
    for at, name in enumerate(names[:_LIMIT]):
        if naming.display(at + 1) != name:
            return at
    return min(len(names), _LIMIT)


def _without_clash(naming: PortNaming) -> int:
    """Its limit, or fewer where a name would be that of the management port."""
    taken = (naming.management or "").casefold()
    for index in range(1, naming.limit + 1):
        if naming.display(index).casefold() == taken:
            return index - 1
    return naming.limit
