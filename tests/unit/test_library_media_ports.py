"""Lists of port names as rules of device files: the names come back from the rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.devices.schema import PortFields
from wireloom.library.media.portnames import PortPlan, plan_ports
from wireloom.model.ports import PortNaming

CASES: dict[str, tuple[list[str], set[str], dict[str, object]]] = {
    "from zero": (
        [f"GigabitEthernet0/{n}" for n in range(16)], set(),
        {"name": "GigabitEthernet0/{n}", "first": 0, "management": None, "limit": 16},
    ),
    "after management": (
        ["mgmt0", *(f"Ethernet1/{n}" for n in range(1, 65))], {"mgmt0"},
        {"name": "Ethernet1/{n}", "management": "mgmt0", "limit": 64},
    ),
    "slots": (
        [f"Ethernet{slot}/{port}" for slot in range(8) for port in range(4)], set(),
        {"name": "Ethernet{slot}/{port}", "first": 0, "per-slot": 4, "management": None, "limit": 32},
    ),
    "slots after management": (
        [f"GigabitEthernet{slot}/{port}" for slot in range(4) for port in range(4)], {"GigabitEthernet0/0"},
        {
            "name": "GigabitEthernet{slot}/{port}", "first": 0, "per-slot": 4, "skip": 1,
            "management": "GigabitEthernet0/0", "limit": 15,
        },
    ),
    "steps": (
        [f"Ethernet{n}" for n in range(0, 128, 4)], set(),
        {"name": "Ethernet{n}", "first": 0, "step": 4, "management": None, "limit": 32},
    ),
    "modules": (
        ["Management0/0", *(f"GigabitEthernet0/{n}" for n in range(9))], {"Management0/0"},
        {"name": "GigabitEthernet0/{n}", "first": 0, "management": "Management0/0", "limit": 9},
    ),
    "one": (["eth0"], set(), {"name": "eth{n}", "first": 0, "management": None, "limit": 1}),
    "one without a number": (["port"], set(), {"name": "port", "management": None, "limit": 1}),
    "none": ([], set(), {"name": "eth{n}", "management": None, "limit": 0}),
    "management alone": (["eth0"], {"eth0"}, {"name": "eth{n}", "management": "eth0", "limit": 0}),
    "far down": (
        [f"TenGigE0/0/0/{n}" for n in range(4)], set(),
        {"name": "TenGigE0/0/0/{n}", "first": 0, "management": None, "limit": 4},
    ),
    "units": (
        [f"1/1/{n}" for n in range(1, 13)], set(), {"name": "1/1/{n}", "management": None, "limit": 12},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("names", "management", "fields"), CASES.values(), ids=CASES)
def test_names_become_the_rule_that_a_person_would_write(
    names: list[str], management: set[str], fields: dict[str, object]
) -> None:
    plan = plan_ports(names, management)
    assert plan.fields() == fields
    assert plan.warnings == ()
    assert taken(plan) == tuple(names)


def taken(plan: PortPlan) -> tuple[str, ...]:
    """The names, by way of a device file."""
    return PortFields.model_validate(plan.fields()).value().displays()


def test_nics_that_carry_nothing_are_reserved() -> None:
    plan = plan_ports(
        ["MgmtEth0/RP0/CPU0/0", "donotuse1", "donotuse2", "GigabitEthernet0/0/0/0", "GigabitEthernet0/0/0/1"],
        {"MgmtEth0/RP0/CPU0/0"},
    )
    assert (plan.reserved, plan.naming.display(1), plan.naming.limit) == (2, "GigabitEthernet0/0/0/0", 2)


def test_what_follows_no_rule_is_cut_off_and_said() -> None:
    plan = plan_ports(["eth0", "eth1", "wan", "lan"])
    assert taken(plan) == ("eth0", "eth1")
    assert "2 of its ports" in plan.warnings[0]
    assert "wan" in plan.warnings[0]


def test_a_nic_in_the_middle_that_carries_nothing_ends_them() -> None:
    plan = plan_ports(["eth0", "eth1", "donotuse", "eth3"])
    assert taken(plan) == ("eth0", "eth1")


def test_only_the_first_nic_can_be_for_management() -> None:
    assert plan_ports(["eth0", "mgmt"], {"mgmt"}).naming.management is None


@given(st.lists(st.from_regex(r"[A-Za-z]{1,6}[0-9]{0,3}(/[0-9]{1,2}){0,3}", fullmatch=True), max_size=40))
def test_any_list_of_names_becomes_a_rule_that_device_files_take(names: list[str]) -> None:
    plan = plan_ports(names, set(names[:1]))
    found = taken(plan)
    first = list(dict.fromkeys(names))
    assert found == tuple(first[: len(found)])


@given(
    st.sampled_from(["Ethernet{n}", "ge-0/0/{n}", "1/{n}"]), st.integers(0, 9), st.integers(1, 5), st.integers(2, 40)
)
def test_names_of_a_rule_become_that_rule(name: str, first: int, step: int, count: int) -> None:
    naming = PortNaming(name=name, first=first, step=step, management=None, limit=count)
    assert taken(plan_ports(naming.displays())) == naming.displays()


@given(st.integers(2, 12), st.integers(0, 2), st.integers(0, 2), st.integers(2, 40))
def test_names_of_slots_become_slots(per_slot: int, first: int, first_slot: int, count: int) -> None:
    naming = PortNaming(
        name="Et{slot}/{port}", first=first, per_slot=per_slot, first_slot=first_slot, management=None, limit=count
    )
    assert taken(plan_ports(naming.displays())) == naming.displays()
