"""Keeps what a guest sends from the host's own stack where the userspace datapath serves its port.

That datapath reads a copy of each frame from a packet socket, and the frame itself goes on to the host. A filter at the
device's hook for traffic control drops it there, behind the socket. The hook is ``clsact`` and not ``ingress``:
ovs-vswitchd takes an ``ingress`` hook away whenever it configures a port.

Ports are ours, and so are their hooks. A NIC of the host may have filters of somebody else's, who keeps them.
"""

from __future__ import annotations

from wireloom.dataplane.host import traffic
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.protocol import Request
from wireloom.errors import Conflict

__all__ = ["fence", "open_nic", "refuse_filtered", "unfence"]


def fence(index: int, device: str) -> list[Request]:
    """Drop all that arrives on a device, once every packet socket has had it."""
    return [traffic.ingress(index, device, "clsact"), traffic.fence(index, device)]


def unfence(index: int, device: str) -> Request:
    """Take the fence of a port away with its hook."""
    return traffic.no_ingress(index, device, "clsact")


def open_nic(netlink: Netlink, nic: Link) -> None:
    """Take the fence of a NIC away, and its hook where nobody else has filters there."""
    check(netlink.batch([traffic.clear_fence(nic.index, nic.name)]))
    if not _has_filters(netlink, nic):
        check(netlink.batch([unfence(nic.index, nic.name)]))


def refuse_filtered(netlink: Netlink, nic: Link) -> None:
    """:raises Conflict: a NIC has filters, which would see no frame any more, or which Open vSwitch would remove."""
    if _has_filters(netlink, nic):
        raise Conflict(
            f"{nic.name} has filters of traffic control, and Open vSwitch does not leave them as they are",
            hint=f"`tc filter show dev {nic.name} ingress` lists them: remove them, or use another interface",
            details={"device": nic.name},
        )


def _has_filters(netlink: Netlink, nic: Link) -> bool:
    return any(netlink.dump(request) for request in traffic.dump_filters(nic.index, nic.name))
