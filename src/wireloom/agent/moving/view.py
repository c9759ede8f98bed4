"""What the loop that reports needs of moves."""

from __future__ import annotations

from typing import Final, Protocol

from wireloom.model.moves import ArrivalStatus, DepartureStatus

__all__ = ["NO_MOVERS", "MovesView"]


class MovesView(Protocol):
    """See :class:`wireloom.agent.moving.movers.Movers`."""

    def look(self) -> None:
        """Something changed: look soon."""
        ...

    def departure_statuses(self, lab_id: str) -> tuple[DepartureStatus, ...]: ...

    def arrival_statuses(self, lab_id: str) -> tuple[ArrivalStatus, ...]: ...


class _NoMovers:
    """Nothing moves."""

    def look(self) -> None:
        """Nothing to look at."""

    def departure_statuses(self, lab_id: str) -> tuple[DepartureStatus, ...]:
        del lab_id
        return ()

    def arrival_statuses(self, lab_id: str) -> tuple[ArrivalStatus, ...]:
        del lab_id
        return ()


NO_MOVERS: Final[MovesView] = _NoMovers()
