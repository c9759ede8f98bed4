"""Post-boot commands: run in the guest once for each boot, after readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from wireloom.agent.background import Background
from wireloom.agent.channels import Channels, ChannelTarget
from wireloom.agent.folder import FolderStore
from wireloom.errors import GuestFailed, WireloomError
from wireloom.model.runtime import RuntimeStatus

__all__ = ["PostBoot"]

log = structlog.get_logger(__name__)

_DEADLINE_S = 60.0
_TRIES = 3
_PAUSE_S = 1.0


class PostBoot:
    """:param current: the runtime of a node as it is known now; commands of a boot that is over are given up."""

    def __init__(
        self,
        channels: Channels,
        folders: FolderStore,
        background: Background,
        current: Callable[[str], RuntimeStatus | None],
    ) -> None:
        self._channels = channels
        self._folders = folders
        self._background = background
        self._current = current

    def ensure(self, target: ChannelTarget, runtime: RuntimeStatus) -> None:
        """Have the node's commands run in this boot; without effect when they have."""
        node = target.node
        folder = self._folders.get(node.id)
        if not node.post_boot or folder is None or folder.record.configured_boot == (runtime.started_at or 1):
            return
        self._background.start(f"post-boot-{node.id}", self._run(target, runtime))

    async def _run(self, target: ChannelTarget, runtime: RuntimeStatus) -> None:
        node, first = target.node, None
        for command in node.post_boot:
            failure = await self._try(target, command, runtime)
            first = first or failure
        if not self._is_current(target, runtime):
            return
        folder = self._folders.update(node.id, configured_boot=runtime.started_at or 1)
        if first is not None and folder is not None and folder.record.error is None:
            self._folders.update(node.id, error=first.to_wire())
        log.info("post-boot commands done", node=node.name, failed=first is not None)

    async def _try(self, target: ChannelTarget, command: str, runtime: RuntimeStatus) -> WireloomError | None:
        failure: WireloomError | None = None
        for attempt in range(_TRIES):
            await asyncio.sleep(attempt * _PAUSE_S)
            if not self._is_current(target, runtime):
                return None
            failure = await self._once(target, command)
            if failure is None:
                return None
        return failure

    async def _once(self, target: ChannelTarget, command: str) -> WireloomError | None:
        try:
            outcome = await self._channels.run(target, command, timeout_s=_DEADLINE_S)
        except WireloomError as error:
            return error
        if outcome.result.exit_code == 0:
            return None
        output = (outcome.result.stderr or outcome.result.stdout).decode(errors="replace").strip()
        return GuestFailed(
            f"post-boot command failed with exit code {outcome.result.exit_code}: {command}",
            node=target.node.name,
            hint=output[-300:] or "correct the command under `exec` in the topology",
        )

    def _is_current(self, target: ChannelTarget, runtime: RuntimeStatus) -> bool:
        now = self._current(target.node.id)
        return now is not None and (now.runtime_id, now.started_at, now.phase) == (
            runtime.runtime_id,
            runtime.started_at,
            runtime.phase,
        )
