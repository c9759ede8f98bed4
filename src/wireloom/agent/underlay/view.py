"""What the loop and the reflexes need of the underlay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from wireloom.model.underlay import Encryption, FarEnd, Way

__all__ = ["NO_UNDERLAY", "UnderlayView"]


class UnderlayView(Protocol):
    """See :class:`wireloom.agent.underlay.underlay.Underlay`."""

    @property
    def ways(self) -> Mapping[tuple[str, Encryption], Way]: ...

    @property
    def far_ends(self) -> Mapping[tuple[str, str], FarEnd]: ...

    def tell(self, lab_id: str, ends: Mapping[str, Iterable[FarEnd]], *, whole: bool = True) -> None: ...

    def forget(self, lab_id: str) -> None: ...


class _NoUnderlay:
    ways: Mapping[tuple[str, Encryption], Way] = MappingProxyType({})
    far_ends: Mapping[tuple[str, str], FarEnd] = MappingProxyType({})

    def tell(self, lab_id: str, ends: Mapping[str, Iterable[FarEnd]], *, whole: bool = True) -> None:
        """Nobody listens."""

    def forget(self, lab_id: str) -> None:
        """Nothing was told."""


#: Of a host without others.
NO_UNDERLAY: UnderlayView = _NoUnderlay()
