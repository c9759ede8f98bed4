"""Whether this kernel has devices for VLANs of a NIC: found out by making one where nobody sees it."""

from __future__ import annotations

import os
from typing import Final

from wireloom.dataplane.host import links
from wireloom.dataplane.host.namespaces import enter, new_namespace

__all__ = ["why_no_vlan_devices"]

_LOOPBACK_INDEX: Final = 1


def why_no_vlan_devices() -> str:
    """Empty, or the reason. Blocking: for the data plane's worker thread."""
    namespace = new_namespace()
    try:
        with enter(namespace) as netlink:
            (outcome,) = netlink.batch([links.new_vlan("vlan", _LOOPBACK_INDEX, 2)])
    finally:
        os.close(namespace)
    return "this kernel has no devices for VLANs (the module 8021q is missing)" if outcome.error else ""
