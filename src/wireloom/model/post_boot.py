"""The record of post-boot commands: what was run in which boot, over which channel, and what came of it."""

from __future__ import annotations

from typing import Any

from wireloom.model.base import Value

__all__ = ["BootRecord", "CommandRecord"]


class CommandRecord(Value):
    """One command, when no more is done about it. Times are UNIX seconds and seconds.

    :ivar channel: the one that answered; ``tried`` says why earlier ones of the chain did not.
    :ivar exit_code: of the last attempt; ``None`` when no channel answered.
    :ivar output: of the last attempt, both outputs, the end of it where it was long.
    :ivar error: wire form of the error it ended with; ``None`` when the command succeeded.
    """

    command: str
    channel: str = ""
    tried: dict[str, str] = {}
    exit_code: int | None = None
    output: str = ""
    attempts: int = 1
    started_at: float
    took_s: float = 0
    error: dict[str, Any] | None = None


class BootRecord(Value):
    """One boot: ``boot`` is its start. ``finished_at`` is ``None`` while commands are left to be run."""

    boot: float
    runtime_id: str
    commands: tuple[CommandRecord, ...] = ()
    finished_at: float | None = None

    @property
    def failed(self) -> CommandRecord | None:
        """The first command that failed."""
        return next((command for command in self.commands if command.error is not None), None)
