"""Channels and readiness on real guests of both technologies: serial line, files, health, the log of one boot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker_harness import DockerHarness, docker
from libvirt_harness import LibvirtHarness

from wireloom.agent.channels import Channels, ChannelTarget, Login
from wireloom.agent.consoles import Consoles
from wireloom.agent.ready_probes import HOLDS, Probes
from wireloom.devices import DeviceCatalogue
from wireloom.errors import Conflict, GuestFailed, InvalidInput, NotFound, RuntimeFailed, Unavailable
from wireloom.model.device import Console, Probe, Readiness, Step
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import NodeIntent
from wireloom.providers.contract import GUEST_FILE_MOST, ByteStream
from wireloom.testing.conformance.provider import Rig, rig_for

CATALOGUE = DeviceCatalogue.load(strict=False)
LINUX = CATALOGUE.get("linux")
#: A shell on the terminal of the first process, and another one after it has been left.
SHELL = {"command": ["/bin/sh", "-c", "while :; do sh -i; done"], "tty": True, "open_stdin": True}


class NoShell:
    """The guests of this page are on no network."""

    async def run(self, login: Login, command: str, *, timeout_s: float, stdin: bytes = b"") -> ExecResult:
        raise Unavailable("no SSH here")

    def terminal(self, login: Login, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        raise Unavailable("no SSH here")

    def subsystem(self, login: Login, name: str, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        raise Unavailable("no SSH here")


@dataclass
class Booted:
    """A Linux guest that has booted, with the agent's own serial owner and channels."""

    rig: Rig
    target: ChannelTarget
    consoles: Consoles
    channels: Channels


@contextlib.asynccontextmanager
async def linux(rig: Rig, settings: dict[str, Any] | None = None, image: str | None = None) -> AsyncIterator[Booted]:
    spec = rig.spec(settings=rig.harness.settings if settings is None else settings, image=image or rig.harness.image)
    async with rig.created(spec) as runtime_id:
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)
        if settings is None:
            await rig.until_booted(runtime_id)
        node = NodeIntent(
            id=spec.identity.node_id,
            name="n1",
            device="linux",
            provider=rig.provider.name,
            image=spec.image,
            console=(Console(kind="serial"),),
            access=LINUX.access,
            ready=Readiness(slow_factor=2),
        )
        target = ChannelTarget(node, rig.provider, rig.capabilities, runtime_id, LINUX.cli)
        consoles = Consoles()
        try:
            yield Booted(rig, target, consoles, Channels(NoShell(), consoles))
        finally:
            await consoles.close()


