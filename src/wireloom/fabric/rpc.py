"""Questions and answers: JSON over request/reply, with our errors on the way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from wireloom.errors import DeadlineExceeded, InternalError, InvalidInput, Unavailable, WireloomError, from_wire
from wireloom.fabric.link import Link, NoResponders
from wireloom.fabric.methods import Method
from wireloom.fabric.subjects import rpc_subject
from wireloom.model.base import Value

__all__ = ["Answerer", "ask", "ask_raw", "decode_answer", "encode_answer", "encode_error", "parse_question"]

log = structlog.get_logger(__name__)

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)

_TIMEOUT = "Wireloom-Timeout"
_RETRY_S = 0.1
_GRACE_S = 0.5  # the answer "too late" travels too
_AT_ONCE = 128


def encode_answer(answer: Value | None) -> bytes:
    """The wire form of a success."""
    text = "null" if answer is None else answer.model_dump_json()
    return b'{"answer":' + text.encode() + b"}"


def encode_error(error: WireloomError) -> bytes:
    """The wire form of a failure."""
    return json.dumps({"error": error.to_wire()}).encode()


def decode_answer(data: bytes, kind: type[A]) -> A:
    """The answer in ``data``, or raise the error in it."""
    document = _checked(data)
    try:
        return kind.model_validate_json(json.dumps(document.get("answer")))
    except ValidationError as error:
        raise InternalError("the fabric brought an answer that is not one", details={"kind": kind.__name__}) from error


def check_answer(data: bytes) -> None:
    """Raise the error in ``data``, if it is one."""
    _checked(data)


def _checked(data: bytes) -> dict[str, object]:
    document = json.loads(data)
    error = document.get("error")
    if error is not None:
        raise from_wire(error)
    return dict(document)


def parse_question(data: bytes, kind: type[Q]) -> Q:
    """:raises InvalidInput: the bytes are no such question."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(f"this is not a {kind.__name__}", details={"errors": error.error_count()}) from error


async def ask_raw(
    link: Link, host: str, subject: str, question: Value, *, timeout_s: float, headers: dict[str, str] | None = None
) -> bytes:
    """Ask ``host`` on ``subject``.

    :raises Unavailable: no agent of ``host`` listens, or the fabric is away.
    :raises DeadlineExceeded: no answer within ``timeout_s``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    payload = question.model_dump_json().encode()
    all_headers = {_TIMEOUT: f"{timeout_s:g}", **(headers or {})}
    while True:
        left = deadline - loop.time()
        try:
            message = await link.request(subject, payload, timeout_s=left + _GRACE_S, headers=all_headers)
        except NoResponders as error:
            # Just after an outage of the fabric the agent may need a moment longer than we did.
            if not link.settling or left < _RETRY_S:
                raise Unavailable(f"the agent of host {host} does not answer", hint="is it running?") from error
            await asyncio.sleep(_RETRY_S)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"host {host} did not answer within {timeout_s:g} s") from error
        else:
            return message.data


async def ask(link: Link, host: str, method: Method[Q, A], question: Q, *, timeout_s: float | None) -> A:
    """Ask ``host``; errors of its handler are raised here as what they were there."""
    wait_s = method.deadline_s if timeout_s is None else timeout_s
    data = await ask_raw(link, host, rpc_subject(host, method.name), question, timeout_s=wait_s)
    return decode_answer(data, method.answer)


class Answerer:
    """Runs handlers, each question in a task of its own, so that a slow one holds up nobody."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(
        self,
        subject: str,
        answer: Callable[[Msg], Awaitable[bytes]],
        *,
        queue: str = "",
        taken: Callable[[Msg], bool] = lambda message: True,
    ) -> None:
        """Answer questions on ``subject`` with what ``answer`` returns or raises, for as long as the link lives.

        :param queue: of all who serve with this name one answers each question.
        :param taken: whether a question is answered at all.
        """

        async def accept(message: Msg) -> None:
            if not message.reply or not taken(message):
                return  # nobody asks so: somebody had an answer to something else sent here
            if len(self._tasks) >= _AT_ONCE:
                await self._reply(message, encode_error(Unavailable("the agent is busy with too many questions")))
                return
            task = asyncio.get_running_loop().create_task(self._answer(message, answer))
            self._tasks.add(task)
            self._link.hold(message, task)
            task.add_done_callback(self._tasks.discard)

        await self._link.subscribe(subject, accept, queue=queue)

    async def close(self) -> None:
        """End the questions in flight; their askers learn that the agent went."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, message: Msg, answer: Callable[[Msg], Awaitable[bytes]]) -> None:
        timeout_s = float((message.headers or {}).get(_TIMEOUT, "60"))
        try:
            async with asyncio.timeout(timeout_s):
                data = await answer(message)
        except WireloomError as error:
            data = encode_error(error)
        except TimeoutError:
            data = encode_error(DeadlineExceeded(f"it took longer than {timeout_s:g} s"))
        except asyncio.CancelledError:
            await self._reply(message, encode_error(Unavailable("the agent is stopping")))
            raise
        except Exception as error:
            log.exception("fabric.answer-failed", subject=message.subject)
            data = encode_error(InternalError(f"{type(error).__name__}: {error}"))
        await self._reply(message, data)

    async def _reply(self, message: Msg, data: bytes) -> None:
        if not message.reply:
            return
        try:
            await self._link.respond(message, data)
        except Unavailable as error:
            log.warning("fabric.answer-lost", subject=message.subject, error=str(error))
        except WireloomError as error:
            await self._link.respond(message, encode_error(error))
