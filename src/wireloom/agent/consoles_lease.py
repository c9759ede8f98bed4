"""The writer lease of one line: who may type, who asks for it, and when an idle holder loses it. Pure.

The clock is a parameter. Every verb answers with the changes it made, for those attached to be told of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from wireloom.model.console import Attendee, ConsoleLine, NoticeEvent

__all__ = ["IDLE_S", "Change", "Lease", "Seat"]

#: A person who has typed nothing for so long gives way to whoever asks.
IDLE_S: Final = 30.0


@dataclass(eq=False)
class Seat:
    """One place at the line. ``between_steps``: automation that holds the lease but types nothing just now."""

    attendee: Attendee
    typed_at: float
    between_steps: bool = False

    @property
    def may_write(self) -> bool:
        return not self.attendee.read_only

    def gives_way(self, now: float, idle_s: float) -> bool:
        """Whether somebody who asks gets the lease from this holder at once."""
        if self.attendee.automation:
            return False
        return now - self.typed_at >= idle_s


@dataclass(frozen=True)
class Change:
    """``event`` happened to ``subject``; only ``to`` is told, or everybody."""

    event: NoticeEvent
    subject: Seat | None = None
    to: Seat | None = None


@dataclass
class Lease:
    """At most one holder; those who ask wait in order.

    :ivar clock_offset: seconds between the lease's clock and UNIX time, for what people read.
    """

    idle_s: float = IDLE_S
    clock_offset: float = 0
    seats: list[Seat] = field(default_factory=list)
    holder: Seat | None = None
    held_since: float = 0
    asking: list[Seat] = field(default_factory=list)

    def state(self, line: int) -> ConsoleLine:
        """How things stand, as others are told."""
        return ConsoleLine(
            line=line,
            writer=self.holder.attendee if self.holder else None,
            writer_since=self.held_since + self.clock_offset if self.holder else None,
            asking=tuple(seat.attendee for seat in self.asking),
            attendees=tuple(seat.attendee for seat in self.seats),
        )

    def join(self, seat: Seat, now: float) -> list[Change]:
        """The first person who may write gets the lease; automation has to ask for it."""
        self.seats.append(seat)
        changes = [Change("joined", seat)]
        if self.holder is None and seat.may_write and not seat.attendee.automation:
            changes += self._grant(seat, now)
        return changes

    def leave(self, seat: Seat, now: float) -> list[Change]:
        """Idempotent."""
        if seat not in self.seats:
            return []
        self.seats.remove(seat)
        self._forget(seat)
        return [Change("left", seat), *(self._pass_on(now) if self.holder is seat else [])]

    def type(self, seat: Seat, now: float) -> tuple[bool, list[Change]]:
        """Whether ``seat`` may type now. A person gets a free lease by typing."""
        changes: list[Change] = []
        if self.holder is None and seat.may_write and not seat.attendee.automation and seat in self.seats:
            changes = self._grant(seat, now)
        seat.typed_at = now
        return self.holder is seat, changes

    def ask(self, seat: Seat, now: float) -> list[Change]:
        """Get the lease now or when its holder lets go."""
        if not seat.may_write:
            return [Change("refused", seat, to=seat)]
        if self.holder is seat or seat in self.asking:
            return []
        if self.holder is None or self.holder.gives_way(now, self.idle_s):
            return self._grant(seat, now)
        self.asking.append(seat)
        return [Change("asked", seat)]

    def take(self, seat: Seat, now: float) -> list[Change]:
        """Like :meth:`ask`, and also from automation that is between two steps."""
        interruptible = self.holder is not None and self.holder.between_steps
        if interruptible and self.holder is not seat and seat.may_write:
            return self._grant(seat, now)
        return self.ask(seat, now)

    def give(self, seat: Seat, to: str, now: float) -> list[Change]:
        """Let go: to whom it is given, else to the first who asked, else to nobody."""
        if self.holder is not seat:
            return [Change("refused", seat, to=seat)]
        if not to:
            return self._pass_on(now)
        chosen = next((each for each in self.seats if each.attendee.id == to and each is not seat), None)
        if chosen is None or not chosen.may_write:
            return [Change("refused", seat, to=seat)]
        return self._grant(chosen, now)

    def withdraw(self, seat: Seat, now: float) -> list[Change]:
        """Neither hold the lease nor ask for it. Idempotent."""
        self._forget(seat)
        return self._pass_on(now) if self.holder is seat else []

    def tick(self, now: float) -> list[Change]:
        """The time is ``now``: an idle holder gives way to the first who asked."""
        if self.holder is None or not self.asking or not self.holder.gives_way(now, self.idle_s):
            return []
        return self._grant(self.asking[0], now)

    @property
    def wake_at(self) -> float | None:
        """When :meth:`tick` may have something to do; ``None``: not before something else happens."""
        if self.holder is None or not self.asking or self.holder.attendee.automation:
            return None
        return self.holder.typed_at + self.idle_s

    def _pass_on(self, now: float) -> list[Change]:
        if self.asking:
            return self._grant(self.asking[0], now)
        before, self.holder = self.holder, None
        return [Change("free", before)]

    def _grant(self, seat: Seat, now: float) -> list[Change]:
        before, self.holder, self.held_since = self.holder, seat, now
        self._forget(seat)
        seat.typed_at = now  # a new holder has its full time
        seat.between_steps = False
        lost = [Change("lost", seat, to=before)] if before is not None and before in self.seats else []
        return [*lost, Change("typing", seat)]

    def _forget(self, seat: Seat) -> None:
        if seat in self.asking:
            self.asking.remove(seat)
