"""The data-plane conformance suite as it runs inside a guest with the distribution's own kernel.

Collected there by its path, and never on the host: what it names, :mod:`test_dataplane_guest` shows test by test. An
emulated machine is slow, so what any kernel shows as well is left to the host's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import pytest
import pytest_asyncio
from ovs_rig import PrivateOvs, started

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.testing.conformance.dataplane import CHECKS, Rig
from wireloom.testing.conformance.dataplane_hidden import check_tunnels_through_wireguard
from wireloom.testing.conformance.dataplane_hosts import cable, hosts
from wireloom.testing.conformance.dataplane_tunnels import TUNNEL_CHECKS

PLANES: Final[Mapping[str, Callable[[str], DataPlane]]] = {"kernel": KernelDataPlane, "ovs": OvsDataPlane}

#: Of ports and of books kept, not of frames: the same on every kernel.
SAME_EVERYWHERE: Final = frozenset(
    {
        "concurrent_batches",
        "events_say_whether_a_guest_has_shut_its_port",
        "host_stays_silent",
        "other_installations_are_invisible",
        "port_follows_its_plan",
        "port_is_remade_in_a_new_namespace",
        "port_is_what_its_plan_says",
        "ports_are_idempotent",
        "removal_leaves_nothing",
        "segment_is_idempotent",
        "unfit_uplinks_are_refused",
        "vanished_namespace_is_no_error",
        "watch_tells_changes",
        "wires_are_idempotent",
        "withdrawn_data_plane_joins_nothing",
    }
)
#: What the datapath of Open vSwitch in a kernel does by itself; the rest is the same code over either data plane.
OF_THE_DATAPATH: Final = frozenset(
    {
        "a_delay_is_kept",
        "access_ports_are_in_their_vlan_alone",
        "an_impaired_wire_is_transparent",
        "checksums_are_whole_on_a_tap",
        "each_part_is_made_or_refused",
        "move_loses_and_doubles_no_frame",
        "new_instance_observes_the_same",
        "port_changes_its_vlans_in_place",
        "port_moves_between_wire_and_segment",
        "provider_tags_go_around_customers_tags",
        "segment_joins_its_ports",
        "segments_are_isolated",
        "self_test_passes_and_cleans_up",
        "switch_with_vlans_takes_no_short_cut",
        "trunk_carries_its_vlans_with_tags",
        "unwired_port_reaches_nobody",
        "uplink_changes",
        "uplink_leads_to_the_world",
        "vlan_of_a_nic_is_an_uplink",
        "wire_between_namespace_and_tap_is_transparent",
        "wire_between_namespaces_is_transparent",
        "wire_between_taps_is_transparent",
        "wire_carries_jumbo_frames",
        "wire_moves",
        "wires_are_isolated",
        "wires_swap_in_one_batch",
    }
)
#: Of wires to other hosts, what only the datapath in the kernel shows, which carries them itself.
OF_ITS_TUNNELS: Final = frozenset(
    {
        "container_and_machine_on_two_hosts_are_wired",
        "containers_on_two_hosts_are_wired",
        "end_of_a_tunnel_moves_to_another_port",
        "jumbo_frames_cross_a_way_of_a_lesser_mtu",
        "machines_on_two_hosts_are_wired",
        "moves_lose_and_double_no_frame_from_a_host",
        "moves_lose_and_double_no_frame_to_a_host",
        "number_of_another_wire_is_not_heard",
        "port_moves_between_segment_and_tunnel",
        "port_moves_between_wire_and_tunnel",
        "removed_port_takes_its_tunnel_along",
        "restarted_agents_find_their_tunnels",
        "tunnel_follows_the_other_host",
        "tunnel_is_observed_as_it_was_asked_for",
        "tunnel_over_ipv6",
        "tunnel_sets_its_mtu_on_both_sides_of_a_port",
        "tunnels_are_isolated",
        "tunnels_swap_in_one_batch",
        "withdrawn_data_plane_reaches_no_other_host",
    }
)


def _name(check: Callable[..., object]) -> str:
    return check.__name__.removeprefix("check_")


_ALL: Final = {_name(check): check for check in CHECKS}
assert _ALL.keys() >= SAME_EVERYWHERE | OF_THE_DATAPATH, "a check has another name by now"

#: (data plane, check) of all that runs.
CASES: Final = [
    *(("kernel", name) for name in _ALL if name not in SAME_EVERYWHERE),
    *(("ovs", name) for name in _ALL if name in OF_THE_DATAPATH),
]

_TUNNELS: Final = {_name(check): check for check in TUNNEL_CHECKS}
assert _TUNNELS.keys() >= OF_ITS_TUNNELS, "a check has another name by now"


@pytest.mark.parametrize(("plane", "name"), CASES, ids=map("-".join, CASES))
async def test_data_plane(plane: str, name: str) -> None:
    async with Rig(PLANES[plane]) as rig:
        await _ALL[name](rig)


@pytest.mark.parametrize("plane", PLANES)
async def test_nothing_is_refused(plane: str) -> None:
    """The checks of what a kernel may lack are worth something only where it is there."""
    async with Rig(PLANES[plane]) as rig:
        found = await rig.plane.abilities()
    assert (found.vlans, found.qinq, found.vlan_devices, found.impairments) == ("", "", "", {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spaces() -> AsyncIterator[tuple[str, str]]:
    async with cable() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemons(spaces: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateOvs]:
    """An Open vSwitch of the first host's own."""
    async with started(spaces[0], tmp_path_factory.mktemp("ovs")) as made:
        yield made


@pytest.mark.parametrize("name", sorted(OF_ITS_TUNNELS), ids=lambda name: f"tunnels-{name}")
async def test_wires_to_other_hosts(spaces: tuple[str, str], daemons: PrivateOvs, name: str) -> None:
    """Between a host whose Open vSwitch carries them itself and one whose kernel has a device for each."""
    async with hosts(spaces, (daemons.plane, KernelDataPlane)) as two:
        await _TUNNELS[name](two)


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: f"tunnels-{plane}")
async def test_hidden_wires_to_other_hosts(spaces: tuple[str, str], daemons: PrivateOvs, plane: str) -> None:
    """Through WireGuard, which the kernel has; likewise."""
    async with hosts(spaces, (daemons.plane if plane == "ovs" else KernelDataPlane, KernelDataPlane)) as two:
        await check_tunnels_through_wireguard(two)
