"""Finding out what this kernel can do: by doing it, in a namespace that nobody else sees."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from wireloom.dataplane.host import bridges, links
from wireloom.dataplane.host.fence_trial import why_no_fence
from wireloom.dataplane.host.namespaces import enter, inside, new_namespace
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Request
from wireloom.dataplane.host.vlan_devices import why_no_vlan_devices
from wireloom.model.network import DataPlaneAbilities
from wireloom.model.vlans import Tagging, Vlans

__all__ = ["try_out"]

_BRIDGE, _PORT, _MAC = "bridge", "port", "02:00:00:00:00:01"

_NO_FILTERING = "this kernel's bridge does not filter VLANs (it is built without CONFIG_BRIDGE_VLAN_FILTERING)"
_NO_QINQ = "this kernel's bridge does not filter VLANs by 802.1ad tags"


def try_out() -> DataPlaneAbilities:
    """What bridges and VLAN devices can do here; nothing of it is left, even if the process is killed meanwhile."""
    namespace = new_namespace()
    try:
        with enter(namespace) as netlink:
            filters = _filters(netlink, namespace, "802.1q")
            return DataPlaneAbilities(
                name="kernel",
                vlans="" if filters else _NO_FILTERING,
                qinq="" if filters and _filters(netlink, namespace, "802.1ad") else _reason_without_qinq(filters),
                vlan_devices=why_no_vlan_devices(),
                fence=why_no_fence(),
            )
    finally:
        os.close(namespace)


def _reason_without_qinq(filters: bool) -> str:
    return _NO_QINQ if filters else _NO_FILTERING


def _works(netlink: Netlink, requests: Sequence[Request]) -> bool:
    return not any(outcome.error for outcome in netlink.batch(requests))


def _filters(netlink: Netlink, namespace: int, tagging: Tagging) -> bool:
    """Whether a bridge takes VLANs of this kind, and shows them for a port of it."""
    name = f"{_BRIDGE}{tagging[-2:]}"
    if not _works(netlink, [links.new_bridge(name, _MAC), bridges.set_tagging(name, tagging)]):
        return False
    if look_up(netlink, [name])[name].tagging != tagging:
        return False
    port = f"{_PORT}{tagging[-2:]}"
    guest = links.VethEnd(namespace, f"{port}x", _MAC, 1500)
    if not _works(netlink, [links.new_veth(port, 1500, guest, 1000)]):
        return False
    bridge, index = inside(namespace, lambda: (socket.if_nametoindex(name), socket.if_nametoindex(port)))
    wanted = Vlans(untagged=2, tagged=((3, 4),))
    if not _works(netlink, [links.enslave(index, bridge), *bridges.set_vlans(index, port, (), wanted)]):
        return False
    present = bridges.parse_vlans(netlink.dump(bridges.DUMP_VLANS)).get(index, ())
    return bridges.read_vlans(present) == wanted
