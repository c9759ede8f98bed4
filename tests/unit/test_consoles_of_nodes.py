"""Consoles of nodes: which kind opens, lines held once, the recent screen from a log. On a simulated host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wireloom.agent.channels import ChannelTarget
from wireloom.agent.consoles import Consoles, PrivateConsole
from wireloom.agent.consoles_line import SerialLine
from wireloom.errors import RuntimeFailed, Unavailable, Unsupported
from wireloom.model.device import Console
from wireloom.model.identity import Identity
from wireloom.model.runtime import RuntimeSpec
from wireloom.model.slice import NodeIntent
from wireloom.providers.libvirt.console import read_tail
from wireloom.providers.simulated import SimulatedProvider, SimulatedRuntime, SimulatedWorld
from wireloom.providers.simulated.lines import SimulatedLine
from wireloom.providers.simulated.world import MACHINE_LIKE

IMAGE = "i"
EXEC, SERIAL = Console(kind="exec", command=("sh",)), Console(kind="serial")


class Host:
    """One running node on a simulated host, and its agent's consoles."""

    def __init__(self, world: SimulatedWorld, folder: Path) -> None:
        self.world = world
        self.provider = SimulatedProvider("inst", world)
        self.consoles = Consoles()
        self._folder = folder

    async def boot(self) -> None:
        self.world.add_image(IMAGE)
        identity = Identity(installation="inst", lab_id="l", lab="lab", node_id="n", node="r1")
        spec = RuntimeSpec(
            identity=identity, incarnation=1, spec_hash="x", hostname="r1", image=IMAGE, folder=self._folder
        )
        runtime_id = await self.provider.create(spec)
        await self.provider.start(runtime_id)
        await self.provider.release(runtime_id)

    @property
    def runtime(self) -> SimulatedRuntime:
        return self.world.by_node("r1")

    async def target(self, *chain: Console) -> ChannelTarget:
        node = NodeIntent(id="n", name="r1", device="linux", provider="simulated", image=IMAGE, console=chain)
        return ChannelTarget(node, self.provider, await self.provider.capabilities(), self.runtime.runtime_id)

    def restart_agent(self) -> None:
        self.provider = SimulatedProvider("inst", self.world)
        self.consoles = Consoles()


