"""A kernel with queues, as far as impairments go: what is set, it tells back the way linux/net/sched does."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from wireloom.dataplane.host.attributes import attr, fields, nested, text, u32
from wireloom.dataplane.host.protocol import NLMSG_DONE, NLMSG_ERROR, Message, messages

__all__ = ["KernelWithQueues", "told_back"]

_NEWLINK, _GETLINK = 16, 18
_NEWQDISC, _DELQDISC, _GETQDISC = 36, 37, 38
_TCMSG = struct.Struct("=BxxxiIII")
_ROOT = 0xFFFFFFFF
_DUMP = 0x300


def told_back(body: bytes) -> bytes:
    """The message that describes the queue that a request asks for."""
    found = fields(body, _TCMSG.size)
    kind, options = found[1], found.get(2, b"")
    if kind == b"tbf\0":
        options = _tbf(options)
    return body[: _TCMSG.size] + attr(1, kind) + attr(2, options) + attr(3, bytes(40))


def _tbf(options: bytes) -> bytes:
    """The burst comes back as time, after some rounding."""
    found = fields(options)
    parameters = bytearray(found[1])
    (rate,) = struct.unpack("=Q", found[4]) if 4 in found else struct.unpack_from("=I", parameters, 8)
    (burst,) = struct.unpack("=I", found[6])
    struct.pack_into("=I", parameters, 28, (burst * 1_000_000_000 // rate >> 6) & 0xFFFFFFFF)
    return attr(1, bytes(parameters)) + (attr(4, found[4]) if 4 in found else b"")


@dataclass
class KernelWithQueues:
    """:ivar devices: name → (index, MTU). :ivar lacks: kinds of queues that it does not have.

    :ivar queues: (index, parent) → message. :ivar forgets: takes requests and does nothing.
    :ivar asked: message type of each request that changes something.
    """

    devices: dict[str, tuple[int, int]] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    forgets: bool = False
    queues: dict[tuple[int, int], bytes] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    _answers: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> int:
        for message in messages(data):
            self._answers += self._answer(message)
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self._answers:
            raise BlockingIOError
        return self._answers.pop(0)

    def close(self) -> None:
        pass

    def _answer(self, message: Message) -> Iterator[bytes]:
        if message.flags & _DUMP == _DUMP:
            for body in self.queues.values() if message.kind == _GETQDISC else ():
                yield _packed(_NEWQDISC, message.sequence, body)
            yield _packed(NLMSG_DONE, message.sequence, bytes(4))
            return
        number, replies = self._do(message)
        for reply in replies:
            yield _packed(_NEWLINK, message.sequence, reply)
        yield _packed(NLMSG_ERROR, message.sequence, struct.pack("=i", -number) + bytes(16))

    def _do(self, message: Message) -> tuple[int, list[bytes]]:
        if message.kind == _GETLINK:
            name = fields(message.body, 16)[3].rstrip(b"\0").decode()
            if name not in self.devices:
                return errno.ENODEV, []
            index, mtu = self.devices[name]
            return 0, [struct.pack("=BxHiII", 0, 1, index, 1, 0) + text(3, name) + u32(4, mtu) + nested(18)]
        self.asked.append(message.kind)
        return (0 if self.forgets else self._change(message)), []

    def _change(self, message: Message) -> int:
        _, index, handle, parent, _ = _TCMSG.unpack_from(message.body)
        if message.kind == _DELQDISC:
            gone = [key for key in self.queues if key[0] == index]
            for key in gone:
                del self.queues[key]
            return 0 if gone else errno.ENOENT
        kind = fields(message.body, _TCMSG.size)[1].rstrip(b"\0").decode()
        if kind in self.lacks:
            return errno.ENOENT
        there = self.queues.get((index, parent))
        if there is not None and not _goes_with(there, message.body, handle):
            return errno.EINVAL
        if parent == _ROOT:  # what is inside another queue goes with it
            self.queues = {key: body for key, body in self.queues.items() if key[0] != index}
        self.queues[index, parent] = told_back(message.body)
        return 0


def _goes_with(there: bytes, new: bytes, handle: int) -> bool:
    """A queue is changed in place by one of its kind; beside another, no netem may double frames."""
    _, _, known, _, _ = _TCMSG.unpack_from(there)
    kinds = {fields(body, _TCMSG.size)[1] for body in (there, new)}
    if known == handle:
        return len(kinds) == 1
    doubles = any(struct.unpack_from("=IIIIII", fields(body, _TCMSG.size)[2])[4] for body in (there, new))
    return kinds != {b"netem\0"} or not doubles


def _packed(kind: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0x100, sequence, 0) + body + b"\0" * (-len(body) % 4)
