"""The runner owns every verb on a node: lock, hooks, the provider's leaf, undo. Providers are leaves below it.

A verb starts from whatever phase the runtime is in, so that it can be carried on after a crash anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

from wireloom.agent.context import NodeContext
from wireloom.agent.folder import FolderStore
from wireloom.agent.hooks.base import Hook, WithdrawnError
from wireloom.agent.hooks.ports import DEFAULT_MTU, PortsHook, link_mtus
from wireloom.agent.undo import Undo
from wireloom.day0.templates import render
from wireloom.day0.values import template_values
from wireloom.errors import NotFound
from wireloom.model.identity import Identity
from wireloom.model.runtime import Capabilities, RuntimeSpec, RuntimeStatus
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.state import NodeStep, RuntimePhase
from wireloom.planning.plan import LIVE_PHASES, Verb
from wireloom.providers.contract import Provider

__all__ = ["ACTION_DEADLINE_S", "Runner"]

#: No step of a node takes longer, the pull of a large image included; seconds.
ACTION_DEADLINE_S = 900.0

Progress = Callable[[str, NodeStep], None]
#: Told a node's id, bytes that are there, and bytes in all, of what comes in the node's step.
Transfer = Callable[[str, int, int], None]

#: The variable that only environments have, in a template.
_NUMBER = re.compile(r"\bnumber\b")


class Runner:
    """Carries out verbs on nodes. Calls for different nodes run at the same time; for one node, in turn.

    :param hooks: in the order of ``up``; taken back in reverse order; ``ports`` is one of them.
    :param progress: told of each step of each node, by node id.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        folders: FolderStore,
        hooks: Sequence[Hook],
        ports: PortsHook,
        host_boot: str,
        progress: Progress,
        transfer: Transfer = lambda _node_id, _done, _total: None,
    ) -> None:
        self._providers = providers
        self._folders = folders
        self._hooks = tuple(hooks)
        self._ports = ports
        self._host_boot = host_boot
        self._progress = progress
        self._transfer = transfer
        self._locks: dict[str, asyncio.Lock] = {}
        self._starts: dict[str, asyncio.Semaphore] = {}

    async def up(
        self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus | None, capabilities: Capabilities
    ) -> RuntimeStatus | None:
        """Bring the node from its present phase to running; return what the engine then says of it."""
        async with self._context(lab, node, capabilities, runtime) as context:
            phase = runtime.phase if runtime else RuntimePhase.ABSENT
            self._folders.update(node.id, provider=node.provider)  # known before there is anything to remove
            try:
                if phase is RuntimePhase.ABSENT:
                    await self._prepare(context)
                await self._create_and_start(context, phase)
            except WithdrawnError:
                return await self._look(context) if context.runtime_id else None
            async with asyncio.timeout(ACTION_DEADLINE_S):
                if phase is not RuntimePhase.RUNNING:
                    await self._open_gate(context)
                self._note_up(node)
                return await self._look(context)

    async def _prepare(self, context: NodeContext) -> None:
        for hook in self._hooks:
            await hook.prepare(context)
        if self._start_slot(context.capabilities).locked():
            context.progress(NodeStep.WAITING)

    async def _create_and_start(self, context: NodeContext, phase: RuntimePhase) -> None:
        async with self._start_slot(context.capabilities), asyncio.timeout(ACTION_DEADLINE_S):
            if phase is RuntimePhase.ABSENT:
                if _wants_number(context.node):
                    context.folder = self._folders.numbered(context.node.id)
                await self._create(context)
            if phase not in LIVE_PHASES:
                await self._start(context)

    def _note_up(self, node: NodeIntent) -> None:
        """The node's wishes are fulfilled. Failures are still counted, until it has proved itself by running."""
        self._folders.update(
            node.id,
            restarts=node.restarts,
            attention=node.attention,
            incarnation=node.incarnation,
            host_boot=self._host_boot,
            retry_at=0,
            terminal=False,
            error=None,
            restart_for="",
        )

    async def stop(
        self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus, capabilities: Capabilities
    ) -> RuntimeStatus | None:
        """Stop the node in an orderly way; its storage is kept."""
        async with self._context(lab, node, capabilities, runtime) as context:
            await self._stop(context, node.stop_grace_s)
            if context.folder.record.failed in {Verb.STOP, Verb.RESTART}:
                self._folders.update(node.id, failed="", failures=0, retry_at=0, terminal=False, error=None)
            return await self._look(context)

    async def recreate(self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus, capabilities: Capabilities) -> None:
        """Destroy the runtime and keep its storage; up follows."""
        async with self._context(lab, node, capabilities, runtime) as context:
            if runtime.phase in LIVE_PHASES:
                await self._stop(context, node.stop_grace_s)
            await self._destroy(context)

    async def wipe(
        self, lab: Slice, node: NodeIntent, runtime: RuntimeStatus | None, capabilities: Capabilities
    ) -> None:
        """Destroy the runtime with its storage; up follows."""
        async with self._context(lab, node, capabilities, runtime) as context:
            await self._destroy(context)
        await asyncio.to_thread(self._folders.wipe, node.id)

    async def remove(self, lab: Slice, identity: Identity, runtime: RuntimeStatus | None, provider: str | None) -> None:
        """Destroy the runtime and everything that the node has on this host."""
        node = NodeIntent(id=identity.node_id, name=identity.node, device="", provider=provider or "", image="")
        if runtime is not None and provider is not None:
            capabilities = Capabilities(name=provider)
            async with self._context(lab, node, capabilities, runtime) as context:
                await self._destroy(context)
        else:
            await self._after_destroy_without_runtime(lab, node, identity)
        await asyncio.to_thread(self._folders.remove, identity.node_id)
        self._locks.pop(identity.node_id, None)

    async def plug(
        self,
        lab: Slice,
        node: NodeIntent,
        runtime: RuntimeStatus,
        capabilities: Capabilities,
        indexes: Collection[int],
    ) -> None:
        """Plug ports into a node that runs already; wires and carriers follow by plan."""
        async with self._context(lab, node, capabilities, runtime) as context:
            await self._ports.plug(context, [port for port in node.ports if port.index in indexes])

    @contextlib.asynccontextmanager
    async def holding(self, node_id: str) -> AsyncIterator[None]:
        """Have the node to oneself for as long as the block lasts: no verb is carried out on it."""
        async with self._locks.setdefault(node_id, asyncio.Lock()):
            yield

    # -- steps ---------------------------------------------------------------------------------------------

    async def _create(self, context: NodeContext) -> None:
        async with Undo() as undo:
            context.undo = undo
            for hook in self._hooks:
                await hook.before_create(context)
            context.progress(NodeStep.CREATE)
            context.runtime_id = await context.provider.create(self._spec(context))
            undo.commit()

    async def _start(self, context: NodeContext) -> None:
        context.progress(NodeStep.CREATE)
        for hook in self._hooks:
            await hook.before_start(context)
        if context.folder.record.arrived and context.provider.abilities.porter is not None:
            await context.provider.abilities.porter.unpack(context.live_runtime_id, context.folder.path)
        await context.provider.start(context.live_runtime_id)

    async def _open_gate(self, context: NodeContext) -> None:
        for hook in self._hooks:
            await hook.gated(context)
        await context.provider.release(context.live_runtime_id)
        context.progress(NodeStep.BOOT)
        for hook in self._hooks:
            await hook.released(context)

    async def _stop(self, context: NodeContext, grace_s: float) -> None:
        for hook in reversed(self._hooks):
            await hook.before_stop(context)
        await context.provider.stop(context.live_runtime_id, grace_s)
        for hook in reversed(self._hooks):
            await hook.stopped(context)

    async def _destroy(self, context: NodeContext) -> None:
        if context.runtime_id is not None:
            with contextlib.suppress(NotFound):
                await context.provider.destroy(context.runtime_id)
        for hook in reversed(self._hooks):
            await hook.destroyed(context)

    async def _after_destroy_without_runtime(self, lab: Slice, node: NodeIntent, identity: Identity) -> None:
        provider = next(iter(self._providers.values()))
        capabilities = Capabilities(name=provider.name)
        async with self._context(lab, node, capabilities, None, identity=identity, provider=provider) as context:
            await self._destroy(context)

    # -- helpers -------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _context(
        self,
        lab: Slice,
        node: NodeIntent,
        capabilities: Capabilities,
        runtime: RuntimeStatus | None,
        *,
        identity: Identity | None = None,
        provider: Provider | None = None,
    ) -> AsyncIterator[NodeContext]:
        who = identity or (runtime.identity if runtime else lab.identity(node))
        async with self._locks.setdefault(node.id, asyncio.Lock()):
            yield NodeContext(
                lab=lab,
                node=node,
                identity=who,
                provider=provider or self._providers[node.provider],
                capabilities=capabilities,
                folder=self._folders.ensure(who),
                progress=lambda step: self._progress(node.id, step),
                transfer=lambda done, total: self._transfer(node.id, done, total),
                runtime_id=runtime.runtime_id if runtime else None,
            )

    def _start_slot(self, capabilities: Capabilities) -> asyncio.Semaphore:
        return self._starts.setdefault(capabilities.name, asyncio.Semaphore(capabilities.parallel_starts))

    async def _look(self, context: NodeContext) -> RuntimeStatus | None:
        statuses = await context.provider.observe(context.runtime_id)
        return next(iter(statuses), None)

    @staticmethod
    def _spec(context: NodeContext) -> RuntimeSpec:
        node, management = context.node, context.lab.management
        return RuntimeSpec(
            identity=context.identity,
            incarnation=node.incarnation,
            spec_hash=node.spec_hash(),
            hostname=node.name,
            image=node.image,
            cpu=node.cpu,
            memory_mb=node.memory_mb,
            disk_gb=node.disk_gb,
            env=_environment(context),
            binds=(*node.binds, *context.binds),
            settings=node.settings,
            ports=node.ports,
            files=tuple(context.files),
            media=tuple(context.media),
            smbios=context.smbios,
            folder=context.folder.path,
            dns_servers=(management.gateway,) if management else (),
            dns_search=(f"{context.identity.lab}.{management.domain}",) if management else (),
            privileged_allowed=node.privileged_allowed,
            mtu=max(link_mtus(context.lab, node.id).values(), default=DEFAULT_MTU),
        )


def _wants_number(node: NodeIntent) -> bool:
    return any(_NUMBER.search(node.env[name]) for name in node.env_templates)


def _environment(context: NodeContext) -> dict[str, str]:
    """The node's environment with the device's templates filled in."""
    node = context.node
    if not node.env_templates:
        return node.env
    values = template_values(context.lab, node) | {"number": context.folder.record.number}
    filled = {
        name: render(node.env[name], values, what=f"{node.device}: environment {name}") for name in node.env_templates
    }
    return {**node.env, **filled}
