"""Batches and dumps against a scripted kernel."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable

import pytest

from wireloom.dataplane.host.attributes import text
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.protocol import (
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    Outcome,
    Request,
    messages,
    parse_error,
)
from wireloom.errors import DataPlaneFailed, DeadlineExceeded

OBJECT = 16
_CAPPED, _TLVS = 0x100, 0x200


def packed(kind: int, sequence: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + b"\0" * (-len(body) % 4)


def acknowledged(sequence: int, number: int = 0, words: str = "") -> bytes:
    body = struct.pack("=i", -number) + struct.pack("=IHHII", 16, 0, 0, sequence, 0)
    if words:
        return packed(NLMSG_ERROR, sequence, body + text(1, words), _CAPPED | _TLVS)
    return packed(NLMSG_ERROR, sequence, body, _CAPPED)


class Kernel:
    """Answers each send by ``script``; an exception among the answers is raised by ``recv``."""

    def __init__(self, script: Callable[[list[Message]], Iterable[bytes | Exception]]) -> None:
        self._script = script
        self._answers: list[bytes | Exception] = []
        self.sends: list[list[Message]] = []

    def send(self, data: bytes) -> int:
        asked = list(messages(data))
        self.sends.append(asked)
        self._answers += self._script(asked)
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self._answers:
            raise BlockingIOError
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass


def requests(count: int, size: int = 8) -> list[Request]:
    return [Request(19, bytes(size), device=f"d{i}", operation="change") for i in range(count)]


def test_answers_are_matched_by_sequence_in_any_order() -> None:
    def script(asked: list[Message]) -> Iterable[bytes]:
        first, second, third = (message.sequence for message in asked)
        yield acknowledged(third, errno.EPERM)
        yield packed(OBJECT, second, b"body") + acknowledged(second)
        yield acknowledged(first, errno.ENODEV, "no such thing")

    outcomes = Netlink(Kernel(script)).batch(requests(3))
    assert [(o.request.device, o.error, o.message, o.replies) for o in outcomes] == [
        ("d0", errno.ENODEV, "no such thing", ()),
        ("d1", 0, "", (b"body",)),
        ("d2", errno.EPERM, "", ()),
    ]


def test_answers_to_earlier_requests_are_ignored() -> None:
    def script(asked: list[Message]) -> Iterable[bytes]:
        yield acknowledged(asked[0].sequence - 1, errno.EBUSY)
        yield acknowledged(asked[0].sequence)

    assert Netlink(Kernel(script)).batch(requests(1))[0].error == 0


def test_an_empty_batch_sends_nothing() -> None:
    kernel = Kernel(lambda asked: [])
    assert Netlink(kernel).batch([]) == []
    assert kernel.sends == []


@pytest.mark.parametrize(("count", "size"), [(600, 8), (100, 4000), (3, 90_000)])
def test_large_batches_are_sent_in_several_pieces_and_in_order(count: int, size: int) -> None:
    kernel = Kernel(lambda asked: [acknowledged(message.sequence) for message in asked])
    outcomes = Netlink(kernel).batch(requests(count, size))
    assert [o.request.device for o in outcomes] == [f"d{i}" for i in range(count)]
    assert len(kernel.sends) > 1
    assert max(sum(len(message.body) for message in asked) for asked in kernel.sends) <= 96 * 1024


def test_a_lost_answer_is_asked_for_again() -> None:
    """With ENOBUFS the kernel says that answers were dropped; only what has none is repeated."""

    def script(asked: list[Message]) -> Iterable[bytes | Exception]:
        if len(asked) == 3:
            return [acknowledged(asked[0].sequence), OSError(errno.ENOBUFS, "lost")]
        return [acknowledged(asked[0].sequence, errno.EEXIST)]

    kernel = Kernel(script)
    outcomes = Netlink(kernel).batch(requests(3))
    assert [outcome.error for outcome in outcomes] == [0, errno.EEXIST, errno.EEXIST]
    assert [len(asked) for asked in kernel.sends] == [3, 1, 1]


def test_silence_is_a_deadline() -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        Netlink(Kernel(lambda asked: [])).batch(requests(1))
    assert caught.value.details == {"device": "d0", "operation": "change"}


def test_a_dump_gathers_all_parts() -> None:
    def script(asked: list[Message]) -> Iterable[bytes]:
        sequence = asked[0].sequence
        yield packed(OBJECT, sequence, b"one.") + packed(OBJECT, sequence, b"two.")
        yield packed(OBJECT, sequence, b"three...") + packed(NLMSG_DONE, sequence, bytes(4))

    assert Netlink(Kernel(script)).dump(Request(18, b"")) == [b"one.", b"two.", b"three..."]


@pytest.mark.parametrize("disturbance", ["interrupted", "overrun"])
def test_a_disturbed_dump_begins_anew(disturbance: str) -> None:
    turns = iter([True, True, False])

    def script(asked: list[Message]) -> Iterable[bytes | Exception]:
        sequence, disturbed = asked[0].sequence, next(turns)
        if disturbed and disturbance == "overrun":
            yield OSError(errno.ENOBUFS, "lost")
        flags = NLM_F_DUMP_INTR if disturbed and disturbance == "interrupted" else 0
        yield packed(OBJECT, sequence, b"old." if disturbed else b"new.", flags)
        yield packed(NLMSG_DONE, sequence, bytes(4), flags)

    assert Netlink(Kernel(script)).dump(Request(18, b"")) == [b"new."]


def test_a_dump_that_is_always_disturbed_fails() -> None:
    kernel = Kernel(lambda asked: [packed(NLMSG_DONE, asked[0].sequence, bytes(4), NLM_F_DUMP_INTR)])
    with pytest.raises(DataPlaneFailed) as caught:
        Netlink(kernel).dump(Request(18, b"", operation="list devices"))
    assert caught.value.details["errno"] == "EINTR"
    assert caught.value.retryable


def test_a_refused_dump_fails_with_its_errno() -> None:
    kernel = Kernel(lambda asked: [acknowledged(asked[0].sequence, errno.EOPNOTSUPP)])
    with pytest.raises(DataPlaneFailed) as caught:
        Netlink(kernel).dump(Request(18, b""))
    assert caught.value.details["errno"] == errno.errorcode[errno.EOPNOTSUPP]


def test_check_names_every_failure_and_forgives_what_is_fine() -> None:
    fine = Request(17, b"", device="gone", fine=frozenset({errno.ENODEV}))
    first, second = requests(2)
    check([Outcome(fine, errno.ENODEV), Outcome(first)])
    with pytest.raises(DataPlaneFailed) as caught:
        check([Outcome(fine, errno.ENODEV), Outcome(first, errno.EPERM), Outcome(second, errno.EBUSY, "in use")])
    assert caught.value.details["errno"] == "EPERM"
    assert caught.value.details["device"] == "d0"
    assert "root" in caught.value.hint
    failures = caught.value.details["failures"]
    assert [(f["device"], f["errno"], f["kernel"]) for f in failures] == [
        ("d0", "EPERM", ""),
        ("d1", "EBUSY", "in use"),
    ]


def test_kernels_words_are_found_behind_an_uncapped_request() -> None:
    request = struct.pack("=IHHII", 20, 19, 0, 1, 0) + b"echo"
    body = struct.pack("=i", -errno.EINVAL) + request + text(1, "bad attribute")
    assert parse_error(Message(NLMSG_ERROR, _TLVS, 1, body)) == (errno.EINVAL, "bad attribute")
