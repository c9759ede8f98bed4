"""Links of a topology file: ends resolved to ports and segments, each port used once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wireloom.model.device import Device
from wireloom.model.impairment import LinkImpairment
from wireloom.model.topology import LinkEnd, LinkSpec, PlugSpec, SegmentSpec
from wireloom.model.vlans import Vlans
from wireloom.planning.topology.fields import TopologyFields
from wireloom.planning.topology.impairment import read_impairment
from wireloom.planning.topology.link_fields import LinkFields
from wireloom.planning.topology.segments import DEFAULT_MTU
from wireloom.yamlfile import Bound, Path, did_you_mean
from wireloom.yamlfile.suggest import nearest

__all__ = ["read_links"]

_PER_LINK = ("vlan", "trunk", "native")


def read_links(
    bound: Bound[TopologyFields],
    fields: TopologyFields,
    nodes: Mapping[str, Device | None],
    segments: Mapping[str, SegmentSpec | None],
) -> tuple[tuple[LinkSpec, ...], tuple[PlugSpec, ...]]:
    """All links between ports, and all into segments, whose both ends are right.

    :param nodes: the device of each node by name; ``None`` where it is not known, so that its ports are not checked.
    :param segments: by name; ``None`` for one with a mistake.
    """
    reader = _LinkReader(bound, nodes, segments)
    mtu = fields.defaults.mtu if fields.defaults is not None and fields.defaults.mtu is not None else DEFAULT_MTU
    links = [reader.read(index, link, mtu) for index, link in enumerate(fields.links or ()) if link is not None]
    for index, link in enumerate(fields.links or ()):
        if link is None and not bound.flagged("links", index):
            bound.report(("links", index), "this link is empty", "write `- [r1:eth1, r2:eth1]`")
    return (
        tuple(link for link in links if isinstance(link, LinkSpec)),
        tuple(link for link in links if isinstance(link, PlugSpec)),
    )


@dataclass(frozen=True)
class _End:
    """One end as far as it is understood: a port, or the name of a segment."""

    port: LinkEnd | None = None
    segment: str = ""


class _LinkReader:
    def __init__(
        self,
        bound: Bound[TopologyFields],
        nodes: Mapping[str, Device | None],
        segments: Mapping[str, SegmentSpec | None],
    ) -> None:
        self._bound = bound
        self._nodes = nodes
        self._segments = segments
        self._used: dict[tuple[str, int], Path] = {}

    def read(self, index: int, link: LinkFields, mtu: int) -> LinkSpec | PlugSpec | None:
        path: Path = ("links", index)
        first, second = (self._end((*path, "endpoints", side), text) for side, text in enumerate(link.endpoints))
        self._check_labels(path, link)
        impairment = read_impairment(self._bound, (*path, "impairment"), link.impairment)
        if first.segment and second.segment:
            message = f"{first.segment!r} and {second.segment!r} are both segments"
            self._bound.report((*path, "endpoints"), message, "one end of a link is a port, e.g. r1:eth1")
            return None
        if first.port is not None and second.port is not None and _same(first.port, second.port):
            self._bound.report(path, f"{first.port} is linked to itself", "a link joins two ports")
            return None
        ends = [self._claim((*path, "endpoints", side), end.port) for side, end in enumerate((first, second))]
        if first.segment:
            return self._plug(path, link, ends[1], first.segment, impairment.turned())
        if second.segment:
            return self._plug(path, link, ends[0], second.segment, impairment)
        return self._wire(path, link, ends, mtu, impairment)

    def _wire(
        self, path: Path, link: LinkFields, ends: list[LinkEnd | None], mtu: int, impairment: LinkImpairment
    ) -> LinkSpec | None:
        a, b = ends
        if a is None or b is None:
            return None
        for key in _PER_LINK:
            if getattr(link, key) is not None:
                message = "a link between two ports passes all frames, whatever their tags"
                self._bound.report((*path, key), message, f"`{key}` is for links into a switch; remove it", at_key=True)
        return LinkSpec(
            a=a,
            b=b,
            mtu=link.mtu if link.mtu is not None else mtu,
            up=not link.down,
            labels=link.labels or {},
            impairment=impairment,
        )

    def _plug(
        self, path: Path, link: LinkFields, end: LinkEnd | None, name: str, impairment: LinkImpairment
    ) -> PlugSpec | None:
        segment = self._segments[name]
        if link.mtu is not None:
            message = f"links into segment {name!r} have the segment's MTU"
            self._bound.report((*path, "mtu"), message, f"say `mtu` under `segments: {name}:`", at_key=True)
        if end is None or segment is None:
            return None
        return PlugSpec(
            end=end,
            segment=name,
            vlans=self._vlans(path, link, segment),
            up=not link.down,
            labels=link.labels or {},
            impairment=impairment,
        )

    def _vlans(self, path: Path, link: LinkFields, segment: SegmentSpec) -> Vlans | None:
        given = [key for key in _PER_LINK if getattr(link, key) is not None]
        if not given:
            return None
        if segment.kind != "switch":
            message = f"segment {segment.name!r} is of kind `{segment.kind}`, and only a switch has VLANs"
            self._bound.report((*path, given[0]), message, "remove it, or plug into a switch", at_key=True)
            return None
        if link.vlan is not None:
            if len(given) > 1:
                message = f"a port is an access port (`vlan`) or a trunk (`{given[1]}`), not both"
                self._bound.report((*path, "vlan"), message, "a trunk says `native` for frames without a tag")
            return Vlans.access(link.vlan)
        if link.trunk is None:
            message = "`native` is the VLAN of a trunk's frames without a tag, and this link is no trunk"
            self._bound.report((*path, "native"), message, "add `trunk`, or say `vlan` for an access port")
            return None
        return Vlans.trunk(link.trunk, link.native)

    def _check_labels(self, path: Path, link: LinkFields) -> None:
        for label in link.labels or {}:
            if label.startswith("wireloom."):
                message = "labels that begin with 'wireloom.' are Wireloom's own"
                self._bound.report((*path, "labels", label), message, at_key=True)

    def _end(self, path: Path, text: str) -> _End:
        """What an end names; nothing after reporting, or when the node's device is unknown."""
        node, separator, port = (part.strip() for part in text.partition(":"))
        if not separator and node in self._segments:
            return _End(segment=node)
        if not separator or not node or not port:
            self._bound.report(path, f"{text!r} is not an end of a link", self._proper_end(node, port))
            return _End()
        if node in self._segments and node not in self._nodes:
            self._bound.report(path, f"segment {node!r} has no interfaces", f"write {node!r} alone")
            return _End()
        if node not in self._nodes:
            near = nearest(node, self._nodes)
            suggestion = f"did you mean '{near}:{port}'?" if near else did_you_mean(node, self._nodes)
            self._bound.report(path, f"there is no node {node!r}", suggestion)
            return _End()
        device = self._nodes[node]
        return _End() if device is None else _End(self._port(path, node, port, device))

    def _proper_end(self, node: str, port: str) -> str:
        near = None if port else nearest(node, self._segments)
        if near is not None:
            return f"did you mean the segment {near!r}? else write node:interface"
        example = f"{node}:eth1" if node in self._nodes else "r1:eth1"
        return f"write node:interface, e.g. {example}, or the name of a segment"

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


def _same(first: LinkEnd, second: LinkEnd) -> bool:
    return (first.node, first.index) == (second.node, second.index)


def _data_ports(device: Device) -> tuple[str, ...]:
    return tuple(device.ports.display(index) for index in range(1, device.ports.limit + 1))
