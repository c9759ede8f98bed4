"""Chains of channels: the ways that a device names are asked in order, until one answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

from wireloom.agent.channels.base import (
    Call,
    Channel,
    ChannelTarget,
    Outcome,
    RemoteShell,
    SerialLines,
)
from wireloom.agent.channels.exec import ExecChannel
from wireloom.agent.channels.file import FileChannel, Parser
from wireloom.agent.channels.log import LogChannel
from wireloom.agent.channels.netconf import NetconfChannel
from wireloom.agent.channels.serial import SerialChannel
from wireloom.agent.channels.ssh import SshChannel
from wireloom.dialogue import RESTART
from wireloom.errors import Conflict, DeadlineExceeded, Unavailable, Unsupported, WireloomError
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["Channels"]

#: Errors after which another channel may be asked: nothing has run.
_NEXT = (Unsupported, Unavailable, Conflict)

_Attempt = Callable[[Channel, Step, float], Awaitable[ExecResult]]


class Channels:
    """One chain for every purpose and every technology.

    A channel that is not there, or cannot be reached, hands over to the next one; a command that ran and failed is
    an answer.

    :param lines: who holds the serial lines.
    :param parsers: of files that are no text, by the name that steps use.
    """

    def __init__(
        self,
        shell: RemoteShell,
        lines: SerialLines,
        parsers: Mapping[str, Parser] = MappingProxyType({}),
    ) -> None:
        self.serial = SerialChannel(lines)
        self._channels: Mapping[str, Channel] = {
            "exec": ExecChannel(),
            "ssh": SshChannel(shell),
            "serial": self.serial,
            "file": FileChannel(parsers),
            "log": LogChannel(),
            "netconf": NetconfChannel(shell),
        }

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        """Why the node does not have the channel of ``step``; empty when it has."""
        return self._channels[step.channel].lacks(target, step)

    async def run(
        self,
        target: ChannelTarget,
        command: Sequence[str] | str,
        *,
        timeout_s: float,
        stdin: bytes = b"",
        chain: tuple[Step, ...] | None = None,
    ) -> Outcome:
        """Run ``command`` (an argument list, or a line in the guest's own language) over ``chain``, by default the
        node's own.

        :raises Unavailable: no channel of the chain answered; ``details["tried"]`` says why, each, and
            ``details["restart"]`` that one of them asks for a restart of the node.
        :raises DeadlineExceeded: the command did not end in time.
        :raises GuestFailed: the connection broke while the command ran.
        """

        async def attempt(channel: Channel, step: Step, left_s: float) -> ExecResult:
            return await channel.run(Call(target, step, command, left_s, stdin))

        return await self._first_answer(target, target.node.run if chain is None else chain, timeout_s, attempt)

    async def load(self, target: ChannelTarget, steps: Sequence[Step], text: str, *, timeout_s: float) -> Outcome:
        """Hand ``text`` (a configuration) to the guest; errors as of :meth:`run`."""

        async def attempt(channel: Channel, step: Step, left_s: float) -> ExecResult:
            return await channel.load(target, step, text, timeout_s=left_s)

        return await self._first_answer(target, steps, timeout_s, attempt)

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        """Read a configuration in one way: a command's output, a file's bytes, a datastore's XML.

        :raises Unsupported: the node does not have that channel.
        :raises Unavailable: it cannot be reached that way; ``Conflict``: somebody holds the line.
        :raises GuestFailed: the guest refused, or the command failed.
        :raises DeadlineExceeded: it took longer.
        """
        channel = self._channels[step.channel]
        missing = channel.lacks(target, step)
        if missing:
            raise Unsupported(missing, node=target.node.name)
        limit_s = _limit_s(target, step, timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                return await channel.fetch(target, step, timeout_s=limit_s)
        except TimeoutError:
            raise DeadlineExceeded(f"{step.channel} did not end in {limit_s:g} s", node=target.node.name) from None

    async def _first_answer(
        self, target: ChannelTarget, chain: Sequence[Step], timeout_s: float, attempt: _Attempt
    ) -> Outcome:
        tried: dict[str, str] = {}
        skipped: dict[str, str] = {}
        restart = False
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        for step in chain:
            channel = self._channels[step.channel]
            missing = channel.lacks(target, step)
            if missing:
                skipped[_label(step)] = missing
                continue
            left_s = _limit_s(target, step, deadline - clock())
            if left_s <= 0:
                tried[_label(step)] = "no time was left for it"
                continue
            try:
                result = await attempt(channel, step, left_s)
            except _NEXT as error:
                tried[_label(step)] = error.message
                restart = restart or bool(error.details.get(RESTART))
                continue
            return Outcome(result.model_copy(update={"channel": step.channel}), tried, skipped)
        failure = _nobody(target, tried, skipped)
        if restart:
            failure.details[RESTART] = True
        raise failure


def _limit_s(target: ChannelTarget, step: Step, left_s: float) -> float:
    """Seconds that the step may take: its own limit, as slow as this host is, and never more than is left."""
    own_s = step.timeout_s * target.slow_factor
    return min(own_s, left_s) if own_s else left_s


def _label(step: Step) -> str:
    return f"{step.channel} session" if step.channel == "ssh" and step.prompt else step.channel


def _nobody(target: ChannelTarget, tried: Mapping[str, str], skipped: Mapping[str, str]) -> WireloomError:
    reasons = "; ".join(f"{channel}: {reason}" for channel, reason in {**skipped, **tried}.items())
    return Unavailable(
        f"no channel answered ({reasons or 'its device names none'})",
        node=target.node.name,
        hint="check with `wireloom inspect` that the node is ready, or use `wireloom console`",
        details={"tried": dict(tried), "skipped": dict(skipped)},
    )
