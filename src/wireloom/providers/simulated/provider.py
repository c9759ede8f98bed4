"""The simulated provider: keeps every rule of the contract over a :class:`SimulatedWorld`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from wireloom.errors import Conflict, DeadlineExceeded, ImageMissing, InvalidInput, NotFound, RuntimeFailed, Unsupported
from wireloom.model.attachment import Attachment, NamespaceAttachment, TapAttachment
from wireloom.model.runtime import (
    Boot,
    Capabilities,
    ConsoleRequest,
    ExecResult,
    RuntimeEvent,
    RuntimeSpec,
    RuntimeStats,
    RuntimeStatus,
)
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.boots import check_boot
from wireloom.providers.contract import Abilities, ByteStream, Health, ImageStore
from wireloom.providers.simulated.guest import run_in_guest
from wireloom.providers.simulated.housekeeping import SimulatedHousekeeping
from wireloom.providers.simulated.images import SimulatedImageStore, SimulatedSaver
from wireloom.providers.simulated.lines import EchoStream, SimulatedLine
from wireloom.providers.simulated.porter import SimulatedPorter
from wireloom.providers.simulated.settings import SimulatedSettings
from wireloom.providers.simulated.world import SimulatedRuntime, SimulatedWorld

__all__ = ["SimulatedProvider"]

_MIB = 1024 * 1024


class SimulatedProvider:
    """A :class:`~wireloom.providers.contract.Provider` in memory.

    :param world: shared by all providers of a test; make a new provider on it to play an agent's restart.
    :param name: as nodes name their provider, so that it can stand for another one.
    """

    def __init__(self, installation: str, world: SimulatedWorld, *, name: str = "simulated") -> None:
        self.installation = installation
        self.name = name
        self.world = world
        self.images: ImageStore = SimulatedImageStore(world)
        by_provider = world.capabilities.carrier == "provider"
        self.abilities = Abilities(
            carrier=_Carriers(self) if by_provider else None,
            files=_Files(self) if world.capabilities.files else None,
            health=_Health(self),
            recent=self,
            saver=SimulatedSaver(world),
            porter=SimulatedPorter(world),
            housekeeping=SimulatedHousekeeping(installation, world),
        )

    @staticmethod
    def settings_schema() -> dict[str, Any]:
        return SimulatedSettings.model_json_schema()

    async def capabilities(self) -> Capabilities:
        problem = "" if self.world.engine_up else "the simulated engine does not answer"
        return self.world.capabilities.model_copy(
            update={"name": self.name, "available": self.world.engine_up, "problem": problem}
        )

    async def observe(self, runtime_id: str | None = None) -> Sequence[RuntimeStatus]:
        await self.world.before("observe", None)
        return [
            _status(runtime)
            for runtime in self.world.runtimes.values()
            if runtime.spec.identity.installation == self.installation and runtime_id in {None, runtime.runtime_id}
        ]

    async def create(self, spec: RuntimeSpec) -> str:
        settings = SimulatedSettings.parse(spec.settings)
        node = spec.identity.node
        await self.world.before("create", node)
        if spec.image not in self.world.images:
            raise ImageMissing(f"the simulated engine has no image {spec.image}", hint="load it first")
        runtime = self._existing(spec) or self.world.add(spec, settings)
        self.world.after("create", node)
        return runtime.runtime_id

    async def start(self, runtime_id: str) -> None:
        async with self._verb("start", runtime_id) as runtime:
            if not runtime.up:
                self.world.power_on(runtime)

    async def release(self, runtime_id: str) -> None:
        async with self._verb("release", runtime_id) as runtime:
            if not runtime.up:
                raise RuntimeFailed("the runtime is not waiting at its gate", hint="start it first")
            if runtime.phase is RuntimePhase.GATED:
                self.world.release(runtime)

    async def stop(self, runtime_id: str, grace_s: float) -> None:
        del grace_s  # the guest obeys at once
        async with self._verb("stop", runtime_id) as runtime:
            if runtime.up:
                self.world.power_off(runtime, 0)

    async def destroy(self, runtime_id: str) -> None:
        node = self._node(runtime_id)
        await self.world.before("destroy", node)
        runtime = self.world.runtimes.get(runtime_id)
        if runtime is not None:
            self.world.remove(runtime)
        self.world.after("destroy", node)

    async def attachment(self, runtime_id: str, port: PortIntent) -> Attachment | None:
        await self.world.before("attachment", self._node(runtime_id))
        runtime = self.world.runtimes.get(runtime_id)
        if runtime is None:
            return None
        if self.world.capabilities.attachments == "created":
            return TapAttachment() if any(known.index == port.index for known in runtime.spec.ports) else None
        return NamespaceAttachment(netns=runtime.netns) if runtime.up else None

    async def console(self, runtime_id: str, request: ConsoleRequest) -> ByteStream:
        if request.kind not in self.world.capabilities.consoles:
            raise Unsupported(f"this provider has no {request.kind} console")
        async with self._running("console", runtime_id) as runtime:
            if request.kind == "serial":
                return SimulatedLine(self.world, runtime, request.line)
            return EchoStream()

    async def recent(self, runtime_id: str, line: int, size: int) -> bytes:
        async with self._verb("recent", runtime_id) as runtime:
            return bytes(runtime.line(line)[-size:])

    async def exec(
        self, runtime_id: str, command: Sequence[str], *, timeout_s: float, stdin: bytes = b""
    ) -> ExecResult:
        if not self.world.capabilities.exec:
            raise Unsupported("this provider cannot run commands in a guest", hint="use a console or the network")
        if not command:
            raise InvalidInput("no command to run")
        async with self._running("exec", runtime_id) as runtime:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._answer(runtime, command, stdin)
            except TimeoutError:
                raise DeadlineExceeded(f"the command {command[0]!r} did not end within {timeout_s:g} s") from None

    async def boot_log(self, runtime_id: str, *, follow: bool = False, boot: int = 0) -> AsyncGenerator[bytes, None]:
        async with self._verb("boot_log", runtime_id) as runtime:
            check_boot(boot, runtime.kept_boots)
            if boot > 0:
                yield runtime.previous[boot - 1].log
                return
            now, position = runtime.boots, 0
            while True:
                changed = runtime.changed
                if text := bytes(runtime.log[position:]):
                    position += len(text)
                    yield text
                elif not follow or not runtime.up or runtime.boots != now:
                    return
                else:
                    await changed.wait()

    async def boots(self, runtime_id: str) -> Sequence[Boot]:
        async with self._verb("boots", runtime_id) as runtime:
            return [Boot(number=number, started_at=time) for number, time in enumerate(runtime.kept_boots)]

    async def stats(self, runtime_id: str) -> RuntimeStats:
        async with self._verb("stats", runtime_id) as runtime:
            if not runtime.up:
                return RuntimeStats(cpu_seconds=0, memory_bytes=0)
            age = self.world.clock() - (runtime.started_at or 0)
            return RuntimeStats(cpu_seconds=age / 100, memory_bytes=runtime.spec.memory_mb * _MIB // 2)

    async def watch(self) -> AsyncIterator[RuntimeEvent]:
        queue = self.world.subscribe(self.installation)
        try:
            while True:
                yield await queue.get()
        finally:
            self.world.unsubscribe(queue)

    async def close(self) -> None:
        """Nothing to let go of."""

    # ------------------------------------------------------------------ inside

    @asynccontextmanager
    async def _verb(self, verb: str, runtime_id: str) -> AsyncIterator[SimulatedRuntime]:
        node = self._node(runtime_id)
        await self.world.before(verb, node)
        runtime = self.world.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"no simulated runtime {runtime_id}")
        yield runtime
        self.world.after(verb, node)

    @asynccontextmanager
    async def _running(self, verb: str, runtime_id: str) -> AsyncIterator[SimulatedRuntime]:
        async with self._verb(verb, runtime_id) as runtime:
            if not runtime.up:
                raise Conflict("the runtime does not run")
            yield runtime

    def _node(self, runtime_id: str) -> str | None:
        runtime = self.world.runtimes.get(runtime_id)
        return None if runtime is None else runtime.spec.identity.node

    def _existing(self, spec: RuntimeSpec) -> SimulatedRuntime | None:
        """:raises Conflict: the node has a runtime of another specification."""
        for runtime in self.world.runtimes.values():
            known = runtime.spec
            if (known.identity.installation, known.identity.node_id) != (self.installation, spec.identity.node_id):
                continue
            if (known.spec_hash, known.incarnation) == (spec.spec_hash, spec.incarnation):
                return runtime
            raise Conflict(f"{spec.name} exists with another specification", hint="destroy it first")
        return None

    async def _answer(self, runtime: SimulatedRuntime, command: Sequence[str], stdin: bytes) -> ExecResult:
        scripted = self.world.answers.get(tuple(command))
        if scripted is not None:
            return scripted
        if self.world.answer is not None:
            return await self.world.answer(runtime, command, stdin)
        return await run_in_guest(runtime.storage, command, stdin)


class _Carriers:
    """The carrier ability, for worlds that are like virtual machines."""

    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider

    async def set_carrier(self, runtime_id: str, carriers: Mapping[int, bool]) -> None:
        world = self._provider.world
        await world.before("set_carrier", None)
        runtime = world.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"no simulated runtime {runtime_id}")
        runtime.carriers.update(carriers)


class _Files:
    """The guest's file system is a table."""

    def __init__(self, provider: SimulatedProvider) -> None:
        self._world = provider.world

    async def read(self, runtime_id: str, path: str) -> bytes:
        await self._world.before("read", None)
        if not path.startswith("/"):
            raise InvalidInput(f"{path!r} is no absolute path in the guest")
        runtime = self._world.runtimes.get(runtime_id)
        if runtime is None or path not in runtime.storage:
            raise NotFound(f"there is no file {path} in the guest")
        return runtime.storage[path]


class _Health:
    """As the world's script says."""

    def __init__(self, provider: SimulatedProvider) -> None:
        self._world = provider.world

    async def health(self, runtime_id: str) -> Health:
        await self._world.before("health", None)
        runtime = self._world.runtimes.get(runtime_id)
        if runtime is None:
            raise NotFound(f"no simulated runtime {runtime_id}")
        return self._world.health.get(runtime.spec.identity.node, "unknown")


def _status(runtime: SimulatedRuntime) -> RuntimeStatus:
    spec = runtime.spec
    return RuntimeStatus(
        runtime_id=runtime.runtime_id,
        name=spec.name,
        identity=spec.identity,
        incarnation=spec.incarnation,
        spec_hash=spec.spec_hash,
        phase=runtime.phase,
        exit_code=runtime.exit_code,
        started_at=runtime.started_at,
        carriers=dict(runtime.carriers),
    )
