"""Commands by the engine itself, without the guest's network or console."""

from __future__ import annotations

from wireloom.agent.channels.base import COMMAND, Call, ChannelTarget, checked, command_line
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["ExecChannel"]


class ExecChannel:
    """An argument list is run as it is; a line goes to ``/bin/sh -c``."""

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        del step
        return "" if target.capabilities.exec else f"{target.capabilities.name} cannot run commands in a guest"

    async def run(self, call: Call) -> ExecResult:
        plain = call.step.run == COMMAND and not isinstance(call.command, str)
        argv = list(call.command) if plain else ["/bin/sh", "-c", command_line(call)]
        return await call.target.provider.exec(call.target.runtime_id, argv, timeout_s=call.timeout_s, stdin=call.stdin)

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        result = await self.run(Call(target, step, "", timeout_s))
        return checked(result, target, step.run).stdout

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        return await self.run(Call(target, step, "", timeout_s, stdin=text.encode()))
