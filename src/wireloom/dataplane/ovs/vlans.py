"""A port's VLANs as the columns of its row in table ``Port``. Pure.

========================  =====================  ==========================================
segment tells VLANs by    a plug is              port mode
========================  =====================  ==========================================
nothing                   any                    ``trunk`` of all: tags pass untouched
802.1Q tags               access                 ``access``
802.1Q, 802.1ad tags      trunk                  ``trunk``, with a native VLAN ``native-untagged``
802.1ad tags              access                 ``dot1q-tunnel``: customers' tags stay inside
========================  =====================  ==========================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from wireloom.model.vlans import DEFAULT_VLAN, Tagging, Vlans

__all__ = ["PortMode", "mode_of", "uplink_mode", "vlans_of"]

#: Keep the priority of frames that carry one without being in a VLAN.
_PRIORITIES: Final = {"priority-tags": "if-nonzero"}
_PROVIDER: Final = {"qinq-ethtype": "802.1ad"}


@dataclass(frozen=True)
class PortMode:
    """Values of the columns of the same names; ``None`` and empty ones are unset."""

    vlan_mode: str = "trunk"
    tag: int | None = None
    trunks: frozenset[int] = frozenset()
    other_config: dict[str, str] = field(default_factory=lambda: dict(_PRIORITIES))


def mode_of(tagging: Tagging, vlans: Vlans | None) -> PortMode:
    """As which port of its bridge a plug is made; one that says nothing is an access port of VLAN 1."""
    if tagging == "none":
        return PortMode()
    wanted = vlans or Vlans.access(DEFAULT_VLAN)
    provider = _PROVIDER if tagging == "802.1ad" else {}
    if not wanted.tagged:
        mode = "dot1q-tunnel" if provider else "access"
        return PortMode(mode, wanted.untagged, other_config={**_PRIORITIES, **provider})
    trunks = frozenset(vlan for first, last in wanted.tagged for vlan in range(first, last + 1))
    mode = "trunk" if wanted.untagged is None else "native-untagged"
    return PortMode(mode, wanted.untagged, trunks, {**_PRIORITIES, **provider})


def uplink_mode(tagging: Tagging) -> PortMode:
    """The port that carries every VLAN of a segment to the world, the default one without a tag."""
    if tagging == "none":
        return PortMode()
    provider = _PROVIDER if tagging == "802.1ad" else {}
    return PortMode("native-untagged", DEFAULT_VLAN, other_config={**_PRIORITIES, **provider})


def vlans_of(tagging: Tagging, tag: int | None, trunks: Iterable[int]) -> Vlans | None:
    """The reverse: what a row in a segment of ``tagging`` says; ``None`` where there are no VLANs."""
    tagged = _ranges(trunks)
    if tagging == "none" or (tag is None and not tagged):
        return None
    return Vlans(untagged=tag, tagged=tagged)


def _ranges(vlans: Iterable[int]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for vlan in sorted(vlans):
        if found and found[-1][1] == vlan - 1:
            found[-1] = (found[-1][0], vlan)
        else:
            found.append((vlan, vlan))
    return tuple(found)
