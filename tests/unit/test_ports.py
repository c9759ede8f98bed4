"""Port naming: a table of how vendors write their ports, and that naming can always be reversed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.model.ports import PortNaming, template_fields

#: (what, naming, port index → vendor's name, what users write → port index)
VENDORS = [
    ("frr", PortNaming(), {0: "eth0", 1: "eth1", 32: "eth32"}, {"ETH1": 1, "eth33": None, "eth01": None}),
    (
        "a first port called eth0, and no management port",
        PortNaming(name="eth{n}", guest="eth{n}", first=0, management=None, limit=8),
        {1: "eth0", 8: "eth7"},
        {"eth0": 1, "eth8": None},
    ),
    (
        "IOSv",
        PortNaming(name="GigabitEthernet0/{n}", short=("Gi0/{n}", "g0/{n}"), first=1, limit=15, management="Gi0/0"),
        {1: "GigabitEthernet0/1", 15: "GigabitEthernet0/15"},
        {"gi0/2": 2, "Gi0/0": 0, "eth3": 3, "GigabitEthernet0/16": None},
    ),
    (
        "IOS XRv 9000",
        PortNaming(
            name="GigabitEthernet0/0/0/{n}", short=("Gi0/0/0/{n}",), first=0, management="MgmtEth0/RP0/CPU0/0", limit=8
        ),
        {0: "MgmtEth0/RP0/CPU0/0", 1: "GigabitEthernet0/0/0/0", 8: "GigabitEthernet0/0/0/7"},
        {"gi0/0/0/0": 1, "mgmteth0/rp0/cpu0/0": 0, "eth0": 0, "eth1": 1},
    ),
    (
        "IOL: four ports a slot, the very first is management",
        PortNaming(
            name="Ethernet{slot}/{port}",
            short=("e{slot}/{port}",),
            first=0,
            per_slot=4,
            skip=1,
            management="Ethernet0/0",
            limit=31,
        ),
        {0: "Ethernet0/0", 1: "Ethernet0/1", 3: "Ethernet0/3", 4: "Ethernet1/0", 31: "Ethernet7/3"},
        {"e1/0": 4, "Ethernet0/4": None},
    ),
    (
        "line cards from slot 1, ports from 1",
        PortNaming(name="Ethernet{slot}/{port}", first=1, first_slot=1, per_slot=48, management="mgmt0", limit=96),
        {1: "Ethernet1/1", 48: "Ethernet1/48", 49: "Ethernet2/1"},
        {"ethernet2/48": 96, "Ethernet3/1": None},
    ),
    (
        "NX-OS",
        PortNaming(name="Ethernet1/{n}", short=("Eth1/{n}", "e1/{n}"), management="mgmt0", limit=64),
        {0: "mgmt0", 1: "Ethernet1/1", 64: "Ethernet1/64"},
        {"e1/10": 10},
    ),
    ("Junos", PortNaming(name="ge-0/0/{n}", first=0, management="fxp0"), {1: "ge-0/0/0"}, {"ge-0/0/5": 6}),
    ("Junos Evolved", PortNaming(name="et-0/0/{n}", first=0, management="re0:mgmt-0"), {0: "re0:mgmt-0"}, {}),
    (
        "SR Linux",
        PortNaming(
            name="ethernet-1/{n}", guest="e1-{n}", short=("e1-{n}",), management="mgmt0", management_guest="mgmt0"
        ),
        {0: "mgmt0", 1: "ethernet-1/1"},
        {"e1-1": 1, "mgmt0": 0, "eth1": None},
    ),
    (
        "SONiC: steps of four",
        PortNaming(name="Ethernet{n}", first=0, step=4, limit=32),
        {1: "Ethernet0", 2: "Ethernet4", 32: "Ethernet124"},
        {"ethernet8": 3, "Ethernet2": None, "eth2": 2},
    ),
    ("EOS", PortNaming(name="Ethernet{n}", short=("et{n}",), management="Management0"), {1: "Ethernet1"}, {"et7": 7}),
    ("Cumulus", PortNaming(name="swp{n}", guest="swp{n}"), {1: "swp1"}, {"swp12": 12}),
    ("FortiGate", PortNaming(name="port{n}", first=2, management="port1"), {0: "port1", 1: "port2"}, {"PORT2": 1}),
    ("PAN-OS", PortNaming(name="ethernet1/{n}", management="management"), {1: "ethernet1/1"}, {"management": 0}),
    ("BIG-IP", PortNaming(name="1.{n}", management="mgmt"), {1: "1.1", 10: "1.10"}, {"1.2": 2, "1.1x": None}),
    (
        "ASAv",
        PortNaming(name="GigabitEthernet0/{n}", first=0, management="Management0/0"),
        {1: "GigabitEthernet0/0"},
        {},
    ),
    (
        "Catalyst",
        PortNaming(name="GigabitEthernet1/0/{n}", management="GigabitEthernet0/0"),
        {24: "GigabitEthernet1/0/24"},
        {},
    ),
    ("SR OS", PortNaming(name="1/1/c{n}/1", management="A/1"), {1: "1/1/c1/1"}, {"1/1/C3/1": 3}),
    (
        "IOSv whose first port is data",
        PortNaming(name="GigabitEthernet0/{n}", short=("Gi0/{n}", "g0/{n}"), first=0, management=None, limit=8),
        {1: "GigabitEthernet0/0", 8: "GigabitEthernet0/7"},
        {"Gi0/0": 1, "g0/7": 8, "Gi0/8": None, "eth1": 1},
    ),
    (
        "IOSvL2: four ports a slot, none for management",
        PortNaming(
            name="GigabitEthernet{slot}/{port}",
            short=("Gi{slot}/{port}",),
            first=0,
            per_slot=4,
            management=None,
            limit=16,
        ),
        {1: "GigabitEthernet0/0", 4: "GigabitEthernet0/3", 5: "GigabitEthernet1/0", 16: "GigabitEthernet3/3"},
        {"gi1/0": 5, "Gi0/4": None},
    ),
    (
        "IOL: four ports a slot, none for management",
        PortNaming(name="Ethernet{slot}/{port}", short=("e{slot}/{port}",), first=0, per_slot=4, management=None),
        {1: "Ethernet0/0", 5: "Ethernet1/0", 32: "Ethernet7/3"},
        {"e7/3": 32, "e8/0": None},
    ),
    (
        "CSR 1000v",
        PortNaming(name="GigabitEthernet{n}", short=("Gi{n}", "g{n}"), management=None, limit=8),
        {1: "GigabitEthernet1", 8: "GigabitEthernet8"},
        {"gi1": 1, "Gi9": None},
    ),
    ("NX-OSv: line card 2", PortNaming(name="Ethernet2/{n}", management="mgmt0"), {1: "Ethernet2/1"}, {"mgmt0": 0}),
    ("vEdge", PortNaming(name="ge0/{n}", first=0, limit=8), {0: "eth0", 1: "ge0/0", 8: "ge0/7"}, {"ge0/1": 2}),
    (
        "FortiGate whose first port is data",
        PortNaming(name="port{n}", management=None, limit=10),
        {1: "port1", 10: "port10"},
        {"port11": None},
    ),
    ("Citrix ADC", PortNaming(name="0/{n}", management=None, limit=8), {1: "0/1", 8: "0/8"}, {"0/0": None}),
    ("vQFX", PortNaming(name="xe-0/0/{n}", first=0, management="em0", limit=12), {0: "em0", 1: "xe-0/0/0"}, {}),
    ("RouterOS", PortNaming(name="ether{n}", first=2, management="ether1"), {0: "ether1", 1: "ether2"}, {"ether1": 0}),
    ("AOS-CX", PortNaming(name="1/1/{n}", management="mgmt", limit=20), {0: "mgmt", 20: "1/1/20"}, {"1/1/21": None}),
    (
        "EXOS",
        PortNaming(name="{n}", short=("port{n}",), management="Mgmt", limit=13),
        {1: "1"},
        {"port13": 13, "14": None},
    ),
    ("VOSS", PortNaming(name="1/{n}", management="mgmt", limit=33), {1: "1/1", 33: "1/33"}, {}),
    (
        "VRP",
        PortNaming(name="Ethernet1/0/{n}", first=0, management="GigabitEthernet0/0/0", limit=14),
        {0: "GigabitEthernet0/0/0", 1: "Ethernet1/0/0", 14: "Ethernet1/0/13"},
        {},
    ),
    (
        "Comware",
        PortNaming(name="GigabitEthernet{n}/0", first=2, management="GigabitEthernet1/0", limit=15),
        {0: "GigabitEthernet1/0", 1: "GigabitEthernet2/0"},
        {},
    ),
    (
        "OS10",
        PortNaming(name="ethernet1/1/{n}", management="mgmt1/1/1", limit=56),
        {0: "mgmt1/1/1", 56: "ethernet1/1/56"},
        {},
    ),
    ("ArcOS", PortNaming(name="swp{n}", management="ma1", limit=16), {0: "ma1", 16: "swp16"}, {}),
    ("FreeBSD", PortNaming(name="vtnet{n}", management="vtnet0", limit=16), {0: "vtnet0", 1: "vtnet1"}, {}),
    (
        "XRd vRouter",
        PortNaming(name="TenGigE0/0/0/{n}", first=0, management="MgmtEth0/RP0/CPU0/0", limit=8),
        {1: "TenGigE0/0/0/0"},
        {},
    ),
    (
        "SR OS line card",
        PortNaming(name="1/1/{n}", short=("1/1/c{n}/1",), management="A/1", limit=12),
        {0: "A/1", 1: "1/1/1", 12: "1/1/12"},
        {"1/1/c3/1": 3},
    ),
    ("OpenBSD", PortNaming(name="vio{n}", guest="vio{n}", management="vio0"), {0: "vio0", 1: "vio1"}, {}),
]


@pytest.mark.parametrize(("naming", "names", "written"), [row[1:] for row in VENDORS], ids=[row[0] for row in VENDORS])
def test_ports_are_named_as_the_vendor_names_them(
    naming: PortNaming, names: dict[int, str], written: dict[str, int | None]
) -> None:
    assert {index: naming.display(index) for index in names} == names
    assert {text: naming.index_of(text) for text in written} == written


@pytest.mark.parametrize("naming", [row[1] for row in VENDORS], ids=[row[0] for row in VENDORS])
def test_every_name_of_every_vendor_leads_back_to_its_port(naming: PortNaming) -> None:
    first = 1 if naming.management is None else 0
    for index in range(first, naming.limit + 1):
        assert naming.index_of(naming.display(index)) == index
        assert naming.index_of(f" {naming.display(index).upper()} ") == index


@st.composite
def namings(draw: st.DrawFn) -> PortNaming:
    slots = draw(st.booleans())
    prefix = draw(st.sampled_from(["Ethernet", "ge-0/0/", "swp", "GigabitEthernet0/", "1.", "e1-"]))
    return PortNaming(
        name=prefix + ("{slot}/{port}" if slots else "{n}"),
        first=draw(st.integers(0, 3)),
        step=draw(st.integers(1, 4)),
        per_slot=draw(st.integers(1, 48)) if slots else None,
        first_slot=draw(st.integers(0, 2)),
        skip=draw(st.integers(0, 3)),
        management=draw(st.sampled_from([None, "mgmt0", "Management1"])),
        limit=draw(st.integers(0, 96)),
    )


@given(namings())
def test_naming_round_trips_and_no_two_ports_share_a_name(naming: PortNaming) -> None:
    names = naming.displays()
    assert len({name.casefold() for name in names}) == len(names)
    first = 1 if naming.management is None else 0
    assert [naming.index_of(name) for name in names] == list(range(first, naming.limit + 1))
    assert [naming.index_of(naming.kernel(index)) for index in range(1, naming.limit + 1)] == list(
        range(1, naming.limit + 1)
    )


@given(namings(), st.text(max_size=30))
def test_any_text_names_a_port_or_none(naming: PortNaming, written: str) -> None:
    index = naming.index_of(written)
    assert index is None or 0 <= index <= naming.limit


def test_a_display_name_wins_over_the_kernel_name_of_another_port() -> None:
    naming = PortNaming(name="eth{n}", guest="eth{i}", first=0, management=None, limit=4)
    assert naming.index_of("eth1") == 2
    assert naming.index_of("eth4") == 4  # only the kernel calls a port so


def test_template_fields_are_found_and_broken_templates_refused() -> None:
    assert template_fields("Ethernet{slot}/{port}") == {"slot", "port"}
    with pytest.raises(ValueError, match="expected '}'"):
        template_fields("eth{n")
