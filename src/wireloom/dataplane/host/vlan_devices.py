"""Whether this kernel has devices for VLANs of a NIC: found out by making one where nobody sees it."""

from __future__ import annotations

import os
from typing import Final

from wireloom.dataplane.host import links
from wireloom.dataplane.host.namespaces import enter, new_namespace
from wireloom.dataplane.host.ports import look_up

__all__ = ["why_no_vlan_devices"]

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
