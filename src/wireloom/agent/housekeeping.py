"""What lies on this host beside labs: of other installations, left by interrupted steps, or of no use any more.

Each place is looked at for itself: one that cannot be is told, and hides nothing of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from wireloom.errors import DeadlineExceeded, RuntimeFailed, WireloomError
from wireloom.model.orphans import Leftover, Orphan, OtherRuntime, Trouble
from wireloom.providers.contract import Housekeeping, Provider

__all__ = ["Found", "HostHousekeeping", "LeftoverSource", "removed"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 45.0


@dataclass(frozen=True)
class Found:
    """Something that was found, and how it is removed; ``None``: never."""

    orphan: Orphan
    remove: Callable[[], Awaitable[None]] | None = None


class LeftoverSource(Protocol):
    """A part of the agent that keeps files or images, and knows which of them are of no use."""

    @property
    def source(self) -> str: ...

    async def leftovers(self) -> Sequence[Leftover]: ...

    async def discard(self, leftover: Leftover) -> None: ...


async def removed(found: Found) -> Orphan:
    """``found`` after an attempt to remove it: an error with it keeps nothing else from going."""
    if found.remove is None:
        return found.orphan
    try:
        await found.remove()
    except WireloomError as error:
        return found.orphan.model_copy(update={"error": error.to_wire()})
    except OSError as error:
        failure = RuntimeFailed(f"it cannot be removed: {error}")
        return found.orphan.model_copy(update={"error": failure.to_wire()})
    return found.orphan.model_copy(update={"removed": True})


class HostHousekeeping:
    """One per agent. :param sources: beside engines; more may be added."""

    def __init__(self, providers: Mapping[str, Provider], sources: Sequence[LeftoverSource] = ()) -> None:
        self._providers = providers
        self.sources = list(sources)

    async def look(self) -> tuple[list[Found], list[Trouble]]:
        """Everything, and what could not be looked at."""
        found: list[Found] = []
        troubles: list[Trouble] = []
        looks: list[tuple[str, Awaitable[list[Found]]]] = [
            *((source.source, self._of_source("", source)) for source in self.sources),
        ]
        for name, provider in self._providers.items():
            keeping = provider.abilities.housekeeping
            if keeping is not None:
                looks += [(name, self._others(name, keeping)), (name, self._of_source(name, keeping))]
        results = await asyncio.gather(*(self._guarded(name, look) for name, look in looks))
        for result in results:
            if isinstance(result, Trouble):
                troubles += [] if result.source in {trouble.source for trouble in troubles} else [result]
            else:
                found += result
        return found, troubles

    @staticmethod
    async def _guarded(name: str, look: Awaitable[list[Found]]) -> list[Found] | Trouble:
        try:
            async with asyncio.timeout(_LOOK_S):
                return await look
        except WireloomError as error:
            return Trouble(source=name, error=error.to_wire())
        except OSError as error:
            return Trouble(source=name, error=RuntimeFailed(f"it cannot be read: {error}").to_wire())
        except TimeoutError:
            return Trouble(source=name, error=DeadlineExceeded(f"no answer within {_LOOK_S:g} s").to_wire())

    async def _others(self, provider: str, keeping: Housekeeping) -> list[Found]:
        return [Found(_other(provider, runtime)) for runtime in await keeping.others()]

    @staticmethod
    async def _of_source(provider: str, source: LeftoverSource | Housekeeping) -> list[Found]:
        return [
            Found(_leftover(provider, leftover), partial(source.discard, leftover))
            for leftover in await source.leftovers()
        ]


def _other(provider: str, runtime: OtherRuntime) -> Orphan:
    identity = runtime.identity
    return Orphan(
        kind="runtime",
        provider=provider,
        id=runtime.runtime_id,
        name=runtime.name,
        lab=identity.lab,
        node=identity.node,
        why="other-installation",
        lab_id=identity.lab_id,
        node_id=identity.node_id,
        installation=identity.installation,
        running=runtime.running,
    )


def _leftover(provider: str, leftover: Leftover) -> Orphan:
    return Orphan(
        kind=leftover.kind,
        provider=provider,
        id=leftover.id,
        name=leftover.name,
        why="unused" if leftover.unused else "leftover",
        size=leftover.size,
        detail=leftover.detail,
    )
