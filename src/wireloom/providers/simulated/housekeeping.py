"""What a simulated world holds beside the runtimes of an installation."""

from __future__ import annotations

from collections.abc import Sequence

from wireloom.model.orphans import Leftover, OtherRuntime
from wireloom.model.state import RuntimePhase
from wireloom.providers.simulated.world import SimulatedWorld

__all__ = ["SimulatedHousekeeping"]


class SimulatedHousekeeping:
    """A :class:`~wireloom.providers.contract.Housekeeping`."""

    def __init__(self, installation: str, world: SimulatedWorld) -> None:
        self._installation = installation
        self._world = world

    async def others(self) -> Sequence[OtherRuntime]:
        await self._world.before("others", None)
        return [
            OtherRuntime(
                runtime_id=runtime.runtime_id,
                name=runtime.spec.name,
                identity=runtime.spec.identity,
                running=runtime.phase is RuntimePhase.RUNNING,
            )
            for runtime in self._world.runtimes.values()
            if runtime.spec.identity.installation != self._installation
        ]

    async def leftovers(self) -> Sequence[Leftover]:
        await self._world.before("leftovers", None)
        return list(self._world.leftovers.values())

    async def discard(self, leftover: Leftover) -> None:
        await self._world.before("discard", None)
        self._world.leftovers.pop(leftover.id, None)
