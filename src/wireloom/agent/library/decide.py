"""What a host does about images of the library, from what is wanted and what is there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from wireloom.agent.library.ledger import Entry, image_key
from wireloom.errors import Conflict, Unavailable
from wireloom.fabric.image_documents import HostLibrary, ShelfEntry
from wireloom.model.images import ImagePin, PresenceState

__all__ = ["Decision", "Inventory", "Memory", "Rules", "Sight", "Travel", "Uses", "decide", "entries"]

_DAY_S = 86_400.0

#: Provider → name → content of what is there; ``None``: the provider does not answer.
Inventory = Mapping[str, Mapping[str, str] | None]

Problem = dict[str, Any]


class Uses(Protocol):
    """Who uses images on this host; see :class:`~wireloom.agent.library.usage.Usage`."""

    def held_by(self, provider: str, name: str) -> tuple[str, ...]: ...

    def wanted_by(self, pin: ImagePin) -> tuple[str, ...]: ...


class Memory(Protocol):
    """What is remembered of images; see :class:`~wireloom.agent.library.ledger.Ledger`."""

    def of(self, key: str) -> Entry: ...

    def damage(self, key: str) -> Problem | None: ...

    def brought(self, key: str) -> bool: ...


@dataclass(frozen=True)
class Rules:
    """A host's own wishes; see the settings of the same names. Times in days; ``serve``: address and port, or empty."""

    policy: Literal["on-demand", "everywhere"] = "on-demand"
    keep_days: float = -1
    fetches: int = 2
    serve: str = ""
    verify_days: float = 7


@dataclass(frozen=True)
class Decision:
    """What to do now.

    :ivar remove: unwanted ones, and those that nothing has used for long.
    :ivar held_up: image → why nothing is done about it although something should be (wire form).
    """

    bring: tuple[ImagePin, ...] = ()
    remove: tuple[ImagePin, ...] = ()
    held_up: Mapping[str, Problem] = field(default_factory=dict)


@dataclass(frozen=True)
class Travel:
    """How far an image is that is on its way; bytes."""

    state: PresenceState
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Sight:
    """What is known of the host now; ``now`` in UNIX seconds."""

    inventory: Inventory
    uses: Uses
    memory: Memory
    now: float

    def found(self, pin: ImagePin) -> str | None:
        """Content of what has the image's name; ``None``: nothing has it."""
        return (self.inventory.get(pin.provider) or {}).get(pin.name)

    def answers(self, pin: ImagePin) -> bool:
        """Whether the image's provider is there and says what it has."""
        return self.inventory.get(pin.provider) is not None

    def removable(self, pin: ImagePin) -> bool:
        """Whether the image is there, and because the library brought it: what a host has of its own is not ours."""
        return self.found(pin) == pin.content and self.memory.brought(image_key(pin))

    def holders(self, pin: ImagePin) -> tuple[str, ...]:
        """Nodes whose runtimes are of what has the image's name."""
        return self.uses.held_by(pin.provider, pin.name)

    def users(self, pin: ImagePin) -> tuple[str, ...]:
        """Nodes that are of the image, or are to be."""
        return tuple(dict.fromkeys((*self.holders(pin), *self.uses.wanted_by(pin))))


def decide(library: HostLibrary, sight: Sight, rules: Rules) -> Decision:
    """Level-triggered: the same again until it is done. What a provider does not answer for is left alone."""
    held_up: dict[str, Problem] = {}
    unwanted = {image_key(pin) for pin in library.unwanted}
    ahead = library.known if rules.policy == "everywhere" else ()
    bring = tuple(
        pin
        for pin in _all(library.wanted, ahead)
        if image_key(pin) not in unwanted and _is_to_come(pin, sight, held_up)
    )
    remove = [pin for pin in _all(library.unwanted) if _is_to_go(pin, sight, held_up)]
    if rules.keep_days >= 0 and rules.policy != "everywhere":
        needed = unwanted | {image_key(pin) for pin in library.wanted}
        idle_since = sight.now - rules.keep_days * _DAY_S
        spare = (pin for pin in _all(library.known) if image_key(pin) not in needed)
        remove += [pin for pin in spare if _is_idle(pin, sight, idle_since)]
    return Decision(bring, tuple(remove), held_up)


