"""The data-plane conformance suite as it runs inside a guest with the distribution's own kernel.

Collected there by its path, and never on the host: what it names, :mod:`test_dataplane_guest` shows test by test. An
emulated machine is slow, so what any kernel shows as well is left to the host's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from wireloom.dataplane.contract import DataPlane
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.testing.conformance.dataplane import CHECKS, Check, Rig

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


def _name(check: Check) -> str:
    return check.__name__.removeprefix("check_")


_ALL: Final = {_name(check): check for check in CHECKS}
assert _ALL.keys() >= SAME_EVERYWHERE | OF_THE_DATAPATH, "a check has another name by now"

#: (data plane, check) of all that runs.
CASES: Final = [
    *(("kernel", name) for name in _ALL if name not in SAME_EVERYWHERE),
    *(("ovs", name) for name in _ALL if name in OF_THE_DATAPATH),
]


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
