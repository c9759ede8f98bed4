"""What a host does about images, and what it tells of them: pure, from what is wanted and what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from agent_library_rig import make_pin

from wireloom.agent.library.decide import Decision, Inventory, Rules, Sight, Travel, decide, entries
from wireloom.agent.library.ledger import Entry, image_key
from wireloom.fabric.image_documents import HostLibrary, ShelfEntry
from wireloom.model.images import ImagePin, PresenceState

PIN = make_pin(b"one")
OTHER = make_pin(b"two", "vendor/switch:1")
KEY = image_key(PIN)
NOW = 1_000_000.0
DAY = 86_400.0
EVERYWHERE = Rules(policy="everywhere")


@dataclass
class Uses:
    holders: tuple[str, ...] = ()
    wanting: tuple[str, ...] = ()

    def held_by(self, provider: str, name: str) -> tuple[str, ...]:
        return self.holders

    def wanted_by(self, pin: ImagePin) -> tuple[str, ...]:
        return self.wanting


@dataclass
class Memory:
    damages: dict[str, dict[str, Any]] = field(default_factory=dict)
    used_at: float = NOW
    ours: bool = True

    def brought(self, key: str) -> bool:
        return self.ours

    def of(self, key: str) -> Entry:
        return Entry(verified_at=NOW, used_at=self.used_at)

    def damage(self, key: str) -> dict[str, Any] | None:
        return self.damages.get(key)


def library(**fields: Any) -> HostLibrary:
    return HostLibrary(host="here", generation=7, **fields)


def sight(inventory: Inventory, uses: Uses | None = None, memory: Memory | None = None) -> Sight:
    return Sight(inventory, uses or Uses(), memory or Memory(), NOW)


def having(*pins: ImagePin) -> Mapping[str, Mapping[str, str]]:
    return {"alpha": {pin.name: pin.content for pin in pins}}


NOTHING: Inventory = {"alpha": {}}
ANOTHER: Inventory = {"alpha": {PIN.name: "sha256:another"}}
DAMAGED = Memory({KEY: {"code": "image-missing", "message": "damaged"}})


def test_what_is_wanted_and_not_there_comes() -> None:
    assert decide(library(wanted=(PIN, OTHER)), sight(having(OTHER)), Rules()).bring == (PIN,)


def test_what_is_only_known_waits_for_a_need() -> None:
    assert decide(library(known=(PIN,)), sight(NOTHING), Rules()) == Decision()


def test_a_host_that_has_everything_gets_what_is_known() -> None:
    assert decide(library(known=(PIN,)), sight(NOTHING), EVERYWHERE).bring == (PIN,)


def test_what_is_to_go_does_not_come() -> None:
    document = library(wanted=(PIN,), known=(PIN,), unwanted=(PIN,))
    assert decide(document, sight(NOTHING), EVERYWHERE).bring == ()


@pytest.mark.parametrize(("inventory", "memory"), [(ANOTHER, Memory()), (having(PIN), DAMAGED)])
def test_drift_and_damage_are_mended_where_the_image_is_wanted(inventory: Inventory, memory: Memory) -> None:
    assert decide(library(wanted=(PIN,)), sight(inventory, memory=memory), Rules()).bring == (PIN,)
    assert decide(library(known=(PIN,)), sight(inventory, memory=memory), Rules()).bring == ()


@pytest.mark.parametrize(("inventory", "memory"), [(ANOTHER, Memory()), (having(PIN), DAMAGED)])
def test_nothing_is_mended_while_it_is_in_use(inventory: Inventory, memory: Memory) -> None:
    decision = decide(library(wanted=(PIN,)), sight(inventory, Uses(("lab/r1",)), memory), Rules())
    assert decision.bring == ()
    assert "lab/r1" in decision.held_up[KEY]["message"]


def test_what_is_unwanted_goes() -> None:
    assert decide(library(unwanted=(PIN,)), sight(having(PIN, OTHER)), Rules()).remove == (PIN,)


def test_another_image_of_that_name_stays() -> None:
    assert decide(library(unwanted=(PIN,)), sight(ANOTHER), Rules()).remove == ()


@pytest.mark.parametrize("uses", [Uses(holders=("lab/r1",)), Uses(wanting=("lab/r1",))])
def test_what_is_used_does_not_go(uses: Uses) -> None:
    decision = decide(library(unwanted=(PIN,)), sight(having(PIN), uses), Rules())
    assert decision.remove == ()
    assert decision.held_up[KEY]["code"] == "conflict"


def test_what_is_on_no_list_stays() -> None:
    assert decide(library(), sight(having(PIN)), Rules(keep_days=0)) == Decision()


def test_a_provider_that_does_not_answer_is_left_alone() -> None:
    document = library(wanted=(PIN,), unwanted=(OTHER,))
    assert decide(document, sight({"alpha": None}), EVERYWHERE) == Decision()
    assert decide(document, sight({}), EVERYWHERE) == Decision()


@pytest.mark.parametrize(
    ("rules", "used_at", "document", "uses", "goes"),
    [
        (Rules(keep_days=3), NOW - 4 * DAY, library(known=(PIN,)), Uses(), True),
        (Rules(keep_days=3), NOW - 2 * DAY, library(known=(PIN,)), Uses(), False),
        (Rules(keep_days=3), NOW - 4 * DAY, library(known=(PIN,)), Uses(("lab/r1",)), False),
        (Rules(keep_days=3), NOW - 4 * DAY, library(known=(PIN,)), Uses(wanting=("lab/r1",)), False),
        (Rules(keep_days=3), NOW - 4 * DAY, library(known=(PIN,), wanted=(PIN,)), Uses(), False),
        (Rules(policy="everywhere", keep_days=3), NOW - 4 * DAY, library(known=(PIN,)), Uses(), False),
        (Rules(), NOW - 400 * DAY, library(known=(PIN,)), Uses(), False),
    ],
)
def test_what_was_not_used_for_long_goes(
    rules: Rules, used_at: float, document: HostLibrary, uses: Uses, goes: bool
) -> None:
    decision = decide(document, sight(having(PIN), uses, Memory(used_at=used_at)), rules)
    assert decision.remove == ((PIN,) if goes else ())


# -- what is told ----------------------------------------------------------------------------------------------


def told(
    document: HostLibrary,
    seen: Sight,
    *,
    travels: Mapping[str, Travel] | None = None,
    problems: Mapping[str, dict[str, Any]] | None = None,
    before: Mapping[str, ShelfEntry] | None = None,
) -> dict[str, ShelfEntry]:
    found = entries(document, seen, travels=travels or {}, problems=problems or {}, before=before or {})
    return {entry.name: entry for entry in found}


def test_it_tells_what_is_there_and_nothing_of_what_is_not() -> None:
    found = told(library(known=(PIN, OTHER)), sight(having(PIN)))
    assert {name: entry.state for name, entry in found.items()} == {PIN.name: PresenceState.PRESENT}


def test_it_tells_how_far_something_is() -> None:
    found = told(library(known=(PIN,)), sight(NOTHING), travels={KEY: Travel(PresenceState.FETCHING, 3, 9)})
    assert (found[PIN.name].state, found[PIN.name].done, found[PIN.name].total) == (PresenceState.FETCHING, 3, 9)


def test_it_tells_why_something_does_not_come() -> None:
    found = told(library(wanted=(PIN,)), sight(NOTHING), problems={KEY: {"code": "unavailable"}})
    assert found[PIN.name].state is PresenceState.FAILED
    assert found[PIN.name].error == {"code": "unavailable"}


def test_another_image_of_the_name_counts_as_damage() -> None:
    entry = told(library(known=(PIN,)), sight(ANOTHER))[PIN.name]
    assert (entry.state, entry.content) == (PresenceState.DAMAGED, PIN.content)
    assert entry.error is not None
    assert entry.error["code"] == "conflict"


def test_what_was_unwanted_has_an_entry_until_it_is_gone() -> None:
    assert told(library(unwanted=(PIN,)), sight(having(PIN)))[PIN.name].state is PresenceState.REMOVING
    assert told(library(unwanted=(PIN,)), sight(NOTHING)) == {}
    assert told(library(unwanted=(PIN,)), sight(ANOTHER)) == {}


def test_what_cannot_be_seen_does_not_count_as_gone() -> None:
    entry = told(library(unwanted=(PIN,)), sight({"alpha": None}))[PIN.name]
    assert entry.state is PresenceState.REMOVING
    assert entry.error is not None


def test_what_was_told_holds_while_a_provider_does_not_answer() -> None:
    before = told(library(known=(PIN,)), sight(having(PIN)))
    found = told(library(known=(PIN, OTHER)), sight({"alpha": None}), before={KEY: before[PIN.name]})
    assert found == before


def test_a_provider_that_the_host_does_not_have_has_nothing() -> None:
    assert told(library(unwanted=(PIN,), known=(OTHER,)), sight({})) == {}


@pytest.mark.parametrize("document", [library(unwanted=(PIN,)), library(known=(PIN,))])
def test_what_the_host_had_of_its_own_stays(document: HostLibrary) -> None:
    own = sight(having(PIN), memory=Memory(used_at=NOW - 9 * DAY, ours=False))
    assert decide(document, own, Rules(keep_days=1)).remove == ()
    told = entries(library(unwanted=(PIN,)), own, travels={}, problems={}, before={})
    assert told == ()
