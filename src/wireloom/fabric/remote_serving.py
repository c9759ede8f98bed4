"""The serving end of a remote provider; see ``remote.py``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

from wireloom.errors import Unavailable, Unsupported
from wireloom.fabric import remote_methods as methods
from wireloom.fabric.connection import Fabric
from wireloom.fabric.remote_methods import (
    AttachmentAnswer,
    AttachmentQuestion,
    BootsAnswer,
    CallRef,
    CarrierQuestion,
    ConsoleQuestion,
    CreateQuestion,
    ExecInRuntime,
    ExportQuestion,
    FileAnswer,
    FileQuestion,
    FoundImageAnswer,
    HealthAnswer,
    ImageAnswer,
    ImageQuestion,
    ImagesAnswer,
    LoadQuestion,
    LogQuestion,
    Nothing,
    ObserveAnswer,
    ObserveQuestion,
    PresenceAnswer,
    RecentQuestion,
    RuntimeRef,
    SaveQuestion,
    SelfDescription,
    StopQuestion,
)
from wireloom.model.runtime import Capabilities, ExecResult, RuntimeEvent, RuntimeStats
from wireloom.providers.contract import ByteStream, Credentials, Provider

__all__ = ["serve_provider"]

T = TypeVar("T")

_REMEMBERED_CALLS: Final = 256


async def serve_provider(fabric: Fabric, host: str, provider: Provider) -> None:
    """Answer for ``provider`` as ``host``, for as long as ``fabric`` is connected."""
    served = _Served(provider)
    table = methods.for_provider(provider.name)
    await fabric.serve(host, table.describe, served.describe)
    await fabric.serve(host, table.capabilities, served.capabilities)
    await fabric.serve(host, table.observe, served.observe)
    await fabric.serve(host, table.create, served.create)
    await fabric.serve(host, table.start, served.start)
    await fabric.serve(host, table.release, served.release)
    await fabric.serve(host, table.stop, served.stop)
    await fabric.serve(host, table.destroy, served.destroy)
    await fabric.serve(host, table.attachment, served.attachment)
    await fabric.serve(host, table.exec, served.exec)
    await fabric.serve(host, table.stats, served.stats)
    await fabric.serve(host, table.cancel, served.cancel)
    await fabric.serve(host, table.set_carrier, served.set_carrier)
    await fabric.serve(host, table.file_read, served.file_read)
    await fabric.serve(host, table.health, served.health)
    await fabric.serve(host, table.recent, served.recent)
    await fabric.serve(host, table.save, served.save)
    await fabric.serve(host, table.image_has, served.image_has)
    await fabric.serve(host, table.image_info, served.image_info)
    await fabric.serve(host, table.image_load, served.image_load)
    await fabric.serve(host, table.image_verify, served.image_verify)
    await fabric.serve(host, table.image_export, served.image_export)
    await fabric.serve(host, table.image_remove, served.image_remove)
    await fabric.serve(host, table.image_list, served.image_list)
    await fabric.serve_stream(host, table.console, served.console)
    await fabric.serve(host, table.boots, served.boots)
    await fabric.serve_stream(host, table.boot_log, served.boot_log)
    await fabric.serve_stream(host, table.watch, served.watch)


class _Served:
    """The serving end: one method for each row of the table."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._calls = _Calls()
        self._made: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED_CALLS)  # call, runtime id

    async def describe(self, _: Nothing) -> SelfDescription:
        return SelfDescription(
            name=self._provider.name,
            settings_schema=self._provider.settings_schema(),
            carrier=self._provider.abilities.carrier is not None,
            files=self._provider.abilities.files is not None,
            health=self._provider.abilities.health is not None,
            recent=self._provider.abilities.recent is not None,
            saver=self._provider.abilities.saver is not None,
            image_format=self._provider.images.format,
        )

    async def capabilities(self, _: Nothing) -> Capabilities:
        return await self._provider.capabilities()

    async def observe(self, question: ObserveQuestion) -> ObserveAnswer:
        return ObserveAnswer(statuses=tuple(await self._provider.observe(question.runtime_id)))

    async def create(self, question: CreateQuestion) -> RuntimeRef:
        before = {status.runtime_id for status in await self._provider.observe()}
        runtime_id = await self._calls.run(question.call, self._provider.create(question.spec))
        if runtime_id not in before:
            if self._calls.has_left(question.call):
                await self._provider.destroy(runtime_id)
            self._made.append((question.call, runtime_id))
        return RuntimeRef(runtime_id=runtime_id)

    async def start(self, question: RuntimeRef) -> Nothing:
        await self._provider.start(question.runtime_id)
        return Nothing()

    async def release(self, question: RuntimeRef) -> Nothing:
        await self._provider.release(question.runtime_id)
        return Nothing()

    async def stop(self, question: StopQuestion) -> Nothing:
        await self._provider.stop(question.runtime_id, question.grace_s)
        return Nothing()

    async def destroy(self, question: RuntimeRef) -> Nothing:
        await self._provider.destroy(question.runtime_id)
        return Nothing()

    async def attachment(self, question: AttachmentQuestion) -> AttachmentAnswer:
        return AttachmentAnswer(attachment=await self._provider.attachment(question.runtime_id, question.port))

    async def exec(self, question: ExecInRuntime) -> ExecResult:
        work = self._provider.exec(
            question.runtime_id, question.command, timeout_s=question.timeout_s, stdin=question.stdin
        )
        return await self._calls.run(question.call, work)

    async def stats(self, question: RuntimeRef) -> RuntimeStats:
        return await self._provider.stats(question.runtime_id)

    async def cancel(self, question: CallRef) -> Nothing:
        """The answer to a create may be under way to a caller that has left: then nobody knows of the runtime."""
        await self._calls.cancel(question.call)
        for call, runtime_id in self._made:
            if call == question.call:
                await self._provider.destroy(runtime_id)
        return Nothing()

    async def set_carrier(self, question: CarrierQuestion) -> Nothing:
        control = self._provider.abilities.carrier
        if control is None:
            raise Unsupported(f"the provider {self._provider.name} does not control carriers")
        await control.set_carrier(question.runtime_id, question.carriers)
        return Nothing()

    async def file_read(self, question: FileQuestion) -> FileAnswer:
        files = self._provider.abilities.files
        if files is None:
            raise Unsupported(f"the provider {self._provider.name} cannot read a guest's files")
        return FileAnswer(content=await files.read(question.runtime_id, question.path))

    async def health(self, question: RuntimeRef) -> HealthAnswer:
        check = self._provider.abilities.health
        if check is None:
            raise Unsupported(f"the provider {self._provider.name} does not know how its guests are")
        return HealthAnswer(health=await check.health(question.runtime_id))

    async def recent(self, question: RecentQuestion) -> FileAnswer:
        ability = self._provider.abilities.recent
        if ability is None:
            raise Unsupported(f"the provider {self._provider.name} keeps no output of its console lines")
        return FileAnswer(content=await ability.recent(question.runtime_id, question.line, question.size))

    async def save(self, question: SaveQuestion) -> Nothing:
        saver = self._provider.abilities.saver
        if saver is None:
            raise Unsupported(f"the provider {self._provider.name} cannot make images of its runtimes")
        await saver.save(question.runtime_id, question.target)
        return Nothing()

    async def image_has(self, question: ImageQuestion) -> PresenceAnswer:
        return PresenceAnswer(present=await self._provider.images.has(question.image))

    async def image_info(self, question: ImageQuestion) -> FoundImageAnswer:
        return FoundImageAnswer(image=await self._provider.images.info(question.image))

    async def image_load(self, question: LoadQuestion) -> ImageAnswer:
        shown = Credentials(question.username, question.password) if question.username else None
        loaded = await self._provider.images.load(
            question.image, question.source, content=question.content, credentials=shown
        )
        return ImageAnswer(image=loaded)

    async def image_verify(self, question: ImageQuestion) -> ImageAnswer:
        return ImageAnswer(image=await self._provider.images.verify(question.image))

    async def image_export(self, question: ExportQuestion) -> Nothing:
        await self._provider.images.export(question.image, question.target)
        return Nothing()

    async def image_remove(self, question: ImageQuestion) -> Nothing:
        await self._provider.images.remove(question.image)
        return Nothing()

    async def image_list(self, _: Nothing) -> ImagesAnswer:
        return ImagesAnswer(images=tuple(await self._provider.images.list()))

    async def console(self, question: ConsoleQuestion) -> ByteStream:
        return await self._provider.console(question.runtime_id, question.request)

    async def boots(self, question: RuntimeRef) -> BootsAnswer:
        return BootsAnswer(boots=tuple(await self._provider.boots(question.runtime_id)))

    async def boot_log(self, question: LogQuestion) -> ByteStream:
        return _IteratorStream(self._provider.boot_log(question.runtime_id, follow=question.follow, boot=question.boot))

    async def watch(self, _: Nothing) -> ByteStream:
        return _IteratorStream(_lines(self._provider.watch()))


