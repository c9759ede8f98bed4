"""Editing a topology's text: the edit is there, and everything else is as it was."""

from __future__ import annotations

import difflib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.errors import Conflict, NotFound, TopologyInvalid, Unsupported, WireloomError
from wireloom.model.topology import Topology
from wireloom.planning.topology import add_link, parse_topology, remove_link, set_link_state, set_position

CATALOGUE = DeviceCatalogue.load()

FILE = """\
# A lab.
name: x   # its name
defaults: {device: frr}
nodes:
  r1: {cpu: 1}   # short
  r2:
    # what it is
    device: linux  # a host
    startup-config: |
      ip link

  # the third
  r3:
  r4: &shared
    startup-config: |
      text
    cpu: 1
  r5: *shared

links:
# first
- [r1:eth1, r2:eth1]  # a
# second
-   endpoints:
    - r1:eth2
    - r2:eth2
    # inner
    mtu: 9000  # big
- - r1:eth3
  - r2:eth3
# the end
"""

FLOW = """\
{name: x, nodes: {a: {device: frr}, b: {device: frr}}, links: [
  [a:eth1, b:eth1], # one
  [a:eth2, b:eth2], # two, too
  {endpoints: [a:eth3, b:eth3]} # three
]}
"""


def parse(text: str) -> Topology:
    return parse_topology(text, devices=CATALOGUE).topology


def names(text: str) -> list[str]:
    return [link.name for link in parse(text).links]


