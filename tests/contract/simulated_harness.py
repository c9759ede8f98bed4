"""The simulated side of the provider conformance suite, like containers and like virtual machines."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wireloom.model.runtime import Capabilities, ConsoleRequest, RuntimeSpec
from wireloom.providers.contract import Provider
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.providers.simulated.world import CONTAINER_LIKE, MACHINE_LIKE, image_file
from wireloom.testing.conformance.provider import ConsoleTalk, GuestCommands, GuestFacts


class SimulatedHarness:
    """See :class:`~wireloom.testing.conformance.provider.ProviderHarness`."""

    image = "conformance:1"
    missing_image = "nowhere:9"
    settings: dict[str, Any] = {}
    wrong_settings: dict[str, Any] = {"boot": 1}
    privileged_settings: dict[str, Any] | None = None
    boot_pattern = rb"login:"
    boot_s = 5.0
    memory_mb = 64
    memory_overhead_mb = 0
    not_images: Sequence[bytes] = (b"",)

    def __init__(self, capabilities: Capabilities) -> None:
        self.world = SimulatedWorld(capabilities)
        self.world.add_image(self.image)
        self.world.delay("create", 0.02)  # so that it can be cancelled in its midst
        self.talks: Sequence[ConsoleTalk] = tuple(
            ConsoleTalk(ConsoleRequest.model_validate({"kind": kind, "command": ["sh"]}), b"echo", rb"echo")
            for kind in capabilities.consoles
        )
        self.commands: GuestCommands | None = GuestCommands(
            exit_with=lambda code: ["exit", str(code)],
            say=lambda text: ["echo", text],
            warn=lambda text: ["warn", text],
            copy_input=["cat"],
            sleep=lambda seconds: ["sleep", str(seconds)],
            facts=self._guest_facts,
        )

    async def provider(self, installation: str) -> Provider:
        return SimulatedProvider(installation, self.world)

    async def debris(self, installation: str) -> list[str]:
        specs = [runtime.spec for runtime in self.world.runtimes.values()]
        return [spec.name for spec in specs if spec.identity.installation == installation]

    async def make_ports(self, spec: RuntimeSpec) -> None:
        """The world has no host network."""

    async def remove_ports(self, spec: RuntimeSpec) -> None:
        """The world has no host network."""

    async def kill(self, runtime_id: str) -> None:
        self.world.power_off(self.world.runtimes[runtime_id], 137)

    async def restart(self, runtime_id: str) -> None:
        node = self.world.runtimes[runtime_id].spec.identity.node
        if self.world.capabilities.attachments == "gated":
            self.world.restart_behind_back(node)
        else:
            self.world.reboot_in_place(node)

    async def write_file(self, provider: Provider, runtime_id: str, name: str, content: bytes) -> None:
        self.world.runtimes[runtime_id].storage[name] = content

    async def read_file(self, provider: Provider, runtime_id: str, name: str) -> bytes:
        runtime = self.world.runtimes[runtime_id]
        for bind in runtime.spec.binds:
            if name.startswith(f"{bind.target}/"):
                return Path(bind.source + name.removeprefix(bind.target)).read_bytes()
        return runtime.storage[name]

    def spare_image(self, mark: str) -> str:
        return f"spare:{mark}" if self.world.capabilities.exec else f"spare-{mark}.qcow2"

    async def image_file(self, folder: Path, mark: str) -> Path:
        file = folder / f"image-{mark}"
        file.write_bytes(image_file(mark, {}).ljust(2000))
        file.chmod(0o444)
        return file

    async def content_of(self, file: Path) -> str:
        return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"

    async def damage_image(self, image: str) -> None:
        self.world.damage_image(image)

    async def image_traces(self, installation: str, images: Sequence[str], contents: Sequence[str]) -> list[str]:
        del installation  # nothing is ever under way
        return [*(set(images) & set(self.world.images)), *(set(contents) & set(self.world.contents))]

    async def _guest_facts(self, _: Provider, runtime_id: str) -> GuestFacts:
        spec = self.world.runtimes[runtime_id].spec
        return GuestFacts(spec.hostname, spec.env, " ".join(spec.dns_servers + spec.dns_search))

    async def limits(self, runtime_id: str) -> tuple[float, int]:
        spec = self.world.runtimes[runtime_id].spec
        return spec.cpu, spec.memory_mb


@asynccontextmanager
async def container_like() -> AsyncIterator[SimulatedHarness]:
    """A world that declares what containers can."""
    yield SimulatedHarness(CONTAINER_LIKE)


@asynccontextmanager
async def machine_like() -> AsyncIterator[SimulatedHarness]:
    """A world that declares what virtual machines can."""
    yield SimulatedHarness(MACHINE_LIKE)
