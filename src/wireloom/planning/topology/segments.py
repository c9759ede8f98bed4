"""Segments of a topology file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import Final

from wireloom.model.identity import DEVICE_NAME_LIMIT
from wireloom.model.topology import Position, SegmentSpec
from wireloom.planning.topology.fields import TopologyFields
from wireloom.planning.topology.link_fields import SegmentFields
from wireloom.planning.topology.names import check_name
from wireloom.yamlfile import Bound, Path

__all__ = ["DEFAULT_MTU", "read_segments"]

DEFAULT_MTU: Final = 1500
#: Which keys only one kind of segment has.
_KEYS_OF: Final[Mapping[str, str]] = {
    "qinq": "switch",
    "interface": "external",
    "vlan": "external",
    "move_addresses": "external",
    "subnet": "nat",
    "dhcp": "nat",
}
#: The host, a node and room for one more; and no more than a private class A network.
_PREFIXES: Final = range(8, 30)


def read_segments(bound: Bound[TopologyFields], fields: TopologyFields) -> dict[str, SegmentSpec | None]:
    """Segments by name; ``None`` for one with a mistake, so that what plugs into it is not called wrong as well."""
    mtu = fields.defaults.mtu if fields.defaults is not None and fields.defaults.mtu is not None else DEFAULT_MTU
    found = {
        name: _SegmentReader(bound, name, segment or SegmentFields()).read(fields, mtu)
        for name, segment in (fields.segments or {}).items()
    }
    _check_shared(bound, [segment for segment in found.values() if segment is not None])
    return found


class _SegmentReader:
    """One segment being read. Every check reports and goes on, so that one run finds all mistakes."""

    def __init__(self, bound: Bound[TopologyFields], name: str, fields: SegmentFields) -> None:
        self._bound = bound
        self._name = name
        self._fields = fields
        self._path: Path = ("segments", name)

    def read(self, file: TopologyFields, mtu: int) -> SegmentSpec | None:
        self._check_names(file)
        fields = self._fields
        if fields.kind is None:
            if not self._bound.flagged(*self._path, "kind"):
                message = f"segment {self._name!r} has no kind"
                self._bound.report(self._path, message, "add `kind: switch`, `external` or `nat`", at_key=True)
            return None
        self._check_keys(fields.kind)
        if fields.kind == "external":
            self._check_interface()
        return SegmentSpec(
            name=self._name,
            kind=fields.kind,
            mtu=fields.mtu if fields.mtu is not None else mtu,
            qinq=fields.qinq is True,
            interface=fields.interface or "",
            vlan=fields.vlan,
            move_addresses=fields.move_addresses is True,
            subnet=self._subnet(),
            dhcp=fields.dhcp is not False,
            host=fields.host,
            labels=fields.labels or {},
            position=Position(x=fields.position.x, y=fields.position.y) if fields.position else None,
        )

    def _check_names(self, file: TopologyFields) -> None:
        check_name(self._bound, self._path, self._name, "segment")
        if self._name in (file.nodes or {}):
            message = f"{self._name!r} is a segment and a node"
            self._bound.report(self._path, message, "rename one of them", at_key=True)
        for label in self._fields.labels or {}:
            if label.startswith("wireloom."):
                message = "labels that begin with 'wireloom.' are Wireloom's own"
                self._bound.report((*self._path, "labels", label), message, "choose another name", at_key=True)

    def _check_keys(self, kind: str) -> None:
        for field, owner in _KEYS_OF.items():
            if owner != kind and getattr(self._fields, field) is not None:
                key = field.replace("_", "-")
                message = f"`{key}` is for segments of kind `{owner}`, and this one is of kind `{kind}`"
                self._bound.report((*self._path, key), message, f"remove it, or say `kind: {owner}`", at_key=True)

    def _check_interface(self) -> None:
        interface = self._fields.interface
        if interface is None:
            if not self._bound.flagged(*self._path, "interface"):
                message = f"segment {self._name!r} does not say by which interface of the host it goes out"
                self._bound.report(self._path, message, "add `interface: eth0`", at_key=True)
        elif not interface or len(interface) > DEVICE_NAME_LIMIT or set(interface) & set("/: \t"):
            message = f"{interface!r} cannot be the name of a network interface"
            self._bound.report((*self._path, "interface"), message, "`ip -brief link` on the host lists them")

    def _subnet(self) -> str:
        text = self._fields.subnet
        if text is None:
            return ""
        where, example = (*self._path, "subnet"), "write an IPv4 network such as 10.99.0.0/24"
        try:
            network = IPv4Network(text, strict=False)
        except ValueError:
            self._bound.report(where, f"{text!r} is not an IPv4 network", example)
            return ""
        if "/" not in text or str(network.network_address) != text.partition("/")[0]:
            self._bound.report(where, f"{text!r} names an address, not a network", f"did you mean '{network}'?")
        elif network.prefixlen not in _PREFIXES:
            span = f"from /{_PREFIXES[0]} to /{_PREFIXES[-1]}"
            self._bound.report(where, f"a subnet of /{network.prefixlen} is no use here", f"choose one {span}")
        elif network.is_loopback or network.is_multicast or network.is_link_local:
            self._bound.report(where, f"{text} is not for hosts", example)
        return str(network)


def _check_shared(bound: Bound[TopologyFields], segments: list[SegmentSpec]) -> None:
    """Report what two segments of a lab cannot have both."""
    for index, segment in enumerate(segments):
        for other in segments[:index]:
            for key, message in _shared(segment, other):
                bound.report(("segments", segment.name, key), message, "one of them needs another")


def _shared(segment: SegmentSpec, other: SegmentSpec) -> Iterator[tuple[str, str]]:
    interface = segment.interface
    if interface and (interface, segment.vlan) == (other.interface, other.vlan):
        what = interface if segment.vlan is None else f"VLAN {segment.vlan} of {interface}"
        yield "interface", f"{what} is in segment {other.name!r} already"
    if segment.subnet and other.subnet and IPv4Network(segment.subnet).overlaps(IPv4Network(other.subnet)):
        yield "subnet", f"{segment.subnet} overlaps {other.subnet} of segment {other.name!r}"
