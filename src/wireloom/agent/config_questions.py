"""What an agent answers about configurations: read one, load one, hand over what was read before a stop."""

from __future__ import annotations

from collections.abc import Callable

from wireloom.agent.actions import Actions
from wireloom.agent.channels import ChannelTarget
from wireloom.agent.extraction import Extraction
from wireloom.agent.folder import FolderStore
from wireloom.agent.held_configs import HeldConfigs
from wireloom.agent.reconciler import Reconciler
from wireloom.errors import Conflict, NotFound
from wireloom.fabric.config_documents import (
    EXTRACT,
    HELD_CONFIG,
    LOAD,
    RELEASE_CONFIG,
    Done,
    Extracted,
    ExtractQuestion,
    HeldQuestion,
    LoadAnswer,
    LoadQuestion,
    ReleaseQuestion,
)
from wireloom.fabric.connection import Fabric
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.state import Readiness, RuntimePhase

__all__ = ["ConfigQuestions", "ReadyBoots"]


class ReadyBoots:
    """Which nodes became ready in the boot that is going on.

    :param runtime: a node's runtime as it is known now.
    """

    def __init__(self, runtime: Callable[[str], RuntimeStatus | None]) -> None:
        self._runtime = runtime
        self._ready: dict[str, tuple[str, float | None]] = {}

    def note(self, node_id: str, readiness: Readiness) -> None:
        """The readiness watch found out something."""
        boot = self._boot(node_id)
        if readiness is Readiness.YES and boot is not None:
            self._ready[node_id] = boot
        else:
            self._ready.pop(node_id, None)

    def is_ready(self, node_id: str) -> bool:
        boot = self._boot(node_id)
        return boot is not None and self._ready.get(node_id) == boot

    def _boot(self, node_id: str) -> tuple[str, float | None] | None:
        runtime = self._runtime(node_id)
        if runtime is None or runtime.phase is not RuntimePhase.RUNNING:
            return None
        return runtime.runtime_id, runtime.started_at


class ConfigQuestions:
    """Handlers for the rows of ``wireloom.fabric.config_documents``."""

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        actions: Actions,
        extraction: Extraction,
        folders: FolderStore,
        held: HeldConfigs,
        boots: ReadyBoots,
    ) -> None:
        self._reconciler = reconciler
        self._actions = actions
        self._extraction = extraction
        self._folders = folders
        self._held = held
        self._boots = boots

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve(host, EXTRACT, self.extract)
        await fabric.serve(host, LOAD, self.load)
        await fabric.serve(host, HELD_CONFIG, self.held)
        await fabric.serve(host, RELEASE_CONFIG, self.release)

    async def extract(self, question: ExtractQuestion) -> Extracted:
        """:raises Conflict: the node does not run, or is not ready (``force`` reads it all the same)."""
        target = self._running(question.lab_id, question.node_id)
        if not question.force and not self._boots.is_ready(target.node.id):
            raise Conflict(
                "the node is not ready, so its configuration may not be complete",
                node=target.node.name,
                hint="wait until it is, or read it all the same with `--force`",
            )
        folder = self._folders.get(target.node.id)
        choice = target.node.config_choice if question.adopt else folder.record.config_choice if folder else 0
        extracted = await self._extraction.extract(target, timeout_s=question.timeout_s, choice=choice)
        self._folders.update(target.node.id, config_choice=choice)
        return extracted

    async def load(self, question: LoadQuestion) -> LoadAnswer:
        target = self._running(question.lab_id, question.node_id)
        answer = await self._extraction.load(target, question.text, timeout_s=question.timeout_s)
        self._folders.update(target.node.id, config_choice=target.node.config_choice)
        await self._held.forget_stored(target.node.id)
        return answer

    async def held(self, question: HeldQuestion) -> Extracted:
        """:raises NotFound: nothing waits for the controller."""
        held = await self._held.get(question.node_id) if self._is_of(question.lab_id, question.node_id) else None
        if held is None or held.revision:
            raise NotFound("no configuration is held for this node")
        return held.extracted

    async def release(self, question: ReleaseQuestion) -> Done:
        if self._is_of(question.lab_id, question.node_id):
            await self._held.release(question.node_id, question.sha256, question.revision)
            self._reconciler.wake()
        return Done()

    def _is_of(self, lab_id: str, node_id: str) -> bool:
        folder = self._folders.get(node_id)
        return folder is not None and folder.identity.lab_id == lab_id

    def _running(self, lab_id: str, node_id: str) -> ChannelTarget:
        lab = self._reconciler.slices.get(lab_id)
        node = lab.node(node_id) if lab else None
        if lab is None or node is None:
            raise NotFound("this host has no such node")
        runtime = self._reconciler.world.runtimes.get(node.id)
        if runtime is None or runtime.phase is not RuntimePhase.RUNNING or self._actions.is_busy(node.id):
            raise Conflict("the node is not running", node=node.name, hint="start it with `wireloom start`")
        return self._actions.target(lab, node, runtime)