class _Calls:
    """Work under way for callers that may leave, which the fabric's questions and answers alone do not tell."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._left: deque[str] = deque(maxlen=_REMEMBERED_CALLS)

    def has_left(self, call: str) -> bool:
        return call in self._left

    async def run(self, call: str, work: Awaitable[T]) -> T:
        """:raises Unavailable: the caller has left."""
        task = asyncio.ensure_future(work)
        if self.has_left(call):
            task.cancel()
        self._running[call] = task
        try:
            return await task
        except asyncio.CancelledError:
            if self.has_left(call):
                raise Unavailable("the caller has left") from None
            raise
        finally:
            del self._running[call]

    async def cancel(self, call: str) -> None:
        """End the call, also one that has yet to arrive; returns when it has ended."""
        self._left.append(call)
        task = self._running.get(call)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


class _IteratorStream:
    """A one-way byte stream from an iterator. Its reader is one task, as the fabric's copying is."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source

    async def read(self) -> bytes:
        return await anext(self._source, b"")

    async def write(self, data: bytes) -> None:
        """Nothing is taken in."""

    async def resize(self, columns: int, rows: int) -> None:
        """There is no terminal."""

    async def close(self) -> None:
        """The iterator ended with its reader's task, or is let go of here."""


async def _lines(events: AsyncIterator[RuntimeEvent]) -> AsyncIterator[bytes]:
    async for event in events:
        yield event.model_dump_json().encode() + b"\n"
