"""The Docker provider: one runtime is one container without a network of its own, behind a start gate."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from wireloom.errors import Conflict, InvalidInput, NotFound, NotPermitted, RuntimeFailed, Unsupported, WireloomError
from wireloom.model.attachment import Attachment, NamespaceAttachment
from wireloom.model.identity import LABEL_INSTALLATION, LABEL_NODE_ID
from wireloom.model.runtime import (
    Boot,
    Capabilities,
    ConsoleRequest,
    ExecResult,
    GuestFile,
    RuntimeEvent,
    RuntimeSpec,
    RuntimeStats,
    RuntimeStatus,
)
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Abilities, ByteStream, ImageStore
from wireloom.providers.docker.attach import RecentLog, attach_terminal
from wireloom.providers.docker.commands import open_terminal, run_command
from wireloom.providers.docker.engine import Engine, check_version
from wireloom.providers.docker.files import ContainerFiles
from wireloom.providers.docker.gate import GATE_SHELL, find_busybox, open_gate, prepare_gate
from wireloom.providers.docker.health import ContainerHealth
from wireloom.providers.docker.housekeeping import DockerHousekeeping
from wireloom.providers.docker.images import DockerImageStore
from wireloom.providers.docker.inspection import Run, boot_marks, note_boot, query, status_of, summary_status
from wireloom.providers.docker.porter import ContainerPorter
from wireloom.providers.docker.process import has_all_capabilities
from wireloom.providers.docker.render import render_create
from wireloom.providers.docker.saver import ContainerSaver
from wireloom.providers.docker.settings import DockerSettings
from wireloom.providers.docker.streams import boot_log, read_stats, watch_events
from wireloom.providers.docker.usage import read_usage

__all__ = ["DockerProvider"]

_CALL_S: Final = 60.0
_START_S: Final = 60.0
_STOP_EXTRA_S: Final = 15.0
_DESTROY_S: Final = 60.0
_GATE_S: Final = 10.0
_CAPABILITIES_S: Final = 5.0
_POLL_S: Final = 0.02
_PARALLEL_INSPECTS: Final = 8
_IPV6: Final = Path("/proc/sys/net/ipv6")
_SHELL: Final = (GATE_SHELL, "sh")  # there even in an image without a shell


class DockerProvider:
    """A :class:`~wireloom.providers.contract.Provider` on the engine of this host (20.10 or newer).

    :param installation: only runtimes with this label exist for it.
    :param url: the engine's UNIX socket; default: ``DOCKER_HOST``, else the usual one.
    :param busybox: a static busybox for the gate; default: the host's own, looked up at the first create.
    """

    name = "docker"

    def __init__(self, installation: str, *, url: str | None = None, busybox: Path | None = None) -> None:
        self.installation = installation
        self._engine = Engine(url)
        self._images = DockerImageStore(self._engine, installation)
        self.abilities = Abilities(
            files=ContainerFiles(self._engine),
            health=ContainerHealth(self._engine),
            recent=RecentLog(self._engine),
            porter=ContainerPorter(self._engine, installation),
            saver=ContainerSaver(self._engine, installation, self._images),
            housekeeping=DockerHousekeeping(self._engine, installation, self._images.names),
        )
        self.images: ImageStore = self._images
        self._busybox = busybox
        self._runs: dict[str, Run] = {}
        self._undoing: set[asyncio.Task[None]] = set()
        self._inspects = asyncio.Semaphore(_PARALLEL_INSPECTS)

    @staticmethod
    def settings_schema() -> dict[str, Any]:
        return DockerSettings.model_json_schema()

    async def capabilities(self) -> Capabilities:
        fixed = Capabilities(
            name=self.name,
            attachments="gated",
            exec=True,
            files=True,
            consoles=frozenset({"exec", "serial"}),
            binds=True,
            fractional_cpu=True,
            pulls=True,
            privileged=has_all_capabilities(),
            moves=True,
        )
        try:
            async with self._engine.calling("ask the Docker engine", _CAPABILITIES_S) as docker:
                version = await docker.version()
            check_version(version["ApiVersion"])
            self._gate_program()
        except WireloomError as error:
            return fixed.model_copy(update={"available": False, "problem": str(error)})
        return fixed.model_copy(update={"version": str(version["Version"])})

    # ------------------------------------------------------------------ observation

    async def observe(self, runtime_id: str | None = None) -> Sequence[RuntimeStatus]:
        if runtime_id is not None:
            found = await self._observe_one(runtime_id)
            return () if found is None else (found,)
        filters = {"label": [f"{LABEL_INSTALLATION}={self.installation}"]}
        listed = await self._list(filters)
        self._runs = {item["Id"]: self._runs[item["Id"]] for item in listed if item["Id"] in self._runs}
        found_all = await asyncio.gather(*(self._observe_listed(item) for item in listed))
        return [status for status in found_all if status is not None]

    async def _list(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        async with self._engine.request(
            "list containers", "GET", "/containers/json", timeout_s=_CALL_S, params=query(all=True, filters=filters)
        ) as response:
            return list(await response.json())

    async def _observe_listed(self, item: dict[str, Any]) -> RuntimeStatus | None:
        """What a listing leaves open (gate, exit code, start) is asked for only where it is not known already."""
        known = summary_status(item, self._runs.get(item["Id"]))
        return known if known is not None else await self._observe_one(item["Id"])

    async def _observe_one(self, runtime_id: str) -> RuntimeStatus | None:
        try:
            facts = await self._inspect(runtime_id)
        except NotFound:
            return None
        if facts["Config"]["Labels"].get(LABEL_INSTALLATION) != self.installation:
            return None
        return status_of(facts, self._runs.get(facts["Id"]))

    async def _inspect(self, runtime_id: str) -> dict[str, Any]:
        """The engine's facts; remembers the live run among them. :raises NotFound:"""
        async with self._inspects, self._engine.calling("look at a container", _CALL_S) as docker:
            facts = (await docker.containers.container(runtime_id).show()) or {}
        run = Run.of(facts)
        if run is None:
            self._runs.pop(facts["Id"], None)
        else:
            self._runs[facts["Id"]] = run
        note_boot(facts)
        return facts

    async def _run(self, runtime_id: str) -> Run | None:
        """The live first process of the runtime, or ``None``. :raises NotFound:"""
        known = self._runs.get(runtime_id)
        if known is None or not known.process.alive:
            known = self._runs.get((await self._inspect(runtime_id))["Id"])
        return known

    # ------------------------------------------------------------------ lifecycle

    async def create(self, spec: RuntimeSpec) -> str:
        settings = DockerSettings.parse(spec.settings)
        self._check_permission(spec, settings)
        body = render_create(spec, settings, await self._images.config(spec.image), ipv6=_IPV6.exists())
        undo_gate = await asyncio.to_thread(
            prepare_gate, spec.folder, self._gate_program(), private_copy=settings.may_remount
        )
        # The engine goes on when a caller leaves, so the work runs to its end before it can be taken back.
        work = asyncio.create_task(self._create(spec, body))
        try:
            runtime_id, _ = await asyncio.shield(work)
            return runtime_id
        except asyncio.CancelledError:
            undo = asyncio.create_task(self._undo_create(work))
            self._undoing.add(undo)
            undo.add_done_callback(self._undoing.discard)
            await asyncio.shield(undo)
            await asyncio.to_thread(undo_gate)
            raise
        except WireloomError:
            await asyncio.to_thread(undo_gate)
            raise

    async def _create(self, spec: RuntimeSpec, body: dict[str, Any]) -> tuple[str, bool]:
        """The runtime's id, and whether it is new."""
        made = True
        try:
            async with self._engine.calling(f"create {spec.name}", _CALL_S) as docker:
                runtime_id = (await docker.containers.create(body, name=spec.name)).id
        except Conflict:
            existing = await self._existing(spec)
            if existing.phase is not RuntimePhase.CREATED:
                return existing.runtime_id, False
            runtime_id, made = existing.runtime_id, False
        except NotFound:
            raise await self._images.missing(spec.image) from None
        if spec.files:  # also into one that is there: whoever made it may have ended before this step
            try:
                await self._put_files(runtime_id, spec.files)
            except WireloomError:
                if made:
                    await self.destroy(runtime_id)
                raise
        return runtime_id, made

    async def _undo_create(self, work: asyncio.Task[tuple[str, bool]]) -> None:
        try:
            runtime_id, made = await work
        except WireloomError:
            return
        if made:
            await self.destroy(runtime_id)

    async def _existing(self, spec: RuntimeSpec) -> RuntimeStatus:
        """The node's runtime when it is the one that ``spec`` describes. :raises Conflict:"""
        labels = [
            f"{LABEL_INSTALLATION}={self.installation}",
            f"{LABEL_NODE_ID}={spec.identity.node_id}",
        ]
        for item in await self._list({"label": labels}):
            status = await self._observe_one(item["Id"])
            if status is None:
                continue
            if (status.spec_hash, status.incarnation) == (spec.spec_hash, spec.incarnation):
                return status
            raise Conflict(
                f"{spec.name} exists with another specification",
                hint="destroy it first",
                details={"runtime_id": status.runtime_id},
            )
        raise Conflict(f"the name {spec.name} is taken by a container that is not ours", hint="remove or rename it")

    async def _put_files(self, runtime_id: str, files: Sequence[GuestFile]) -> None:
        async with self._engine.calling("put files into a container", _CALL_S) as docker:
            container = docker.containers.container(runtime_id)
            await container.put_archive("/", _tar(files))  # type: ignore[no-untyped-call]

    def _check_permission(self, spec: RuntimeSpec, settings: DockerSettings) -> None:
        if not settings.privileged:
            return
        if not spec.privileged_allowed:
            raise NotPermitted(
                f"{spec.identity.node} wants to run privileged, and the deployment does not allow it",
                hint="allow privileged nodes when you deploy, if you trust the image",
            )
        if not has_all_capabilities():
            raise Unsupported(
                "this host cannot run privileged containers: its own capabilities are restricted",
                hint="name the capabilities that the node needs in 'cap_add'",
            )

    def _gate_program(self) -> Path:
        if self._busybox is None:
            self._busybox = find_busybox()
        return self._busybox

    async def start(self, runtime_id: str) -> None:
        async with self._engine.calling("start a container", _START_S) as docker:
            await docker.containers.container(runtime_id).start()
        facts = await self._inspect(runtime_id)
        if facts["Id"] not in self._runs and not facts["State"]["Running"]:
            raise RuntimeFailed(
                f"the container ended at its start gate with code {facts['State']['ExitCode']}",
                hint=facts["State"].get("Error", ""),
            )

    async def release(self, runtime_id: str) -> None:
        run = await self._run(runtime_id)
        if run is None:
            raise RuntimeFailed("the container is not waiting at its gate", hint="start it first")
        process = run.process
        if run.gate is not None:
            await open_gate(run.gate, lambda: process.alive and process.gated, _GATE_S)

    async def stop(self, runtime_id: str, grace_s: float) -> None:
        run = self._runs.get(runtime_id)
        if run is not None and run.process.alive and run.process.gated:
            grace_s = 0  # nothing of the guest runs that could want to end in order
        grace = math.ceil(grace_s)
        async with self._engine.calling("stop a container", grace + _STOP_EXTRA_S) as docker:
            await docker.containers.container(runtime_id).stop(t=grace)
        self._runs.pop(runtime_id, None)

    async def destroy(self, runtime_id: str) -> None:
        self._runs.pop(runtime_id, None)
        end = time.monotonic() + _DESTROY_S
        while True:
            try:
                async with self._engine.calling("remove a container", _DESTROY_S) as docker:
                    await docker.containers.container(runtime_id).delete(force=True, v=True)
            except NotFound:
                return
            except Conflict:  # somebody else is removing it: wait until it has gone
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                break
        with contextlib.suppress(
            WireloomError
        ):  # it may have been the last to use what was replaced; tried again later
            await self._images.names.sweep_kept()

    # ------------------------------------------------------------------ access

    async def attachment(self, runtime_id: str, port: PortIntent) -> Attachment | None:
        del port  # every port of a container lies in the one namespace
        try:
            run = await self._run(runtime_id)
        except NotFound:
            return None
        return None if run is None else NamespaceAttachment(netns=run.process.netns)

    async def console(self, runtime_id: str, request: ConsoleRequest) -> ByteStream:
        if request.kind == "serial":
            return await attach_terminal(self._engine, runtime_id, request.line)
        return await open_terminal(
            self._engine, runtime_id, request.command or _SHELL, columns=request.columns, rows=request.rows
        )

    async def exec(
        self, runtime_id: str, command: Sequence[str], *, timeout_s: float, stdin: bytes = b""
    ) -> ExecResult:
        if not command:
            raise InvalidInput("no command to run")
        return await run_command(self._engine, runtime_id, command, timeout_s=timeout_s, stdin=stdin)

    async def boot_log(self, runtime_id: str, *, follow: bool = False, boot: int = 0) -> AsyncGenerator[bytes, None]:
        facts = await self._inspect(runtime_id)
        starts = boot_marks(facts).times()
        async with aclosing(boot_log(self._engine, facts, starts, follow=follow, boot=boot)) as log:
            async for text in log:
                yield text

    async def boots(self, runtime_id: str) -> Sequence[Boot]:
        return boot_marks(await self._inspect(runtime_id)).boots()

    async def stats(self, runtime_id: str) -> RuntimeStats:
        run = await self._run(runtime_id)
        if run is None:
            return RuntimeStats(cpu_seconds=0, memory_bytes=0)
        # The engine answers only at its next tick, up to a second later; the kernel answers at once.
        return read_usage(run.process.pid) or await read_stats(self._engine, runtime_id)

    def watch(self) -> AsyncIterator[RuntimeEvent]:
        return watch_events(self._engine, self.installation)

    async def close(self) -> None:
        if self._undoing:
            await asyncio.wait(self._undoing)
        await self._images.finish()
        await self._engine.close()


def _tar(files: Sequence[GuestFile]) -> bytes:
    """One archive of all files, owned by root, for unpacking at ``/``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size = len(file.content)
            entry.mode = file.mode
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()
