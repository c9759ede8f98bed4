"""Sends images from this host to the controller: what an engine has, what it fetches first, and what a node became."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import structlog

from wireloom.agent.library.flights import Turns
from wireloom.agent.library.ledger import key_of
from wireloom.agent.library.waiting import deadline, in_thread
from wireloom.errors import (
    CapacityExceeded,
    Conflict,
    ImageMissing,
    InternalError,
    InvalidInput,
    NotFound,
    Unavailable,
    Unsupported,
    WireloomError,
)
from wireloom.fabric.connection import Fabric
from wireloom.fabric.image_documents import ExportMessage, ExportOpen
from wireloom.fabric.methods import EXPORT
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.state import RuntimePhase
from wireloom.planning.plan import LIVE_PHASES
from wireloom.providers.contract import Credentials, ImageInfo, ImageSaver, ImageStore, Provider
from wireloom.providers.newfile import part_of
from wireloom.uploading import TusClient

__all__ = ["Export", "Exports"]

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 2
_CALL_S: Final = 1800.0
_PULL_S: Final = 2 * 3600.0
_WRITE_S: Final = 4 * 3600.0
_LOOK_S: Final = 1.0
_FOLDER_MODE: Final = 0o700
#: Left on the disk for others.
_SPARE: Final = 256 << 20

Stage = Literal["pull", "save", "send", "done"]
#: Holds a node for as long as the block lasts: no verb is carried out on it.
Holding = Callable[[str], AbstractAsyncContextManager[None]]


class Exports:
    """Handler of :data:`~wireloom.fabric.methods.EXPORT`.

    :param folder: for files on their way; what is in it is ours. :param runtimes: by node id.
    :param pulled: told the key (:func:`~wireloom.agent.library.ledger.key_of`) of each image that was not here before.
    :param reach: an address of a controller's as it is reached from here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        providers: Mapping[str, Provider],
        runtimes: Mapping[str, RuntimeStatus],
        holding: Holding,
        http: Callable[[], httpx.AsyncClient],
        pulled: Callable[[str], None] = lambda key: None,
        reach: Callable[[str], str] = lambda url: url,
    ) -> None:
        self._folder = folder
        self._providers = providers
        self._runtimes = runtimes
        self._holding = holding
        self._http = http
        self._pulled = pulled
        self._reach = reach
        self._turns = Turns(_AT_ONCE)
        self._running: set[Export] = set()

    def prepare(self) -> None:
        """Remove what an earlier agent left. Blocking."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve_stream(host, EXPORT, self.open)

    async def open(self, wanted: ExportOpen) -> Export:
        """Begin an export, and tell how it goes in lines.

        :raises InvalidInput: it names both an image and a node, or neither. :raises NotFound: no such provider or node.
        :raises Unsupported: the provider cannot make images of nodes, or cannot pull.
        """
        if bool(wanted.image) == bool(wanted.node_id):
            raise InvalidInput("an export is of an image or of a node")
        provider = self._providers.get(wanted.provider)
        if provider is None:
            raise NotFound(f"this host has no provider {wanted.provider}")
        if wanted.node_id:
            saver = provider.abilities.saver
            if saver is None:
                raise Unsupported(f"provider {wanted.provider} cannot make an image of a node")
            self._down(wanted)
        export = Export(lambda export: self._run(wanted, provider, export), self._running.discard)
        self._running.add(export)
        return export

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(export.close() for export in list(self._running)))

    async def _run(self, wanted: ExportOpen, provider: Provider, export: Export) -> None:
        target = self._folder / secrets.token_hex(8)
        try:
            async with self._turns.turn():
                if wanted.image:
                    await self._write_image(wanted, provider, target, export)
                else:
                    await self._write_node(wanted, provider, target, export)
                await self._send(wanted, target, export)
        finally:
            await in_thread(target.unlink, missing_ok=True)

    async def _write_image(self, wanted: ExportOpen, provider: Provider, target: Path, export: Export) -> None:
        if not wanted.pull:
            await self._export(wanted, provider.images, target, export)
            return
        before = await _look(provider.images, wanted.image)
        async with _borrowed(wanted, provider.images, before):
            export.tell("pull")
            async with deadline(f"pulling image {wanted.image}", _PULL_S):
                await provider.images.load(wanted.image, credentials=_credentials(wanted))
            await self._note(wanted, provider.images, before)
            await self._export(wanted, provider.images, target, export)

    async def _note(self, wanted: ExportOpen, store: ImageStore, before: ImageInfo | None) -> None:
        """What a host had of its own stays its own, also where the library has the same."""
        info = await _look(store, wanted.image)
        if info is not None and not wanted.borrow and (before is None or before.digest != info.digest):
            self._pulled(key_of(wanted.provider, wanted.image, info.digest))

    async def _export(self, wanted: ExportOpen, store: ImageStore, target: Path, export: Export) -> None:
        info = await _look(store, wanted.image)
        if info is None:
            raise ImageMissing(f"image {wanted.image} is not on this host")
        free = await in_thread(lambda: shutil.disk_usage(self._folder).free)
        if info.size > free - _SPARE:
            raise CapacityExceeded(
                f"the host has no room to export image {wanted.image}: {info.size} bytes are to be written, and"
                f" {max(free - _SPARE, 0)} are free",
                hint=f"free some space in {self._folder}",
            )
        async with _watched(target, info.size, export), deadline(f"exporting image {wanted.image}", _WRITE_S):
            await store.export(wanted.image, target)

    async def _write_node(self, wanted: ExportOpen, provider: Provider, target: Path, export: Export) -> None:
        """The node is held meanwhile: nothing starts it, or removes it."""
        saver = provider.abilities.saver
        assert saver is not None, "open() has looked"  # noqa: S101 - a defect of ours, not input
        async with self._holding(wanted.node_id):
            runtime = self._down(wanted)
            await self._save(saver, runtime, target, export)

    @staticmethod
    async def _save(saver: ImageSaver, runtime: RuntimeStatus, target: Path, export: Export) -> None:
        name = runtime.identity.node
        async with _watched(target, 0, export), deadline(f"making an image of node {name}", _WRITE_S):
            await saver.save(runtime.runtime_id, target)

    def _down(self, wanted: ExportOpen) -> RuntimeStatus:
        """The node's runtime. :raises NotFound: it has none. :raises Conflict: it is not down."""
        runtime = self._runtimes.get(wanted.node_id)
        if runtime is None or runtime.identity.lab_id != wanted.lab_id:
            raise NotFound("the node has nothing on its host to make an image of", hint="deploy it, and stop it")
        node = runtime.identity.node
        if runtime.phase is RuntimePhase.UNKNOWN:
            raise Unavailable("it is not known how the node is: its engine does not answer", node=node)
        if runtime.phase in LIVE_PHASES:
            raise Conflict("an image can be made of a stopped node only", node=node, hint="stop it first")
        return runtime

    async def _send(self, wanted: ExportOpen, target: Path, export: Export) -> None:
        def progress(done: int, total: int) -> None:
            export.tell("send", done, total)

        client = TusClient(self._http(), headers={"Authorization": f"Bearer {wanted.token}"})
        sent = await client.send(self._reach(wanted.upload), target, progress)
        export.tell("done", sent.size, sent.size, sha256=sent.sha256)


