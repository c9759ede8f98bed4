"""Following an operation on the event stream until it has reached its goal, across restarts of the controller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wireloom.errors import DeadlineExceeded, NotFound, Unavailable

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.views import LabView, NodeView, OperationView, StreamMessage

__all__ = ["Watch", "follow"]

#: How long a controller may be away (it restarts) before we stop following. The operation goes on anyway.
RECONNECT_S: Final = 30.0
RECONNECT_PAUSE_S: Final = 0.5


@dataclass
class Watch:
    """What is known of a lab while an operation runs; a reducer over stream messages, without I/O.

    :ivar ready: wait for readiness too, not only for the operation's goal. ``configured``: for post-boot commands too.
    :ivar forgotten: the controller restarted and no longer knows the operation; the lab itself is the judge then.
    """

    operation: OperationView
    ready: bool = False
    configured: bool = False
    lab: LabView | None = None
    removed: bool = False
    forgotten: bool = False
    remarks: list[str] = field(default_factory=list)

    def take(self, message: StreamMessage) -> None:
        """Take one change in."""
        from wireloom.model.views import LabView, OperationView

        if message.type == "operation" and message.data.get("id") == self.operation.id:
            self.operation = OperationView.model_validate(message.data)
        elif message.type == "lab" and message.data.get("lab") == self.operation.lab:
            self.lab = LabView.model_validate(message.data)
        elif message.type == "removed" and message.data.get("lab") == self.operation.lab:
            self.lab_is_gone()

    def lab_is_gone(self) -> None:
        """Take in that the lab no longer exists."""
        self.removed = True
        if self.operation.goal == "absent" and self.operation.state == "running":
            # The controller says so of the lab a moment before it does of the operation.
            self.operation = self.operation.model_copy(update={"state": "done"})

    @property
    def seen(self) -> bool:
        """Whether the lab was looked at, which tells what to show also of an operation that was done at once."""
        return self.lab is not None or self.removed

    def settled(self) -> bool:
        """Whether nothing more can change the outcome."""
        if not self._goal_reached():
            return False
        return not self.waits or self.removed or (self.lab is not None and not self.unfinished())

    @property
    def waits(self) -> bool:
        """Whether nodes are waited for after the operation has reached its goal."""
        return self.ready or self.configured

    def _goal_reached(self) -> bool:
        if not self.forgotten:
            return self.operation.state != "running"
        return self.lab is not None and self.lab.converged and self.lab.generation >= self.operation.generation

    @property
    def concerned(self) -> tuple[NodeView, ...]:
        """Nodes that the operation is about, as they are now: those it was given for, otherwise all of the lab."""
        nodes, named = self.lab.nodes if self.lab is not None else (), self.operation.nodes
        return tuple(node for node in nodes if not named or node.name in named)

    def unfinished(self) -> list[str]:
        """Powered-on nodes that can still become what is waited for."""
        return [
            node.name
            for node in self.concerned
            if node.power == "on" and node.state != "failed" and node.ready != "timeout"
            if node.ready != "yes" or (self.configured and node.configuring)
        ]

    def failures(self) -> list[dict[str, Any]]:
        """Wire forms of what went wrong, one per node; empty when all went well."""
        found = {str(error.get("node") or error.get("message")): dict(error) for error in self.operation.errors}
        for node in self.concerned:
            error = _failure_of(node, ready=self.waits)
            if error is None and self.configured and node.error is not None:
                error = {**node.error, "node": node.name}  # of a command after its boot, as it runs
            if error is not None:
                found.setdefault(node.name, error)
        return list(found.values())

    def troubled(self) -> list[NodeView]:
        """Nodes that run and have an error nevertheless, of a command after their boot say; no failure of the verb."""
        return [node for node in self.concerned if node.state != "failed" and node.error is not None]


def _failure_of(node: NodeView, *, ready: bool) -> dict[str, Any] | None:
    if node.state == "failed":
        return {"code": "runtime-failed", "message": node.message or "failed", **(node.error or {}), "node": node.name}
    if ready and node.power == "on" and node.ready == "timeout":
        hint = f"look at its console output: `wireloom logs LAB {node.name}`"
        fallback = {"code": "deadline-exceeded", "message": "runs, but did not become ready in time", "hint": hint}
        return {**fallback, **(node.error or {}), "node": node.name}
    return None


async def follow(
    client: Client,
    operation: OperationView,
    *,
    ready: bool = False,
    configured: bool = False,
    timeout_s: float | None = None,
    on_change: Callable[[Watch], None] = lambda _: None,
) -> Watch:
    """Follow ``operation`` until it settles.

    :param on_change: called after every change.
    :raises DeadlineExceeded: not settled after ``timeout_s`` seconds; it goes on by itself.
    :raises Unavailable: the controller stayed away for too long.
    """
    import asyncio

    watch = Watch(operation, ready=ready, configured=configured)
    try:
        async with asyncio.timeout(timeout_s):
            while not (watch.seen and watch.settled()):
                await _until_cut(client, watch, on_change)
    except TimeoutError:
        waiting = watch.unfinished() if watch.waits else []
        goal = "configured" if configured else "ready" if ready else operation.goal
        raise DeadlineExceeded(
            f"lab {operation.lab} is not {goal} after {timeout_s:g} s" + (f": {', '.join(waiting)}" if waiting else ""),
            hint=f"it goes on in the background; look with `wireloom inspect {operation.lab}`",
        ) from None
    return watch


async def _until_cut(client: Client, watch: Watch, on_change: Callable[[Watch], None]) -> None:
    """Follow the stream until it settles or is cut; a cut is patched by asking again."""
    import asyncio

    await _refresh(client, watch)
    on_change(watch)
    if watch.settled():
        return
    try:
        async with aclosing(client.stream(watch.operation.lab)) as messages:
            async for message in messages:
                watch.take(message)
                on_change(watch)
                if watch.settled():
                    return
    except Unavailable:
        await asyncio.sleep(RECONNECT_PAUSE_S)


async def _refresh(client: Client, watch: Watch) -> None:
    """Ask for the operation and the lab as they are, patiently while the controller is away."""
    import asyncio

    give_up_at = asyncio.get_running_loop().time() + RECONNECT_S
    while True:
        try:
            await _ask_again(client, watch)
        except Unavailable:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
            await asyncio.sleep(RECONNECT_PAUSE_S)
        else:
            return


async def _ask_again(client: Client, watch: Watch) -> None:
    try:
        watch.operation = await client.operation(watch.operation.id)
    except NotFound:
        watch.forgotten = True
    try:
        watch.lab = await client.lab(watch.operation.lab)
    except NotFound:
        watch.lab_is_gone()
