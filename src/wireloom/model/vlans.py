"""VLANs of a port in a switch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Self

from pydantic import model_validator

from wireloom.model.base import Value

__all__ = ["DEFAULT_VLAN", "HIGHEST_VLAN", "Tagging", "Vlans"]

#: The VLAN of a port that says nothing, in a switch that has VLANs.
DEFAULT_VLAN: Final = 1
#: 0 and 4095 are reserved (IEEE 802.1Q, table 9-2).
HIGHEST_VLAN: Final = 4094

#: How a switch tells VLANs apart: not at all, by tags of customers, or by tags of providers around these (Q-in-Q).
Tagging = Literal["none", "802.1q", "802.1ad"]


class Vlans(Value):
    """Which VLANs a port is in.

    :ivar untagged: frames without a tag belong to this VLAN, and its frames leave without one: the VLAN of an access
        port, or the native one of a trunk. ``None``: frames without a tag are dropped.
    :ivar tagged: VLANs whose frames carry a tag, as ascending, disjoint ranges (first, last); empty on an access port.
    """

    untagged: int | None = None
    tagged: tuple[tuple[int, int], ...] = ()

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        last = 0
        for first, end in self.tagged:
            if not last < first <= end <= HIGHEST_VLAN:
                raise ValueError(f"VLAN ranges are ascending and between 1 and {HIGHEST_VLAN}: {self.tagged}")
            last = end
        if self.untagged is not None and not 1 <= self.untagged <= HIGHEST_VLAN:
            raise ValueError(f"a VLAN is between 1 and {HIGHEST_VLAN}, not {self.untagged}")
        if self.untagged is None and not self.tagged:
            raise ValueError("a port is in one VLAN at least")
        return self

    @classmethod
    def access(cls, vlan: int = DEFAULT_VLAN) -> Vlans:
        """An access port of ``vlan``."""
        return cls(untagged=vlan)

    @classmethod
    def trunk(cls, ranges: Iterable[tuple[int, int]], native: int | None = None) -> Vlans:
        """A trunk of ``ranges`` in any order, in the one form that hosts read back: joined, and without ``native``."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(part for given in ranges for part in _without(given, native)):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return cls(untagged=native, tagged=tuple(joined))

    def tags(self, vlan: int) -> bool:
        """Whether frames of ``vlan`` carry a tag here."""
        return vlan != self.untagged and any(first <= vlan <= last for first, last in self.tagged)


def _without(given: tuple[int, int], vlan: int | None) -> list[tuple[int, int]]:
    first, last = given
    if vlan is None or not first <= vlan <= last:
        return [given]
    return [part for part in ((first, vlan - 1), (vlan + 1, last)) if part[0] <= part[1]]
