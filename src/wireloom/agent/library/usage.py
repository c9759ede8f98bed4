"""What uses images on this host, as far as intent and engines say."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping

from wireloom.model.images import ImagePin, engine_name
from wireloom.model.slice import NodeIntent, Slice

__all__ = ["Usage"]


class Usage:
    """Reads slices, by lab id, and which nodes have runtimes, by node id; both as they are when asked."""

    def __init__(self, slices: Callable[[], Mapping[str, Slice]], runtimes: Container[str]) -> None:
        self._slices = slices
        self._runtimes = runtimes

    def held_by(self, provider: str, name: str) -> tuple[str, ...]:
        """Nodes (``lab/node``) that have a runtime, running or not, of the image that has that name, however they write
        it."""
        name = engine_name(provider, name)
        return tuple(
            f"{lab.lab}/{node.name}"
            for lab, node in self._nodes()
            if node.provider == provider and engine_name(provider, node.image) == name and node.id in self._runtimes
        )

    def wanted_by(self, pin: ImagePin) -> tuple[str, ...]:
        """Nodes that are to be made of exactly that image, whether they have a runtime or not."""
        return tuple(f"{lab.lab}/{node.name}" for lab, node in self._nodes() if _is(lab.pin(node), pin))

    def is_wanted(self, lab_id: str, node: NodeIntent, pin: ImagePin | None) -> bool:
        """Whether ``node`` is still to be brought up, of that image."""
        lab = self._slices().get(lab_id)
        if lab is None or lab.removed:
            return False
        now = lab.node(node.id)
        return (
            now is not None
            and now.power == "on"
            and (now.provider, now.image) == (node.provider, node.image)
            and lab.pin(now) == pin
        )

    def _nodes(self) -> Iterator[tuple[Slice, NodeIntent]]:
        for lab in self._slices().values():
            if not lab.removed:
                for node in lab.nodes:
                    yield lab, node


def _is(said: ImagePin | None, pin: ImagePin) -> bool:
    """Whether a node's pin, which has the name that the node says, is ``pin``."""
    if said is None:
        return False
    same = engine_name(said.provider, said.name) == engine_name(pin.provider, pin.name)
    return same and said.model_copy(update={"name": pin.name}) == pin