def changed(before: str, after: str) -> list[str]:
    """Lines that differ, as ``-old`` and ``+new``."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[0] + line[2:] for line in lines if line[0] in "+-"]


def test_a_link_is_added_below_the_others() -> None:
    after = add_link(FILE, "r1:eth4", "r3:eth1")
    assert changed(FILE, after) == ["+- [r1:eth4, r3:eth1]"]
    assert names(after)[-1] == "r1:eth4 -- r3:eth1"


def test_a_link_with_an_mtu_is_added_in_long_form() -> None:
    after = add_link(FILE, "r1:eth4", "r3:eth1", 9000)
    assert changed(FILE, after) == ["+- {endpoints: [r1:eth4, r3:eth1], mtu: 9000}"]
    assert parse(after).links[-1].mtu == 9000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: x", "name: x\nlinks:\n  - [a:b, c:d]\n"),
        ("name: x\nlinks:\n", "name: x\nlinks:\n  - [a:b, c:d]\n"),
        ("name: x\nlinks: ~ # none\nnodes:\n", "name: x\nlinks:  # none\n  - [a:b, c:d]\nnodes:\n"),
        ("links: [] # none\nname: x\n", "links: [[a:b, c:d]] # none\nname: x\n"),
        ("links: [[e:f, g:h],]\n", "links: [[e:f, g:h], [a:b, c:d],]\n"),
        ("{name: x}", "{name: x, links: [[a:b, c:d]]}"),
        ("links:\r\n- [e:f, g:h]\r\n", "links:\r\n- [e:f, g:h]\r\n- [a:b, c:d]\r\n"),
        ("links: &all\n    - [e:f, g:h]\nname: x\n", "links: &all\n    - [e:f, g:h]\n    - [a:b, c:d]\nname: x\n"),
    ],
)
def test_a_link_is_added_in_the_style_of_the_file(before: str, after: str) -> None:
    assert add_link(before, "a:b", "c:d") == after


@pytest.mark.parametrize("port", ["r1:Ethernet1/1", "1:1", "r1:true: x", "a#b:c d", "r1:{x}", "r1:\"q'"])
def test_any_name_of_a_port_is_written_so_that_it_reads_back(port: str) -> None:
    after = add_link("name: x\n", port, "b:c")
    assert remove_link(after, "b:c", port) == "name: x\nlinks: []\n"


def test_a_link_that_is_there_is_not_added_again() -> None:
    with pytest.raises(Conflict):
        add_link(FILE, "r2:eth1", "r1:eth1")


def test_ends_are_compared_as_ports_when_the_devices_are_known() -> None:
    text = "name: x\nnodes: {a: {device: frr}, b: {device: frr}}\nlinks:\n- [a:ETH1, b:eth1]\n"
    with pytest.raises(Conflict):
        add_link(text, "b:eth1", "a:eth1", devices=CATALOGUE)
    assert names(remove_link(text, "b:eth1", "a:eth1", devices=CATALOGUE)) == []


@pytest.mark.parametrize(
    ("a", "b", "gone"),
    [
        ("r1:eth1", "r2:eth1", ["-- [r1:eth1, r2:eth1]  # a"]),
        (
            "r2:eth2",
            "r1:eth2",
            ["--   endpoints:", "-    - r1:eth2", "-    - r2:eth2", "-    # inner", "-    mtu: 9000  # big"],
        ),
        ("r1:eth3", "r2:eth3", ["-- - r1:eth3", "-  - r2:eth3"]),
    ],
)
def test_a_link_is_removed_and_comments_between_links_stay(a: str, b: str, gone: list[str]) -> None:
    assert changed(FILE, remove_link(FILE, a, b)) == gone


def test_removing_the_last_link_leaves_an_empty_list() -> None:
    text = FILE
    for index in (1, 2, 3):
        text = remove_link(text, f"r1:eth{index}", f"r2:eth{index}")
    assert "links: []\n# first\n# second\n# the end\n" in text
    assert names(text) == []
    assert names(add_link(text, "r1:eth1", "r2:eth1")) == ["r1:eth1 -- r2:eth1"]


@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_link_is_removed_from_a_list_in_brackets(index: int) -> None:
    after = remove_link(FLOW, f"a:eth{index}", f"b:eth{index}")
    assert names(after) == [f"a:eth{i} -- b:eth{i}" for i in (1, 2, 3) if i != index]
    assert {"# one", "# two, too", "# three"} <= {line[line.find("#") :] for line in after.splitlines()}


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        (1, ["-- [r1:eth1, r2:eth1]  # a", "+- {endpoints: [r1:eth1, r2:eth1], down: true}  # a"]),
        (2, ["+    down: true"]),
        (3, ["-- - r1:eth3", "-  - r2:eth3", "+- {endpoints: [r1:eth3, r2:eth3], down: true}"]),
    ],
)
def test_a_link_is_declared_down_and_up_again(index: int, wanted: list[str]) -> None:
    ends = f"r1:eth{index}", f"r2:eth{index}"
    down = set_link_state(FILE, *ends, False)
    assert sorted(changed(FILE, down)) == sorted(wanted)
    assert [link.up for link in parse(down).links] == [i != index for i in (1, 2, 3)]
    up = set_link_state(down, *ends, True)
    assert all(link.up for link in parse(up).links)
    assert len(changed(down, up)) == 2


def test_a_link_that_is_up_is_not_rewritten_to_be_up() -> None:
    assert set_link_state(FILE, "r1:eth1", "r2:eth1", True) == FILE


def test_a_link_written_elsewhere_gets_its_own_state() -> None:
    text = "name: x\nx: &l {endpoints: [a:b, c:d]}\ny: &s [e:f, g:h]\nlinks: [*l, *s]\n"
    after = set_link_state(set_link_state(text, "a:b", "c:d", False), "e:f", "g:h", False)
    assert after.endswith("links: [{<<: *l, down: true}, {endpoints: *s, down: true}]\n")


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        ("r1", ["-  r1: {cpu: 1}   # short", "+  r1: {cpu: 1, position: [1.5, -2]}   # short"]),
        ("r2", ["+    position: [1.5, -2]"]),
        ("r3", ["-  r3:", "+  r3: {position: [1.5, -2]}"]),
        ("r5", ["-  r5: *shared", "+  r5: {<<: *shared, position: [1.5, -2]}"]),
    ],
)
def test_a_node_gets_a_position_and_another(node: str, wanted: list[str]) -> None:
    placed = set_position(FILE, node, 1.5, -2)
    assert changed(FILE, placed) == wanted
    moved = set_position(placed, node, 7, 8.126)
    position = next(item.position for item in parse(moved).nodes if item.name == node)
    assert position is not None
    assert (position.x, position.y) == (7, 8.13)
    assert len(changed(placed, moved)) == 2


def test_an_edit_that_would_change_something_else_is_refused() -> None:
    with pytest.raises(Unsupported):
        set_position(FILE, "r4", 1, 2)  # r5 is an alias of it and would move too


@pytest.mark.parametrize(
    ("error", "edit"),
    [
        (NotFound, lambda: remove_link(FILE, "r1:eth9", "r2:eth9")),
        (NotFound, lambda: set_link_state(FILE, "r1:eth9", "r2:eth9", True)),
        (NotFound, lambda: set_position(FILE, "r9", 1, 2)),
        (NotFound, lambda: remove_link("name: x\n", "a:b", "c:d")),
        (TopologyInvalid, lambda: add_link("name: [", "a:b", "c:d")),
        (TopologyInvalid, lambda: add_link("", "a:b", "c:d")),
    ],
)
def test_what_is_not_there_cannot_be_edited(error: type[WireloomError], edit: object) -> None:
    assert callable(edit)
    with pytest.raises(error):
        edit()


@st.composite
def topologies(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A file with links in mixed styles and comments in odd places."""
    count = draw(st.integers(0, 6))
    comment = st.sampled_from(["", "  # c", " # x: [y], {z}"])
    indent = draw(st.sampled_from(["", "  ", "    "]))
    lines = ["# head", "name: x", "links:" + ("" if count else " []") + draw(comment)]
    ends = [(f"a{index}:eth1", f"b{index}:eth1") for index in range(count)]
    for a, b in ends:
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from([f"{indent}# about {a}", "", "# at the margin"])))
        lines += draw(
            st.sampled_from(
                [
                    [f"{indent}- [{a}, {b}]"],
                    [f"{indent}- {{endpoints: [{a}, {b}], mtu: 1400}}"],
                    [f"{indent}- endpoints: [{a}, {b}]", f"{indent}  mtu: 1400"],
                    [f"{indent}-   endpoints:", f"{indent}    - {a}", f"{indent}    - '{b}'"],
                    [f"{indent}-", f"{indent}  - {a}", f"{indent}  # inside", f"{indent}  - {b}"],
                    [f"{indent}- [{a},", f"{indent}   {b}]"],
                ]
            )
        )
        lines[-1] += draw(comment)
    if draw(st.booleans()):
        lines += ["# tail", "nodes: {}"]
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return newline.join(lines) + draw(st.sampled_from(["", newline])), ends


