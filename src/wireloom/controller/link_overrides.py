"""What users set of links beside the topology, when another topology takes the place of the one it was set against.

It wins over the file, until the file says something new of that link: who edits its impairment there wants it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wireloom.controller.intents import links_by_id
from wireloom.controller.link_preflight import link_names
from wireloom.model.impairment import LinkImpairment
from wireloom.model.slice import PlugIntent, Slice, WireIntent

__all__ = ["KeptOverrides", "keep_overrides"]


@dataclass(frozen=True)
class KeptOverrides:
    """``kept``: what still holds, by id of the link. ``ended``: names of the links whose own is over."""

    kept: Mapping[str, LinkImpairment]
    ended: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """For people."""
        return tuple(
            f"link {name}: its impairment has changed in the topology, which ends what was set or cleared for it by"
            " a verb"
            for name in self.ended
        )


def keep_overrides(
    set_: Mapping[str, LinkImpairment], before: Mapping[str, Slice], after: Mapping[str, Slice]
) -> KeptOverrides:
    """What of ``set_`` outlives the step from ``before`` to ``after``, both as their topologies alone have them."""
    had, has, names = links_by_id(before), links_by_id(after), link_names(after)
    kept: dict[str, LinkImpairment] = {}
    ended = []
    for link_id, override in set_.items():
        if link_id not in has or link_id not in had:
            kept[link_id] = override  # it goes with its link, or waits for one that no host has now
            continue
        turned = _is_turned(had[link_id], has[link_id])
        declared = had[link_id].impairment
        if has[link_id].impairment == (declared.turned() if turned else declared):
            kept[link_id] = override.turned() if turned else override
        else:
            ended.append(names[link_id])
    return KeptOverrides(kept, tuple(ended))


def _is_turned(before: WireIntent | PlugIntent, after: WireIntent | PlugIntent) -> bool:
    """Another end is written first; what is set of a link is stored as its topology writes it."""
    return before.ends != after.ends
