"""Questions: what an agent answers over the fabric. Nothing here changes what a node is; that is intent's business."""

from __future__ import annotations

import asyncio
from typing import Protocol

from wireloom.agent.actions import Actions
from wireloom.agent.channels import Channels
from wireloom.agent.consoles import Consoles, LogStream
from wireloom.agent.prune import Pruner
from wireloom.agent.reconciler import Reconciler
from wireloom.errors import Conflict, NotFound
from wireloom.fabric.connection import Fabric
from wireloom.fabric.consoles import SharedConsole
from wireloom.fabric.documents import (
    BootsAnswer,
    BootsQuestion,
    ConsoleOpen,
    ExecAnswer,
    ExecQuestion,
    LinesAnswer,
    LinesQuestion,
    LogOpen,
    PostBootAnswer,
    PostBootQuestion,
    PruneAnswer,
    PruneQuestion,
    StatsAnswer,
    StatsQuestion,
)
from wireloom.fabric.methods import BOOTS, CONSOLE, EXEC, LINES, LOG, POST_BOOT, PRUNE, STATS
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.state import RuntimePhase
from wireloom.providers.boots import check_boot
from wireloom.providers.contract import ByteStream

__all__ = ["Questions"]


class _AboutNode(Protocol):
    @property
    def lab_id(self) -> str: ...

    @property
    def node_id(self) -> str: ...


class Questions:
    """Handlers for the rows of ``wireloom.fabric.methods``."""

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        actions: Actions,
        channels: Channels,
        consoles: Consoles,
        pruner: Pruner,
    ) -> None:
        self._reconciler = reconciler
        self._actions = actions
        self._channels = channels
        self._consoles = consoles
        self._pruner = pruner

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve(host, EXEC, self.exec)
        await fabric.serve(host, POST_BOOT, self.post_boot)
        await fabric.serve(host, STATS, self.stats)
        await fabric.serve(host, PRUNE, self.prune)
        await fabric.serve(host, LINES, self.lines)
        await fabric.serve(host, BOOTS, self.boots)
        await fabric.serve_console(host, CONSOLE, self.console)
        await fabric.serve_stream(host, LOG, self.log)

    async def exec(self, question: ExecQuestion) -> ExecAnswer:
        lab, node, runtime = self._running(question)
        target = self._actions.target(lab, node, runtime)
        outcome = await self._channels.run(target, question.command, timeout_s=question.timeout_s, stdin=question.stdin)
        result = outcome.result
        return ExecAnswer(
            exit_code=result.exit_code,
            stdout=result.stdout,
            stderr=result.stderr,
            channel=result.channel,
            tried=dict(outcome.tried),
            skipped=dict(outcome.skipped),
        )

    async def post_boot(self, question: PostBootQuestion) -> PostBootAnswer:
        _, node = self._intended(question)
        return PostBootAnswer(boots=await asyncio.to_thread(self._actions.post_boot_records, node.id))

    async def stats(self, question: StatsQuestion) -> StatsAnswer:
        lab, node, runtime = self._running(question)
        stats = await self._actions.target(lab, node, runtime).provider.stats(runtime.runtime_id)
        return StatsAnswer(cpu_seconds=stats.cpu_seconds, memory_bytes=stats.memory_bytes)

    async def prune(self, question: PruneQuestion) -> PruneAnswer:
        answer = await self._pruner.answer(question)
        for orphan in answer.orphans:
            if orphan.removed:
                self._reconciler.tell(orphan.lab, orphan.node, "orphan.removed", f"removed {orphan.kind} {orphan.name}")
        self._reconciler.nodes_removed()
        return answer

    async def lines(self, question: LinesQuestion) -> LinesAnswer:
        _, _, runtime = self._known(question)
        return LinesAnswer(lines=self._consoles.lines(runtime.runtime_id))

    async def console(self, question: ConsoleOpen) -> SharedConsole:
        lab, node, runtime = self._running(question)
        return await self._consoles.open(
            self._actions.target(lab, node, runtime),
            who=question.who,
            columns=question.columns,
            rows=question.rows,
            read_only=question.read_only,
            line=question.line,
        )

    async def boots(self, question: BootsQuestion) -> BootsAnswer:
        lab, node, runtime = self._known(question)
        provider = self._actions.target(lab, node, runtime).provider
        return BootsAnswer(boots=tuple(await provider.boots(runtime.runtime_id)))

    async def log(self, question: LogOpen) -> ByteStream:
        lab, node, runtime = self._known(question)
        provider = self._actions.target(lab, node, runtime).provider
        if question.boot != 0:  # said at once, not in the middle of a stream
            check_boot(question.boot, await provider.boots(runtime.runtime_id))
        return LogStream(provider, runtime.runtime_id, follow=question.follow, boot=question.boot)

    def _intended(self, question: _AboutNode) -> tuple[Slice, NodeIntent]:
        lab = self._reconciler.slices.get(question.lab_id)
        node = lab.node(question.node_id) if lab else None
        if lab is None or node is None:
            raise NotFound("this host has no such node")
        return lab, node

    def _known(self, question: _AboutNode) -> tuple[Slice, NodeIntent, RuntimeStatus]:
        lab, node = self._intended(question)
        runtime = self._reconciler.world.runtimes.get(node.id)
        if runtime is None:
            raise NotFound("the node does not exist on its host yet", node=node.name, hint="start it first")
        return lab, node, runtime

    def _running(self, question: _AboutNode) -> tuple[Slice, NodeIntent, RuntimeStatus]:
        lab, node, runtime = self._known(question)
        if runtime.phase is not RuntimePhase.RUNNING:
            raise Conflict(
                f"the node is not running (it is {runtime.phase})",
                node=node.name,
                hint="start it with `wireloom start`",
            )
        return lab, node, runtime
