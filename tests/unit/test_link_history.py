"""Lines of history about links and segments."""

from __future__ import annotations

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.state import LinkState, PlugStatus, SegmentStatus, SliceStatus, WireStatus
from wireloom.planning.history import Change, changes

SLOW = LinkImpairment(forward=Impairment(delay_ms=50, loss=0.5, rate_kbit=10_000_000))


def status(
    wire: WireStatus | None = None, *, at: float = 100, plug: PlugStatus | None = None, segment: str = ""
) -> SliceStatus:
    segments = (SegmentStatus(id="s", state=LinkState(segment)),) if segment else ()
    return SliceStatus(
        host="h",
        lab_id="l",
        lab="lab",
        generation=1,
        observed_at=at,
        wires=(wire,) if wire else (),
        plugs=(plug,) if plug else (),
        segments=segments,
    )


def wire(impairment: LinkImpairment | None = None, state: LinkState = LinkState.UP) -> WireStatus:
    return WireStatus(id="w", state=state, mtu=1500, impairment=impairment or LinkImpairment(), name="a:e1 - b:e1")


def only(before: SliceStatus | None, after: SliceStatus) -> Change:
    (change,) = changes(before, after)
    return change


def test_an_impairment_is_told_with_what_it_does_each_way() -> None:
    change = only(status(wire()), status(wire(SLOW)))
    assert change.kind == "link.impaired"
    assert change.message == "a:e1 - b:e1: forward delay 50 ms, loss 0.5 %, rate 10000000 kbit/s; backward whole"
    assert change.details == {"link": "w"}


def test_an_impairment_that_ends_by_time_is_told_apart_from_one_that_was_cleared() -> None:
    timed = SLOW.model_copy(update={"forward_until": 200.0})
    assert only(status(wire(timed)), status(wire(), at=200)).kind == "link.impairment-ended"
    assert only(status(wire(timed)), status(wire(), at=150)).kind == "link.impairment-cleared"
    assert only(status(wire(SLOW)), status(wire(), at=200)).kind == "link.impairment-cleared"


def test_one_direction_that_ends_by_time_leaves_the_other_as_it_is() -> None:
    timed = LinkImpairment(forward=Impairment(loss=1), backward=Impairment(loss=2), backward_until=200.0)
    change = only(status(wire(timed)), status(wire(LinkImpairment(forward=Impairment(loss=1))), at=200))
    assert change.kind == "link.impairment-ended"
    assert change.message.endswith("is over; left: forward loss 1 %, backward whole")


def test_links_to_segments_and_segments_have_their_lines() -> None:
    up, down = (PlugStatus(id="p", state=state, mtu=1500) for state in (LinkState.UP, LinkState.DOWN))
    assert only(status(plug=up), status(plug=down)).kind == "link.down"
    change = only(status(segment="up"), status(segment="failed"))
    assert (change.kind, change.level, change.details) == ("segment.failed", "warning", {"segment": "s"})


def test_a_lab_that_is_seen_for_the_first_time_has_no_history_of_links() -> None:
    assert list(changes(None, status(wire(SLOW), segment="up"))) == []
