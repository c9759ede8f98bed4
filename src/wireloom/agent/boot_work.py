"""Work in a guest that has come up: tried again while that makes sense, and given up when the boot is over.

Startup configurations (``config_load.py``) and post-boot commands (``post_boot.py``) are such work. They say what is
asked of the guest and what is remembered of it; when it is asked again, and what a failure means, is the same for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wireloom.agent.background import Background
from wireloom.agent.channels import ChannelTarget, Outcome
from wireloom.agent.folder import FolderStore
from wireloom.agent.reporter import Tell
from wireloom.agent.stuck import StuckNodes
from wireloom.errors import GuestFailed, Unavailable, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.model.runtime import ExecResult, RuntimeStatus
from wireloom.model.slice import NodeIntent

__all__ = ["Answer", "BootWork", "NodeBoot", "Request", "over"]

_TRIES: Final = 3
#: On native speed: how long a guest that no channel reaches is asked again.
_UNREACHED_S: Final = 60.0
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 8.0
_HINT_LENGTH: Final = 300


@dataclass(frozen=True)
class NodeBoot:
    """One boot of one node; ``lab`` is the lab's name."""

    lab: str
    target: ChannelTarget
    runtime: RuntimeStatus

    @property
    def node(self) -> NodeIntent:
        return self.target.node

    @property
    def started_at(self) -> float:
        """UNIX seconds; 1 where the engine does not say."""
        return self.runtime.started_at or 1


@dataclass(frozen=True)
class Request:
    """What is asked of the guest.

    :ivar refused: says an exit code other than 0; ``hint``: what to do about it where the guest itself says nothing.
    """

    ask: Callable[[], Awaitable[Outcome]]
    refused: Callable[[ExecResult], str]
    hint: str


@dataclass(frozen=True)
class Answer:
    """What came of a request in the end.

    :ivar outcome: of the last attempt, also of one that the guest refused; ``None``: no channel answered.
    :ivar error: why it failed; ``None``: it did not.
    """

    attempts: int
    outcome: Outcome | None = None
    error: WireloomError | None = None


class BootWork:
    """:param current: the runtime of a node as it is known now; work of a boot that is over is given up."""

    def __init__(
        self,
        folders: FolderStore,
        background: Background,
        current: Callable[[str], RuntimeStatus | None],
        tell: Tell,
        *,
        stuck: StuckNodes,
    ) -> None:
        self._folders = folders
        self._background = background
        self._current = current
        self._tell = tell
        self._stuck = stuck

    def begin(self, name: str, boot: NodeBoot, job: Callable[[], Coroutine[object, object, None]]) -> bool:
        """Have the job of that name done for the node, unless it is at work; ``False``: the node is to be restarted."""
        if self._stuck.is_pending(boot.node.id):
            return False
        self._background.start(f"{name}-{boot.node.id}", job())
        return True

    def is_current(self, boot: NodeBoot) -> bool:
        """Whether the node is still in that boot, and in the same phase of it."""
        now, then = self._current(boot.node.id), boot.runtime
        return now is not None and (now.runtime_id, now.started_at, now.phase) == (
            then.runtime_id,
            then.started_at,
            then.phase,
        )

    async def until_done(self, boot: NodeBoot, request: Request) -> Answer | None:
        """Ask until it is done or the budget is spent; ``None``: the boot is over, or about to be ended."""
        clock = asyncio.get_running_loop().time
        unreached_until = clock() + _UNREACHED_S * boot.target.slow_factor
        failures = attempts = 0
        while self.is_current(boot):
            attempts += 1
            answer = await _attempt(boot, request, attempts)
            if answer.error is None:
                return answer
            if self.is_current(boot) and self._stuck.note(boot.node, answer.error):
                return None
            unreached = isinstance(answer.error, Unavailable)
            failures += not unreached
            enough = clock() >= unreached_until if unreached else failures >= _TRIES
            if enough and attempts >= _TRIES:
                return answer
            await asyncio.sleep(min(_PAUSE_S * 2 ** (attempts - 1), _LONGEST_PAUSE_S))
        return None

    def succeeded(self, boot: NodeBoot, kind: str, message: str) -> None:
        """Add to the node's history."""
        self._tell(boot.lab, boot.node.name, kind, message)

    def failed(self, boot: NodeBoot, kind: str, message: str, error: Mapping[str, object]) -> None:
        """Make it the node's error (its wire form) where it has none yet, and add it to its history."""
        folder = self._folders.get(boot.node.id)
        if folder is not None and folder.record.error is None:
            self._folders.update(boot.node.id, error=dict(error))
        self._tell(boot.lab, boot.node.name, kind, message, EventLevel.ERROR)


async def _attempt(boot: NodeBoot, request: Request, number: int) -> Answer:
    try:
        outcome = await request.ask()
    except WireloomError as error:
        error.node = error.node or boot.node.name
        return Answer(number, error=error)
    result = outcome.result
    if result.exit_code == 0:
        return Answer(number, outcome)
    output = (result.stdout + result.stderr).decode(errors="replace").strip()
    hint = output[-_HINT_LENGTH:] or request.hint
    return Answer(number, outcome, GuestFailed(request.refused(result), node=boot.node.name, hint=hint))


def over(channels: Iterable[str], tried: Mapping[str, str]) -> str:
    """Over which channels something was done, and why not over earlier ones of the chain; a part of a sentence."""
    reasons = "".join(f"; {channel}: {reason}" for channel, reason in tried.items())
    return f"over {' and '.join(sorted(set(channels)))}{reasons}"