@settings(deadline=None, max_examples=60)
@given(topologies(), st.data())
def test_edits_do_what_they_say_and_undo_each_other(
    made: tuple[str, list[tuple[str, str]]], data: st.DataObject
) -> None:
    text, ends = made
    added = add_link(text, "new:eth1", "old:eth1")
    assert set(text.splitlines()) - {"links: []"} <= {*added.splitlines(), *_links_lines(text)}
    removed = remove_link(added, "old:eth1", "new:eth1")
    assert [line.strip() for line in removed.splitlines()] == [line.strip() for line in text.splitlines()]
    if ends:
        a, b = data.draw(st.sampled_from(ends))
        down = set_link_state(text, a, b, False)
        assert set_link_state(set_link_state(down, a, b, True), a, b, False) == down
        without = remove_link(text, a, b)
        with pytest.raises(NotFound):
            remove_link(without, a, b)
        assert set(without.splitlines()) - set(text.splitlines()) <= set(_links_lines(without))


def _links_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("links:")]


@settings(deadline=None)
@given(st.text(alphabet="ab:\n []{},-#'\"*&!|>?~links", max_size=60))
def test_no_text_breaks_an_edit(text: str) -> None:
    for edit in (
        lambda: add_link(text, "a:b", "b:a"),
        lambda: remove_link(text, "a:b", "b:a"),
        lambda: set_link_state(text, "a:b", "b:a", False),
        lambda: set_position(text, "a", 1, 2),
    ):
        with suppress(TopologyInvalid, NotFound, Unsupported, Conflict):
            edit()
