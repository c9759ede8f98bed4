"""Queues that impair: an :class:`Impairment` as messages of traffic control, and back. Pure.

Two kinds of the kernel's queues serve: *netem*, which can do everything, and *tbf*, which only limits the rate, but is
there more often, and cuts what a guest's stack sends at once (up to 64 KiB) into frames before it counts them.

All numbers are those of linux/pkt_sched.h. Handles tell our queues from those of others.
"""

from __future__ import annotations

import errno
import math
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host.attributes import attr, fields, nested, text
from wireloom.dataplane.host.protocol import GONE, NLM_F_CREATE, NLM_F_REPLACE, Request
from wireloom.model.impairment import Impairment

__all__ = [
    "DUMP_QDISCS",
    "MODULE",
    "UNREADABLE",
    "Qdisc",
    "delete_root",
    "is_ours",
    "parse_qdisc",
    "read_impairment",
    "try_out",
    "with_netem",
    "with_tbf",
]

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
#: struct tcmsg: family, pads, ifindex, handle, parent, info.
_TCMSG = struct.Struct("=BxxxiIII")
_ROOT: Final = 0xFFFFFFFF
_KIND, _OPTIONS = 1, 2

#: Far from what people choose (1:) and what the kernel hands out (8000: and above).
_TBF: Final = 0x57A0 << 16
_TBF_LIMITED: Final = 0x57A1 << 16
_FRAMES: Final = 0x57A2 << 16  # the queue of so many frames inside _TBF_LIMITED
#: One for all, so that it is always changed in place: newer kernels refuse a netem that doubles frames while the device
#: has another one, be it the one that it is to replace.
_NETEM: Final = 0x57B0 << 16
_ROOTS: Final = frozenset({_TBF, _TBF_LIMITED, _NETEM})
#: The one class of a tbf.
_INNER: Final = 1

#: Kernel modules by the kind of queue, for people.
MODULE: Final = {"netem": "sch_netem", "tbf": "sch_tbf"}

#: struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
_NETEM_OPTIONS = struct.Struct("=IIIIII")
_NETEM_CORR, _NETEM_REORDER, _NETEM_CORRUPT, _NETEM_RATE = 1, 3, 4, 6
_NETEM_RATE64, _NETEM_LATENCY64, _NETEM_JITTER64 = 8, 10, 11
#: struct tc_netem_corr; tc_netem_reorder and tc_netem_corrupt: probability, correlation.
_CORRELATIONS = struct.Struct("=III")
_PROBABILITY = struct.Struct("=II")
#: struct tc_netem_rate: rate, overhead of a packet, cell size, overhead of a cell.
_RATE = struct.Struct("=IiIi")
#: Overhead of a cell, which means nothing without cells: somebody asked for the limit; else we chose it.
_LIMIT_ASKED, _LIMIT_CHOSEN = 1, 0
#: struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate.
_RATE_SPEC = struct.Struct("=BBHhHI")
#: struct tc_tbf_qopt: two of these, then limit, buffer, mtu.
_TBF_OPTIONS = struct.Struct(f"={_RATE_SPEC.size}s{_RATE_SPEC.size}sIII")
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_LINKLAYER_ETHERNET: Final = 1
_FIFO_OPTIONS = struct.Struct("=I")
_U64, _S64 = struct.Struct("=Q"), struct.Struct("=q")

_U32_MAX: Final = 0xFFFFFFFF
#: Nanoseconds in a tick, the unit of the older 32-bit fields (PSCHED_SHIFT).
_TICK_NS: Final = 64
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_BYTES_PER_KBIT: Final = 125

#: Bytes a second that no link has: a frame takes no time, but none leaves before the one that came before it.
_IN_ORDER: Final = 1_000_000_000_000

#: What a queue of ours is said to do that is not as we make them (any more). Nobody asks for it, so it is seen to be
#: wrong whatever is wanted of its device, nothing included.
UNREADABLE: Final = Impairment(loss=100, duplicate=100)

#: Bytes around a frame's payload: Ethernet header and three tags; and some to spare where we choose the burst.
_OVERHEAD, _SPARE = 26, 64
#: A burst of so much time keeps a timer's pace from being felt.
_BURST_MS: Final = 2
#: Where nobody says how many frames may wait: those that are on their way, and so much of the rate, at least a few.
_QUEUE_MS: Final = 100
_FEWEST_FRAMES: Final = 20
_COMMON_FRAME: Final = 500
_FRAMES_PER_MS: Final = 100
_NETEM_FRAMES: Final = (1000, 100_000)


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A queue of a device, as the kernel describes it; ``index`` is the device's."""

    index: int
    handle: int
    parent: int
    kind: str
    options: bytes


DUMP_QDISCS: Final = Request(_RTM_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0), operation="list queues")


