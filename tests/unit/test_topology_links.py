"""Segments, links into them, VLANs and impairments of a topology file, and what becomes of them on the hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.errors import CapacityExceeded, TopologyInvalid, Unsupported
from wireloom.model.identity import device_name
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import Uplink
from wireloom.model.presets import PRESETS
from wireloom.model.quantities import DELAY, RATE, SHARE, Quantity
from wireloom.model.slice import Management, Slice
from wireloom.model.topology import Topology
from wireloom.model.vlans import HIGHEST_VLAN, Vlans
from wireloom.planning.changes import describe_changes
from wireloom.planning.expand import Expansion, expand, link_id, plug_id, segment_id
from wireloom.planning.nat import NAT_POOL, choose_subnet, nat_intent
from wireloom.planning.topology import parse_topology

CATALOGUE = DeviceCatalogue.load()

LAB = """\
name: lab
nodes:
  r1: {device: linux}
  r2: {device: linux}
  c1: {device: ceos}
segments:
  lan: {kind: switch}
  core: {kind: switch, qinq: true, mtu: 9000}
  plain: {kind: switch, position: [1, 2], labels: {team: red}}
  office: {kind: external, interface: eth0, vlan: 20, move-addresses: true}
  internet: {kind: nat, subnet: 10.1.0.0/24, dhcp: false}
  way: {kind: nat}
links:
  - [r1:eth1, r2:eth1]
  - [r1:eth2, lan]
  - {endpoints: [r1:eth3, lan], vlan: 10}
  - {endpoints: [r2:eth3, lan], trunk: [10, 20-29, 11], native: 1}
  - {endpoints: [core, r1:eth4], impairment: {forward: lte, backward: {delay: 600ms}}, down: true}
  - [r2:eth4, office]
  - [r2:eth5, internet]
  - [r2:eth6, way]
  - endpoints: [r1:eth5, c1:Ethernet1]
    impairment:
      {delay: 50ms, jitter: 5ms, loss: 1%, duplicate: 2%, corrupt: 0.5%, reorder: 25%, rate: 10mbit, limit: 99}
