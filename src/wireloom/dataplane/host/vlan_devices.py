"""Whether this kernel has devices for VLANs of a NIC: found out by making one where nobody sees it."""

from __future__ import annotations

import os
from typing import Final

from wireloom.dataplane.host import links
from wireloom.dataplane.host.namespaces import enter, new_namespace
from wireloom.dataplane.host.ports import look_up
from wireloom.errors import Unsupported
from wireloom.model.network import SegmentPlan

__all__ = ["refuse_without_vlan_devices", "why_no_vlan_devices"]

#: Not the loopback device, which is always there: that takes no VLANs from any kernel.
_NIC: Final = "nic"
_MAC: Final = "02:00:00:00:00:01"


def why_no_vlan_devices() -> str:
    """Empty, or the reason. Blocking: for the data plane's worker thread."""
    namespace = new_namespace()
    try:
        with enter(namespace) as netlink:
            netlink.ask(links.new_bridge(_NIC, _MAC))
            nic = look_up(netlink, [_NIC])[_NIC]
            (outcome,) = netlink.batch([links.new_vlan("vlan", nic.index, 2)])
    finally:
        os.close(namespace)
    return "this kernel has no devices for VLANs (the module 8021q is missing)" if outcome.error else ""


def refuse_without_vlan_devices(plan: SegmentPlan, reason: str) -> None:
    """:raises Unsupported: the segment is to reach the world by a VLAN of a NIC, and this host cannot: ``reason``."""
    uplink = plan.uplink
    if reason and uplink is not None and uplink.vlan is not None:
        raise Unsupported(
            f"VLAN {uplink.vlan} of {uplink.device} cannot be had: {reason}",
            hint="load the module 8021q on that host, or name an interface that is there already",
            details={"device": uplink.device},
        )
