"""Keeps what a guest sends from the host's own stack where the userspace datapath serves its port. Pure.

That datapath reads a copy of each frame from a packet socket, and the frame itself goes on to the host. A filter at the
device's hook for traffic control drops it there, behind the socket. The hook is ``clsact`` and not ``ingress``:
ovs-vswitchd takes an ``ingress`` hook away whenever it configures a port.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from wireloom.dataplane.host.attributes import attr, nested, text, u16, u32
from wireloom.dataplane.host.protocol import GONE, NLM_F_CREATE, NLM_F_EXCL, Request

__all__ = ["fence", "unfence"]

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_NEWTFILTER = 36, 37, 44
#: struct tcmsg: family, pads, ifindex, handle, parent, info.
_TCMSG = struct.Struct("=BxxxiIII")
_HOOK_HANDLE, _HOOK_PARENT, _INGRESS_PARENT = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2
_KIND, _OPTIONS = 1, 2
_BPF_OPS_LEN, _BPF_OPS, _BPF_FLAGS, _BPF_ACT_DIRECT = 4, 5, 8, 1
#: Classic BPF: return TC_ACT_SHOT.
_BPF_DROP = struct.pack("=HBBI", 0x06, 0, 0, 2)
_PREFERENCE: Final = 200
_ETH_P_ALL: Final = 0x0003
#: It stands already, or this kernel has no BPF classifier.
_FENCED: Final = frozenset({errno.EEXIST, errno.ENOENT, errno.EOPNOTSUPP})
#: There is no such hook, or one of the other kind.
_ABSENT: Final = frozenset({errno.ENOENT, errno.EINVAL})


def fence(index: int, device: str) -> list[Request]:
    """Drop all that arrives on a device, once every packet socket has had it."""
    hook = _TCMSG.pack(socket.AF_UNSPEC, index, _HOOK_HANDLE, _HOOK_PARENT, 0) + text(_KIND, "clsact")
    info = _PREFERENCE << 16 | socket.htons(_ETH_P_ALL)
    options = nested(_OPTIONS, u16(_BPF_OPS_LEN, 1), attr(_BPF_OPS, _BPF_DROP), u32(_BPF_FLAGS, _BPF_ACT_DIRECT))
    drop = _TCMSG.pack(socket.AF_UNSPEC, index, 1, _INGRESS_PARENT, info) + text(_KIND, "bpf") + options
    return [
        Request(_RTM_NEWQDISC, hook, NLM_F_CREATE | NLM_F_EXCL, device, "make the hook of", GONE | {errno.EEXIST}),
        Request(_RTM_NEWTFILTER, drop, NLM_F_CREATE | NLM_F_EXCL, device, "fence", GONE | _FENCED),
    ]


def unfence(index: int, device: str) -> Request:
    """Take the fence away with its hook."""
    hook = _TCMSG.pack(socket.AF_UNSPEC, index, _HOOK_HANDLE, _HOOK_PARENT, 0) + text(_KIND, "clsact")
    return Request(_RTM_DELQDISC, hook, device=device, operation="open", fine=GONE | _ABSENT)
