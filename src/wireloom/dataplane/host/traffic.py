"""Traffic-control messages: the redirection that makes a wire, and the fence behind it. Pure.

Each wired device has an ingress qdisc with two filters. The first redirects every frame to the peer; while
there is none, the second drops every frame, so that nothing from a guest reaches the host's own stack.

A device in a segment has neither. Where what its guest sends is to be impaired, it has a detour: frames go through a
queue before they go on from where they were.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, Literal

from wireloom.dataplane.host.attributes import attr, fields, nested, text, u16, u32
from wireloom.dataplane.host.protocol import GONE, NLM_F_CREATE, NLM_F_EXCL, Request

__all__ = [
    "Hook",
    "apart",
    "clear_detour",
    "clear_fence",
    "clear_redirect",
    "detour",
    "dump_filters",
    "fence",
    "get_detour",
    "get_fence",
    "get_redirect",
    "ingress",
    "no_ingress",
    "parse_detour",
    "parse_redirect",
    "redirect",
]

_RTM_NEWQDISC, _RTM_DELQDISC = 36, 37
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46

#: struct tcmsg: family, pads, ifindex, handle, parent, info.
_TCMSG = struct.Struct("=BxxxiIII")
_INGRESS_PARENT = 0xFFFFFFF1
_INGRESS_HANDLE = 0xFFFF0000
#: What filters of frames that arrive hang at, under either kind of hook; and of frames that leave.
_ARRIVING: Final = 0xFFFFFFF2
_LEAVING: Final = 0xFFFFFFF3
_ETH_P_ALL = 0x0003
#: Lower is asked first; the gap is room for filters that look at frames before they leave.
_DETOUR_PREFERENCE: Final = 50
_WIRE_PREFERENCE: Final = 100
_FENCE_PREFERENCE: Final = 200
#: Hash table 0x800, node 0x800: what tc itself gives the first u32 filter.
_WIRE_HANDLE: Final = 0x80000800
_FENCE_HANDLE: Final = 1
_DETOUR_HANDLE: Final = 1

_KIND, _OPTIONS = 1, 2
_U32_SEL, _U32_ACT = 5, 7
_ACT_KIND, _ACT_OPTIONS = 1, 2
_MIRRED_PARMS = 2
#: struct tc_u32_sel without keys: flags, offshift, nkeys, offmask, off, offoff, hoff, hmask.
_SELECTOR = struct.Struct("=BBBxHHhhI")
_U32_TERMINAL = 1
#: struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
_MIRRED = struct.Struct("=IIiiiiI")
_ACT_STOLEN, _EGRESS_REDIRECT = 4, 1

_BPF_ACT, _BPF_OPS_LEN, _BPF_OPS, _BPF_FLAGS = 1, 4, 5, 8
_BPF_ACT_DIRECT = 1
#: Classic BPF: return TC_ACT_SHOT.
_BPF_DROP = struct.pack("=HBBI", 0x06, 0, 0, 2)
#: Return -1: every frame matches.
_BPF_MATCH = struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)


#: The kernel's hooks for filters of frames that arrive; ``clsact`` has one for those that leave, too.
Hook = Literal["ingress", "clsact"]

#: The fence stands already, or this kernel has no BPF classifier (which abilities tell of).
_FENCED: Final = frozenset({errno.EEXIST, errno.ENOENT, errno.EOPNOTSUPP})
#: No such filter; and no ingress hook that could have one.
_ABSENT: Final = frozenset({errno.ENOENT, errno.EINVAL})


def _header(index: int, handle: int, parent: int, preference: int = 0) -> bytes:
    info = preference << 16 | socket.htons(_ETH_P_ALL) if preference else 0
    return _TCMSG.pack(socket.AF_UNSPEC, index, handle, parent, info)


def ingress(index: int, device: str, hook: Hook = "ingress") -> Request:
    """Make the hook for frames that arrive on a device, if it has none."""
    body = _header(index, _INGRESS_HANDLE, _INGRESS_PARENT) + text(_KIND, hook) + nested(_OPTIONS)
    return Request(
        _RTM_NEWQDISC, body, NLM_F_CREATE | NLM_F_EXCL, device, "make the ingress hook of", GONE | {errno.EEXIST}
    )


def redirect(index: int, target: int, device: str) -> Request:
    """Send all frames that arrive on a device out of ``target``; an earlier target is replaced in one step."""
    # No key at all: one with a 0/0 match reads four bytes first and would miss shorter payloads.
    selector = _SELECTOR.pack(_U32_TERMINAL, 0, 0, 0, 0, 0, 0, 0)
    body = (
        _header(index, _WIRE_HANDLE, _ARRIVING, _WIRE_PREFERENCE)
        + text(_KIND, "u32")
        + nested(_OPTIONS, attr(_U32_SEL, selector), nested(_U32_ACT, _redirection(target)))
    )
    return Request(_RTM_NEWTFILTER, body, NLM_F_CREATE, device, "wire")


def _redirection(target: int) -> bytes:
    """The action of a filter that sends frames out of ``target``."""
    mirred = _MIRRED.pack(0, 0, _ACT_STOLEN, 0, 0, _EGRESS_REDIRECT, target)
    return nested(1, text(_ACT_KIND, "mirred"), nested(_ACT_OPTIONS, attr(_MIRRED_PARMS, mirred)))


def detour(index: int, target: int, device: str) -> Request:
    """Send all frames that arrive on a device through ``target``, which gives them back; needs the ingress hook."""
    # BPF and not u32: its handles can be chosen, whatever other filters the hook has.
    options = nested(_OPTIONS, u16(_BPF_OPS_LEN, 1), attr(_BPF_OPS, _BPF_MATCH), nested(_BPF_ACT, _redirection(target)))
    body = _header(index, _DETOUR_HANDLE, _INGRESS_HANDLE, _DETOUR_PREFERENCE) + text(_KIND, "bpf") + options
    return Request(_RTM_NEWTFILTER, body, NLM_F_CREATE, device, "impair what comes from", GONE)


def clear_detour(index: int, device: str) -> Request:
    """Let frames that arrive on a device go straight on, if they do not."""
    body = _header(index, _DETOUR_HANDLE, _INGRESS_HANDLE, _DETOUR_PREFERENCE) + text(_KIND, "bpf")
    return Request(_RTM_DELTFILTER, body, device=device, operation="end the detour of", fine=GONE | _ABSENT)


def get_detour(index: int, device: str) -> Request:
    """Ask for a device's detour; no reply when it has none."""
    body = _header(index, _DETOUR_HANDLE, _INGRESS_HANDLE, _DETOUR_PREFERENCE) + text(_KIND, "bpf")
    return Request(_RTM_GETTFILTER, body, device=device, operation="read the detour of", fine=GONE | _ABSENT)


