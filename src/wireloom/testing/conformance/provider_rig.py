"""What the provider conformance suite needs to know of a technology, and the tools its checks use."""

from __future__ import annotations

import asyncio
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wireloom.errors import WireloomError
from wireloom.model.identity import Identity, device_name, mac_address, short_hash
from wireloom.model.runtime import Capabilities, ConsoleRequest, EventKind, RuntimeEvent, RuntimeSpec, RuntimeStatus
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Provider

__all__ = [
    "ConsoleTalk",
    "EventLog",
    "GuestCommands",
    "GuestFacts",
    "ProviderHarness",
    "Rig",
    "eventually",
    "expect",
    "gather_log",
    "rig_for",
]


@dataclass(frozen=True)
class ConsoleTalk:
    """A console, what to type there, and a regular expression that the guest's answer (not its echo) matches."""

    request: ConsoleRequest
    type: bytes
    answer: bytes


@dataclass(frozen=True)
class GuestFacts:
    """What the guest itself sees: host name, environment of its first process, text of its resolver's file."""

    hostname: str
    env: dict[str, str]
    resolver: str


@dataclass(frozen=True)
class GuestCommands:
    """Argument lists for ``exec`` in the harness's image, and the facts that the guest tells by such commands."""

    exit_with: Callable[[int], Sequence[str]]
    say: Callable[[str], Sequence[str]]
    warn: Callable[[str], Sequence[str]]
    copy_input: Sequence[str]
    sleep: Callable[[float], Sequence[str]]
    facts: Callable[[Provider, str], Awaitable[GuestFacts]]


class ProviderHarness(Protocol):
    """One technology, as the suite sees it. Everything that differs between providers is here.

    :ivar image: an image that is present and boots fast; ``missing_image`` is one that is nowhere.
    :ivar settings: provider settings for it; ``wrong_settings`` must be refused.
    :ivar privileged_settings: settings that ask for privileges, where the technology knows such a thing.
    :ivar boot_pattern: regular expression for what the guest writes to its console when it has booted.
    :ivar boot_s: seconds a boot may take.
    :ivar memory_mb: memory of a test runtime; ``memory_overhead_mb`` is what the technology adds in statistics.
    :ivar talks: one for each console kind that the provider declares.
    :ivar commands: for providers that declare ``exec``.
    :ivar not_images: contents of files that no image can be loaded from.
    """

    image: str
    missing_image: str
    settings: dict[str, Any]
    wrong_settings: dict[str, Any]
    privileged_settings: dict[str, Any] | None
    boot_pattern: bytes
    boot_s: float
    memory_mb: int
    memory_overhead_mb: int
    talks: Sequence[ConsoleTalk]
    commands: GuestCommands | None
    not_images: Sequence[bytes]

    async def provider(self, installation: str) -> Provider:
        """A new provider on the same engine, as after a restart of the agent."""
        ...

    async def debris(self, installation: str) -> list[str]:
        """Names of all objects of the installation, asked of the engine and not of the provider."""
        ...

    async def make_ports(self, spec: RuntimeSpec) -> None:
        """Make what must exist on the host before a runtime with these ports starts."""
        ...

    async def remove_ports(self, spec: RuntimeSpec) -> None: ...

    async def kill(self, runtime_id: str) -> None:
        """End the runtime behind the provider's back, at once."""
        ...

    async def restart(self, runtime_id: str) -> None:
        """Restart or reset it behind the provider's back, at once."""
        ...

    async def write_file(self, provider: Provider, runtime_id: str, name: str, content: bytes) -> None:
        """Write a file into the running guest's own storage, and make sure that it is there to stay."""
        ...

    async def read_file(self, provider: Provider, runtime_id: str, name: str) -> bytes: ...

    async def limits(self, runtime_id: str) -> tuple[float, int]:
        """Cores and MiB that the engine grants the runtime, asked of the engine."""
        ...

    def spare_image(self, mark: str) -> str:
        """A name for an image of a test."""
        ...

    async def image_file(self, folder: Path, mark: str) -> Path:
        """A new small file in the form of the provider's images, read-only; another ``mark``, another content."""
        ...

    async def content_of(self, file: Path) -> str:
        """What ``ImageInfo.digest`` has to say of such a file, found without the provider."""
        ...

    async def damage_image(self, image: str) -> None:
        """Change what is stored of an image behind the provider's back."""
        ...

    async def image_traces(self, installation: str, images: Sequence[str], contents: Sequence[str]) -> list[str]:
        """All that is there of images with these names or contents, or under way for the installation, asked of the
        engine and not of the provider."""
        ...


