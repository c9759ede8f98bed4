"""Day-0 by ``serial``, the last resort: the startup configuration is typed into the booted node, by its ``load`` steps.

It is loaded when the node answers, and counts as ready when it is loaded; once for each life of the guest's storage
and each startup configuration, so a node that saved its own configuration since is left alone. What came of it is told
in its history.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import Final

from wireloom.agent.boot_work import Answer, BootWork, NodeBoot, Request, over
from wireloom.agent.channels import Channels, ChannelTarget, Outcome
from wireloom.agent.folder import FolderStore
from wireloom.agent.hooks.day0 import day0_method
from wireloom.day0 import render_day0, startup_text, template_values
from wireloom.errors import WireloomError
from wireloom.model.device import Day0
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent, Slice

__all__ = ["ConfigLoad"]

#: On native speed: typing a long configuration line by line takes its time.
_DEADLINE_S: Final = 300.0


class ConfigLoad:
    """:param authorized_keys: public SSH keys of this installation, one a line."""

    def __init__(self, channels: Channels, folders: FolderStore, work: BootWork, *, authorized_keys: str = "") -> None:
        self._channels = channels
        self._folders = folders
        self._work = work
        self._authorized_keys = authorized_keys
        self._failed: dict[str, tuple[str, float]] = {}

    def ensure(self, lab: Slice, target: ChannelTarget, runtime: RuntimeStatus) -> str:
        """Have the configuration loaded; what the node waits for, empty when it has its own or none is to be loaded."""
        node, boot = target.node, NodeBoot(lab.lab, target, runtime)
        method = day0_method(node.day0, target.capabilities, can_load=bool(node.load))
        folder = self._folders.get(node.id)
        if method is None or method.method != "serial" or folder is None or folder.record.loaded == _key(target):
            return ""
        if self._failed.get(node.id) == _name(boot):
            return "its startup configuration could not be loaded"
        if not self._work.begin("config", boot, partial(self._run, lab, boot, method)):
            return "its startup configuration is loaded after a restart"
        return "its startup configuration is being loaded"

    def forget(self, node_id: str) -> None:
        """The node is gone: so is what failed on it."""
        self._failed.pop(node_id, None)

    async def _run(self, lab: Slice, boot: NodeBoot, method: Day0) -> None:
        try:
            text = await asyncio.to_thread(self._text, lab, boot.node, method)
        except WireloomError as error:
            self._give_up(boot, error)
            return
        answer = Answer(0) if text is None else await self._work.until_done(boot, self._request(boot.target, text))
        if answer is None or not self._work.is_current(boot):
            return
        if answer.error is not None:
            self._give_up(boot, answer.error)
            return
        self._folders.update(boot.node.id, loaded=_key(boot.target))
        if answer.outcome is not None:
            self._work.succeeded(boot, "node.config-loaded", _summary(answer.outcome))

    def _text(self, lab: Slice, node: NodeIntent, method: Day0) -> str | None:
        values = template_values(lab, node, self._authorized_keys)
        # A serial method has no path; its template and the configuration come together under any name.
        named = method.model_copy(update={"path": "startup configuration", "extra": {}})
        files = render_day0(named, values, config=startup_text(node, values), device=node.device)
        content = files.get(named.path)
        return None if content is None else content.decode()

    def _request(self, target: ChannelTarget, text: str) -> Request:
        async def ask() -> Outcome:
            timeout_s = _DEADLINE_S * target.slow_factor
            return await self._channels.load(target, target.node.load, text, timeout_s=timeout_s)

        return Request(
            ask,
            refused=lambda result: f"the startup configuration was refused over {result.channel}",
            hint="correct the startup-config",
        )

    def _give_up(self, boot: NodeBoot, error: WireloomError) -> None:
        if not self._work.is_current(boot):
            return
        error.node = error.node or boot.node.name
        self._failed[boot.node.id] = _name(boot)
        self._work.failed(boot, "node.config-failed", error.message, error.to_wire())


def _name(boot: NodeBoot) -> tuple[str, float]:
    return boot.runtime.runtime_id, boot.started_at


def _key(target: ChannelTarget) -> str:
    """What was loaded: into which storage, and which configuration of the user (not which stored revision).

    A runtime that is made anew may begin with storage of its own; one that keeps its storage keeps its id too.
    """
    node = target.node
    text = f"{node.startup_template}\0{node.startup_config}"
    return f"{node.incarnation}/{target.runtime_id}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _summary(outcome: Outcome) -> str:
    return f"startup configuration loaded {over([outcome.result.channel], outcome.tried)}"
