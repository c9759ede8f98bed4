"""Channels: run a command in a node over the chain of ways that its device names, until one answers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wireloom.errors import Unavailable, Unsupported
from wireloom.model.device import Access, Step
from wireloom.model.dialogue import Cli
from wireloom.model.runtime import Capabilities, ExecResult
from wireloom.model.slice import NodeIntent
from wireloom.providers.contract import Provider

__all__ = ["ChannelTarget", "Channels", "Outcome", "RemoteShell"]


class RemoteShell(Protocol):
    """Runs command lines in a guest over its management address."""

    async def run(
        self, node: NodeIntent, address: str, access: Access, command: str, *, timeout_s: float, stdin: bytes
    ) -> ExecResult: ...


@dataclass(frozen=True)
class ChannelTarget:
    """A node with what is needed to reach it now."""

    node: NodeIntent
    provider: Provider
    capabilities: Capabilities
    runtime_id: str
    cli: Cli | None = None


@dataclass(frozen=True)
class Outcome:
    """``tried`` maps each channel that did not answer to the reason why."""

    result: ExecResult
    tried: Mapping[str, str]


class Channels:
    """One chain for every purpose and both technologies.

    A channel that is not there, or cannot be reached, hands over to the next one; a command that ran and failed
    is an answer.
    """

    def __init__(self, shell: RemoteShell) -> None:
        self._shell = shell

    async def run(
        self, target: ChannelTarget, command: Sequence[str] | str, *, timeout_s: float, stdin: bytes = b""
    ) -> Outcome:
        """Run ``command`` (an argument list, or a command line for the guest's shell).

        :raises Unavailable: no channel of the chain answered; ``details["tried"]`` says why, each.
        :raises DeadlineExceeded: the command did not end in time.
        """
        tried: dict[str, str] = {}
        for step in target.node.run:
            try:
                result = await self._step(step, target, command, timeout_s=timeout_s, stdin=stdin)
            except (Unsupported, Unavailable) as error:
                tried[step.channel] = error.message
                continue
            return Outcome(result, tried)
        reasons = "; ".join(f"{channel}: {reason}" for channel, reason in tried.items())
        raise Unavailable(
            f"no channel answered ({reasons or 'its device names none'})",
            node=target.node.name,
            hint="check with `wireloom inspect` that the node is ready, or use `wireloom console`",
            details={"tried": tried},
        )

    async def _step(
        self,
        step: Step,
        target: ChannelTarget,
        command: Sequence[str] | str,
        *,
        timeout_s: float,
        stdin: bytes,
    ) -> ExecResult:
        if step.channel == "exec":
            argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
            return await target.provider.exec(target.runtime_id, argv, timeout_s=timeout_s, stdin=stdin)
        if step.channel == "ssh":
            if target.node.mgmt_ipv4 is None:
                raise Unsupported("the node has no management address")
            line = command if isinstance(command, str) else shlex.join(command)
            return await self._shell.run(
                target.node,
                target.node.mgmt_ipv4,
                target.node.access,
                step.run.replace("{command}", line),
                timeout_s=timeout_s,
                stdin=stdin,
            )
        raise Unsupported(f"commands over {step.channel} are not available yet")