class EventLog:
    """Collects a provider's events in the background, each with its time of arrival."""

    def __init__(self, source: AsyncIterator[RuntimeEvent]) -> None:
        self.seen: list[tuple[float, RuntimeEvent]] = []
        self._changed = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._collect(source))

    async def _collect(self, source: AsyncIterator[RuntimeEvent]) -> None:
        loop = asyncio.get_running_loop()
        async for event in source:
            async with self._changed:
                self.seen.append((loop.time(), event))
                self._changed.notify_all()

    async def wait_for(self, kind: EventKind, *, node_id: str = "", timeout_s: float = 5) -> float:
        """The time of the first such event; it is forgotten, with all before it."""

        def position() -> int | None:
            wanted = ((i, event) for i, (_, event) in enumerate(self.seen) if event.kind is kind)
            return next((i for i, event in wanted if node_id in {"", event.node_id}), None)

        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: position() is not None or self._task.done())
            found = position()
            assert found is not None, "the event stream ended"
            arrived, _ = self.seen[found]
            del self.seen[: found + 1]
            return arrived

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@dataclass
class Rig:
    """One provider under test, with an installation of its own and its own folder on the host."""

    harness: ProviderHarness
    provider: Provider
    capabilities: Capabilities
    installation: str
    folder: Path

    def spec(self, node: str = "n1", *, ports: int = 0, **changes: Any) -> RuntimeSpec:
        """A runtime that boots, in a folder that is made here; ``changes`` replace fields."""
        node_id = short_hash(self.installation, node)
        folder = self.folder / node_id
        (folder / "storage").mkdir(parents=True, exist_ok=True)
        spec = RuntimeSpec(
            identity=Identity(
                installation=self.installation, lab_id=short_hash("lab"), lab="conf", node_id=node_id, node=node
            ),
            incarnation=1,
            spec_hash="0001",
            hostname=node,
            image=self.harness.image,
            cpu=1,
            memory_mb=self.harness.memory_mb,
            settings=self.harness.settings,
            ports=tuple(port_intent(node_id, index) for index in range(1, ports + 1)),
            folder=folder,
        )
        return spec.model_copy(update=changes)

    @asynccontextmanager
    async def created(self, spec: RuntimeSpec) -> AsyncIterator[str]:
        """A runtime in phase ``created``, destroyed at the end."""
        await self.harness.make_ports(spec)
        try:
            runtime_id = await self.provider.create(spec)
            try:
                yield runtime_id
            finally:
                await self.provider.destroy(runtime_id)
        finally:
            await self.harness.remove_ports(spec)

    @asynccontextmanager
    async def booted(self, spec: RuntimeSpec) -> AsyncIterator[str]:
        """A runtime whose guest has booted, destroyed at the end."""
        async with self.created(spec) as runtime_id:
            await self.boot(runtime_id)
            yield runtime_id

    async def boot(self, runtime_id: str) -> None:
        """Start it, open its gate, and wait until the guest says that it has booted."""
        await self.provider.start(runtime_id)
        await self.provider.release(runtime_id)
        await self.until_booted(runtime_id)

    async def until_booted(self, runtime_id: str) -> None:
        """Wait for the boot pattern in the log of this power-on."""
        await gather_log(self.provider, runtime_id, self.harness.boot_pattern, self.harness.boot_s)

    async def status(self, runtime_id: str, provider: Provider | None = None) -> RuntimeStatus:
        """The only status that ``observe`` gives for that runtime."""
        found = await (provider or self.provider).observe(runtime_id)
        assert len(found) == 1, f"observe gave {len(found)} statuses for one runtime"
        return found[0]

    async def expect_phase(self, runtime_id: str, phase: RuntimePhase, *, within_s: float = 0) -> None:
        async def reached() -> bool:
            return (await self.status(runtime_id)).phase is phase

        if within_s:
            await eventually(reached, within_s, f"phase {phase}")
        else:
            found = await self.status(runtime_id)
            assert found.phase is phase, f"phase is {found.phase} ({found.detail}), not {phase}"

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[Provider]:
        """Another provider on the same engine, as after a restart of the agent."""
        other = await self.harness.provider(self.installation)
        try:
            yield other
        finally:
            await other.close()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[EventLog]:
        """The provider's events; entered when the stream has begun with its ``RESYNC``."""
        log = EventLog(self.provider.watch())
        try:
            await log.wait_for(EventKind.RESYNC, timeout_s=10)
            yield log
        finally:
            await log.close()

    async def expect_no_debris(self) -> None:
        left = await self.harness.debris(self.installation)
        assert left == [], f"left behind: {left}"


def port_intent(node_id: str, index: int) -> PortIntent:
    """Data port ``index`` of a node, as planning makes it."""
    return PortIntent(
        index=index,
        name=f"eth{index}",
        guest_name=f"eth{index}",
        device=device_name("p", node_id, index),
        mac=mac_address(node_id, index),
    )


@asynccontextmanager
async def rig_for(harness: ProviderHarness) -> AsyncIterator[Rig]:
    """A rig with a fresh installation. Leaves nothing on the host, and fails when a check did."""
    installation = f"conf-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wireloom-conformance-")))
        provider = await harness.provider(installation)
        stack.push_async_callback(provider.close)
        capabilities = await provider.capabilities()
        assert capabilities.available, f"{provider.name} was asked for and is not there: {capabilities.problem}"
        rig = Rig(harness, provider, capabilities, installation, folder)
        try:
            yield rig
        finally:
            for status in await provider.observe():
                await provider.destroy(status.runtime_id)
        await rig.expect_no_debris()


async def expect(kind: type[WireloomError], awaitable: Awaitable[object]) -> WireloomError:
    """The error of that kind that ``awaitable`` must raise."""
    try:
        got = await awaitable
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {got!r}")


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float, what: str) -> None:
    """Wait until ``check`` holds; fails with ``what``."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await check():  # noqa: ASYNC110 - engines are asked here, there is no event to wait for
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


async def gather_log(provider: Provider, runtime_id: str, pattern: bytes, timeout_s: float) -> bytes:
    """Follow the boot log until ``pattern`` is in it; gives what was read."""
    text = b""
    try:
        async with asyncio.timeout(timeout_s), aclosing(provider.boot_log(runtime_id, follow=True)) as log:
            async for chunk in log:
                text += chunk
                if re.search(pattern, text):
                    return text
    except TimeoutError:
        raise AssertionError(f"{pattern!r} not within {timeout_s:g} s in the boot log: {text[-2000:]!r}") from None
    raise AssertionError(f"the boot log ended without {pattern!r}: {text[-2000:]!r}")
