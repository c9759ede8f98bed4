"""Questions about nodes that may move."""

from __future__ import annotations

from wireloom.model.base import Value

__all__ = ["CargoAnswer", "CargoQuestion"]


class CargoQuestion(Value):
    """How much would be carried of these nodes, by their ids?"""

    nodes: tuple[str, ...]


class CargoAnswer(Value):
    """Bytes by node id, of those that have anything there; it is more by what engines keep themselves."""

    sizes: dict[str, int] = {}
