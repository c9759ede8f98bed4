"""Rebuilding the data plane's state from the kernel alone. Blocking: for the data plane's worker thread."""

from __future__ import annotations

from wireloom.dataplane.kernel import links
from wireloom.dataplane.kernel.links import Link
from wireloom.dataplane.kernel.netlink import Netlink
from wireloom.dataplane.kernel.segments import segment_installation
from wireloom.dataplane.kernel.wires import read_targets
from wireloom.model.network import DataPlaneState, HostPort, PortAlias, Segment

__all__ = ["observe"]

#: What the contract calls the kernel's device kinds.
_KINDS = {"veth": "veth", "tun": "tap"}


def observe(netlink: Netlink, installation: str) -> DataPlaneState:
    """Every port and segment of ``installation``: one dump of devices, then the wire of each port."""
    found = links.parse_links(netlink.dump(links.DUMP_LINKS))
    names = {link.index: link.name for link in found}
    ours = [(link, alias) for link in found if (alias := _port_alias(link, installation))]
    loose = {link.index: link.name for link, _ in ours if not link.master}
    targets = read_targets(netlink, loose)
    ports = {
        link.name: HostPort(
            device=link.name,
            alias=alias,
            kind=_KINDS[link.kind],
            mtu=link.mtu,
            up=link.up,
            carrier=link.lower_up,
            peer=names.get(targets.get(link.index, 0)),
            segment=names.get(link.master),
        )
        for link, alias in ours
    }
    segments = {
        link.name: Segment(name=link.name, alias=link.alias, up=link.up)
        for link in found
        if segment_installation(link.alias) == installation
    }
    return DataPlaneState(ports=ports, segments=segments)


def _port_alias(link: Link, installation: str) -> PortAlias | None:
    if link.kind not in _KINDS:
        return None
    alias = PortAlias.parse(link.alias)
    return alias if alias is not None and alias.installation == installation else None
