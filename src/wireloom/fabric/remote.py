"""A provider on another host: every verb of the contract as a question or a byte stream of the fabric.

``serve_provider`` (``remote_serving.py``) answers for a provider, ``RemoteProvider`` is one for whoever asks. The
conformance suite runs against what an agent holds and against what comes out here, and both must be the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from wireloom.errors import Unavailable, WireloomError
from wireloom.fabric import remote_methods as methods
from wireloom.fabric.connection import Fabric
from wireloom.fabric.methods import Method
from wireloom.fabric.remote_methods import (
    AttachmentQuestion,
    CallRef,
    CarrierQuestion,
    ConsoleQuestion,
    CreateQuestion,
    ExecInRuntime,
    ExportQuestion,
    FileQuestion,
    ImageQuestion,
    LoadQuestion,
    LogQuestion,
    Nothing,
    ObserveQuestion,
    RecentQuestion,
    RuntimeRef,
    SaveQuestion,
    SelfDescription,
    StopQuestion,
)
from wireloom.model.attachment import Attachment
from wireloom.model.base import Value
from wireloom.model.images import ImageFormat
from wireloom.model.runtime import (
    Boot,
    Capabilities,
    ConsoleRequest,
    ExecResult,
    ImageInfo,
    RuntimeEvent,
    RuntimeSpec,
    RuntimeStats,
    RuntimeStatus,
)
from wireloom.model.slice import PortIntent
from wireloom.providers.contract import Abilities, ByteStream, Credentials, Health, ImageStore

__all__ = ["RemoteProvider"]

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)

_ANSWER_SLACK_S: Final = 10.0
_RECONNECT_FIRST_S: Final = 0.1
_RECONNECT_MOST_S: Final = 2.0


class RemoteProvider:
    """A :class:`~wireloom.providers.contract.Provider` served by the agent of ``host``. Made with :meth:`connect`."""

    def __init__(self, fabric: Fabric, host: str, description: SelfDescription) -> None:
        self.name = description.name
        self._description = description
        self._fabric = fabric
        self._host = host
        self._methods = methods.for_provider(description.name)
        self.images: ImageStore = _RemoteImages(self, description.image_format)
        self.abilities = Abilities(
            carrier=_RemoteCarriers(self) if description.carrier else None,
            files=_RemoteFiles(self) if description.files else None,
            health=_RemoteHealth(self) if description.health else None,
            recent=_RemoteRecent(self) if description.recent else None,
            saver=_RemoteSaver(self) if description.saver else None,
        )

    @classmethod
    async def connect(cls, fabric: Fabric, host: str, name: str) -> RemoteProvider:
        """:raises Unavailable: nobody serves that provider on ``host``."""
        description = await fabric.call(host, methods.for_provider(name).describe, Nothing())
        return cls(fabric, host, description)

    async def ask(self, method: Method[Q, A], question: Q, *, timeout_s: float | None = None) -> A:
        """Put one question to the serving end."""
        return await self._fabric.call(self._host, method, question, timeout_s=timeout_s)

    def settings_schema(self) -> dict[str, Any]:
        return self._description.settings_schema

    async def capabilities(self) -> Capabilities:
        try:
            return await self.ask(self._methods.capabilities, Nothing())
        except WireloomError as error:
            return Capabilities(name=self.name, available=False, problem=str(error))

    async def observe(self, runtime_id: str | None = None) -> Sequence[RuntimeStatus]:
        return (await self.ask(self._methods.observe, ObserveQuestion(runtime_id=runtime_id))).statuses

    async def create(self, spec: RuntimeSpec) -> str:
        call = secrets.token_hex(8)
        question = CreateQuestion(call=call, spec=spec)
        return (await self._cancellable(call, self.ask(self._methods.create, question))).runtime_id

    async def start(self, runtime_id: str) -> None:
        await self.ask(self._methods.start, RuntimeRef(runtime_id=runtime_id))

    async def release(self, runtime_id: str) -> None:
        await self.ask(self._methods.release, RuntimeRef(runtime_id=runtime_id))

    async def stop(self, runtime_id: str, grace_s: float) -> None:
        timeout_s = self._methods.stop.deadline_s + grace_s
        question = StopQuestion(runtime_id=runtime_id, grace_s=grace_s)
        await self.ask(self._methods.stop, question, timeout_s=timeout_s)

    async def destroy(self, runtime_id: str) -> None:
        await self.ask(self._methods.destroy, RuntimeRef(runtime_id=runtime_id))

    async def attachment(self, runtime_id: str, port: PortIntent) -> Attachment | None:
        question = AttachmentQuestion(runtime_id=runtime_id, port=port)
        return (await self.ask(self._methods.attachment, question)).attachment

    async def console(self, runtime_id: str, request: ConsoleRequest) -> ByteStream:
        question = ConsoleQuestion(runtime_id=runtime_id, request=request)
        return await self._fabric.open_stream(self._host, self._methods.console, question)

    async def exec(
        self, runtime_id: str, command: Sequence[str], *, timeout_s: float, stdin: bytes = b""
    ) -> ExecResult:
        call = secrets.token_hex(8)
        question = ExecInRuntime(
            call=call, runtime_id=runtime_id, command=tuple(command), timeout_s=timeout_s, stdin=stdin
        )
        asking = self.ask(self._methods.exec, question, timeout_s=timeout_s + _ANSWER_SLACK_S)
        return await self._cancellable(call, asking)

    async def boots(self, runtime_id: str) -> Sequence[Boot]:
        return (await self.ask(self._methods.boots, RuntimeRef(runtime_id=runtime_id))).boots

    async def boot_log(self, runtime_id: str, *, follow: bool = False, boot: int = 0) -> AsyncGenerator[bytes, None]:
        question = LogQuestion(runtime_id=runtime_id, follow=follow, boot=boot)
        async with _closing(await self._fabric.open_stream(self._host, self._methods.boot_log, question)) as stream:
            while data := await stream.read():
                yield data

    async def stats(self, runtime_id: str) -> RuntimeStats:
        return await self.ask(self._methods.stats, RuntimeRef(runtime_id=runtime_id))

    async def watch(self) -> AsyncIterator[RuntimeEvent]:
        """Each new stream begins with the ``RESYNC`` of the provider at its far end."""
        pause = _RECONNECT_FIRST_S
        while True:
            with contextlib.suppress(Unavailable):
                opening = await self._fabric.open_stream(self._host, self._methods.watch, Nothing())
                async with _closing(opening) as stream:
                    pending = b""
                    while data := await stream.read():
                        pause = _RECONNECT_FIRST_S
                        *lines, pending = (pending + data).split(b"\n")
                        for line in lines:
                            yield RuntimeEvent.model_validate_json(line)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RECONNECT_MOST_S)

    async def close(self) -> None:
        """The connection belongs to whoever made it."""

    async def _cancellable(self, call: str, asking: Awaitable[A]) -> A:
        """A caller that leaves takes its call at the far end with it."""
        try:
            return await asking
        except asyncio.CancelledError:
            with contextlib.suppress(WireloomError):
                await asyncio.shield(self.ask(self._methods.cancel, CallRef(call=call)))
            raise


@contextlib.asynccontextmanager
async def _closing(stream: ByteStream) -> AsyncIterator[ByteStream]:
    try:
        yield stream
    finally:
        await stream.close()


class _RemoteImages:
    """The image store at the far end; files named here are on that host."""

    def __init__(self, provider: RemoteProvider, image_format: ImageFormat) -> None:
        self.format: ImageFormat = image_format
        self._ask = provider.ask
        self._methods = methods.for_provider(provider.name)

    async def has(self, image: str) -> bool:
        return (await self._ask(self._methods.image_has, ImageQuestion(image=image))).present

    async def info(self, image: str) -> ImageInfo | None:
        return (await self._ask(self._methods.image_info, ImageQuestion(image=image))).image

    async def load(
        self, image: str, source: Path | None = None, *, content: str = "", credentials: Credentials | None = None
    ) -> ImageInfo:
        shown = credentials or Credentials("", "")
        question = LoadQuestion(
            image=image, source=source, content=content, username=shown.username, password=shown.password
        )
        return (await self._ask(self._methods.image_load, question)).image

    async def verify(self, image: str) -> ImageInfo:
        return (await self._ask(self._methods.image_verify, ImageQuestion(image=image))).image

    async def export(self, image: str, target: Path) -> None:
        await self._ask(self._methods.image_export, ExportQuestion(image=image, target=target))

    async def remove(self, image: str) -> None:
        await self._ask(self._methods.image_remove, ImageQuestion(image=image))

    async def list(self) -> Sequence[ImageInfo]:
        return (await self._ask(self._methods.image_list, Nothing())).images


class _RemoteCarriers:
    def __init__(self, provider: RemoteProvider) -> None:
        self._ask = provider.ask
        self._methods = methods.for_provider(provider.name)

    async def set_carrier(self, runtime_id: str, carriers: Mapping[int, bool]) -> None:
        question = CarrierQuestion(runtime_id=runtime_id, carriers=dict(carriers))
        await self._ask(self._methods.set_carrier, question)


class _RemoteFiles:
    def __init__(self, provider: RemoteProvider) -> None:
        self._ask = provider.ask
        self._methods = methods.for_provider(provider.name)

    async def read(self, runtime_id: str, path: str) -> bytes:
        return (await self._ask(self._methods.file_read, FileQuestion(runtime_id=runtime_id, path=path))).content


class _RemoteHealth:
    def __init__(self, provider: RemoteProvider) -> None:
        self._ask = provider.ask
        self._methods = methods.for_provider(provider.name)

    async def health(self, runtime_id: str) -> Health:
        return (await self._ask(self._methods.health, RuntimeRef(runtime_id=runtime_id))).health


class _RemoteRecent:
    def __init__(self, provider: RemoteProvider) -> None:
        self._ask = provider.ask
        self._methods = methods.for_provider(provider.name)

    async def recent(self, runtime_id: str, line: int, size: int) -> bytes:
        question = RecentQuestion(runtime_id=runtime_id, line=line, size=size)
        return (await self._ask(self._methods.recent, question)).content


class _RemoteSaver:
    def __init__(self, provider: RemoteProvider) -> None:
        self._ask = provider.ask
        self._methods = methods.for_provider(provider.name)

    async def save(self, runtime_id: str, target: Path) -> None:
        await self._ask(self._methods.save, SaveQuestion(runtime_id=runtime_id, target=target))
