"""The console's output since power-on. It can be read and nothing else."""

from __future__ import annotations

import contextlib
from typing import Final

from wireloom.agent.channels.base import Call, ChannelTarget
from wireloom.errors import Unsupported
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["LogChannel"]

_MOST: Final = 4 << 20


class LogChannel:
    def lacks(self, target: ChannelTarget, step: Step) -> str:
        del target, step
        return ""

    async def run(self, call: Call) -> ExecResult:
        raise Unsupported("a log takes no commands", node=call.target.node.name)

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        """The newest 4 MiB of what this boot has printed."""
        del step, timeout_s  # what is there is read, nothing is waited for
        text = bytearray()
        async with contextlib.aclosing(target.provider.boot_log(target.runtime_id)) as chunks:
            async for chunk in chunks:
                text += chunk
                del text[:-_MOST]
        return bytes(text)

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        del step, text, timeout_s
        raise Unsupported("a log takes no text", node=target.node.name)
