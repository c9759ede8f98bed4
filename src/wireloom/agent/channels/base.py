"""What every channel is made of: the node to reach, what is asked, what came back, and the channel itself."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from wireloom.errors import GuestFailed, Unsupported
from wireloom.model.device import Access, Step
from wireloom.model.dialogue import Cli
from wireloom.model.runtime import Capabilities, ExecResult
from wireloom.model.slice import NodeIntent
from wireloom.providers.contract import ByteStream, Provider

__all__ = [
    "COMMAND",
    "Call",
    "Channel",
    "ChannelTarget",
    "HeldLine",
    "KeptShell",
    "Login",
    "Outcome",
    "RemoteShell",
    "SerialLines",
    "checked",
    "command_line",
]

#: What stands in a step's ``run`` for the command that is asked for.
COMMAND: Final = "{command}"
_HINT_LENGTH: Final = 300


@dataclass(frozen=True)
class Login:
    """Who is connected to over the network, and as whom; another value needs another connection.

    :ivar instance: names one life of the guest's storage; a host key is remembered for as long.
    :ivar slow_factor: how many times as long as on native speed the guest takes to let somebody in.
    """

    node_id: str
    name: str
    instance: str
    address: str
    access: Access
    slow_factor: float = 1.0


@dataclass(frozen=True)
class ChannelTarget:
    """A node with what is needed to reach it now."""

    node: NodeIntent
    provider: Provider
    capabilities: Capabilities
    runtime_id: str
    cli: Cli | None = None

    @property
    def slow_factor(self) -> float:
        """How many times as long everything takes here as on native speed."""
        return self.node.ready.slow_factor if self.capabilities.acceleration == "tcg" else 1.0

    def login(self) -> Login:
        """:raises Unsupported: the node is not on the management network."""
        if self.node.mgmt_ipv4 is None:
            raise Unsupported("the node has no management address", node=self.node.name)
        instance = f"{self.node.incarnation}-{self.runtime_id}"
        return Login(self.node.id, self.node.name, instance, self.node.mgmt_ipv4, self.node.access, self.slow_factor)

    def values(self) -> dict[str, str]:
        """What a device's command line may type of this node."""
        access = self.node.access
        return {
            "hostname": self.node.name,
            "username": access.username,
            "password": access.password,
            "enable_password": access.enable_password,
        }


@dataclass(frozen=True)
class Outcome:
    """``tried`` maps each channel that did not answer to the reason why, in the order of the chain; ``skipped`` those
    that the node does not have at all.
    """

    result: ExecResult
    tried: Mapping[str, str]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A command for one step; ``timeout_s`` in real seconds of this host."""

    target: ChannelTarget
    step: Step
    command: Sequence[str] | str
    timeout_s: float
    stdin: bytes = b""


class Channel(Protocol):
    """One way to a guest. A method that it has no use for raises ``Unsupported``.

    Errors of every method: ``Unsupported``, ``Unavailable`` and ``Conflict`` mean that nothing has run, so that
    another channel may be asked; any other means that something may have.
    """

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        """Why the node does not have this channel; empty when it has."""
        ...

    async def run(self, call: Call) -> ExecResult: ...

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        """What the step reads: a configuration, as the guest gives it."""
        ...

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        """Hand ``text`` over to the step."""
        ...


class RemoteShell(Protocol):
    """Reaches guests over their management address. Connecting counts against ``timeout_s``."""

    async def run(self, login: Login, command: str, *, timeout_s: float, stdin: bytes = b"") -> ExecResult: ...

    def terminal(self, login: Login, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        """An interactive session on a terminal of its own."""
        ...

    def subsystem(self, login: Login, name: str, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        """A subsystem (``netconf``), where the guest serves it."""
        ...


class KeptShell(RemoteShell, Protocol):
    """Keeps connections between one command and the next, until it is told that they are of no use any more."""

    def forget(self, node_id: str) -> None:
        """The node is gone, or is another runtime now. Idempotent."""
        ...

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        ...


class HeldLine(ByteStream, Protocol):
    """A serial line that others read along; typing takes its writer lease."""

    async def acquire(self, timeout_s: float) -> None:
        """:raises Conflict: somebody else holds the lease; the message names them."""
        ...

    def release(self) -> None: ...

    def pause(self, *, between_steps: bool) -> None:
        """Whether a person may take the lease now; what is written after that is refused."""
        ...


class SerialLines(Protocol):
    """Who holds the serial lines of this host."""

    async def attach(
        self, target: ChannelTarget, line: int = 0, *, who: str, automation: bool = False, read_only: bool = False
    ) -> HeldLine:
        """:raises Unsupported: the provider serves no such line."""
        ...


def command_line(call: Call) -> str:
    """What is asked for as one line of the guest's language.

    Words are quoted for a shell only: a device's own command line has no quoting.
    """
    if isinstance(call.command, str):
        line = call.command
    else:
        line = shlex.join(call.command) if _is_shell(call) else " ".join(call.command)
    return call.step.run.replace(COMMAND, line)


def _is_shell(call: Call) -> bool:
    cli = call.target.cli
    return call.step.run == COMMAND and (cli is None or (call.step.prompt or cli.home) == "shell")


def checked(result: ExecResult, target: ChannelTarget, what: str) -> ExecResult:
    """``result`` of a command that must succeed. :raises GuestFailed: it did not."""
    if result.exit_code == 0:
        return result
    output = (result.stderr or result.stdout).decode(errors="replace").strip()
    raise GuestFailed(
        f"{what} failed with exit code {result.exit_code}", node=target.node.name, hint=output[-_HINT_LENGTH:]
    )
