"""Values of the netlink protocol: requests, their outcomes, message headers. Pure."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host.attributes import align, walk
from wireloom.errors import DataPlaneFailed

__all__ = [
    "GONE",
    "NLM_F_ACK",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_DUMP_INTR",
    "NLM_F_EXCL",
    "NLM_F_REPLACE",
    "NLM_F_REQUEST",
    "Message",
    "Outcome",
    "Request",
    "encode",
    "errno_name",
    "messages",
    "parse_error",
]

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
_NLM_F_ACK_TLVS: Final = 0x200
_NLM_F_CAPPED: Final = 0x100

#: Errors that only say that a device vanished meanwhile; the next observation shows it.
GONE: Final = frozenset({errno.ENODEV, errno.ENXIO})

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

#: struct nlmsghdr: length, type, flags, sequence, port.
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_NLMSGERR_ATTR_MSG = 1


def errno_name(number: int) -> str:
    """``ENODEV`` for 19; the plain number when the platform has no name for it."""
    return errno.errorcode.get(number, str(number))


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel.

    :ivar kind: the message type (``RTM_…``); ``flags`` besides ``NLM_F_REQUEST``.
    :ivar device: the device concerned and ``operation`` what we want, for error messages.
    :ivar fine: errno values that are as good as success for this request.
    """

    kind: int
    body: bytes
    flags: int = 0
    device: str = ""
    operation: str = ""
    fine: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The kernel's answer to one request: ``error`` is a positive errno (0: done), ``replies`` are message bodies."""

    request: Request
    error: int = 0
    message: str = ""
    replies: tuple[bytes, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the error is one that the request does not take for success."""
        return self.error != 0 and self.error not in self.request.fine

    def failure(self) -> DataPlaneFailed:
        """This outcome as an error; only for ``error != 0``."""
        return failure(self.error, self.request.operation, self.request.device, self.message)


def failure(number: int, operation: str, device: str, message: str = "") -> DataPlaneFailed:
    """An errno of the kernel as an error, with ``errno``, ``device`` and ``operation`` in its details."""
    name = errno_name(number)
    what = f"cannot {operation or 'reach the kernel'}"
    where = f" {device}" if device else ""
    why = f": {message}" if message else ""
    return DataPlaneFailed(
        f"{what}{where}: {name}{why}",
        hint="the agent needs to run as root" if number == errno.EPERM else "",
        details={"errno": name, "device": device, "operation": operation, "kernel": message},
    )


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def encode(request: Request, sequence: int, flags: int) -> bytes:
    """The wire form of ``request``."""
    length = _HEADER.size + len(request.body)
    header = _HEADER.pack(length, request.kind, request.flags | flags | NLM_F_REQUEST, sequence, 0)
    return header + request.body + b"\0" * (align(length) - length)


def messages(data: bytes) -> Iterator[Message]:
    """The messages in one datagram."""
    offset, end = 0, len(data)
    while offset + _HEADER.size <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > end:
            return
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += align(length)


def parse_error(message: Message) -> tuple[int, str]:
    """``(errno, kernel's own words)`` of an ``NLMSG_ERROR`` or ``NLMSG_DONE`` message; errno 0 is success."""
    if len(message.body) < _ERROR.size:
        return 0, ""
    number = -_ERROR.unpack_from(message.body)[0]
    if not message.flags & _NLM_F_ACK_TLVS or message.kind != NLMSG_ERROR:
        return number, ""
    start = _ERROR.size + _HEADER.size
    if not message.flags & _NLM_F_CAPPED:
        length, *_ = _HEADER.unpack_from(message.body, _ERROR.size)
        start = _ERROR.size + align(length)
    words = next((value for kind, value in walk(message.body, start) if kind == _NLMSGERR_ATTR_MSG), b"")
    return number, words.rstrip(b"\0").decode(errors="replace")
