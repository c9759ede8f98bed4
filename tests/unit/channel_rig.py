"""A node whose channels are scripts: an engine that runs commands, a serial line, an SSH server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from wireloom.agent.channels import Channels, ChannelTarget, Login
from wireloom.errors import Conflict, Unavailable, WireloomError
from wireloom.model.device import Access, Console, Probe, Readiness, Step
from wireloom.model.dialogue import Cli, Move, Prompt, Reaction, Recovery
from wireloom.model.identity import Identity
from wireloom.model.runtime import ExecResult, RuntimeSpec
from wireloom.model.slice import NodeIntent
from wireloom.providers.contract import ByteStream
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.providers.simulated.world import CONTAINER_LIKE, MACHINE_LIKE

INSTALLATION = "channels"
IMAGE = "simulated/image"

ROUTER = Cli(
    name="router",
    home="privileged",
    prompts=(
        Prompt(name="user", pattern=r"[\w-]+>"),
        Prompt(name="privileged", pattern=r"[\w-]+#"),
        Prompt(name="configure", pattern=r"[\w-]+\(config[^)]*\)#"),
    ),
    moves=(
        Move(source="user", target="privileged", line="enable"),
        Move(source="privileged", target="configure", line="configure terminal"),
        Move(source="configure", target="privileged", line="end"),
    ),
    reactions=(
        Reaction(name="login", when=r"[Uu]sername:\s*$", send="{{ username }}", phase="login"),
        Reaction(name="password", when=r"[Pp]assword:\s*$", send="{{ password }}", secret=True, phase="login"),
    ),
    recoveries=(Recovery(name="nudge", action="type", send="", silent_s=0.3),),
    errors=(r"^% ",),
    step_timeout_s=2,
    overall_timeout_s=5,
)

SHELL = Cli(
    name="shell",
    line_end="\n",
    home="shell",
    prompts=(Prompt(name="shell", pattern=r"[\w@:~-]+\$"),),
    recoveries=(Recovery(name="nudge", action="type", send="", silent_s=0.3),),
    step_timeout_s=2,
    overall_timeout_s=5,
)

#: From what is typed to what the guest prints after its echo; ``None``: it says nothing at all.
Answerer = Callable[[str], str | None]


@dataclass
class ScriptedLine:
    """A guest's terminal: echoes what is typed, answers line by line. A ``HeldLine``.

    :ivar banner: what is on the screen when somebody joins; ``holder``: who types on it.
    """

    answer: Answerer
    banner: str = "r1#"
    holder: str = ""
    typed: list[str] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._line = ""
        if self.banner:
            self._out.put_nowait(self.banner.encode())

    async def read(self) -> bytes:
        return b"" if self.ended and self._out.empty() else await self._out.get()

    async def write(self, data: bytes) -> None:
        for character in data.decode():
            if character not in "\r\n":
                self._line += character
                continue
            line, self._line = self._line, ""
            self.typed.append(line)
            said = self.answer(line)
            if said is not None:
                self._out.put_nowait(f"{line}\r\n{said}".encode())

    async def resize(self, columns: int, rows: int) -> None: ...

    async def acquire(self, timeout_s: float) -> None:
        if self.holder:
            raise Conflict(f"{self.holder} is typing on this console")

    def release(self) -> None: ...

    def pause(self, *, between_steps: bool) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Lines:
    """Who holds the lines: makes one with ``make`` for each that joins."""

    make: Callable[[], ScriptedLine] | None = None
    joined: list[tuple[str, ScriptedLine]] = field(default_factory=list)

    async def attach(
        self, target: ChannelTarget, line: int = 0, *, who: str, automation: bool = False, read_only: bool = False
    ) -> ScriptedLine:
        if self.make is None:
            raise Unavailable("there is no serial line here")
        made = self.make()
        self.joined.append((who, made))
        return made


@dataclass
class Shell:
    """SSH as a script: results of commands, or an error for all; ``terminals`` for sessions."""

    results: dict[str, ExecResult] = field(default_factory=dict)
    error: WireloomError | None = None
    make: Callable[[], ScriptedLine] | None = None
    logins: list[Login] = field(default_factory=list)
    commands: list[tuple[str, bytes]] = field(default_factory=list)

    async def run(self, login: Login, command: str, *, timeout_s: float, stdin: bytes = b"") -> ExecResult:
        self.logins.append(login)
        if self.error is not None:
            raise self.error
        self.commands.append((command, stdin))
        return self.results.get(command, ExecResult(exit_code=0, stdout=b"", channel="ssh"))

    @contextlib.asynccontextmanager
    async def terminal(self, login: Login, *, timeout_s: float) -> AsyncIterator[ByteStream]:
        if self.error is not None or self.make is None:
            raise self.error or Unavailable("no sessions here")
        yield self.make()

    @contextlib.asynccontextmanager
    async def subsystem(self, login: Login, name: str, *, timeout_s: float) -> AsyncIterator[ByteStream]:
        raise Unavailable("no subsystems here")
        yield  # the shape of a context manager


@dataclass
class Guest:
    """A running simulated node, and everything that reaches it."""

    world: SimulatedWorld
    target: ChannelTarget
    shell: Shell
    lines: Lines
    channels: Channels

    def node(self, **changes: object) -> ChannelTarget:
        """The same node, declared otherwise."""
        node = self.target.node.model_copy(update=changes)
        return ChannelTarget(
            node, self.target.provider, self.target.capabilities, self.target.runtime_id, self.target.cli
        )


def steps(*channels: str) -> tuple[Step, ...]:
    return tuple(Step.model_validate({"channel": channel}) for channel in channels)


async def guest(
    folder: Path,
    *,
    machine: bool = False,
    run: tuple[Step, ...] = (),
    cli: Cli | None = None,
    probes: tuple[Probe, ...] = (),
    address: str | None = "192.0.2.7",
    slow_factor: float = 1,
) -> Guest:
    """A node that runs, like a machine or like a container."""
    world = SimulatedWorld(MACHINE_LIKE if machine else CONTAINER_LIKE)
    world.add_image(IMAGE)
    provider = SimulatedProvider(INSTALLATION, world)
    identity = Identity(installation=INSTALLATION, lab_id="lab", lab="lab", node_id="n1", node="r1")
    spec = RuntimeSpec(
        identity=identity, incarnation=1, spec_hash="1", hostname="r1", image=IMAGE, folder=folder, settings={}
    )
    runtime_id = await provider.create(spec)
    await provider.start(runtime_id)
    await provider.release(runtime_id)
    node = NodeIntent(
        id="n1",
        name="r1",
        device="router",
        provider="simulated",
        image=IMAGE,
        mgmt_ipv4=address,
        run=run,
        console=(Console(kind="serial"),),
        access=Access(username="admin", password="for a test"),  # noqa: S106
        ready=Readiness(probes=probes, timeout_s=0.2, slow_factor=slow_factor, interval_s=0.01),
    )
    shell, lines = Shell(), Lines()
    capabilities = await provider.capabilities()
    target = ChannelTarget(node, provider, capabilities, runtime_id, cli)
    return Guest(world, target, shell, lines, Channels(shell, lines))