@pytest.fixture(params=["container-like", "machine-like"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(SimulatedWorld(MACHINE_LIKE) if request.param == "machine-like" else SimulatedWorld(), tmp_path)
    await made.boot()
    yield made
    await made.consoles.close()


async def open_console(host: Host, *chain: Console, line: int | None = None, read_only: bool = False) -> object:
    target = await host.target(*chain)
    return await host.consoles.open(target, who="ada", columns=80, rows=24, read_only=read_only, line=line)


async def test_the_first_kind_of_the_device_that_the_provider_serves_is_opened(host: Host) -> None:
    opened = await open_console(host, EXEC, SERIAL)
    serves_exec = "exec" in host.world.capabilities.consoles
    assert isinstance(opened, PrivateConsole) == serves_exec
    assert len(host.consoles.lines(host.runtime.runtime_id)) == (0 if serves_exec else 1)
    with pytest.raises(Unsupported, match="serves none"):
        await open_console(host)


async def test_each_line_is_opened_once_however_many_come_at_the_same_time(host: Host) -> None:
    target = await host.target(SERIAL)
    host.world.delay("console", 0.01)
    await asyncio.gather(*(host.consoles.attach(target, number % 2, who=f"p{number}") for number in range(8)))
    assert host.world.calls["console"] == 2
    lines = host.consoles.lines(host.runtime.runtime_id)
    assert [(line.line, len(line.attendees)) for line in lines] == [(0, 4), (1, 4)]


async def test_lines_of_a_node_are_apart(host: Host) -> None:
    target = await host.target(SERIAL)
    main, aux = [await host.consoles.attach(target, number, who="ada") for number in (0, 1)]
    await main.read()  # the boot's messages
    host.world.line_answer = lambda _, line, typed: b"line %d heard " % line + typed
    await aux.write(b"x")
    assert await aux.read() == b"line 1 heard x"
    await main.write(b"y")
    assert await main.read() == b"line 0 heard y"
    assert host.runtime.typed == {0: b"y", 1: b"x"}


async def test_a_new_agent_shows_what_was_on_the_line_before_it(host: Host) -> None:
    first = await host.consoles.attach(await host.target(SERIAL), who="ada")
    await first.write(b"show version\r")
    host.restart_agent()
    late = await host.consoles.attach(await host.target(SERIAL), who="bob")
    assert await late.read() == b"r1 boots\nr1 login:\nshow version\r"
    host.world.write_log(host.runtime, b"more")
    assert await late.read() == b"more"


async def test_a_log_that_cannot_be_read_costs_the_recent_screen_and_nothing_else(host: Host) -> None:
    host.world.fail("recent", Unavailable("the engine is busy"))
    reader = await host.consoles.attach(await host.target(SERIAL), who="ada")
    host.world.write_log(host.runtime, b"from now on")
    assert await reader.read() == b"from now on"


async def test_a_line_that_cannot_be_opened_is_tried_again_by_the_next_one(host: Host) -> None:
    host.world.fail("console", RuntimeFailed("the serial line is not open"))
    target = await host.target(SERIAL)
    with pytest.raises(RuntimeFailed):
        await host.consoles.attach(target, who="ada")
    assert host.consoles.lines(host.runtime.runtime_id) == ()
    await host.consoles.attach(target, who="ada")
    assert len(host.consoles.lines(host.runtime.runtime_id)) == 1


async def test_who_cannot_get_a_console_leaves_no_place_behind(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("the engine is busy")

    monkeypatch.setattr("wireloom.providers.simulated.lines.SimulatedLine.resize", refuse)
    with pytest.raises(Unavailable):
        await open_console(host, SERIAL)
    (line,) = host.consoles.lines(host.runtime.runtime_id)
    assert (line.attendees, line.writer) == ((), None)


async def test_one_who_does_not_get_in_holds_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_line: SimulatedLine, _columns: int, _rows: int) -> None:
        raise Unavailable("the engine went away")

    monkeypatch.setattr(SimulatedLine, "resize", broken)
    with pytest.raises(Unavailable):
        await open_console(host, SERIAL)
    (line,) = host.consoles.lines(host.runtime.runtime_id)
    assert (line.writer, line.attendees) == (None, ())


async def test_a_line_goes_with_its_guest(host: Host) -> None:
    reader = await host.consoles.attach(await host.target(SERIAL), who="ada")
    host.world.crash("r1")
    while await reader.read():
        pass
    assert host.consoles.lines(host.runtime.runtime_id) == ()


async def test_an_idle_person_loses_the_keyboard_by_the_clock() -> None:
    class Silent:
        async def read(self) -> bytes:
            await asyncio.Event().wait()
            return b""

        async def write(self, data: bytes) -> None: ...

        async def resize(self, columns: int, rows: int) -> None: ...

        async def close(self) -> None: ...

    line = SerialLine(Silent(), lambda: None, idle_s=0.02)
    line.attach("ada")
    robot = line.attach("wireloom: extract", automation=True)
    await robot.acquire(5)
    assert line.state.writer is not None
    assert line.state.writer.who == "wireloom: extract"
    await line.close()


@pytest.mark.parametrize(("size", "expected"), [(3, b"new"), (6, b"oldnew"), (100, b"oldnew"), (4, b"dnew")])
def test_the_tail_of_a_log_reaches_over_its_rotation(tmp_path: Path, size: int, expected: bytes) -> None:
    log = tmp_path / "serial0.log"
    assert read_tail(log, size) == b""
    log.with_name("serial0.log.0").write_bytes(b"old")
    log.write_bytes(b"new")
    assert read_tail(log, size) == expected