@pytest.fixture(scope="module", params=["docker", "libvirt"])
def technology(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def guest(technology: str) -> AsyncIterator[Booted]:
    harness: Any = DockerHarness() if technology == "docker" else LibvirtHarness()
    async with rig_for(harness) as rig:
        settings = SHELL if technology == "docker" else None
        async with linux(rig, settings) as booted:
            yield booted


async def test_the_serial_line_runs_commands_tells_their_exit_codes_and_gives_way_to_people(guest: Booted) -> None:
    serial = (Step(channel="serial"),)
    for command, code, output in (
        (["echo", "a  b"], 0, b"a  b\n"),
        ("echo out; exit_with() { return 3; }; exit_with", 3, b"out\n"),
    ):
        result = (await guest.channels.run(guest.target, command, timeout_s=90, chain=serial)).result
        assert (result.exit_code, result.stdout, result.channel) == (code, output, "serial")
    person = await guest.consoles.open(guest.target, who="ann", columns=80, rows=24, read_only=False, line=0)
    try:
        await person.write(b"\r")
        with pytest.raises((Unavailable, Conflict), match="ann"):
            await guest.channels.run(guest.target, "true", timeout_s=20, chain=serial)
    finally:
        await person.close()


async def test_a_prompt_on_the_serial_line_makes_it_ready(guest: Booted) -> None:
    probes = Probes(guest.channels)
    assert await probes.lacks(Probe(kind="serial"), guest.target) == ""
    assert await probes.ask(Probe(kind="serial"), guest.target) == HOLDS


async def test_long_output_comes_over_the_serial_line_whole(guest: Booted) -> None:
    command = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done"
    result = (await guest.channels.run(guest.target, command, timeout_s=120, chain=(Step(channel="serial"),))).result
    assert result.stdout.decode().splitlines() == [f"line {number}" for number in range(400)]


async def test_a_boot_after_another_does_not_match_the_log_of_the_one_before(technology: str) -> None:
    """The first boot says that it is ready; the second does not, or not yet."""
    harness: Any = DockerHarness() if technology == "docker" else LibvirtHarness()
    once = {"command": ["/bin/sh", "-c", "[ -e /second ] || echo all is well; echo >/second; sleep 99"]}
    probe = Probe(kind="log", pattern="all is well" if technology == "docker" else "login:")
    async with rig_for(harness) as rig, linux(rig, once if technology == "docker" else None) as booted:
        probes = Probes(booted.channels)
        assert await probes.ask(probe, booted.target) == HOLDS
        await rig.provider.stop(booted.target.runtime_id, 0)
        await rig.provider.start(booted.target.runtime_id)
        if technology == "docker":
            await rig.provider.release(booted.target.runtime_id)
        with pytest.raises(TimeoutError):  # at its gate, a machine has printed nothing
            async with asyncio.timeout(1.5):
                await probes.ask(probe, booted.target)


# ---------------------------------------------------------------------- what containers have


@pytest.fixture
async def containers() -> AsyncIterator[Rig]:
    async with rig_for(DockerHarness()) as rig:
        yield rig


async def test_files_are_read_through_links_that_stay_inside(containers: Rig) -> None:
    files = containers.provider.abilities.files
    assert files is not None
    async with linux(containers) as booted:
        runtime_id = booted.target.runtime_id
        setup = (
            "mkdir -p /d/e; echo inside >/d/file; ln -s ../file /d/e/up; ln -s /d/e/up /far; ln -s /loop /loop;"
            "ln -s ../../../../../../../../etc/hostname /d/out; mkdir /d/folder;"
            f"head -c {GUEST_FILE_MOST + 1} /dev/zero >/d/large"
        )
        await booted.rig.provider.exec(runtime_id, ["/.wireloom/busybox", "sh", "-c", setup], timeout_s=20)
        for path in ("/d/file", "/d/e/up", "/far"):
            assert (
                await booted.channels.fetch(booted.target, Step(channel="file", run=path), timeout_s=9) == b"inside\n"
            )
        host_name = Path("/etc/hostname").read_bytes()
        with contextlib.suppress(NotFound):  # what is above the root is the root: the guest's, whatever it has there
            assert await files.read(runtime_id, "/d/out") != host_name
        for path, error in (("/d/folder", InvalidInput), ("/loop", RuntimeFailed), ("/none", NotFound)):
            with pytest.raises(error):
                await files.read(runtime_id, path)
        with pytest.raises(GuestFailed, match="larger"):
            await files.read(runtime_id, "/d/large")


@pytest.fixture
async def checked_image() -> AsyncIterator[str]:
    """The test image with a health check of its own."""
    name = "wireloom-test/checked:1"
    made = (await docker("create", DockerHarness.image, "sh")).strip()
    try:
        await docker("commit", "--change", "HEALTHCHECK --timeout=1s CMD test -e /well", made, name)
    finally:
        await docker("rm", made)
    yield name
    await docker("rmi", name)


async def test_a_container_is_as_well_as_its_images_own_check_says(containers: Rig, checked_image: str) -> None:
    check = containers.provider.abilities.health
    assert check is not None
    async with linux(containers, containers.harness.settings, checked_image) as booted:
        runtime_id = booted.target.runtime_id
        assert await check.health(runtime_id) == "unhealthy"
        await containers.provider.exec(runtime_id, ["sh", "-c", "echo >/well"], timeout_s=9)
        assert await check.health(runtime_id) == "healthy"
        assert await Probes(booted.channels).lacks(Probe(kind="health"), booted.target) == ""


async def test_a_machine_with_an_agents_channel_is_unwell_while_no_agent_answers() -> None:
    async with rig_for(LibvirtHarness()) as rig:
        check = rig.provider.abilities.health
        assert check is not None
        spec = rig.spec(settings={**rig.harness.settings, "guest_agent": True})
        async with rig.created(spec) as runtime_id:
            await rig.provider.start(runtime_id)
            await rig.provider.release(runtime_id)
            assert await check.health(runtime_id) == "unhealthy"
