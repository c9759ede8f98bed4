"""Editing a topology's text: links moved, links into segments, and segments themselves; the rest stays as it was."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_topology_rewrite import CATALOGUE, FILE, FLOW, changed, names, parse

from wireloom.errors import Conflict, NotFound, TopologyInvalid, Unsupported, WireloomError
from wireloom.model.vlans import Vlans
from wireloom.planning.topology import add_link, add_segment, move_link, remove_link, remove_segment, set_link_state

SEGMENTS = """\
name: x
nodes: {a: {device: frr}, b: {device: frr}}
segments:
  # the office
  lan: {kind: switch}  # small
  core:
    kind: switch
    # inside
    mtu: 9000
  out: {kind: nat}
links:
- [a:eth1, lan]  # one
# two
- {endpoints: [b:eth1, lan], vlan: 10, down: true}
- [a:eth2, core]
- [a:eth3, b:eth3]
"""


def plugs(text: str) -> list[str]:
    return [plug.name for plug in parse(text).plugs]


@pytest.mark.parametrize(
    ("ends", "to", "wanted"),
    [
        (("r1:eth1", "r2:eth1"), "r3:eth1", ["-- [r1:eth1, r2:eth1]  # a", "+- [r1:eth1, r3:eth1]  # a"]),
        (("r2:eth1", "r1:eth1"), "r3:eth1", ["-- [r1:eth1, r2:eth1]  # a", "+- [r3:eth1, r2:eth1]  # a"]),
        (("r1:eth2", "r2:eth2"), "r2:eth9", ["-    - r2:eth2", "+    - r2:eth9"]),
        (("r1:eth3", "r2:eth3"), "r2:eth9", ["-  - r2:eth3", "+  - r2:eth9"]),
    ],
)
def test_a_link_is_moved_where_it_stands(ends: tuple[str, str], to: str, wanted: list[str]) -> None:
    after = move_link(FILE, *ends, to)
    assert changed(FILE, after) == wanted
    assert move_link(after, ends[0], to, ends[1]) == FILE


def test_a_link_in_brackets_is_moved() -> None:
    assert names(move_link(FLOW, "a:eth3", "b:eth3", "b:eth7"))[2] == "a:eth3 -- b:eth7"


def test_a_moved_link_keeps_what_it_says_and_which_end_is_first() -> None:
    text = "name: x\nlinks:\n- {endpoints: [a:eth1, b:eth1], impairment: {forward: lte}, labels: {k: v}}\n"
    after = move_link(text, "b:eth1", "a:eth1", "c:eth1")
    assert after == text.replace("a:eth1", "c:eth1")


def test_a_link_that_is_moved_into_a_segment_has_no_mtu_of_its_own_and_one_that_leaves_it_no_vlan() -> None:
    text = "name: x\nlinks:\n- {endpoints: [a:eth1, b:eth1], mtu: 9000}\n"
    inside = move_link(text, "a:eth1", "b:eth1", "lan")
    assert inside == "name: x\nlinks:\n- {endpoints: [a:eth1, lan]}\n"
    tagged = "name: x\nlinks:\n- endpoints: [a:eth1, lan]\n  trunk: [3, 5-9]  # t\n  native: 4\n  down: true\n"
    outside = move_link(tagged, "a:eth1", "lan", "b:eth1")
    assert outside == "name: x\nlinks:\n- endpoints: [a:eth1, b:eth1]\n  down: true\n"
    assert move_link(tagged, "a:eth1", "lan", "wan") == tagged.replace("lan", "wan")


def test_a_link_written_elsewhere_is_moved_on_its_own() -> None:
    text = "name: x\nx: &l {endpoints: [a:b, c:d], mtu: 1400}\ny: &s [e:f, g:h]\nlinks: [*l, *s, {<<: *l}]\n"
    after = move_link(move_link(text, "e:f", "g:h", "i:j"), "a:b", "c:d", "k:l")
    moved = "links: [{endpoints: [a:b, k:l], mtu: 1400}, [e:f, i:j], {<<: *l}]\n"
    assert after.endswith(moved)


def test_ends_of_moved_links_are_compared_as_ports() -> None:
    after = move_link(SEGMENTS, "A:ETH3".lower(), "b:ETH3", "b:eth2", devices=CATALOGUE)
    assert names(after) == ["a:eth3 -- b:eth2"]


@pytest.mark.parametrize(
    ("error", "edit"),
    [
        (NotFound, lambda: move_link(FILE, "r1:eth1", "r2:eth2", "r3:eth1")),
        (Conflict, lambda: move_link(FILE, "r1:eth1", "r2:eth1", "r2:eth1")),
        (Conflict, lambda: add_link(SEGMENTS, "lan", "a:eth1")),
        (Conflict, lambda: add_segment(SEGMENTS, "lan", "switch")),
        (NotFound, lambda: remove_segment(SEGMENTS, "lam")),
        (NotFound, lambda: remove_segment(FILE, "lan")),
        (TopologyInvalid, lambda: add_segment("name: [", "lan", "switch")),
        (Unsupported, lambda: remove_segment("x: &s {lan: {kind: switch}}\nsegments: *s\n", "lan")),
    ],
)
def test_what_is_not_there_cannot_be_rewired(error: type[WireloomError], edit: object) -> None:
    assert callable(edit)
    with pytest.raises(error):
        edit()


def test_links_into_segments_are_added_switched_and_removed() -> None:
    text = add_link(SEGMENTS, "b:eth4", "core", trunk=("10", "20-29"), native=1)
    assert changed(SEGMENTS, text) == ['+- {endpoints: [b:eth4, core], trunk: [10, "20-29"], native: 1}']
    assert parse(text).plugs[-1].vlans == Vlans(untagged=1, tagged=((10, 10), (20, 29)))
    down = set_link_state(text, "core", "b:eth4", False)
    assert not parse(down).plugs[-1].up
    assert remove_link(text, "b:eth4", "core") == SEGMENTS
    assert parse(add_link(SEGMENTS, "a:eth9", "lan", vlan=30)).plugs[-1].vlans == Vlans.access(30)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: x", "name: x\nsegments:\n  lan: {kind: switch}\n"),
        ("segments:\nname: x\n", "segments:\n  lan: {kind: switch}\nname: x\n"),
        ("segments: {} # none\n", "segments: {lan: {kind: switch}} # none\n"),
        ("segments: {a: {kind: nat}}\n", "segments: {a: {kind: nat}, lan: {kind: switch}}\n"),
        ("{name: x}", "{name: x, segments: {lan: {kind: switch}}}"),
        (
            "segments:\n    a:\n        kind: nat # n\n# end\n",
            "segments:\n    a:\n        kind: nat # n\n    lan: {kind: switch}\n# end\n",
        ),
    ],
)
def test_a_segment_is_added_in_the_style_of_the_file(before: str, after: str) -> None:
    assert add_segment(before, "lan", "switch") == after


def test_a_segment_says_what_is_not_default() -> None:
    text = add_segment(SEGMENTS, "office", "external", interface="eth0", vlan=20, move_addresses=True, mtu=9000)
    line = "+  office: {kind: external, mtu: 9000, interface: eth0, vlan: 20, move-addresses: true}"
    assert changed(SEGMENTS, text) == [line]
    text = add_segment(SEGMENTS, "way", "nat", subnet="10.1.0.0/24", dhcp=False)
    assert parse(text).segments[-1].subnet == "10.1.0.0/24"
    assert not parse(text).segments[-1].dhcp


def test_a_segment_goes_with_the_links_into_it() -> None:
    after = remove_segment(SEGMENTS, "lan")
    assert plugs(after) == ["a:eth2 -- core"]
    assert names(after) == ["a:eth3 -- b:eth3"]
    gone = ["-  lan: {kind: switch}  # small", "-- [a:eth1, lan]  # one"]
    assert changed(SEGMENTS, after) == [*gone, "-- {endpoints: [b:eth1, lan], vlan: 10, down: true}"]
    for name in ("core", "out"):
        after = remove_segment(after, name)
    assert parse(after).segments == ()
    assert "# the office" in after
    assert "segments: {}\n" in after


def test_segments_in_braces_go_one_by_one() -> None:
    text = "segments: {a: {kind: nat}, b: {kind: nat}, c: {kind: nat}}\nname: x\n"
    assert remove_segment(text, "a").startswith("segments: {b: {kind: nat}, c: {kind: nat}}\n")
    assert remove_segment(text, "b").startswith("segments: {a: {kind: nat}, c: {kind: nat}}\n")
    assert remove_segment(text, "c").startswith("segments: {a: {kind: nat}, b: {kind: nat}}\n")
    assert remove_segment("segments: {a: {kind: nat}}\n", "a") == "segments: {}\n"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "lan"]), max_size=4), st.booleans(), st.data())
def test_what_is_added_can_be_removed_again(ends: list[str], block: bool, data: st.DataObject) -> None:
    comment = data.draw(st.sampled_from(["", "  # c"]))
    links = "".join(f"- [{name}{index}:eth1, lan]{comment}\n" for index, name in enumerate(ends))
    segments = f"segments:\n  lan: {{kind: switch}}{comment}\n" if block else "segments: {lan: {kind: switch}}\n"
    text = f"name: x\n{segments}" + (f"links:\n{links}" if links else "links: []\n")
    assert remove_segment(add_segment(text, "new", "nat"), "new") == text
    assert remove_link(add_link(text, "z:eth1", "lan", vlan=3), "lan", "z:eth1") == text
    for index, name in enumerate(ends):
        moved = move_link(text, "lan", f"{name}{index}:eth1", "z:eth9")
        assert move_link(moved, "lan", "z:eth9", f"{name}{index}:eth1") == text


@settings(deadline=None)
@given(st.text(alphabet="ab:\n []{},-#'\"*&!|>?~links", max_size=60))
def test_no_text_breaks_a_rewiring(text: str) -> None:
    for edit in (
        lambda: move_link(text, "a:b", "b:a", "l:s"),
        lambda: add_segment(text, "a", "nat"),
        lambda: remove_segment(text, "a"),
    ):
        with suppress(TopologyInvalid, NotFound, Unsupported, Conflict):
            edit()
