"""Links of a topology file: both ends resolved to ports, each port used once."""

from __future__ import annotations

from collections.abc import Mapping

from wireloom.model.device import Device
from wireloom.model.topology import LinkEnd, LinkSpec
from wireloom.planning.topology.fields import LinkFields, TopologyFields
from wireloom.yamlfile import Bound, Path, did_you_mean
from wireloom.yamlfile.suggest import nearest

__all__ = ["DEFAULT_MTU", "read_links"]

DEFAULT_MTU = 1500


def read_links(
    bound: Bound[TopologyFields],
    fields: TopologyFields,
    nodes: Mapping[str, Device | None],
) -> tuple[LinkSpec, ...]:
    """All links whose both ends are right.

    :param nodes: the device of each node by name; ``None`` where it is not known, so that its ports are not checked.
    """
    reader = _LinkReader(bound, nodes)
    mtu = fields.defaults.mtu if fields.defaults is not None and fields.defaults.mtu is not None else DEFAULT_MTU
    links = [reader.read(index, link, mtu) for index, link in enumerate(fields.links or ()) if link is not None]
    for index, link in enumerate(fields.links or ()):
        if link is None and not bound.flagged("links", index):
            bound.report(("links", index), "this link is empty", "write `- [r1:eth1, r2:eth1]`")
    return tuple(link for link in links if link is not None)


class _LinkReader:
    def __init__(self, bound: Bound[TopologyFields], nodes: Mapping[str, Device | None]) -> None:
        self._bound = bound
        self._nodes = nodes
        self._used: dict[tuple[str, int], Path] = {}

    def read(self, index: int, link: LinkFields, mtu: int) -> LinkSpec | None:
        path: Path = ("links", index, "endpoints")
        first, second = (self._end((*path, side), text) for side, text in enumerate(link.endpoints))
        for label in link.labels or {}:
            if label.startswith("wireloom."):
                where = ("links", index, "labels", label)
                self._bound.report(where, "labels that begin with 'wireloom.' are Wireloom's own", at_key=True)
        if first is not None and second is not None and first.node == second.node and first.index == second.index:
            self._bound.report(("links", index), f"{first} is linked to itself", "a link joins two ports")
            return None
        ends = [self._claim((*path, side), end) for side, end in enumerate((first, second))]
        if ends[0] is None or ends[1] is None:
            return None
        return LinkSpec(
            a=ends[0],
            b=ends[1],
            mtu=link.mtu if link.mtu is not None else mtu,
            up=not link.down,
            labels=link.labels or {},
        )

    def _end(self, path: Path, text: str) -> LinkEnd | None:
        """The port that ``node:interface`` names; ``None`` after reporting, or when the node's device is unknown."""
        node, separator, port = (part.strip() for part in text.partition(":"))
        if not separator or not node or not port:
            self._bound.report(path, f"{text!r} is not an end of a link", "write node:interface, e.g. r1:eth1")
            return None
        if node not in self._nodes:
            near = nearest(node, self._nodes)
            suggestion = f"did you mean '{near}:{port}'?" if near else did_you_mean(node, self._nodes)
            self._bound.report(path, f"there is no node {node!r}", suggestion)
            return None
        device = self._nodes[node]
        return None if device is None else self._port(path, node, port, device)

    def _port(self, path: Path, node: str, written: str, device: Device) -> LinkEnd | None:
        index = device.ports.index_of(written)
        if index is None:
            data = _data_ports(device)
            near = nearest(written, data)
            span = f"its ports are {data[0]} to {data[-1]}" if data else "it has no ports for links"
            suggestion = f"did you mean '{node}:{near}'? {span}" if near else span
            self._bound.report(path, f"node {node!r} ({device.name}) has no interface {written!r}", suggestion)
            return None
        if index == 0:
            data = _data_ports(device)
            suggestion = f"its ports for links are {data[0]} to {data[-1]}" if data else ""
            self._bound.report(path, f"{node}:{written} is the management port and takes no link", suggestion)
            return None
        return LinkEnd(node=node, index=index, port=device.ports.display(index))

    def _claim(self, path: Path, end: LinkEnd | None) -> LinkEnd | None:
        if end is None:
            return None
        first = self._used.setdefault((end.node, end.index), path)
        if first == path:
            return end
        place = self._bound.place(*first)
        where = "" if place is None else f", first at line {place.mark.line}, column {place.mark.column}"
        self._bound.report(path, f"port {end} is used twice{where}", "a port takes one link")
        return None


def _data_ports(device: Device) -> tuple[str, ...]:
    return tuple(device.ports.display(index) for index in range(1, device.ports.limit + 1))
