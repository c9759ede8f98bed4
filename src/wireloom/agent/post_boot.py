"""Post-boot commands: run in the guest once for each boot, after readiness, over the node's chain of channels.

What is done is written down before the next command begins, so that an agent that comes after this one goes on where
it was left. Only the command that was under way then is run again, because nobody knows how far it came.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

import structlog

from wireloom.agent.boot_records import BootRecords, shortened
from wireloom.agent.boot_work import Answer, BootWork, NodeBoot, Request, over
from wireloom.agent.channels import Channels, ChannelTarget, Outcome
from wireloom.agent.folder import FolderStore
from wireloom.errors import RuntimeFailed
from wireloom.model.post_boot import BootRecord, CommandRecord
from wireloom.model.runtime import RuntimeStatus

__all__ = ["PostBoot"]

log = structlog.get_logger(__name__)

#: On native speed: for one attempt.
_DEADLINE_S: Final = 60.0


class PostBoot:
    """Runs the post-boot commands of nodes, and knows what came of them."""

    def __init__(self, channels: Channels, folders: FolderStore, work: BootWork) -> None:
        self._channels = channels
        self._folders = folders
        self._work = work

    def ensure(self, lab: str, target: ChannelTarget, runtime: RuntimeStatus) -> None:
        """Have the node's commands run in this boot; without effect when they have."""
        node, boot = target.node, NodeBoot(lab, target, runtime)
        folder = self._folders.get(node.id)
        if not node.post_boot or folder is None or folder.record.configured_boot == boot.started_at:
            return
        self._work.begin("post-boot", boot, partial(self._run, boot))

    def records(self, node_id: str) -> tuple[BootRecord, ...]:
        """What was run in the newest boots of the node, the newest first."""
        folder = self._folders.get(node_id)
        return () if folder is None else BootRecords(folder.path).all()

    async def _run(self, boot: NodeBoot) -> None:
        node = boot.node
        folder = self._folders.get(node.id)
        if folder is None:
            return
        records = BootRecords(folder.path)
        record = records.of(boot.runtime.runtime_id, boot.started_at)
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

    def _finish(self, boot: NodeBoot, record: BootRecord) -> None:
        failed = record.failed
        if not self._work.is_current(boot):
            return
        self._folders.update(boot.node.id, configured_boot=boot.started_at)
        log.info("post-boot commands done", node=boot.node.name, failed=failed is not None)
        if failed is None or failed.error is None:
            self._work.succeeded(boot, "node.configured", _summary(record))
        else:
            message = f"post-boot command failed: {failed.command}"
            self._work.failed(boot, "node.configure-failed", message, failed.error)

    async def _command(self, boot: NodeBoot, command: str) -> CommandRecord | None:
        """Run the command until it succeeds or its budget is spent; ``None``: the boot is over."""
        clock = asyncio.get_running_loop().time
        began, started = time.time(), clock()
        answer = await self._work.until_done(boot, self._request(boot.target, command))
        if answer is None:
            return None
        record = CommandRecord(command=command, attempts=answer.attempts, started_at=began, took_s=clock() - started)
        return record.model_copy(update=_recorded(answer))

    def _request(self, target: ChannelTarget, command: str) -> Request:
        async def ask() -> Outcome:
            return await self._channels.run(target, command, timeout_s=_DEADLINE_S * target.slow_factor)

        return Request(
            ask,
            refused=lambda result: f"post-boot command failed with exit code {result.exit_code}: {command}",
            hint="correct the command under `exec` in the topology",
        )


def _recorded(answer: Answer) -> dict[str, object]:
    """Fields of the record of a command that say what came of it."""
    error = None if answer.error is None else answer.error.to_wire()
    if answer.outcome is None:
        return {"tried": dict(answer.error.details.get("tried", {})) if answer.error else {}, "error": error}
    result = answer.outcome.result
    return {
        "channel": result.channel,
        "tried": dict(answer.outcome.tried),
        "exit_code": result.exit_code,
        "output": shortened((result.stdout + result.stderr).decode(errors="replace")),
        "error": error,
    }


def _summary(record: BootRecord) -> str:
    """How many commands went over which channels, and why not over earlier ones."""
    count = len(record.commands)
    tried = {channel: reason for command in record.commands for channel, reason in command.tried.items()}
    channels = [command.channel for command in record.commands]
    return f"{count} post-boot command{'s' if count != 1 else ''} done {over(channels, tried)}"
