"""Post-boot commands: run in the guest once for each boot, after readiness, over the node's chain of channels.

What is done is written down before the next command begins, so that an agent that comes after this one goes on where
it was left. Only the command that was under way then is run again, because nobody knows how far it came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from wireloom.agent.background import Background
from wireloom.agent.boot_records import BootRecords, shortened
from wireloom.agent.channels import Channels, ChannelTarget, Outcome
from wireloom.agent.folder import FolderStore
from wireloom.agent.reporter import Tell
from wireloom.agent.stuck import StuckNodes
from wireloom.errors import GuestFailed, RuntimeFailed, Unavailable, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.model.post_boot import BootRecord, CommandRecord
from wireloom.model.runtime import RuntimeStatus

__all__ = ["PostBoot"]

log = structlog.get_logger(__name__)

#: On native speed: for one attempt, and for a guest that no channel reaches yet.
_DEADLINE_S: Final = 60.0
_UNREACHED_S: Final = 60.0
_TRIES: Final = 3
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 8.0
_HINT_LENGTH: Final = 300


@dataclass(frozen=True)
class _Boot:
    lab: str
    target: ChannelTarget
    runtime: RuntimeStatus

    @property
    def start(self) -> float:
        return self.runtime.started_at or 1

    @property
    def slow(self) -> float:
        return self.target.slow_factor


class PostBoot:
    """:param current: the runtime of a node as it is known now; commands of a boot that is over are given up."""

    def __init__(
        self,
        channels: Channels,
        folders: FolderStore,
        background: Background,
        current: Callable[[str], RuntimeStatus | None],
        tell: Tell,
        *,
        stuck: StuckNodes,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._channels = channels
        self._folders = folders
        self._background = background
        self._current = current
        self._tell = tell
        self._stuck = stuck
        self._pause_s = pause_s

    def ensure(self, lab: str, target: ChannelTarget, runtime: RuntimeStatus) -> None:
        """Have the node's commands run in this boot; without effect when they have."""
        node, boot = target.node, _Boot(lab, target, runtime)
        folder = self._folders.get(node.id)
        if not node.post_boot or folder is None or folder.record.configured_boot == boot.start:
            return
        if self._stuck.is_pending(node.id):
            return
        self._background.start(f"post-boot-{node.id}", self._run(boot))

    def records(self, node_id: str) -> tuple[BootRecord, ...]:
        """What was run in the newest boots of the node, the newest first."""
        folder = self._folders.get(node_id)
        return () if folder is None else BootRecords(folder.path).all()

    async def _run(self, boot: _Boot) -> None:
        node = boot.target.node
        folder = self._folders.get(node.id)
        if folder is None:
            return
        records = BootRecords(folder.path)
        record = records.of(boot.runtime.runtime_id, boot.start)
        try:
            for number, command in enumerate(node.post_boot):
                if number < len(record.commands) and record.commands[number].command == command:
                    continue  # done by an agent before this one
                done = await self._command(boot, command)
                if done is None:
                    return
                record = record.model_copy(update={"commands": (*record.commands[:number], done)})
                records.save(record)
            records.save(record.model_copy(update={"finished_at": time.time()}))
        except OSError as error:
            raise RuntimeFailed(
                f"the record of post-boot commands cannot be written: {error}",
                node=node.name,
                hint="check the free space and rights of the data folder",
            ) from error
        self._finish(boot, record)

    def _finish(self, boot: _Boot, record: BootRecord) -> None:
        node, failed = boot.target.node, record.failed
        if not self._is_current(boot):
            return
        folder = self._folders.update(node.id, configured_boot=boot.start)
        if failed is not None and folder is not None and folder.record.error is None:
            self._folders.update(node.id, error=failed.error)
        log.info("post-boot commands done", node=node.name, failed=failed is not None)
        if failed is None:
            self._tell(boot.lab, node.name, "node.configured", _summary(record))
        else:
            message = f"post-boot command failed: {failed.command}"
            self._tell(boot.lab, node.name, "node.configure-failed", message, EventLevel.ERROR)

    async def _command(self, boot: _Boot, command: str) -> CommandRecord | None:
        """Run the command until it succeeds or its budget is spent; ``None``: the boot is over."""
        began, clock = time.time(), asyncio.get_running_loop().time
        started, attempt = clock(), 0
        unreached_until = started + _UNREACHED_S * boot.slow
        failures = 0
        while True:
            if not self._is_current(boot):
                return None
            attempt += 1
            done = await self._once(boot, command)
            if done is None:
                return None
            done = done.model_copy(update={"attempts": attempt, "started_at": began, "took_s": clock() - started})
            if done.error is None:
                return done
            unreached = done.error["code"] == Unavailable.code
            failures += not unreached
            if failures >= _TRIES or (unreached and clock() >= unreached_until):
                return done
            await asyncio.sleep(min(self._pause_s * 2 ** (attempt - 1), _LONGEST_PAUSE_S))

    async def _once(self, boot: _Boot, command: str) -> CommandRecord | None:
        """One attempt; ``None``: the node is restarted because its guest does not get on."""
        blank = CommandRecord(command=command, started_at=0)
        try:
            outcome = await self._channels.run(boot.target, command, timeout_s=_DEADLINE_S * boot.slow)
        except WireloomError as error:
            error.node = error.node or boot.target.node.name
            if self._is_current(boot) and self._stuck.note(boot.target.node, error):
                return None
            tried = dict(error.details.get("tried", {}))
            return blank.model_copy(update={"tried": tried, "error": error.to_wire()})
        return blank.model_copy(update=_recorded(outcome, command, boot.target.node.name))

    def _is_current(self, boot: _Boot) -> bool:
        now = self._current(boot.target.node.id)
        return now is not None and (now.runtime_id, now.started_at, now.phase) == (
            boot.runtime.runtime_id,
            boot.runtime.started_at,
            boot.runtime.phase,
        )


def _recorded(outcome: Outcome, command: str, node: str) -> dict[str, object]:
    """Fields of the record of a command that a channel has answered."""
    result = outcome.result
    output = (result.stdout + result.stderr).decode(errors="replace")
    error = None
    if result.exit_code != 0:
        error = GuestFailed(
            f"post-boot command failed with exit code {result.exit_code}: {command}",
            node=node,
            hint=output.strip()[-_HINT_LENGTH:] or "correct the command under `exec` in the topology",
        ).to_wire()
    return {
        "channel": result.channel,
        "tried": dict(outcome.tried),
        "exit_code": result.exit_code,
        "output": shortened(output),
        "error": error,
    }


def _summary(record: BootRecord) -> str:
    """How many commands went over which channels, and why not over earlier ones."""
    count = len(record.commands)
    ways = sorted({command.channel for command in record.commands})
    tried = {channel: reason for command in record.commands for channel, reason in command.tried.items()}
    reasons = "".join(f"; {channel}: {reason}" for channel, reason in tried.items())
    return f"{count} post-boot command{'s' if count != 1 else ''} done over {' and '.join(ways)}{reasons}"
