"""How often reactions happened and recoveries were used, and so what may still be done."""

from __future__ import annotations

from collections import Counter

from wireloom.dialogue.standing import Phase
from wireloom.errors import GuestFailed
from wireloom.model.dialogue import Reaction, Recovery

__all__ = ["Budget"]

#: The silence that is waited for doubles after each typing without an answer, up to this many seconds.
_LONGEST_SILENCE_S = 120.0


class Budget:
    """:param disabled: names of recoveries that must not be used.
    :ivar used: names of the recoveries that were used, in order.
    """

    def __init__(self, disabled: frozenset[str]) -> None:
        self._disabled = disabled
        self._happened: Counter[str] = Counter()
        self._unanswered = 0
        self.used: list[str] = []

    def counts(self, reaction: Reaction, phase: Phase) -> bool:
        """Whether ``reaction`` is to be looked for now."""
        if reaction.recovery and self.is_off(reaction.recovery) and reaction.send is None and not reaction.fail:
            return False  # it is there for its recovery alone
        if reaction.until and self._happened[reaction.until]:
            return False
        return reaction.phase in {"any", phase} and (not reaction.after or self._happened[reaction.after] > 0)

    def happen(self, reaction: Reaction) -> None:
        """:raises GuestFailed: it happened too often."""
        self._happened[reaction.name] += 1
        if self._happened[reaction.name] > reaction.limit:
            raise GuestFailed(f"the device asks or says the same {reaction.limit + 1} times ({reaction.name})")

    def is_off(self, recovery: str) -> bool:
        return recovery in self._disabled

    def use(self, recovery: Recovery) -> None:
        """:raises GuestFailed: it was used as often as it may be."""
        if self.used.count(recovery.name) >= recovery.limit:
            raise GuestFailed(f"recovery {recovery.name!r} was used {recovery.limit} times and did not help")
        self.used.append(recovery.name)

    def heard(self) -> None:
        """The device has printed something."""
        self._unanswered = 0

    def unanswered(self) -> None:
        """Silence was broken."""
        self._unanswered += 1

    def silence_s(self, recovery: Recovery, phase: Phase) -> float | None:
        """The seconds of silence after which ``recovery`` is to be used; ``None``: it is not."""
        if not recovery.silent_s or self.is_off(recovery.name) or recovery.phase not in {"any", phase}:
            return None
        if self.used.count(recovery.name) >= recovery.limit:
            return None
        if recovery.action != "type":
            return recovery.silent_s
        return max(recovery.silent_s, min(recovery.silent_s * 2.0 ** min(self._unanswered, 16), _LONGEST_SILENCE_S))
