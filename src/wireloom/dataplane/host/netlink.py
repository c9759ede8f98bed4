"""A netlink socket: batches with an acknowledgement for each request, and dumps.

Calls block for as long as the kernel works (it does so inside ``send``), therefore they belong in a worker
thread. A socket serves one thread at a time.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from wireloom.dataplane.host.protocol import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Outcome,
    Request,
    encode,
    failure,
    messages,
    parse_error,
)
from wireloom.errors import DataPlaneFailed, DeadlineExceeded

__all__ = ["Netlink", "Transport", "check", "open_transport", "raise_together"]

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 10, 11
_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER: Final = 8 * 1024 * 1024
#: One datagram of the kernel: dumps are cut to 32 KiB, a single answer is far smaller.
_DATAGRAM: Final = 128 * 1024
#: Requests per send: enough to make the system call cheap, few enough not to hog the kernel's networking lock.
_CHUNK: Final = 256
_CHUNK_BYTES: Final = 96 * 1024
_DUMP_TRIES: Final = 15
_DUMP_PAUSE_S: Final = 0.01


class Transport(Protocol):
    """What a :class:`Netlink` needs of a socket; tests put a scripted kernel here."""

    def send(self, data: bytes, /) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


def open_transport(
    *, groups: int = 0, timeout_s: float | None = 10.0, protocol: int = socket.NETLINK_ROUTE
) -> socket.socket:
    """A netlink socket in the calling thread's network namespace, subscribed to ``groups``."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    if timeout_s is not None:
        # SO_RCVTIMEO and not settimeout(): the latter costs a poll() for each message.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(timeout_s), 0))
    opened.bind((0, groups))
    return opened


class Netlink:
    """Requests and answers over one socket."""

    def __init__(self, transport: Transport, *, timeout_s: float = 10.0) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._sequence = int(time.time()) & 0x7FFFFFFF

    def close(self) -> None:
        self._transport.close()

    def batch(self, requests: Sequence[Request]) -> list[Outcome]:
        """Have each request done, in order; one that fails does not stop the others.

        :raises DeadlineExceeded: the kernel did not answer.
        """
        outcomes: list[Outcome] = []
        for chunk in _chunks(requests):
            outcomes += self._exchange(chunk)
        return outcomes

    def ask(self, request: Request) -> tuple[bytes, ...]:
        """One request; its replies. :raises DataPlaneFailed: with the kernel's errno."""
        (outcome,) = self.batch([request])
        check([outcome])
        return outcome.replies

    def dump(self, request: Request) -> list[bytes]:
        """Bodies of all objects of a kind; begins anew while changes interrupt it.

        :raises DataPlaneFailed: the kernel refused, or changes never paused (``EINTR``).
        """
        for attempt in range(_DUMP_TRIES):
            bodies = self._dump_once(request)
            if bodies is not None:
                return bodies
            time.sleep(_DUMP_PAUSE_S * attempt)  # the more others change, the longer they get to come to an end
        raise failure(errno.EINTR, request.operation, request.device, "interrupted by changes each time")

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        return self._sequence

    def _exchange(self, chunk: Sequence[Request]) -> list[Outcome]:
        waiting = {self._next(): request for request in chunk}
        self._transport.send(b"".join(encode(request, seq, NLM_F_ACK) for seq, request in waiting.items()))
        replies: dict[int, list[bytes]] = {}
        done: dict[int, Outcome] = {}
        deadline = time.monotonic() + self._timeout_s
        while len(done) < len(waiting):
            try:
                data = self._receive(deadline, chunk[0])
            except _Overrun:
                return self._repeat(waiting, done)
            for message in messages(data):
                request = waiting.get(message.sequence)
                if request is None:  # a late answer to something given up earlier
                    continue
                if message.kind == NLMSG_ERROR:
                    number, words = parse_error(message)
                    got = tuple(replies.get(message.sequence, ()))
                    done[message.sequence] = Outcome(request, number, words, got)
                else:
                    replies.setdefault(message.sequence, []).append(message.body)
        return [done[sequence] for sequence in waiting]

    def _repeat(self, waiting: dict[int, Request], done: dict[int, Outcome]) -> list[Outcome]:
        """Answers were lost to a full buffer: ask again, one by one, what has none (requests are idempotent)."""
        return [done.get(seq) or self._exchange([request])[0] for seq, request in waiting.items()]

    def _receive(self, deadline: float, request: Request) -> bytes:
        if time.monotonic() > deadline:
            raise _late(request)
        try:
            return self._transport.recv(_DATAGRAM)
        except (BlockingIOError, TimeoutError):
            raise _late(request) from None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise _Overrun from None
            raise failure(error.errno or errno.EIO, request.operation, request.device) from error

    def _dump_once(self, request: Request) -> list[bytes] | None:
        """The bodies, or ``None`` when the dump was interrupted or lost messages."""
        sequence = self._next()
        self._transport.send(encode(request, sequence, NLM_F_DUMP))
        bodies: list[bytes] = []
        consistent = True
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                data = self._receive(deadline, request)
            except _Overrun:
                consistent = False
                continue
            for message in messages(data):
                if message.sequence != sequence:
                    continue
                consistent = consistent and not message.flags & NLM_F_DUMP_INTR
                if message.kind in {NLMSG_DONE, NLMSG_ERROR}:
                    number, words = parse_error(message)
                    if number:
                        raise failure(number, request.operation, request.device, words)
                    return bodies if consistent else None
                bodies.append(message.body)


class _Overrun(Exception):
    """The receive buffer overflowed: some answers are lost."""


def _late(request: Request) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the kernel did not answer in time: {request.operation} {request.device}".rstrip(),
        details={"device": request.device, "operation": request.operation},
    )


def _chunks(requests: Sequence[Request]) -> Iterable[Sequence[Request]]:
    start, size = 0, 0
    for position, request in enumerate(requests):
        length = len(request.body) + 20
        if position - start >= _CHUNK or (size + length > _CHUNK_BYTES and position > start):
            yield requests[start:position]
            start, size = position, 0
        size += length
    if start < len(requests):
        yield requests[start:]


def check(outcomes: Iterable[Outcome]) -> None:
    """Raise what went wrong in a batch. :raises DataPlaneFailed: see :func:`raise_together`."""
    raise_together([outcome.failure() for outcome in outcomes if outcome.failed])


def raise_together(errors: Sequence[DataPlaneFailed]) -> None:
    """Raise the first of ``errors``, if any, with the facts of all of them in ``details["failures"]``."""
    if not errors:
        return
    first = errors[0]
    if len(errors) > 1:
        first.details["failures"] = [dict(error.details) for error in errors]
    raise first