def fence(index: int, device: str) -> Request:
    """Drop what no redirection took, where the kernel has the classifier for it."""
    options = nested(_OPTIONS, u16(_BPF_OPS_LEN, 1), attr(_BPF_OPS, _BPF_DROP), u32(_BPF_FLAGS, _BPF_ACT_DIRECT))
    body = _header(index, _FENCE_HANDLE, _ARRIVING, _FENCE_PREFERENCE) + text(_KIND, "bpf") + options
    return Request(_RTM_NEWTFILTER, body, NLM_F_CREATE | NLM_F_EXCL, device, "fence", GONE | _FENCED)


def clear_fence(index: int, device: str) -> Request:
    """Take a device's fence away, if it has one, and leave what else the hook does."""
    body = _header(index, _FENCE_HANDLE, _ARRIVING, _FENCE_PREFERENCE) + text(_KIND, "bpf")
    return Request(_RTM_DELTFILTER, body, device=device, operation="open", fine=GONE | _ABSENT)


def get_fence(index: int, device: str) -> Request:
    """Ask for a device's fence; no reply when it has none."""
    body = _header(index, _FENCE_HANDLE, _ARRIVING, _FENCE_PREFERENCE) + text(_KIND, "bpf")
    return Request(_RTM_GETTFILTER, body, device=device, operation="read the fence of", fine=GONE | _ABSENT)


def dump_filters(index: int, device: str) -> list[Request]:
    """Ask for all filters of a device, whosever: dumps for those of frames that arrive, and that leave."""
    return [
        Request(_RTM_GETTFILTER, _header(index, 0, parent), device=device, operation="list the filters of")
        for parent in (_ARRIVING, _LEAVING)
    ]


def apart(index: int, device: str) -> list[Request]:
    """Keep what a device's guest sends from the host, whatever else becomes of it."""
    return [ingress(index, device), fence(index, device)]


def no_ingress(index: int, device: str, hook: Hook = "ingress") -> Request:
    """Take away the hook with all that it does, the fence included: what arrives goes on to the device's bridge."""
    body = _header(index, _INGRESS_HANDLE, _INGRESS_PARENT) + text(_KIND, hook)
    return Request(_RTM_DELQDISC, body, device=device, operation="open", fine=GONE | _ABSENT)


def clear_redirect(index: int, device: str) -> Request:
    """Take a device's redirection away, if it has one."""
    body = _header(index, _WIRE_HANDLE, _ARRIVING, _WIRE_PREFERENCE) + text(_KIND, "u32")
    return Request(_RTM_DELTFILTER, body, device=device, operation="cut the wire of", fine=GONE | _ABSENT)


def get_redirect(index: int, device: str) -> Request:
    """Ask for a device's redirection; no reply when it has none."""
    body = _header(index, _WIRE_HANDLE, _ARRIVING, _WIRE_PREFERENCE) + text(_KIND, "u32")
    return Request(_RTM_GETTFILTER, body, device=device, operation="read the wire of", fine=GONE | _ABSENT)


def parse_redirect(body: bytes) -> int | None:
    """Index of the device that a filter redirects to (0: it is gone); ``None`` for a filter of another kind."""
    return _target(body, _U32_ACT)


def parse_detour(body: bytes) -> int | None:
    """Index of the device that a detour goes through, as :func:`parse_redirect`."""
    return _target(body, _BPF_ACT)


def _target(body: bytes, kind: int) -> int | None:
    options = fields(body, _TCMSG.size).get(_OPTIONS, b"")
    actions = fields(fields(options).get(kind, b""))
    if not actions:
        return None
    parameters = fields(fields(next(iter(actions.values()))).get(_ACT_OPTIONS, b"")).get(_MIRRED_PARMS)
    if parameters is None:
        return None
    *_, eaction, target = _MIRRED.unpack_from(parameters)
    return int(target) if eaction == _EGRESS_REDIRECT else None
