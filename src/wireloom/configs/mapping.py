"""To whom the configurations of a deleted node could go."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Keeper", "Suggestion", "suggest"]

_ALIKE: Final = 0.6


@dataclass(frozen=True)
class Keeper:
    """A node, there or deleted, that has or could have configurations."""

    node: str
    device: str


@dataclass(frozen=True)
class Suggestion:
    """``target`` could take over what ``source`` has; ``why`` is ``same-name``, ``alike`` or ``only-one``."""

    source: str
    target: str
    why: str


def suggest(sources: Sequence[Keeper], targets: Sequence[Keeper]) -> tuple[Suggestion, ...]:
    """At most one target for each source, and no target twice: the same device under the same name first, then the
    same device under the name that is most alike, then the only one that is left of a device. Configurations of one
    device mean nothing to another.
    """
    found: list[Suggestion] = []
    free = {target.node: target for target in targets}
    left: list[Keeper] = []
    for source in sources:
        namesake = free.get(source.node)
        if namesake is not None and namesake.device == source.device:
            found.append(Suggestion(source.node, namesake.node, "same-name"))
            del free[source.node]
        else:
            left.append(source)
    lonely: list[Keeper] = []
    for source in left:
        near = difflib.get_close_matches(source.node, _of_device(free, source), n=1, cutoff=_ALIKE)
        if near:
            found.append(Suggestion(source.node, near[0], "alike"))
            del free[near[0]]
        else:
            lonely.append(source)
    for source in lonely:
        names = _of_device(free, source)
        if len(names) == 1 and sum(other.device == source.device for other in lonely) == 1:
            found.append(Suggestion(source.node, names[0], "only-one"))
    return tuple(found)


def _of_device(keepers: Mapping[str, Keeper], like: Keeper) -> list[str]:
    return [name for name, keeper in keepers.items() if keeper.device == like.device]
