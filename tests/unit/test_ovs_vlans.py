"""VLANs of plugs as columns of Open vSwitch's table of ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.dataplane.ovs.vlans import PortMode, mode_of, vlans_of
from wireloom.model.vlans import HIGHEST_VLAN, Tagging, Vlans

KEEP = {"priority-tags": "if-nonzero"}


@pytest.mark.parametrize(
    ("tagging", "vlans", "mode"),
    [
        ("none", None, PortMode("trunk")),
        ("802.1q", None, PortMode("access", 1)),
        ("802.1q", Vlans.access(10), PortMode("access", 10)),
        ("802.1q", Vlans(tagged=((10, 10), (20, 22))), PortMode("trunk", None, frozenset({10, 20, 21, 22}))),
        ("802.1q", Vlans(untagged=5, tagged=((10, 10),)), PortMode("native-untagged", 5, frozenset({10}))),
        ("802.1ad", Vlans.access(7), PortMode("dot1q-tunnel", 7, other_config={**KEEP, "qinq-ethtype": "802.1ad"})),
    ],
)
def test_plug_becomes_a_port_of_its_kind(tagging: Tagging, vlans: Vlans | None, mode: PortMode) -> None:
    assert mode_of(tagging, vlans) == mode


@st.composite
def some_vlans(draw: st.DrawFn) -> Vlans:
    members = draw(st.sets(st.integers(1, HIGHEST_VLAN), max_size=20))
    native = draw(st.none() | st.integers(1, HIGHEST_VLAN)) if members else draw(st.integers(1, HIGHEST_VLAN))
    ranges: list[tuple[int, int]] = []
    for vlan in sorted(members):
        if ranges and ranges[-1][1] == vlan - 1:
            ranges[-1] = (ranges[-1][0], vlan)
        else:
            ranges.append((vlan, vlan))
    return Vlans(untagged=native, tagged=tuple(ranges))


@given(vlans=some_vlans(), tagging=st.sampled_from(["802.1q", "802.1ad"]))
def test_what_is_written_is_read_back(vlans: Vlans, tagging: Tagging) -> None:
    mode = mode_of(tagging, vlans)
    assert vlans_of(tagging, mode.tag, mode.trunks) == vlans


def test_port_of_a_segment_without_vlans_shows_none() -> None:
    assert vlans_of("none", None, ()) is None