"""


def parse(text: str = LAB) -> Topology:
    return parse_topology(text, devices=CATALOGUE).topology


def knowledge(topology: Topology, **changes: object) -> Expansion:
    names = [node.name for node in topology.nodes]
    values: dict[str, object] = {
        "installation": "inst",
        "lab_id": "lab-1",
        "generation": 1,
        "devices": CATALOGUE,
        "ids": {name: f"id-{name}" for name in names},
        "host_of": dict.fromkeys(names, "here"),
    }
    return Expansion(**{**values, **changes})  # type: ignore[arg-type]


def expanded(text: str = LAB, **changes: object) -> Slice:
    topology = parse(text)
    return expand(topology, knowledge(topology, **changes))["here"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_segments_say_what_they_are() -> None:
    lan, core, plain, office, internet, way = parse().segments
    assert (lan.kind, lan.mtu, lan.qinq) == ("switch", 1500, False)
    assert (core.qinq, core.mtu) == (True, 9000)
    assert plain.position is not None
    assert (plain.position.x, plain.labels) == (1, {"team": "red"})
    assert (office.interface, office.vlan, office.move_addresses) == ("eth0", 20, True)
    assert (internet.subnet, internet.dhcp, way.subnet, way.dhcp) == ("10.1.0.0/24", False, "", True)


def test_links_into_segments_say_as_which_port() -> None:
    topology = parse()
    assert [plug.name for plug in topology.plugs][:2] == ["r1:eth2 -- lan", "r1:eth3 -- lan"]
    assert [plug.vlans for plug in topology.plugs][:3] == [
        None,
        Vlans.access(10),
        Vlans(untagged=1, tagged=((10, 11), (20, 29))),
    ]
    assert topology.ports_of("r1") == (1, 2, 3, 4, 5)


def test_an_impairment_is_of_both_directions_or_of_each_its_own() -> None:
    topology = parse()
    whole, both = topology.links[0].impairment, topology.links[1].impairment
    assert whole == LinkImpairment()
    assert both.forward == both.backward
    assert both.forward == Impairment(
        delay_ms=50, jitter_ms=5, loss=1, duplicate=2, corrupt=0.5, reorder=25, rate_kbit=10_000, limit=99
    )


def test_forward_is_from_the_first_end_also_when_that_is_the_segment() -> None:
    core = parse().plugs[3]
    assert not core.up
    assert core.impairment.backward == PRESETS["lte"].forward, "from the segment to the node"
    assert core.impairment.forward == Impairment(delay_ms=600)


@pytest.mark.parametrize(
    ("written", "forward", "backward"),
    [
        ("lte", PRESETS["lte"].forward, PRESETS["lte"].backward),
        ("{preset: dsl}", PRESETS["dsl"].forward, PRESETS["dsl"].backward),
        ("{backward: dsl}", None, PRESETS["dsl"].backward),
        (
            "{forward: {preset: dsl, loss: 2%, rate: 0}}",
            PRESETS["dsl"].forward.model_copy(update={"loss": 2, "rate_kbit": 0}),
            None,
        ),
        ("{delay: 1.5s}", Impairment(delay_ms=1500), Impairment(delay_ms=1500)),
        ("{rate: 0}", None, None),
        ("{}", None, None),
    ],
)
def test_presets_stand_alone_or_are_changed_in_parts(
    written: str, forward: Impairment | None, backward: Impairment | None
) -> None:
    link = f"- {{endpoints: [a:eth1, b:eth1], impairment: {written}}}"
    topology = parse(f"name: x\nnodes: {{a: {{device: linux}}, b: {{device: linux}}}}\nlinks:\n{link}\n")
    assert topology.links[0].impairment == LinkImpairment(forward=forward, backward=backward)


def test_every_preset_can_be_named() -> None:
    for name in PRESETS:
        link = f"- {{endpoints: [a:eth1, b:eth1], impairment: {name}}}"
        topology = parse(f"name: x\nnodes: {{a: {{device: linux}}, b: {{device: linux}}}}\nlinks:\n{link}\n")
        assert topology.links[0].impairment == PRESETS[name].impairment


def test_the_mtu_of_defaults_is_for_segments_too() -> None:
    text = "name: x\ndefaults: {mtu: 9000}\nnodes: {a: {device: linux}}\nsegments: {s: {kind: switch}}\n"
    assert parse(text).segments[0].mtu == 9000


MISTAKES = [
    # (segments, link, message, suggestion); a mark stands before the place that is told
    ("s: {kind: ‸swich}", "", "'swich' is not one of", "did you mean 'switch'?"),
    ("‸s: {interface: eth0}", "", "segment 's' has no kind", "add `kind: switch`, `external` or `nat`"),
    ("‸s: ", "", "segment 's' has no kind", "add `kind: switch`"),
    ("‸s: {kind: external}", "", "does not say by which interface", "add `interface: eth0`"),
    ("s: {kind: external, interface: ‸a/b}", "", "cannot be the name of a network interface", "ip -brief link"),
    ("s: {kind: external, interface: eth0, vlan: ‸4095}", "", "must be at most 4094", ""),
    ("s: {kind: nat, ‸qinq: true}", "", "`qinq` is for segments of kind `switch`", "remove it"),
    ("s: {kind: switch, ‸move-addresses: true}", "", "`move-addresses` is for segments", "remove it"),
    ("s: {kind: nat, subnet: ‸10.0.0.5/24}", "", "names an address, not a network", "did you mean '10.0.0.0/24'?"),
    ("s: {kind: nat, subnet: ‸10.0.0.0}", "", "names an address, not a network", "10.0.0.0/32"),
    ("s: {kind: nat, subnet: ‸fd00::/64}", "", "is not an IPv4 network", "such as 10.99.0.0/24"),
    ("s: {kind: nat, subnet: ‸10.0.0.0/30}", "", "a subnet of /30 is no use here", "from /8 to /29"),
    ("s: {kind: nat, subnet: ‸127.0.0.0/24}", "", "127.0.0.0/24 is not for hosts", ""),
    ("‸a: {kind: nat}", "", "'a' is a segment and a node", "rename one of them"),
    ("‸s_1: {kind: nat}", "", "segment name 's_1' is unfit", "e.g. 's-1'"),
    ("s: {kind: switch, labels: {‸wireloom.x: 1}}", "", "labels that begin with 'wireloom.'", ""),
    (
        "s: {kind: external, interface: eth0}, t: {kind: external, interface: ‸eth0}",
        "",
        "eth0 is in segment 's' already",
        "",
    ),
    (
        "s: {kind: nat, subnet: 10.0.0.0/16}, t: {kind: nat, subnet: ‸10.0.1.0/24}",
        "",
        "10.0.1.0/24 overlaps 10.0.0.0/16 of segment 's'",
        "",
    ),
    ("s: {kind: switch}", "[a:eth1, ‸ss]", "'ss' is not an end of a link", "did you mean the segment 's'?"),
    ("s: {kind: switch}", "[a:eth1, ‸a]", "'a' is not an end of a link", "e.g. a:eth1, or the name of a segment"),
    ("s: {kind: switch}", "‸[s, s]", "are both segments", "one end of a link is a port"),
    ("s: {kind: switch}", "[‸s:eth1, a:eth1]", "segment 's' has no interfaces", "write 's' alone"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], ‸mtu: 9000}", "have the segment's MTU", "segments: s:"),
    ("s: {kind: nat}", "{endpoints: [a:eth1, s], ‸vlan: 3}", "only a switch has VLANs", "plug into a switch"),
    (
        "s: {kind: switch}",
        "{endpoints: [a:eth1, s], vlan: ‸3, trunk: [4]}",
        "an access port (`vlan`) or a trunk (`trunk`), not both",
        "",
    ),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], native: ‸3}", "this link is no trunk", "add `trunk`"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], trunk: ‸[9-3]}", "9-3 is no range of VLANs", "1 to 4094"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], trunk: ‸[x]}", "'x' is not a VLAN", "as in 20-29"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], trunk: ‸[4095]}", "4095 is no range of VLANs", ""),
    ("s: {kind: switch}", "{endpoints: [a:eth1, b:eth1], ‸vlan: 3}", "passes all frames", "remove it"),
    (
        "s: {kind: switch}",
        "{endpoints: [a:eth1, s], impairment: {delay: ‸50}}",
        "'50' has no unit",
        "write 50ms (units are ms, s, us, µs)",
    ),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], impairment: {rate: ‸1mb}}", "'mb' is not a unit", "kbit"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], impairment: {loss: ‸101%}}", "out of range", "to 100%, or 0"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], impairment: ‸{jitter: 5ms}}", "need a delay", "`delay`"),
    ("s: {kind: switch}", "{endpoints: [a:eth1, s], impairment: ‸ltee}", "no preset 'ltee'", "did you mean 'lte'?"),
    (
        "s: {kind: switch}",
        "{endpoints: [a:eth1, s], impairment: ‸{loss: 1%, forward: lte}}",
        "the same in both directions, or each direction has its own",
        "under `forward` and `backward`",
    ),
]


@pytest.mark.parametrize(("segments", "link", "message", "suggestion"), MISTAKES)
def test_a_mistake_is_told_once_where_it_is_and_with_what_to_write(
    segments: str, link: str, message: str, suggestion: str
) -> None:
    nodes = "nodes: {a: {device: linux}, b: {device: linux}}"
    marked = f"name: x\n{nodes}\nsegments: {{{segments}}}\nlinks:\n" + (f"- {link}\n" if link else "")
    before = marked.partition("‸")[0]
    with pytest.raises(TopologyInvalid) as caught:
        parse(marked.replace("‸", ""))
    (found,) = caught.value.details["diagnostics"]
    assert message in found["message"]
    assert suggestion in found["suggestion"]
    assert (found["line"], found["column"]) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


def test_links_into_a_segment_with_a_mistake_are_not_called_wrong() -> None:
    with pytest.raises(TopologyInvalid) as caught:
        parse("name: x\nnodes: {a: {device: linux}}\nsegments: {s: {kind: swich}}\nlinks: [[a:eth1, s]]\n")
    assert len(caught.value.details["diagnostics"]) == 1


# -- on the hosts ------------------------------------------------------------------------------------------------------


def test_ids_and_devices_are_pure_functions_of_the_lab() -> None:
    document = expanded()
    lan = document.segments[0]
    assert lan.id == segment_id("lab-1", "lan")
    assert lan.device == device_name("s", "inst", lan.id)
    plug = document.plugs[0]
    assert plug.id == plug_id(plug.port, lan.id)
    assert plug.segment == lan.id
    assert len({item.id for item in document.plugs}) == len(document.plugs)


def test_a_switch_has_vlans_as_soon_as_one_of_its_ports_names_one() -> None:
    lan, core, plain, office, *_ = expanded().segments
    assert [item.tagging for item in (lan, core, plain, office)] == ["802.1q", "802.1ad", "none", "none"]
    assert office.uplink == Uplink(device="eth0", vlan=20, addresses="move")


def test_a_way_out_has_its_subnet_or_one_that_is_leased_or_one_that_is_chosen() -> None:
    way = segment_id("lab-1", "way")
    nat = {item.name: item.nat for item in expanded().segments if item.nat is not None}
    assert nat["internet"] == nat_intent("10.1.0.0/24", dhcp=False)
    assert nat["way"].subnet == choose_subnet(way)
    leased = {item.name: item.nat for item in expanded(nat_subnets={way: "10.98.0.0/24"}).segments}
    assert leased["way"] == nat_intent("10.98.0.0/24", dhcp=True)
    mgmt = {"here": Management(subnet=choose_subnet(way), gateway="10.0.0.1")}
    moved = {item.name: item.nat for item in expanded(mgmt=mgmt).segments}["way"]
    assert moved is not None
    assert moved.subnet == choose_subnet(way, [choose_subnet(way)]) != choose_subnet(way)


def test_the_host_routes_and_dhcp_leaves_half_of_a_subnet_to_users() -> None:
    found = nat_intent("10.1.0.0/24", dhcp=True)
    assert (found.gateway, found.dhcp) == ("10.1.0.1", ("10.1.0.128", "10.1.0.254"))
    assert nat_intent("10.1.0.0/29", dhcp=True).dhcp == ("10.1.0.4", "10.1.0.6")


def test_a_pool_of_subnets_comes_to_an_end() -> None:
    taken: list[str] = []
    for _ in range(256):
        taken.append(choose_subnet("x", taken))
    assert len(set(taken)) == 256
    with pytest.raises(CapacityExceeded):
        choose_subnet("x", taken)
    with pytest.raises(CapacityExceeded):
        choose_subnet("x", [str(NAT_POOL)])


def test_what_users_set_by_verbs_wins_over_the_file() -> None:
    before = expanded()
    wire, plug = before.wires[1], before.plugs[0]
    assert wire.id == link_id(wire.b, wire.a)
    other = LinkImpairment(forward=Impairment(loss=5), forward_until=9.0)
    half = LinkImpairment(backward=Impairment())
    after = expanded(impairments={wire.id: half, plug.id: other}, link_overrides={wire.id: False, plug.id: False})
    assert after.plugs[0].impairment == other
    # Of a direction that they say nothing of, the file goes on to be right.
    assert after.wires[1].impairment == LinkImpairment(forward=before.wires[1].impairment.forward)
    assert (after.wires[1].up, after.plugs[0].up) == (False, False)


def test_what_a_link_that_is_down_does_is_the_devices_word() -> None:
    assert {node.name: node.link_down for node in expanded().nodes} == {"r1": "carrier", "r2": "carrier", "c1": "cut"}


def test_a_segment_is_where_its_nodes_are() -> None:
    topology = parse()
    two = {"r1": "one", "r2": "two", "c1": "two"}
    with pytest.raises(
        Unsupported, match=r"segment lan would span the hosts 'one' and 'two': r1 on 'one', r2 on 'two'"
    ):
        expand(topology.model_copy(update={"links": ()}), knowledge(topology, host_of=two))
    pinned = topology.model_copy(
        update={"segments": tuple(item.model_copy(update={"host": "two"}) for item in topology.segments)}
    )
    with pytest.raises(Unsupported, match="span the hosts 'here' and 'two'"):
        expand(pinned, knowledge(topology))
    placed = expand(topology, knowledge(topology, host_of={}))
    assert placed == {}


def test_a_segment_without_links_is_where_the_lab_is() -> None:
    text = "name: x\nnodes: {a: {device: linux}, b: {device: linux}}\nsegments: {s: {kind: switch}}\n"
    assert [item.name for item in expanded(text).segments] == ["s"]
    topology = parse(text)
    split = expand(topology, knowledge(topology, host_of={"a": "one", "b": "two"}))
    assert [document.segments for document in split.values()] == [(), ()]


def test_nodes_without_a_host_leave_their_links_out() -> None:
    document = expanded(host_of={"r2": "here"})
    assert {plug.port.node_id for plug in document.plugs} == {"id-r2"}
    assert document.wires == ()


# -- plans -------------------------------------------------------------------------------------------------------------


def changes(old: str | None, new: str) -> list[tuple[str, str, str, tuple[str, ...]]]:
    before, after = None if old is None else parse(old), parse(new)
    found = describe_changes(before, after, knowledge(after))
    return [(item.kind, item.name, item.action, item.reasons) for item in found if item.kind != "node"]


def test_a_plan_tells_segments_and_links_that_come_and_go() -> None:
    came = changes(None, LAB)
    assert ("segment", "core", "add", ("switch, MTU 9000, VLANs by 802.1ad tags",)) in came
    assert ("link", "r1:eth3 -- lan", "add", ("access port of VLAN 10",)) in came
    assert ("link", "r2:eth3 -- lan", "add", ("trunk of 10-11, 20-29, native 1",)) in came
    assert ("link", "r1:eth4 -- core", "add", ("plain port, down", "forward delay 600ms, backward "
            "delay 35ms, jitter 5ms, loss 0.2%, rate 12mbit")) in came  # fmt: skip
    assert changes(LAB, LAB) == []
    gone = changes(LAB, LAB.replace("  way: {kind: nat}\n", "").replace("  - [r2:eth6, way]\n", ""))
    assert [item[:3] for item in gone] == [("segment", "way", "remove"), ("link", "r2:eth6 -- way", "remove")]


@pytest.mark.parametrize(
    ("was", "now", "wanted"),
    [
        ("[r1:eth1, r2:eth1]", "[r2:eth1, r1:eth1]", []),
        (
            "lan: {kind: switch}",
            "lan: {kind: switch, mtu: 9000}",
            [("segment", "lan", "change", ("MTU 1500 → MTU 9000",))],
        ),
        (", vlan: 20", ", vlan: 21", [("segment", "office", "change", ("VLAN 20 of eth0 → VLAN 21 of eth0",))]),
        (
            "plain: {kind: switch",
            "plain: {kind: switch, qinq: true",
            [("segment", "plain", "change", ("no VLANs → VLANs by 802.1ad tags",))],
        ),
        (
            "vlan: 10}",
            "vlan: 12}",
            [("link", "r1:eth3 -- lan", "change", ("access port of VLAN 10 → access port of VLAN 12",))],
        ),
        (", down: true", "", [("link", "r1:eth4 -- core", "change", ("goes up",))]),
        (
            "delay: 600ms",
            "delay: 700ms",
            [
                (
                    "link",
                    "r1:eth4 -- core",
                    "change",
                    ("forward delay 700ms, backward delay 35ms, jitter 5ms, loss 0.2%, rate 12mbit",),
                )
            ],
        ),
    ],
)
def test_a_plan_tells_what_of_a_link_or_segment_changes(was: str, now: str, wanted: list[object]) -> None:
    assert was in LAB
    assert changes(LAB, LAB.replace(was, now)) == wanted


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (DELAY, "50ms", 50),
        (DELAY, "1.5 s", 1500),
        (DELAY, "500us", 0.5),
        (DELAY, "500µs", 0.5),
        (DELAY, "0", 0),
        (SHARE, "0.1%", 0.1),
        (RATE, "64kbit", 64),
        (RATE, "10Mbit", 10_000),
        (RATE, "1gbit", 1_000_000),
    ],
)
def test_quantities_are_read_with_their_units(kind: Quantity, text: str, value: float) -> None:
    assert kind.parse(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "ms", "-5ms", "5 5ms", "5", "5m", "1e3ms", "5%", "inf", "٣ms"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|known are"):
        DELAY.parse(text)


@given(st.sampled_from([DELAY, RATE, SHARE]), st.integers(0, 10**6))
def test_what_is_written_reads_back(kind: Quantity, value: int) -> None:
    assert kind.parse(kind.format(value)) == pytest.approx(value, rel=1e-5)


vlan_numbers = st.integers(1, HIGHEST_VLAN)


@given(st.lists(st.tuples(vlan_numbers, vlan_numbers).map(sorted), max_size=6), st.none() | vlan_numbers)
def test_a_trunk_has_one_form_whatever_the_order_it_is_written_in(ranges: list[list[int]], native: int | None) -> None:
    pairs = [(first, last) for first, last in ranges]
    wanted = {vlan for first, last in pairs for vlan in range(first, last + 1)} - {native}
    if not wanted and native is None:
        return
    trunk = Vlans.trunk(pairs, native)
    assert {vlan for first, last in trunk.tagged for vlan in range(first, last + 1)} == wanted
    assert trunk == Vlans.trunk(reversed(pairs), native)
    assert all(following[0] > last[1] + 1 for last, following in zip(trunk.tagged, trunk.tagged[1:], strict=False))