class Export:
    """One export, as the stream of lines that its reader gets; only the newest line waits to be read."""

    def __init__(self, work: Callable[[Export], Any], over: Callable[[Export], None]) -> None:
        self._line = b""
        self._more = asyncio.Event()
        self._over = over
        self._task = asyncio.get_running_loop().create_task(self._keep(work), name="image export")

    def tell(self, stage: Stage, done: int = 0, total: int = 0, *, sha256: str = "") -> None:
        """How far it is."""
        self._put(ExportMessage(stage=stage, done=done, total=total, sha256=sha256))

    async def read(self) -> bytes:
        """The newest line; ``b""`` when there is none to come."""
        while not self._line and not self._task.done():
            self._more.clear()
            await self._more.wait()
        line, self._line = self._line, b""
        return line

    async def write(self, data: bytes) -> None:
        """An export takes nothing."""

    async def resize(self, columns: int, rows: int) -> None:
        """Nor has it a size."""

    async def close(self) -> None:
        """The reader leaves: the export ends, and leaves nothing. Idempotent."""
        self._task.cancel()
        await asyncio.wait({self._task})

    def _put(self, message: ExportMessage) -> None:
        self._line = message.model_dump_json(exclude_defaults=True).encode() + b"\n"
        self._more.set()

    async def _keep(self, work: Callable[[Export], Any]) -> None:
        """The supervisor's edge of one export."""
        try:
            await work(self)
        except WireloomError as error:
            self._put(ExportMessage(error=error.to_wire()))
        except OSError as error:
            self._put(ExportMessage(error=CapacityExceeded(f"the host refused: {error}").to_wire()))
        except Exception as error:  # nobody awaits this task
            log.exception("defect in an export")
            self._put(ExportMessage(error=InternalError(f"defect: {error!r}").to_wire()))
        finally:
            self._over(self)
            asyncio.get_running_loop().call_soon(self._more.set)  # when the task is done


def _credentials(wanted: ExportOpen) -> Credentials | None:
    return Credentials(wanted.username, wanted.password) if wanted.username else None


async def _look(store: ImageStore, image: str) -> ImageInfo | None:
    async with deadline(f"looking at image {image}", _CALL_S):
        return await store.info(image)


@contextlib.asynccontextmanager
async def _borrowed(wanted: ExportOpen, store: ImageStore, before: ImageInfo | None) -> AsyncIterator[None]:
    """Take the image's name away afterwards, where it is not wanted here and was not here ``before``."""
    try:
        yield
    finally:
        if wanted.borrow and before is None:
            try:
                async with deadline(f"removing image {wanted.image}", _CALL_S):
                    await store.remove(wanted.image)
            except WireloomError as error:  # somebody uses it by now, and so it is theirs
                log.info("image.not-removed", image=wanted.image, error=error.to_wire())


@contextlib.asynccontextmanager
async def _watched(target: Path, total: int, export: Export) -> AsyncIterator[None]:
    """Tell how much of ``target`` is written while the block lasts."""
    watch = asyncio.get_running_loop().create_task(_watch(target, total, export))
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait({watch})


async def _watch(target: Path, total: int, export: Export) -> None:
    export.tell("save", 0, total)
    while True:
        await asyncio.sleep(_LOOK_S)
        with contextlib.suppress(OSError):  # it is not there yet, or whole by now
            export.tell("save", part_of(target).stat().st_size, total)
