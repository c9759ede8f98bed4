"""Devices that somebody made and was killed before labelling them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from wireloom.dataplane.host.links import Link
from wireloom.model.identity import is_device_name

__all__ = ["Leftovers", "is_unlabelled"]

#: Nobody who lives takes so long from making a device to labelling it.
_PATIENCE_S: Final = 30.0


def is_unlabelled(link: Link, kind: str) -> bool:
    """Whether a device is of the kernel's ``kind``, is named as ours are, and nobody's yet."""
    return link.kind == kind and not link.alias and is_device_name(link.name)


class Leftovers:
    """Those of one kind. Whose they are cannot be told, so each is given the time to be labelled first.

    :param kind: the kernel's word. :param clock: seconds that never go back.
    """

    def __init__(self, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._clock = clock
        self._since: dict[tuple[str, int], float] = {}

    def due(self, found: Sequence[Link]) -> list[str]:
        """Devices to be removed; ``found`` are all of the host."""
        now = self._clock()
        unlabelled = [(link.name, link.index) for link in found if is_unlabelled(link, self._kind)]
        self._since = {device: self._since.get(device, now) for device in unlabelled}
        return [name for (name, _), since in self._since.items() if now - since >= _PATIENCE_S]
