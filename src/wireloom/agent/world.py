"""What the agent sees on its host: the runtimes of every provider, kept up to date by their events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from wireloom.errors import WireloomError
from wireloom.model.runtime import Capabilities, EventKind, RuntimeEvent, RuntimeStatus
from wireloom.model.state import RuntimePhase
from wireloom.providers.contract import Provider

__all__ = ["World"]

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_OBSERVE_DEADLINE_S = 30.0

#: Told of what an engine said, also while an action of ours is at work: the node's id, and its status before and after.
Changed = Callable[[str, RuntimeStatus | None, RuntimeStatus | None], None]


class World:
    """Runtimes by node id, over all providers. A provider that does not answer keeps its last known runtimes,
    as unknown, and never hides another provider.

    :param changed: told of changes that an engine reports.
    :param is_busy: whether an action of ours is at work on a node.
    :param wake: told when a provider came or went; nodes that have no runtime yet may wait for it.
    :param gone: told of a node whose runtime is there no more, or is another one, whoever did that.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        changed: Changed,
        is_busy: Callable[[str], bool],
        wake: Callable[[], None],
        *,
        gone: Callable[[str], None],
    ) -> None:
        self._providers = providers
        self._changed = changed
        self._is_busy = is_busy
        self._wake = wake
        self._gone = gone
        self._missed: set[str] = set()
        self._looks: list[set[str]] = []  # nodes that were entered while somebody was looking
        self.runtimes: dict[str, RuntimeStatus] = {}
        self._owner: dict[str, str] = {}
        self.capabilities: dict[str, Capabilities] = {}

    def provider_of(self, node_id: str) -> str | None:
        """Name of the provider that runs the node's runtime, if it has one."""
        return self._owner.get(node_id)

    def enter(self, provider: str, node_id: str, status: RuntimeStatus | None) -> None:
        """Note what one of our own verbs left behind; it is newer than what any look under way will bring."""
        for entered in self._looks:
            entered.add(node_id)
        before = self.runtimes.get(node_id)
        if status is None or status.phase is RuntimePhase.ABSENT:
            self.runtimes.pop(node_id, None)
            self._owner.pop(node_id, None)
        else:
            self.runtimes[node_id] = status
            self._owner[node_id] = provider
        after = self.runtimes.get(node_id)
        if before is not None and (after is None or after.runtime_id != before.runtime_id):
            self._gone(node_id)

    async def catch_up(self, node_id: str) -> None:
        """An action on the node is over: look again if the node ended while it was at work."""
        if node_id not in self._missed:
            return
        self._missed.discard(node_id)
        name, status = self._owner.get(node_id), self.runtimes.get(node_id)
        if name is not None and status is not None and status.phase is not RuntimePhase.EXITED:
            await self.look(name, node_id, status.runtime_id)

    async def look(self, name: str, node_id: str, runtime_id: str) -> None:
        """Observe one runtime of the node, unless an action of ours is at work on it by then: it looks for itself."""
        with self._looking() as entered:
            statuses = await self._providers[name].observe(runtime_id)
            if node_id in entered or self._is_busy(node_id):
                return
            known = self.runtimes.get(node_id)
            if statuses or (known is not None and known.runtime_id == runtime_id):
                self._set(name, node_id, next(iter(statuses), None))

    @contextlib.contextmanager
    def _looking(self) -> Iterator[set[str]]:
        """The nodes that are entered while the engine is asked: for these its answer is out of date."""
        entered: set[str] = set()
        self._looks.append(entered)
        try:
            yield entered
        finally:
            self._looks = [other for other in self._looks if other is not entered]

    async def resync(self) -> None:
        """Observe everything anew, each provider for itself."""
        await asyncio.gather(*(self.resync_provider(name) for name in self._providers))

    async def resync_provider(self, name: str) -> None:
        """Observe all of one provider's runtimes anew."""
        with self._looking() as entered:
            statuses = await self._ask(name)
            mine = [node_id for node_id, owner in self._owner.items() if owner == name]
            if statuses is None:
                for node_id in mine:
                    self._set(name, node_id, self.runtimes[node_id].model_copy(update={"phase": RuntimePhase.UNKNOWN}))
                return
            seen = {status.identity.node_id: status for status in statuses}
            for node_id in dict.fromkeys([*mine, *seen]):
                if self._is_busy(node_id):  # the action at work looks for itself, and again if it ends badly
                    self._missed.add(node_id)
                elif node_id not in entered:
                    self._set(name, node_id, seen.get(node_id))

    async def _ask(self, name: str) -> Sequence[RuntimeStatus] | None:
        """Everything that the provider knows; ``None``, and it is not available, when it does not answer."""
        provider = self._providers[name]
        capabilities = self.capabilities.get(name) or Capabilities(name=name)
        try:
            async with asyncio.timeout(_OBSERVE_DEADLINE_S):
                capabilities = await provider.capabilities()
                statuses = await provider.observe()
        except (WireloomError, TimeoutError) as error:
            problem = str(error) or f"no answer within {_OBSERVE_DEADLINE_S:g} s"
            log.warning("provider cannot be observed", provider=name, error=problem)
            capabilities = capabilities.model_copy(update={"available": False, "problem": problem})
            statuses = None
        self._enter_capabilities(name, capabilities)
        return statuses

    def _enter_capabilities(self, name: str, capabilities: Capabilities) -> None:
        before = self.capabilities.get(name)
        self.capabilities[name] = capabilities
        if before is not None and before.available != capabilities.available:
            log.info("provider came or went", provider=name, available=capabilities.available)
            self._wake()

    async def watch(self, name: str) -> None:
        """Follow one provider's events for ever."""
        provider = self._providers[name]
        while True:
            try:
                async for event in provider.watch():
                    await self._on_event(name, event)
            except WireloomError as error:
                log.warning("event stream ended", provider=name, error=str(error))
                await self.resync_provider(name)
            await asyncio.sleep(_RETRY_S)

    async def _on_event(self, name: str, event: RuntimeEvent) -> None:
        if event.kind in {EventKind.LOST, EventKind.RESYNC} or not event.node_id:
            await self.resync_provider(name)
            return
        if self._is_busy(event.node_id):  # the action at work looks for itself when it is done
            if event.kind in {EventKind.EXITED, EventKind.REMOVED}:
                self._missed.add(event.node_id)
                self._note_end(event)
            return
        known = self.runtimes.get(event.node_id)
        if event.kind is EventKind.REMOVED:
            if known is not None and known.runtime_id == event.runtime_id:
                self._set(name, event.node_id, None)
            return
        await self.look(name, event.node_id, event.runtime_id)

    def _note_end(self, event: RuntimeEvent) -> None:
        """A node that an action stops has ended, which its neighbours see before the action is done."""
        known = self.runtimes.get(event.node_id)
        if known is not None and known.runtime_id == event.runtime_id and known.phase is not RuntimePhase.EXITED:
            self.runtimes[event.node_id] = known.model_copy(update={"phase": RuntimePhase.EXITED})
            self._changed(event.node_id, known, self.runtimes[event.node_id])

    def _set(self, name: str, node_id: str, status: RuntimeStatus | None) -> None:
        before = self.runtimes.get(node_id)
        if before == status:
            return
        self.enter(name, node_id, status)
        self._changed(node_id, before, status)


def now() -> float:
    """The agent's clock, UNIX seconds."""
    return time.time()
