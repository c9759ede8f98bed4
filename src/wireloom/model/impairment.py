"""What is wrong with a link on purpose: delay, loss and their kin, each direction on its own."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from wireloom.model.base import Value

__all__ = ["PARTS", "Impairment", "LinkImpairment"]

#: Every part of an impairment that a kernel may or may not be able to make.
PARTS: Final = ("delay", "jitter", "loss", "duplicate", "corrupt", "reorder", "rate", "limit")

# As fine as kernels keep them, so that what is read back equals what was set.
Percent = Annotated[float, Field(ge=0, le=100), AfterValidator(lambda value: round(value, 4))]
Milliseconds = Annotated[float, Field(ge=0, le=600_000), AfterValidator(lambda value: round(value, 3))]
#: Kernels keep the spread of a delay as 31 bits of nanoseconds.
Spread = Annotated[float, Field(ge=0, le=2_147), AfterValidator(lambda value: round(value, 3))]


class Impairment(Value):
    """One direction of a link.

    :ivar delay_ms: added to each frame; ``jitter_ms``: more or less of it, at random. Frames stay in their order.
    :ivar loss: percent of the frames that get lost; ``duplicate``, ``corrupt`` and ``reorder`` likewise. Frames that
        are reordered go at once, ahead of those that wait: that needs a delay.
    :ivar rate_kbit: kilobits per second, 0: as fast as the host can.
    :ivar limit: frames that may wait, those that are delayed among them; 0: room for these and for a short queue.
    """

    delay_ms: Milliseconds = 0
    jitter_ms: Spread = 0
    loss: Percent = 0
    duplicate: Percent = 0
    corrupt: Percent = 0
    reorder: Percent = 0
    rate_kbit: int = Field(default=0, ge=0, le=400_000_000)
    limit: int = Field(default=0, ge=0, le=10_000_000)

    @model_validator(mode="after")
    def _delay_is_there(self) -> Self:
        if not self.delay_ms and (self.jitter_ms or self.reorder):
            raise ValueError("jitter and reordering need a delay")
        if self.limit and not (self.parts - {"limit"}):
            raise ValueError("a limit needs a delay or a rate, without which no frame waits")
        return self

    @property
    def parts(self) -> frozenset[str]:
        """Names of :data:`PARTS` that it asks for."""
        values = {
            "delay": self.delay_ms,
            "jitter": self.jitter_ms,
            "loss": self.loss,
            "duplicate": self.duplicate,
            "corrupt": self.corrupt,
            "reorder": self.reorder,
            "rate": self.rate_kbit,
            "limit": self.limit,
        }
        return frozenset(name for name, value in values.items() if value)

    def or_none(self) -> Impairment | None:
        """Itself, or ``None`` when it impairs nothing."""
        return self if self.parts else None


class LinkImpairment(Value):
    """Both directions of a link.

    :ivar forward: of frames from the link's first end to its second (to the segment, where that is the second end);
        ``backward``: the other way. ``None``: nothing is said of it. An impairment without parts leaves it whole.
    :ivar forward_until: UNIX seconds from when on nothing is said of ``forward``; ``None``: until somebody clears it.
    """

    forward: Impairment | None = None
    backward: Impairment | None = None
    forward_until: float | None = None
    backward_until: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _reads_one_end_for_both(cls, data: object) -> object:
        """An earlier form of this document had one end in time for both directions, ``until``."""
        if not isinstance(data, dict) or "until" not in data:
            return data
        end = data["until"]
        rest = {name: value for name, value in data.items() if name != "until"}
        return {"forward_until": end, "backward_until": end, **rest}

    def at(self, now: float) -> LinkImpairment:
        """What is still said at ``now``."""
        ended = {
            field: None
            for way, end in (("forward", self.forward_until), ("backward", self.backward_until))
            if end is not None and end <= now
            for field in (way, f"{way}_until")
        }
        return self.model_copy(update=ended) if ended else self

    def over(self, declared: LinkImpairment) -> LinkImpairment:
        """``declared`` with the directions that something is said of here in the place of its own."""
        if self.forward is None and self.backward is None:
            return declared
        said: dict[str, Impairment | float | None] = {}
        if self.forward is not None:
            said |= {"forward": self.forward.or_none(), "forward_until": self.forward_until}
        if self.backward is not None:
            said |= {"backward": self.backward.or_none(), "backward_until": self.backward_until}
        return declared.model_copy(update=said)

    def turned(self) -> LinkImpairment:
        """The same, seen from the other end."""
        return LinkImpairment(
            forward=self.backward,
            backward=self.forward,
            forward_until=self.backward_until,
            backward_until=self.forward_until,
        )

    @property
    def ends(self) -> tuple[float, ...]:
        """When something of it ends by itself, in UNIX seconds; the first comes first."""
        return tuple(sorted(end for end in (self.forward_until, self.backward_until) if end is not None))
