"""Files in the guest's own file system, read through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from wireloom.agent.channels.base import Call, ChannelTarget
from wireloom.errors import Unsupported
from wireloom.model.device import Step
from wireloom.model.runtime import ExecResult

__all__ = ["FileChannel", "Parser"]

#: Text of a configuration from the bytes of a file that is none.
Parser = Callable[[bytes], str]


class FileChannel:
    """:param parsers: by the name that ``Step.parse`` uses."""

    def __init__(self, parsers: Mapping[str, Parser]) -> None:
        self._parsers = parsers

    def lacks(self, target: ChannelTarget, step: Step) -> str:
        del step
        if target.provider.abilities.files is None:
            return f"{target.capabilities.name} cannot read a guest's files"
        return ""

    async def run(self, call: Call) -> ExecResult:
        raise Unsupported("a file takes no commands", node=call.target.node.name)

    async def fetch(self, target: ChannelTarget, step: Step, *, timeout_s: float) -> bytes:
        """:raises NotFound: there is no such file; ``GuestFailed``: its content is not what it should be."""
        files = target.provider.abilities.files
        if files is None:
            raise Unsupported(self.lacks(target, step), node=target.node.name)
        async with asyncio.timeout(timeout_s):
            content = await files.read(target.runtime_id, step.run)
        if not step.parse:
            return content
        parser = self._parsers.get(step.parse)
        if parser is None:
            raise Unsupported(f"there is no parser for {step.parse}", node=target.node.name)
        return parser(content).encode()

    async def load(self, target: ChannelTarget, step: Step, text: str, *, timeout_s: float) -> ExecResult:
        del step, text, timeout_s
        raise Unsupported("a running guest's files are not written", node=target.node.name)