def parse_qdisc(body: bytes) -> Qdisc | None:
    """The queue that a message describes; ``None`` for one that is none of ours."""
    _, index, handle, parent, _ = _TCMSG.unpack_from(body)
    if handle not in _ROOTS and handle != _FRAMES:
        return None
    found = fields(body, _TCMSG.size)
    kind = found.get(_KIND, b"").rstrip(b"\0").decode(errors="replace")
    return Qdisc(index, handle, parent, kind, found.get(_OPTIONS, b""))


def is_ours(qdisc: Qdisc) -> bool:
    """Whether it is the outermost queue of a device, and one that we made."""
    return qdisc.parent == _ROOT and qdisc.handle in _ROOTS


# --- setting --------------------------------------------------------------------------------


def _request(device: str, place: tuple[int, int, int], kind: str, options: bytes) -> Request:
    """Make or change the queue at ``place``: index of the device, handle, parent."""
    body = _TCMSG.pack(socket.AF_UNSPEC, *place, 0) + text(_KIND, kind) + options
    return Request(_RTM_NEWQDISC, body, NLM_F_CREATE | NLM_F_REPLACE, device, "impair", GONE)


def with_netem(index: int, device: str, wanted: Impairment) -> list[Request]:
    """Have a device's frames impaired by netem; whatever its outermost queue was is replaced or changed in place."""
    return [_request(device, (index, _NETEM, _ROOT), "netem", _netem_options(wanted))]


