"""The option of a lab that is started elsewhere, and how long leases are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.planning.expand import Expansion, expand
from wireloom.planning.leases import FENCE_S, SHORTEST_LOSS_S, given_up_after_s, lease_s
from wireloom.planning.topology import parse_topology
from wireloom.planning.topology.schema import topology_schema

LAB = """\
name: lab
{option}
nodes:
  a: {{device: linux}}
"""


@pytest.fixture(scope="module")
def devices() -> DeviceCatalogue:
    return DeviceCatalogue.load()


def after(option: str, devices: DeviceCatalogue) -> float | None:
    text = LAB.format(option=option)
    return parse_topology(text, devices=devices).topology.on_host_loss.restart_elsewhere_after_s


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5m", 90), ("2h", 7200), ("1d", 86400)]
)
def test_a_length_of_time_is_written_as_people_write_it(written: str, seconds: float, devices: DeviceCatalogue) -> None:
    assert after(f"on-host-loss: {{restart-elsewhere-after: {written}}}", devices) == seconds


def test_without_the_option_nodes_are_waited_for(devices: DeviceCatalogue) -> None:
    assert after("", devices) is None
    assert after("on-host-loss:", devices) is None
    assert after("on-host-loss: {}", devices) is None


@pytest.mark.parametrize("written", ["5 minutes", "soon", "-5m", "0", "29s", "90d"])
def test_what_is_no_length_or_too_short_is_refused(written: str, devices: DeviceCatalogue) -> None:
    with pytest.raises(TopologyInvalid):
        after(f"on-host-loss: {{restart-elsewhere-after: {written}}}", devices)


def test_hosts_are_told_of_the_lease(devices: DeviceCatalogue) -> None:
    for option, expected in (("on-host-loss: {restart-elsewhere-after: 5m}", lease_s(300.0)), ("", None)):
        topology = parse_topology(LAB.format(option=option), devices=devices).topology
        known = Expansion(
            installation="i", lab_id="l", generation=1, devices=devices, ids={"a": "n"}, host_of={"a": "h1"}
        )
        assert expand(topology, known)["h1"].lease_s == expected


def test_editors_know_the_option() -> None:
    definition = topology_schema()["$defs"]["HostLossFields"]["properties"]["restart-elsewhere-after"]
    assert {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*[smhd]?$"} in definition["oneOf"]


@given(st.floats(min_value=SHORTEST_LOSS_S, max_value=30 * 86400.0), st.floats(min_value=0.995, max_value=1.005))
def test_a_host_has_time_to_stop_its_nodes_before_others_get_them(wanted: float, speed: float) -> None:
    """``speed``: of the host's clock against the controller's."""
    held = lease_s(wanted)
    assert held is not None
    assert given_up_after_s(held) - held / speed >= FENCE_S - 1
    assert given_up_after_s(held) == pytest.approx(wanted, rel=0.02)
