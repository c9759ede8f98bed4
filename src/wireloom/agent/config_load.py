"""Day-0 by ``serial``, the last resort: the startup configuration is typed into the booted node, by its ``load`` steps.

It is loaded when the node answers, and counts as ready when it is loaded; once for each incarnation and startup
configuration, so a node that saved its own configuration since is left alone. What came of it is told in its history.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

from wireloom.agent.background import Background
from wireloom.agent.channels import Channels, ChannelTarget, Outcome
from wireloom.agent.folder import FolderStore
from wireloom.agent.hooks.day0 import day0_method
from wireloom.agent.reporter import Tell
from wireloom.agent.stuck import StuckNodes
from wireloom.day0 import render_day0, startup_text, template_values
from wireloom.errors import GuestFailed, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.model.device import Day0
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent, Slice

__all__ = ["ConfigLoad"]

#: On native speed: typing a long configuration line by line takes its time.
_DEADLINE_S: Final = 300.0
_TRIES: Final = 3
_PAUSE_S: Final = 2.0
_HINT_LENGTH: Final = 300


class ConfigLoad:
    """:param current: the runtime of a node as it is known now; a boot that is over is given up.

    :param authorized_keys: public SSH keys of this installation, one a line.
    """

    def __init__(
        self,
        channels: Channels,
        folders: FolderStore,
        background: Background,
        current: Callable[[str], RuntimeStatus | None],
        tell: Tell,
        *,
        stuck: StuckNodes,
        authorized_keys: str = "",
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._channels = channels
        self._folders = folders
        self._background = background
        self._current = current
        self._tell = tell
        self._stuck = stuck
        self._authorized_keys = authorized_keys
        self._pause_s = pause_s
        self._failed: dict[str, tuple[str, float | None]] = {}

    def ensure(self, lab: Slice, target: ChannelTarget, runtime: RuntimeStatus) -> str:
        """Have the configuration loaded; what the node waits for, empty when it has its own or none is to be loaded."""
        node = target.node
        method = day0_method(node.day0, target.capabilities, can_load=bool(node.load))
        folder = self._folders.get(node.id)
        if method is None or method.method != "serial" or folder is None or folder.record.loaded == _key(node):
            return ""
        if self._failed.get(node.id) == (runtime.runtime_id, runtime.started_at):
            return "its startup configuration could not be loaded"
        if self._stuck.is_pending(node.id):
            return "its startup configuration is loaded after a restart"
        self._background.start(f"config-{node.id}", self._run(lab, target, method, runtime))
        return "its startup configuration is being loaded"

    async def _run(self, lab: Slice, target: ChannelTarget, method: Day0, runtime: RuntimeStatus) -> None:
        node = target.node
        try:
            text = await asyncio.to_thread(self._text, lab, node, method)
            outcome = None if text is None else await self._load(target, text, runtime)
        except WireloomError as error:
            if not self._stuck.is_pending(node.id):
                self._give_up(lab, node, runtime, error)
            return
        if not self._is_current(node, runtime):
            return
        self._folders.update(node.id, loaded=_key(node))
        if outcome is not None:
            self._tell(lab.lab, node.name, "node.config-loaded", _summary(outcome))

    def _text(self, lab: Slice, node: NodeIntent, method: Day0) -> str | None:
        values = template_values(lab, node, self._authorized_keys)
        # A serial method has no path; its template and the configuration come together under any name.
        named = method.model_copy(update={"path": "startup configuration", "extra": {}})
        files = render_day0(named, values, config=startup_text(node, values), device=node.device)
        content = files.get(named.path)
        return None if content is None else content.decode()

    async def _load(self, target: ChannelTarget, text: str, runtime: RuntimeStatus) -> Outcome | None:
        """Until it succeeds; ``None``: the boot is over. :raises WireloomError: the budget is spent; the last cause."""
        for attempt in range(1, _TRIES + 1):
            if not self._is_current(target.node, runtime):
                return None
            try:
                return await self._once(target, text)
            except WireloomError as error:
                restarts = self._is_current(target.node, runtime) and self._stuck.note(target.node, error)
                if restarts or attempt == _TRIES:
                    raise
            await asyncio.sleep(self._pause_s * attempt)
        return None

    async def _once(self, target: ChannelTarget, text: str) -> Outcome:
        node = target.node
        outcome = await self._channels.load(target, node.load, text, timeout_s=_DEADLINE_S * target.slow_factor)
        if outcome.result.exit_code != 0:
            output = (outcome.result.stdout + outcome.result.stderr).decode(errors="replace").strip()
            raise GuestFailed(
                f"the startup configuration was refused over {outcome.result.channel}",
                node=node.name,
                hint=output[-_HINT_LENGTH:] or "correct the startup-config",
            )
        return outcome

    def _give_up(self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus, error: WireloomError) -> None:
        if not self._is_current(node, runtime):
            return
        error.node = error.node or node.name
        self._failed[node.id] = (runtime.runtime_id, runtime.started_at)
        folder = self._folders.get(node.id)
        if folder is not None and folder.record.error is None:
            self._folders.update(node.id, error=error.to_wire())
        self._tell(lab.lab, node.name, "node.config-failed", error.message, EventLevel.ERROR)

    def _is_current(self, node: NodeIntent, runtime: RuntimeStatus) -> bool:
        now = self._current(node.id)
        return now is not None and (now.runtime_id, now.started_at) == (runtime.runtime_id, runtime.started_at)


def _key(node: NodeIntent) -> str:
    """What was loaded: into which storage, and which configuration of the user (not which stored revision)."""
    text = f"{node.startup_template}\0{node.startup_config}"
    return f"{node.incarnation}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _summary(outcome: Outcome) -> str:
    reasons = "".join(f"; {channel}: {reason}" for channel, reason in outcome.tried.items())
    return f"startup configuration loaded over {outcome.result.channel}{reasons}"