def _netem_options(wanted: Impairment) -> bytes:
    delay, jitter = (round(part * _NS_PER_MS) for part in (wanted.delay_ms, wanted.jitter_ms))
    rate = wanted.rate_kbit * _BYTES_PER_KBIT
    if not rate and wanted.jitter_ms:
        rate = _IN_ORDER
    options = _NETEM_OPTIONS.pack(
        min(delay // _TICK_NS, _U32_MAX),
        wanted.limit or _netem_limit(wanted),
        _probability(wanted.loss),
        1 if wanted.reorder else 0,
        _probability(wanted.duplicate),
        min(jitter // _TICK_NS, _U32_MAX),
    )
    asked = _LIMIT_ASKED if wanted.limit else _LIMIT_CHOSEN
    # All of them each time: what is left out stays as it was.
    attributes = [
        attr(_NETEM_CORR, _CORRELATIONS.pack(0, 0, 0)),
        attr(_NETEM_REORDER, _PROBABILITY.pack(_probability(wanted.reorder), 0)),
        attr(_NETEM_CORRUPT, _PROBABILITY.pack(_probability(wanted.corrupt), 0)),
        attr(_NETEM_RATE, _RATE.pack(min(rate, _U32_MAX), 0, 0, asked)),
        attr(_NETEM_LATENCY64, _S64.pack(delay)),
        attr(_NETEM_JITTER64, _S64.pack(jitter)),
    ]
    if rate > _U32_MAX:
        attributes.append(attr(_NETEM_RATE64, _U64.pack(rate)))
    # Not flagged as nested: the attributes come behind a structure.
    return attr(_OPTIONS, options + b"".join(attributes))


def _netem_limit(wanted: Impairment) -> int:
    """How many frames may wait where nobody says so."""
    fewest, most = _NETEM_FRAMES
    under_way_ms = wanted.delay_ms + wanted.jitter_ms
    if not wanted.rate_kbit:
        return min(max(fewest, math.ceil(under_way_ms * _FRAMES_PER_MS)), most)
    per_ms = wanted.rate_kbit / 8 / _COMMON_FRAME
    return min(max(_FEWEST_FRAMES, math.ceil((under_way_ms + _QUEUE_MS) * per_ms)), most)


def with_tbf(index: int, device: str, wanted: Impairment, mtu: int) -> list[Request]:
    """Limit the rate of a device's frames, each of ``mtu`` bytes at most, by tbf; ``wanted`` may have a limit too."""
    handle = _TBF_LIMITED if wanted.limit else _TBF
    requests = [_request(device, (index, handle, _ROOT), "tbf", _tbf_options(wanted, mtu))]
    if wanted.limit:
        frames = attr(_OPTIONS, _FIFO_OPTIONS.pack(wanted.limit))
        requests.append(_request(device, (index, _FRAMES, handle | _INNER), "pfifo", frames))
    return requests


def _tbf_options(wanted: Impairment, mtu: int) -> bytes:
    rate = wanted.rate_kbit * _BYTES_PER_KBIT
    frame = mtu + _SPARE
    burst = min(max(frame, rate * _BURST_MS // 1000), _U32_MAX)
    waiting = min(max(_FEWEST_FRAMES * frame, rate * _QUEUE_MS // 1000), _U32_MAX)
    spec = _RATE_SPEC.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _U32_MAX))
    ticks = min(burst * _NS_PER_S // rate // _TICK_NS, _U32_MAX)
    attributes = [
        attr(_TBF_PARMS, _TBF_OPTIONS.pack(spec, bytes(_RATE_SPEC.size), waiting, ticks, 0)),
        attr(_TBF_BURST, _FIFO_OPTIONS.pack(burst)),
    ]
    if rate > _U32_MAX:
        attributes.append(attr(_TBF_RATE64, _U64.pack(rate)))
    return nested(_OPTIONS, *attributes)


def delete_root(qdisc: Qdisc, device: str) -> Request:
    """Take a queue of ours away; the device's own takes its place."""
    body = _TCMSG.pack(socket.AF_UNSPEC, qdisc.index, qdisc.handle, _ROOT, 0)
    # Meanwhile it went, or somebody put another in its place.
    return Request(_RTM_DELQDISC, body, device=device, operation="clear", fine=GONE | {errno.ENOENT, errno.EINVAL})


def try_out(kind: str, index: int) -> Request:
    """Make a queue of ``kind`` on a device that nobody needs; ``ENOENT``: the kernel does not have it."""
    if kind == "netem":
        return with_netem(index, kind, Impairment(delay_ms=1))[0]
    return with_tbf(index, kind, Impairment(rate_kbit=1000), 1500)[0]


# --- reading --------------------------------------------------------------------------------


def read_impairment(qdiscs: Sequence[Qdisc], mtu: int) -> Impairment | None:
    """What the queues of one device do to its frames; ``None``: nothing.

    :param mtu: of the device: a queue through which its frames do not fit is ``UNREADABLE``.
    """
    root = next((qdisc for qdisc in qdiscs if is_ours(qdisc)), None)
    if root is None:
        return None
    if root.kind == "netem":
        return _read_netem(root) or UNREADABLE
    if root.kind == "tbf":
        return _read_tbf(root, qdiscs, mtu) or UNREADABLE
    return UNREADABLE


def _read_netem(qdisc: Qdisc) -> Impairment | None:
    if len(qdisc.options) < _NETEM_OPTIONS.size:
        return None
    latency, limit, loss, _, duplicate, jitter = _NETEM_OPTIONS.unpack_from(qdisc.options)
    found = fields(qdisc.options, _NETEM_OPTIONS.size)
    low_rate, _, _, asked = _RATE.unpack_from(found.get(_NETEM_RATE, b"").ljust(_RATE.size, b"\0"))
    rate = _number(_U64, found.get(_NETEM_RATE64)) or low_rate
    return _impairment(
        delay_ms=_milliseconds(found.get(_NETEM_LATENCY64), latency),
        jitter_ms=_milliseconds(found.get(_NETEM_JITTER64), jitter),
        loss=_percent(loss),
        duplicate=_percent(duplicate),
        corrupt=_percent(_number(_PROBABILITY, found.get(_NETEM_CORRUPT)) or 0),
        reorder=_percent(_number(_PROBABILITY, found.get(_NETEM_REORDER)) or 0),
        rate_kbit=0 if rate == _IN_ORDER else rate // _BYTES_PER_KBIT,
        limit=limit if asked == _LIMIT_ASKED else 0,
    )


def _read_tbf(root: Qdisc, qdiscs: Iterable[Qdisc], mtu: int) -> Impairment | None:
    found = fields(root.options)
    parameters = found.get(_TBF_PARMS, b"")
    if len(parameters) < _TBF_OPTIONS.size:
        return None
    spec, _, _, ticks, _ = _TBF_OPTIONS.unpack_from(parameters)
    rate = _number(_U64, found.get(_TBF_RATE64)) or _RATE_SPEC.unpack(spec)[-1]
    if not rate or not _passes(ticks, rate, mtu):
        return None
    limit = 0
    if root.handle == _TBF_LIMITED:
        inner = [q for q in qdiscs if q.handle == _FRAMES and q.parent == root.handle | _INNER]
        limit = (_number(_FIFO_OPTIONS, inner[0].options) or 0) if inner else 0
        if not limit:
            return None
    return _impairment(rate_kbit=rate // _BYTES_PER_KBIT, limit=limit)


def _passes(ticks: int, rate: int, mtu: int) -> bool:
    """Whether a tbf's burst, which the kernel tells as time, has room for the greatest frame."""
    if (mtu + _SPARE) * _NS_PER_S // rate // _TICK_NS > _U32_MAX:
        return True  # so long a time does not fit into the field that tells it
    return ticks * _TICK_NS * rate // _NS_PER_S >= mtu + _OVERHEAD


def _impairment(**values: float) -> Impairment | None:
    """``None`` for values that we never set: somebody changed the queue."""
    try:
        return Impairment.model_validate(values).or_none()
    except ValueError:
        return None


def _number(layout: struct.Struct, value: bytes | None) -> int | None:
    """The first number of a structure, where it is there."""
    return int(layout.unpack_from(value)[0]) if value is not None and len(value) >= layout.size else None


def _milliseconds(exact: bytes | None, ticks: int) -> float:
    nanoseconds = _number(_S64, exact)
    return (ticks * _TICK_NS if nanoseconds is None else nanoseconds) / _NS_PER_MS


def _probability(percent: float) -> int:
    return round(percent / 100 * _U32_MAX)


def _percent(probability: int) -> float:
    return probability * 100 / _U32_MAX
