"""Rebuilding the data plane's state from the host alone. Blocking: for the data plane's worker thread."""

from __future__ import annotations

from wireloom.dataplane.host import links
from wireloom.dataplane.host.impairment import Impaired, Impairments
from wireloom.dataplane.host.joiner import Joiner
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink
from wireloom.model.network import DataPlaneState, HostPort, PortAlias

__all__ = ["observe"]

#: What the contract calls the kernel's device kinds.
_KINDS = {"veth": "veth", "tun": "tap"}
_WHOLE = Impaired()


def observe(netlink: Netlink, joiner: Joiner, impairments: Impairments, installation: str) -> DataPlaneState:
    """Every port and segment of ``installation``: one dump of devices, then how they are joined and impaired."""
    found = links.parse_links(netlink.dump(links.DUMP_LINKS))
    ours = [(link, alias) for link in found if (alias := _port_alias(link, installation))]
    joins = joiner.observe(found, [link for link, _ in ours])
    impaired = impairments.observe(found, [link for link, _ in ours])
    ports = {}
    for link, alias in ours:
        segment, vlans = joins.plugs.get(link.name, (None, None))
        wrong = impaired.get(link.name, _WHOLE)
        ports[link.name] = HostPort(
            device=link.name,
            alias=alias,
            kind=_KINDS[link.kind],
            mtu=link.mtu,
            up=link.up,
            carrier=link.lower_up,
            peer=joins.peers.get(link.name),
            segment=segment,
            vlans=vlans,
            tunnel=joins.tunnels.get(link.name),
            to_guest=wrong.to_guest,
            from_guest=wrong.from_guest,
        )
    return DataPlaneState(
        ports=ports, segments=dict(joins.segments), bridges=joins.bridges, members=dict(joins.members)
    )


def _port_alias(link: Link, installation: str) -> PortAlias | None:
    if link.kind not in _KINDS:
        return None
    alias = PortAlias.parse(link.alias)
    return alias if alias is not None and alias.installation == installation else None