def _is_to_come(pin: ImagePin, sight: Sight, held_up: dict[str, Problem]) -> bool:
    found = sight.found(pin)
    if not sight.answers(pin) or (found == pin.content and sight.memory.damage(image_key(pin)) is None):
        return False
    users = sight.holders(pin) if found is not None else ()
    if users:
        held_up[image_key(pin)] = _in_use(pin, users, "mended")
    return not users


def _is_to_go(pin: ImagePin, sight: Sight, held_up: dict[str, Problem]) -> bool:
    if not sight.removable(pin):
        return False
    users = sight.users(pin)
    if users:
        held_up[image_key(pin)] = _in_use(pin, users, "removed")
    return not users


def _is_idle(pin: ImagePin, sight: Sight, since: float) -> bool:
    if not sight.removable(pin) or sight.users(pin):
        return False
    return sight.memory.of(image_key(pin)).used_at <= since


def entries(
    library: HostLibrary,
    sight: Sight,
    *,
    travels: Mapping[str, Travel],
    problems: Mapping[str, Problem],
    before: Mapping[str, ShelfEntry],
) -> tuple[ShelfEntry, ...]:
    """What the controller is told of each image.

    :param travels: what is on its way. :param problems: image → what keeps it from coming or going.
    :param before: what was told last, which holds while a provider does not answer.
    """
    found: list[ShelfEntry] = []
    unwanted = {image_key(pin) for pin in library.unwanted}
    for pin in _all(library.unwanted, library.wanted, library.known):
        key = image_key(pin)
        names = sight.inventory.get(pin.provider, {})
        entry: ShelfEntry | None
        if key in travels:
            entry = _entry(pin, travels[key].state, done=travels[key].done, total=travels[key].total)
        elif names is None:
            entry = before.get(key) or _unseen(pin, key in unwanted)
        elif key in unwanted:
            entry = _leaving(pin, sight, problems.get(key))
        else:
            entry = _standing(pin, names, sight.memory.damage(key), problems.get(key))
        if entry is not None:
            found.append(entry)
    return tuple(found)


def _unseen(pin: ImagePin, unwanted: bool) -> ShelfEntry | None:
    """What goes only when its provider answers; nothing is known of what comes."""
    problem = Unavailable(f"provider {pin.provider} does not answer").to_wire()
    return _entry(pin, PresenceState.REMOVING, problem) if unwanted else None


def _leaving(pin: ImagePin, sight: Sight, problem: Problem | None) -> ShelfEntry | None:
    return _entry(pin, PresenceState.REMOVING, problem) if sight.removable(pin) else None


def _standing(
    pin: ImagePin, names: Mapping[str, str], damage: Problem | None, problem: Problem | None
) -> ShelfEntry | None:
    found = names.get(pin.name)
    if found is None:
        return _entry(pin, PresenceState.FAILED, problem) if problem else None
    if found != pin.content:
        another = Conflict(f"another image has the name {pin.name} on this host", details={"found": found})
        return _entry(pin, PresenceState.DAMAGED, problem or another.to_wire())
    if damage is not None:
        return _entry(pin, PresenceState.DAMAGED, problem or damage)
    return _entry(pin, PresenceState.PRESENT)


def _entry(
    pin: ImagePin, state: PresenceState, error: Problem | None = None, *, done: int = 0, total: int = 0
) -> ShelfEntry:
    return ShelfEntry(
        provider=pin.provider, name=pin.name, content=pin.content, state=state, done=done, total=total, error=error
    )


def _in_use(pin: ImagePin, users: tuple[str, ...], what: str) -> Problem:
    shown = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
    return Conflict(f"image {pin.name} cannot be {what} while nodes use it: {shown}").to_wire()


def _all(*groups: tuple[ImagePin, ...]) -> Iterator[ImagePin]:
    """Each image once."""
    yield from {image_key(pin): pin for group in groups for pin in group}.values()
