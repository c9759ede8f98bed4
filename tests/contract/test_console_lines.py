"""The serial owner on real engines, both technologies: shared lines, an agent that comes and goes, guests that flood.

A new ``Consoles`` on a new provider is what a restart of the agent is to a line.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import docker_harness
import pytest
from docker_harness import BOOT
from libvirt_harness import LibvirtHarness

from wireloom.agent.channels import ChannelTarget
from wireloom.agent.consoles import Attached, Consoles
from wireloom.agent.consoles_line import BACKLOG_BYTES
from wireloom.errors import InvalidInput, Unsupported
from wireloom.model.console import ConsoleCommand
from wireloom.model.device import Console
from wireloom.model.runtime import RuntimeSpec
from wireloom.model.slice import NodeIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Provider
from wireloom.testing.conformance.provider import Rig, rig_for
from wireloom.testing.conformance.provider_rig import ConsoleTalk, eventually

ANSWER_S = 30.0


@dataclass
class Booted:
    """A running guest, and what makes it answer on serial line 0."""

    rig: Rig
    runtime_id: str
    talk: ConsoleTalk

    async def target(self, provider: Provider) -> ChannelTarget:
        name = provider.name
        node = NodeIntent(
            id="n1", name="r1", device="linux", provider=name, image="i", console=(Console(kind="serial"),)
        )
        return ChannelTarget(node, provider, await provider.capabilities(), self.runtime_id)

    async def log(self) -> bytes:
        async with aclosing(self.rig.provider.boot_log(self.runtime_id)) as chunks:
            return b"".join([chunk async for chunk in chunks])


@pytest.fixture(
    params=[pytest.param("docker", marks=pytest.mark.docker), pytest.param("libvirt", marks=pytest.mark.libvirt)]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "docker":
        async with docker_harness.harness() as made, rig_for(made) as found:
            yield found
    else:
        async with rig_for(LibvirtHarness()) as found:
            yield found


@pytest.fixture
async def booted(rig: Rig) -> AsyncIterator[Booted]:
    talk = next(talk for talk in rig.harness.talks if talk.request.kind == "serial")
    async with rig.booted(rig.spec()) as runtime_id:
        yield Booted(rig, runtime_id, talk)


async def until(attached: Attached, pattern: bytes) -> bytes:
    """What is read until ``pattern`` was there."""
    text = b""
    try:
        async with asyncio.timeout(ANSWER_S):
            while not re.search(pattern, text):
                data = await attached.read()
                assert data, f"the line ended: {text!r}"
                text += data
    except TimeoutError:
        raise AssertionError(f"{pattern!r} not on the line: {text!r}") from None
    return text


async def test_a_line_is_shared_by_people_and_automation_and_one_that_is_not_there_is_refused(booted: Booted) -> None:
    consoles = Consoles()
    target = await booted.target(booted.rig.provider)
    try:
        robot = await consoles.attach(target, who="wireloom: post-boot", automation=True)
        await robot.acquire(0)
        ada = await consoles.attach(target, who="ada")
        await robot.write(booted.talk.type)
        seen = await asyncio.gather(until(robot, booted.talk.answer), until(ada, booted.talk.answer))
        assert all(seen)
        (line,) = consoles.lines(booted.runtime_id)
        assert line.writer is not None
        assert (line.writer.who, [each.who for each in line.attendees]) == (
            "wireloom: post-boot",
            ["wireloom: post-boot", "ada"],
        )
        await ada.command(ConsoleCommand(do="ask"))
        robot.release()
        await ada.write(booted.talk.type)
        await until(ada, booted.talk.answer)
        with pytest.raises(InvalidInput, match="no serial line 7"):
            await consoles.attach(target, 7, who="ada")
    finally:
        await consoles.close()


async def test_a_restart_of_the_agent_loses_no_byte_of_the_log_and_shows_the_screen(booted: Booted) -> None:
    first = Consoles()
    ada = await first.attach(await booted.target(booted.rig.provider), who="ada")
    await ada.write(booted.talk.type)
    before = await until(ada, booted.talk.answer)

    async def logged() -> bool:
        return re.search(booted.talk.answer, (await booted.log())[-2 * len(before) :]) is not None

    await eventually(logged, ANSWER_S, "what was on the line, in the log")
    log_before = await booted.log()
    await first.close()  # the agent ends; the guest and its engine's log go on

    again = await booted.rig.harness.provider(booted.rig.installation)
    second = Consoles()
    try:
        late = await second.attach(await booted.target(again), who="bob")
        screen = await until(late, booted.talk.answer)
        assert re.search(booted.rig.harness.boot_pattern, screen), "the recent screen begins before the restart"
        await late.write(booted.talk.type)
        await until(late, booted.talk.answer)

        async def grown() -> bool:
            log = await booted.log()
            return log.startswith(log_before) and len(log) > len(log_before)

        await eventually(grown, ANSWER_S, "the log that goes on")
        (status,) = await again.observe(booted.runtime_id)
        assert status.phase is RuntimePhase.RUNNING
    finally:
        await second.close()
        await again.close()


async def test_the_line_ends_with_the_guest_and_opens_anew_with_it(booted: Booted) -> None:
    consoles = Consoles()
    target = await booted.target(booted.rig.provider)
    try:
        ada = await consoles.attach(target, who="ada")
        await booted.rig.provider.stop(booted.runtime_id, 0)
        async with asyncio.timeout(ANSWER_S):
            while await ada.read():
                pass
        assert consoles.lines(booted.runtime_id) == ()
        await booted.rig.provider.start(booted.runtime_id)
        await booted.rig.provider.release(booted.runtime_id)
        await until(await consoles.attach(target, who="ada"), booted.rig.harness.boot_pattern)
    finally:
        await consoles.close()


# -------------------------------------------------------------------- containers


@pytest.fixture
async def containers() -> AsyncIterator[Rig]:
    async with docker_harness.harness() as made, rig_for(made) as found:
        yield found


def shell(rig: Rig, command: str, **more: bool) -> RuntimeSpec:
    return rig.spec(settings={"command": ["/bin/sh", "-c", command], **more})


@pytest.mark.docker
async def test_a_container_without_a_terminal_has_no_serial_line(containers: Rig) -> None:
    async with containers.booted(shell(containers, BOOT, tty=False)) as runtime_id:
        guest = Booted(containers, runtime_id, containers.harness.talks[0])
        with pytest.raises(Unsupported, match="no terminal"):
            await Consoles().attach(await guest.target(containers.provider), who="ada")


@pytest.mark.docker
async def test_the_engines_own_keys_for_leaving_reach_the_container(containers: Rig) -> None:
    hexdump = "echo guest is up; stty raw -echo; while :; do dd bs=1 count=1 2>/dev/null | od -An -tx1; done"
    command = hexdump.replace("stty", "busybox stty").replace("dd ", "busybox dd ").replace("od ", "busybox od ")
    async with containers.booted(shell(containers, command)) as runtime_id:
        guest = Booted(containers, runtime_id, containers.harness.talks[0])
        consoles = Consoles()
        try:
            ada = await consoles.attach(await guest.target(containers.provider), who="ada")
            await until(ada, b"guest is up")
            for key, shown in ((b"\x10", b"10"), (b"\x11", b"11"), (b"\x10", b"10")):
                await ada.write(key)
                await until(ada, shown)
        finally:
            await consoles.close()


@pytest.mark.docker
async def test_a_guest_that_floods_its_terminal_grows_no_memory_and_stays_typed_on(containers: Rig) -> None:
    command = (
        "trap 'exit 0' TERM; echo guest is up; read -r go; busybox cat /dev/urandom & read -r stop; kill $!; "
        "while :; do read -r line; echo heard $line; done"
    )
    async with containers.booted(shell(containers, command)) as runtime_id:
        guest = Booted(containers, runtime_id, containers.harness.talks[0])
        consoles = Consoles()
        try:
            target = await guest.target(containers.provider)
            ada = await consoles.attach(target, who="ada")
            slow = await consoles.attach(target, who="slow", read_only=True)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await ada.write(b"go\n")
            received = 0
            async with asyncio.timeout(60):
                while received < 24 * 1024 * 1024:
                    received += len(await ada.read())
            await ada.write(b"stop\n")
            await ada.write(b"ping\n")
            await until(ada, b"heard ping")
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown * 1024 < 16 * 1024 * 1024
            assert len(slow._waiting) <= BACKLOG_BYTES
            assert (await slow.read()).startswith(b"\r\n[wireloom: output came faster")
        finally:
            await consoles.close()


# -------------------------------------------------------------------- machines


@pytest.mark.libvirt
async def test_a_machine_with_several_lines_has_each_of_them_with_its_own_log() -> None:
    harness = LibvirtHarness()
    harness.settings = {**harness.settings, "serials": 2}
    async with rig_for(harness) as rig, rig.booted(rig.spec()) as runtime_id:
        guest = Booted(rig, runtime_id, harness.talks[0])
        consoles = Consoles()
        try:
            target = await guest.target(rig.provider)
            second = await consoles.attach(target, 1, who="ada")
            await harness._type(rig.provider, runtime_id, "echo on the second line >/dev/ttyS1")
            await until(second, b"on the second line")
            assert [line.line for line in consoles.lines(runtime_id)] == [1]
        finally:
            await consoles.close()
        again = Consoles()
        try:
            await until(await again.attach(target, 1, who="bob"), b"on the second line")
        finally:
            await again.close()
