"""Guests that do not get on: a recovery of their device's command line says that only a restart helps.

Whoever plays dialogues by itself (readiness, configurations at the first boot, post-boot commands) tells of it here.
It is counted as a failure of the node and written into its record, which the planner acts on. What people type is
none of this: they read the error.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from wireloom.agent.folder import FolderStore
from wireloom.agent.reporter import Tell
from wireloom.agent.world import now
from wireloom.dialogue import RESTART
from wireloom.errors import WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.model.slice import NodeIntent, RestartPolicy
from wireloom.planning.failures import FAILURE_BUDGET, after_stuck

__all__ = ["StuckNodes"]

log = structlog.get_logger(__name__)


class StuckNodes:
    """:param wake: told when a node's record asks for something."""

    def __init__(self, folders: FolderStore, tell: Tell, wake: Callable[[], None]) -> None:
        self._folders = folders
        self._tell = tell
        self._wake = wake

    def note(self, node: NodeIntent, error: WireloomError) -> bool:
        """What went wrong with the node's dialogue; whether the node is restarted because of it."""
        folder = self._folders.get(node.id)
        if not error.details.get(RESTART) or folder is None:
            return False
        record = folder.record
        if record.restart_for:
            return True  # it was told before, and comes in its turn
        if record.terminal:
            return False
        error.node = error.node or node.name
        if node.restart_policy is RestartPolicy.NEVER:
            if record.error is None:
                self._update(node, error=error.to_wire())
                self._tell(folder.identity.lab, node.name, "node.stuck", error.message, EventLevel.ERROR)
            return False
        counted = after_stuck(record, error.to_wire(), now=now(), attention=node.attention)
        self._update(node, **vars(counted))
        if counted.terminal:
            message = f"given up after {counted.failures} failures: {error.message}"
            self._tell(folder.identity.lab, node.name, "node.stuck", message, EventLevel.ERROR)
        else:
            message = f"restarted (failure {counted.failures} of {FAILURE_BUDGET}): {error.message}"
            self._tell(folder.identity.lab, node.name, "node.restarted", message, EventLevel.WARNING)
        return not counted.terminal

    def is_pending(self, node_id: str) -> bool:
        """Whether the node waits for its restart: nothing is to be begun on it."""
        folder = self._folders.get(node_id)
        return folder is not None and bool(folder.record.restart_for)

    def _update(self, node: NodeIntent, **changes: object) -> None:
        try:
            self._folders.update(node.id, **changes)
        except OSError as problem:  # it holds in memory
            log.warning("record not written", node=node.name, problem=str(problem))
        self._wake()
