"""Who is on a console line, and the typed messages beside its bytes: who may type, and asking for it."""

from __future__ import annotations

from typing import Literal

from wireloom.model.base import Value

__all__ = ["WHO_MOST", "Attendee", "ConsoleCommand", "ConsoleLine", "ConsoleNotice", "NoticeEvent", "clean_name"]

#: Longest name of somebody on a console.
WHO_MOST = 64

NoticeEvent = Literal["here", "joined", "left", "typing", "free", "asked", "refused", "lost"]


class Attendee(Value):
    """Somebody attached to a line.

    :ivar id: unique on the line for as long as the agent lives; commands name others by it.
    :ivar who: as they call themselves, e.g. ``ada@laptop``, or ``wireloom: post-boot``.
    :ivar since: UNIX seconds.
    :ivar automation: a part of Wireloom, not a person.
    :ivar read_only: never types.
    """

    id: str
    who: str
    since: float
    automation: bool = False
    read_only: bool = False


class ConsoleLine(Value):
    """One line of a node and those attached to it. ``writer`` may type now; those in ``asking`` want to, in order.

    ``writer_since`` is in UNIX seconds.
    """

    line: int = 0
    writer: Attendee | None = None
    writer_since: float | None = None
    asking: tuple[Attendee, ...] = ()
    attendees: tuple[Attendee, ...] = ()

    def attendee(self, identifier: str) -> Attendee | None:
        """Who has that id."""
        return next((each for each in self.attendees if each.id == identifier), None)


class ConsoleNotice(Value):
    """What has just changed on a line, told to each of those attached, with how things stand now.

    ========  ===========================================================================================
    event     meaning
    ========  ===========================================================================================
    here      the first notice: you are attached; ``state`` says to what
    joined    ``subject`` has attached
    left      ``subject`` has gone
    typing    ``subject`` may type from now on
    free      nobody has the lease: whoever types next gets it
    asked     ``subject`` asks for the lease
    refused   what you typed or wanted was not done; ``text`` says why
    lost      you had the lease, and have it no longer
    ========  ===========================================================================================

    :ivar you: your own id among the attendees.
    :ivar text: one sentence for a person.
    """

    event: NoticeEvent
    text: str
    you: str
    subject: Attendee | None = None
    state: ConsoleLine = ConsoleLine()

    @property
    def writing(self) -> bool:
        """Whether the reader of this notice holds the lease."""
        return self.state.writer is not None and self.state.writer.id == self.you


class ConsoleCommand(Value):
    """What somebody attached wants of the line.

    * ``ask`` for the lease: at once when it is free or its holder idle, else the holder is told;
    * ``give`` it to ``to`` (empty: to the first who asked, or to nobody in particular);
    * ``take`` it: from automation between two steps, or from a person who has been idle; else it is an ``ask``.
    """

    do: Literal["ask", "give", "take"]
    to: str = ""


def clean_name(who: str) -> str:
    """``who`` as it may be shown on other people's terminals: printable, and not too long."""
    return "".join(letter for letter in who if letter.isprintable()).strip()[:WHO_MOST] or "someone"
