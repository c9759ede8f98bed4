"""Which of Open vSwitch's datapaths this host has. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import socket
import struct
from typing import Final, Literal

from wireloom.dataplane.host.attributes import text
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.protocol import Request

__all__ = ["Datapath", "find_datapath"]

#: As in the column ``datapath_type`` of a bridge: in the kernel, or in ovs-vswitchd itself.
Datapath = Literal["system", "netdev"]

_NETLINK_GENERIC: Final = 16
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME = 0x10, 3, 2
#: struct genlmsghdr: command, version.
_GENLMSG = struct.Struct("=BBxx")
_FAMILY: Final = "ovs_datapath"
_TIMEOUT_S: Final = 10


def find_datapath() -> Datapath:
    """The kernel's where it has the module (it is loaded when Open vSwitch starts), else the one in user space."""
    question = _GENLMSG.pack(_CTRL_CMD_GETFAMILY, 1) + text(_CTRL_ATTR_FAMILY_NAME, _FAMILY)
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC)
    opened.settimeout(_TIMEOUT_S)
    opened.bind((0, 0))
    netlink = Netlink(opened)
    try:
        (outcome,) = netlink.batch([Request(_GENL_ID_CTRL, question, operation="look for Open vSwitch's datapath")])
    finally:
        netlink.close()
    return "netdev" if outcome.error else "system"
