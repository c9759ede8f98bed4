"""SSH on the management address: a command, or a session that a dialogue types into."""

from __future__ import annotations

import asyncio

from wireloom.agent.channels.base import Call, ChannelTarget, RemoteShell, checked, command_line
from wireloom.agent.channels.typed import TypedScript, play, script_for_load, script_for_run
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["SshChannel"]


class SshChannel:
    """A step with a ``prompt`` is typed into an interactive session; any other is one command."""

    def __init__(self, shell: RemoteShell) -> None:
        self._shell = shell

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        if target.node.mgmt_ipv4 is None:
            return "the node has no management address"
        if step.prompt and target.cli is None:
            return "its device describes no command line"
        return ""

    async def run(self, call: Call) -> ExecResult:
        if call.step.prompt:
            return await self._play(call.target, script_for_run(call), call.timeout_s)
        login = call.target.login()
        return await self._shell.run(login, command_line(call), timeout_s=call.timeout_s, stdin=call.stdin)

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        result = await self.run(Call(target, step, "", timeout_s))
        return checked(result, target, step.run).stdout

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        if step.prompt:
            return await self._play(target, script_for_load(step, text), timeout_s)
        return await self.run(Call(target, step, "", timeout_s, stdin=text.encode()))

    async def _play(self, target: ChannelTarget, typed: TypedScript, timeout_s: float) -> ExecResult:
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with self._shell.terminal(target.login(), timeout_s=timeout_s) as stream:
            left_s = deadline - asyncio.get_running_loop().time()
            return await play(stream, target, typed, timeout_s=left_s)
