"""Reading and loading configurations over the chain of channels that a device names for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from wireloom.agent.channels import Channels, ChannelTarget
from wireloom.configs import clean, digest
from wireloom.errors import DeadlineExceeded, GuestFailed, Unsupported, WireloomError
from wireloom.fabric.config_documents import Extracted, LoadAnswer
from wireloom.model.device import Step

__all__ = ["Extraction"]

_SHOWN: Final = 2000


class Extraction:
    """The first channel of the chain whose text is a configuration wins; why others did not is kept.

    :param clock: UNIX seconds.
    """

    def __init__(self, channels: Channels, clock: Callable[[], float]) -> None:
        self._channels = channels
        self._clock = clock

    async def extract(self, target: ChannelTarget, *, timeout_s: float, choice: int = 0) -> Extracted:
        """Read the running configuration within ``timeout_s`` real seconds.

        :param choice: what the node was made with; see :class:`~wireloom.fabric.config_documents.Extracted`.
        :raises Unsupported: the device names no way to read it.
        :raises GuestFailed: no channel gave a valid text; ``details["tried"]`` says why, each.
        """
        node = target.node
        if not node.extract.steps:
            raise Unsupported(
                f"device {node.device} has no way to read its configuration",
                node=node.name,
                hint="upload one with `wireloom configs upload`, or give the device an `extract` chain",
            )
        tried: dict[str, str] = {}
        lacking = {_label(step, {}): self._channels.lacks(target, step) for step in node.extract.steps}
        steps = [step for step in node.extract.steps if not lacking[_label(step, {})]]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        for position, step in enumerate(steps):
            # A channel that hangs must leave time for those after it.
            share_s = (deadline - loop.time()) / (len(steps) - position)
            try:
                text = await self._read(target, step, share_s)
            except WireloomError as error:
                tried[_label(step, tried)] = error.message
                continue
            return Extracted(
                text=text,
                sha256=digest(text),
                channel=step.channel,
                tried=tried,
                taken_at=self._clock(),
                choice=choice,
            )
        raise _nobody(target, {**{channel: why for channel, why in lacking.items() if why}, **tried})

    async def _read(self, target: ChannelTarget, step: Step, timeout_s: float) -> str:
        if timeout_s <= 0:
            raise DeadlineExceeded("no time was left for it")
        try:
            async with asyncio.timeout(timeout_s):
                raw = await self._channels.fetch(target, step, timeout_s=timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(f"it did not answer in {timeout_s:.0f} s") from None
        prompts = tuple(prompt.pattern for prompt in target.cli.prompts) if target.cli else ()
        # Long texts and many patterns: not on the loop.
        return await asyncio.to_thread(clean, target.node.extract, raw, prompts=prompts)

    async def load(self, target: ChannelTarget, text: str, *, timeout_s: float) -> LoadAnswer:
        """Load ``text`` into the running guest; what that means for lines that are not in it is the device's business.

        :raises Unsupported: the device names no way to load one.
        :raises Unavailable: no channel answered. :raises GuestFailed: the guest refused it.
        """
        node = target.node
        if not node.load:
            raise Unsupported(
                f"device {node.device} cannot load a configuration while it runs",
                node=node.name,
                hint="restore it with `--reboot`: the node is then made anew with it",
            )
        outcome = await self._channels.load(target, node.load, text, timeout_s=timeout_s)
        result = outcome.result
        output = (result.stdout + result.stderr).decode(errors="replace").strip()[-_SHOWN:]
        if result.exit_code != 0:
            raise GuestFailed(
                f"the configuration was refused (exit code {result.exit_code})", node=node.name, hint=output
            )
        return LoadAnswer(channel=result.channel or node.load[0].channel, tried=dict(outcome.tried), output=output)


def _nobody(target: ChannelTarget, tried: dict[str, str]) -> GuestFailed:
    reasons = "; ".join(f"{channel}: {reason}" for channel, reason in tried.items())
    return GuestFailed(
        f"no channel gave a configuration ({reasons})",
        node=target.node.name,
        hint="what was stored before is kept; look at the node with `wireloom console`",
        details={"tried": tried},
    )


def _label(step: Step, tried: dict[str, str]) -> str:
    """The step's channel, told apart from an earlier step over the same one."""
    name = f"{step.channel} session" if step.channel == "ssh" and step.prompt else step.channel
    return name if name not in tried else f"{name} ({step.run})"
