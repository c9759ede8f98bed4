"""The configuration over the lives of a node: read before it is stopped, and given to it when it is made anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from wireloom.agent.channels import ChannelTarget
from wireloom.agent.context import NodeContext
from wireloom.agent.extraction import Extraction
from wireloom.agent.folder import FolderStore
from wireloom.agent.held_configs import Held, HeldConfigs
from wireloom.agent.hooks.base import Hook
from wireloom.configs.policy import follows
from wireloom.errors import WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.model.slice import NodeIntent, StoredConfig

__all__ = ["ConfigsHook", "Tell"]

log = structlog.get_logger(__name__)

#: A stop is held up for as long as the slowest step of the device may take, within these bounds (seconds on native
#: speed; emulated guests get twice as long).
STOP_DEADLINE_S: Final = 30.0
LONGEST_DEADLINE_S: Final = 90.0
_EMULATED: Final = 2.0


class Tell(Protocol):
    """Adds a line to the history."""

    def __call__(self, lab: str, node: str, kind: str, message: str, level: EventLevel = EventLevel.INFO) -> None: ...


class ConfigsHook(Hook):
    """Reads the configuration before an orderly stop, where device and topology want it; a failure is told and the stop
    goes on. It is not read from a node that was not ready in this boot: half a configuration is valid too.

    A runtime that is made anew gets what was read last, unless the user has chosen something else since.

    :param is_ready: whether the node, by its id, became ready in the boot that is going on.
    """

    name = "configs"

    def __init__(
        self,
        extraction: Extraction,
        folders: FolderStore,
        held: HeldConfigs,
        is_ready: Callable[[str], bool],
        tell: Tell,
    ) -> None:
        self._extraction = extraction
        self._folders = folders
        self._held = held
        self._is_ready = is_ready
        self._tell = tell

    async def before_create(self, context: NodeContext) -> None:
        node = context.node
        held = await self._held.get(node.id)
        if held is not None and _is_newer(held, node):
            text = held.extracted.text
            stored = StoredConfig(revision=held.revision, sha256=held.extracted.sha256, text=text)
            context.node = node.model_copy(update={"stored_config": stored})
        self._folders.update(node.id, config_choice=node.config_choice)

    async def before_stop(self, context: NodeContext) -> None:
        node = context.node
        if context.lab.removed or not node.extract_on_stop or not node.extract.steps:
            return
        if not self._is_ready(node.id):
            log.info("configuration not read before the stop: the node was not ready", node=node.name)
            return
        target = ChannelTarget(
            node, context.provider, context.capabilities, context.live_runtime_id, context.lab.clis.get(node.cli)
        )
        deadline_s = _deadline_s(context)
        try:
            async with asyncio.timeout(deadline_s):
                choice = context.folder.record.config_choice
                extracted = await self._extraction.extract(target, timeout_s=deadline_s, choice=choice)
                await self._held.keep(node.id, extracted)
        except (WireloomError, TimeoutError, OSError) as error:
            reason = error.message if isinstance(error, WireloomError) else str(error) or "it took too long"
            message = f"its configuration was not read before the stop: {reason}"
            self._tell(context.lab.lab, node.name, "config.not-extracted", message, EventLevel.WARNING)
            return
        message = f"configuration read over {extracted.channel} before the stop"
        self._tell(context.lab.lab, node.name, "config.extracted", message)

    async def destroyed(self, context: NodeContext) -> None:
        if context.lab.removed or context.lab.node(context.node.id) is None:
            self._held.forget(context.node.id)


def _deadline_s(context: NodeContext) -> float:
    slowest_s = max(step.timeout_s for step in context.node.extract.steps)
    emulated = context.capabilities.acceleration == "tcg"
    return min(max(slowest_s, STOP_DEADLINE_S), LONGEST_DEADLINE_S) * (_EMULATED if emulated else 1)


def _is_newer(held: Held, node: NodeIntent) -> bool:
    """Whether what was read last goes before what the controller says.

    The controller knows it already, or the user has made a choice since the node was made: then not.
    """
    if held.revision and node.stored_config is not None and node.stored_config.revision >= held.revision:
        return False
    return follows(by_user=False, chosen=node.config_choice, made_with=held.extracted.choice)
