"""Images that hosts send: pulled by their engines, there already, or saved of a stopped node.

The host gets the address of an upload that waits for it and a token that opens this upload alone. Its messages are the
job's progress. What a kill of either side cuts off is begun anew: a host that is no longer listened to gives up, and
the loss of a host (:class:`HostLost`) is told apart from what a host says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import Final

from pydantic import ValidationError

from wireloom.controller.library.records import JobContext
from wireloom.controller.library.uploads import Committed, Uploads
from wireloom.controller.ports import ControllerFabric
from wireloom.errors import DeadlineExceeded, InternalError, Unavailable, WireloomError, from_wire
from wireloom.fabric.image_documents import ExportMessage, ExportOpen
from wireloom.fabric.methods import EXPORT
from wireloom.library.values import ImageRefused
from wireloom.model.images import JobStage
from wireloom.providers.contract import ByteStream

__all__ = ["Exports", "HostLost"]

#: A line of a host's messages is a few hundred bytes; an error may have details.
_LONGEST_LINE: Final = 256 << 10
_LOST: Final = "look at `wireloom status`, then retry the job"
_WORDS: Final = {"pull": "the host's engine pulls it", "save": "the host reads it", "send": "the host sends it"}


class HostLost(Unavailable):
    """The host, or the way to it, went while it was asked or sent; it may send all the same when it is back."""


class Exports:
    """:param url: where hosts reach the API (ends in ``/api/v1``); empty: it is not known yet."""

    def __init__(self, *, fabric: ControllerFabric, uploads: Uploads, url: Callable[[], str]) -> None:
        self._fabric = fabric
        self._uploads = uploads
        self._url = url

    def need_address(self) -> str:
        """Where hosts send to. :raises Unavailable: it is not known yet."""
        url = self._url()
        if not url:
            raise Unavailable("the controller does not serve yet, so no host can send to it", hint="try again")
        return url

    async def fetch(self, job: JobContext, host: str, wanted: ExportOpen, name: str, target: Path) -> Committed:
        """Have ``host`` send what ``wanted`` names (its upload and token are filled in here) to the file ``target``.

        :param name: of the file.
        :raises WireloomError: what the host says. :raises HostLost: it does not answer, or went away.
        :raises ImageRefused: what arrived is not what was sent.
        """
        url = self.need_address()
        await self._uploads.drop_job(job.id)  # what an attempt before this one had begun
        token = token_urlsafe(32)
        upload = await self._uploads.create(None, {"filename": name}, token, job_id=job.id)
        question = wanted.model_copy(update={"upload": f"{url.rstrip('/')}/uploads/{upload}", "token": token})
        try:
            sent = await self._follow(job, host, question)
            committed = await self._uploads.commit(upload, target, partial(job.progress, JobStage.DIGEST))
        except WireloomError:
            await self._uploads.drop_job(job.id)  # nothing goes on with it, and the disk may be full of it
            raise
        if sent.sha256 and sent.sha256.removeprefix("sha256:") != committed.digest.removeprefix("sha256:"):
            raise ImageRefused("digest", "what arrived is not what the host sent", hint="retry the job")
        return committed

    async def _follow(self, job: JobContext, host: str, question: ExportOpen) -> ExportMessage:
        """The host's last message. The stream says by itself when the host is gone."""
        with _loss_of(host):
            stream = await self._fabric.open_stream(host, EXPORT, question)
        lines = _Lines(stream)
        stage = ""
        try:
            while True:
                with _loss_of(host):
                    line = await lines.next()
                if line is None:
                    break
                message = _message(host, line)
                if message.error is not None:
                    raise from_wire(message.error)
                if message.stage == "done":
                    return message
                if message.stage != stage:
                    stage = message.stage
                    job.report(f"{host}: {_WORDS[stage]}")
                job.progress(JobStage.EXPORT, message.done, message.total)
        finally:
            await stream.close()
        raise HostLost(f"host {host} stopped sending", hint=_LOST)


class _Lines:
    """The lines of a byte stream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._rest = b""

    async def next(self) -> bytes | None:
        """``None`` at the end."""
        while b"\n" not in self._rest:
            if len(self._rest) > _LONGEST_LINE:
                raise InternalError("a host sends lines without end")
            data = await self._stream.read()
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@contextmanager
def _loss_of(host: str) -> Iterator[None]:
    """What the fabric says of a far end that went, or does not answer, is a loss of the host."""
    try:
        yield
    except (Unavailable, DeadlineExceeded) as error:
        raise HostLost(f"host {host} was lost: {error.message}", hint=_LOST) from error


def _message(host: str, line: bytes) -> ExportMessage:
    try:
        return ExportMessage.model_validate_json(line)
    except ValidationError as error:
        raise InternalError(f"host {host} sends what is no message of an export") from error
