"""Links as users name them: by their ends, in any order, in any spelling of a port that its device knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wireloom.controller.intents import intents_by_id
from wireloom.controller.picture import LabPicture
from wireloom.devices import DeviceCatalogue
from wireloom.errors import NotFound
from wireloom.model.slice import NodeIntent, PlugIntent, Slice, WireIntent

__all__ = ["FoundLink", "LinkFinder"]

#: A port as (node id, index), or the id of a segment.
_End = tuple[str, int] | str


@dataclass(frozen=True)
class FoundLink:
    """``turned``: the user named its ends the other way round than the topology does."""

    intent: WireIntent | PlugIntent
    turned: bool


class LinkFinder:
    """Finds links of one lab."""

    def __init__(self, picture: LabPicture, devices: DeviceCatalogue) -> None:
        self._lab = picture.snapshot.lab.name
        self._slices: Mapping[str, Slice] = picture.slices
        self._devices = devices
        self._nodes = {node.name: node for node in intents_by_id(picture.slices).values()}
        self._links = dict(_links_by_ends(picture.slices))

    def find(self, a: str, b: str) -> FoundLink:
        """The link between ``a`` and ``b``. :raises NotFound:"""
        first, second = self.end(a), self.end(b)
        for ends in ((first, second), (second, first)):
            if ends in self._links:
                return FoundLink(self._links[ends], turned=ends != (first, second))
        raise NotFound(
            f"lab {self._lab} has no link {a} -- {b}", hint=f"`wireloom inspect {self._lab}` lists its links"
        )

    def end(self, written: str) -> _End:
        """The port, or the segment, that ``written`` names. :raises NotFound: there is none."""
        name, separator, port = (part.strip() for part in written.partition(":"))
        if not separator:
            return self._segment(name)
        node = self._nodes.get(name)
        if node is None:
            hint = f"its nodes: {', '.join(sorted(self._nodes))}"
            raise NotFound(f"lab {self._lab} has no node {name}", hint=hint)
        index = self._index(node, port)
        if index is None:
            raise NotFound(f"{name} ({node.device}) has no interface {port}", node=name)
        return node.id, index

    def _segment(self, name: str) -> str:
        segments = {item.name: item.id for document in self._slices.values() for item in document.segments}
        if name not in segments:
            known = ", ".join(sorted(segments)) or "none"
            hint = f"an end is node:interface, or the name of a segment; its segments: {known}"
            raise NotFound(f"lab {self._lab} has no segment {name}", hint=hint)
        return segments[name]

    def _index(self, node: NodeIntent, port: str) -> int | None:
        """By today's definition of its device, else by the names that its ports were deployed with."""
        device = self._devices.find(node.device)
        index = None if device is None else device.ports.index_of(port)
        if index is not None:
            return index
        return next((known.index for known in node.ports if known.name.casefold() == port.casefold()), None)


def _links_by_ends(slices: Mapping[str, Slice]) -> Iterator[tuple[tuple[_End, _End], WireIntent | PlugIntent]]:
    for document in slices.values():
        for wire in document.wires:
            yield ((wire.a.node_id, wire.a.index), (wire.b.node_id, wire.b.index)), wire
        for plug in document.plugs:
            yield ((plug.port.node_id, plug.port.index), plug.segment), plug
