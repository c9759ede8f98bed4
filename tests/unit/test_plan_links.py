"""Planning of links: one rule a test; what holds in every state is in ``test_plan_links_rest``."""

from __future__ import annotations

import pytest
from wiring_world import (
    LAN,
    LOSSY,
    MANAGEMENT,
    SLOW,
    World,
    at_rest,
    host_port,
    make_node,
    make_slice,
    plug,
    ref,
    sees_carrier,
    segment,
    wire,
    with_lab,
)

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import Segment, SegmentAlias, Uplink
from wireloom.model.slice import NatIntent, NodeIntent, PlugIntent
from wireloom.model.state import LinkState, RuntimePhase
from wireloom.model.vlans import Vlans
from wireloom.planning.link_status import link_statuses, plug_status, segment_status, wire_status

R1, R2, R3 = make_node("r1"), make_node("r2", "hosted"), make_node("r3")
C1 = make_node("c1", link_down="cut")

# -- carriers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [R2, R3], ids=["machine", "container"])
async def test_a_guest_that_shuts_its_port_takes_the_far_carrier_and_gives_it_back(far: NodeIntent) -> None:
    world = await at_rest(make_slice(R1, far, wires=(wire(R1, far),)))
    assert sees_carrier(world, far)
    device = host_port(world, R1).device
    world.shut.add(device)
    plans = await world.plan()
    assert not plans.join
    assert not plans.cut
    await world.converge(1)
    assert not sees_carrier(world, far)
    assert host_port(world, R1).up, "only a port that is up can tell when its guest comes back"
    world.shut.clear()
    await world.converge(1)
    assert sees_carrier(world, far)


async def test_two_guests_that_both_shut_their_ports_keep_the_host_at_rest() -> None:
    world = await at_rest(make_slice(R1, R3, wires=(wire(R1, R3),)))
    devices = [host_port(world, node).device for node in (R1, R3)]
    world.shut.update(devices)
    assert (await world.plan()).empty
    world.shut.remove(devices[0])
    await world.converge(2)
    assert not sees_carrier(world, R1)
    world.shut.clear()
    await world.converge(2)
    assert sees_carrier(world, R1)
    assert sees_carrier(world, R3)


async def test_a_machine_that_lost_its_tap_takes_the_far_carrier() -> None:
    lab = make_slice(R1, R2, wires=(wire(R1, R2),))
    world = await at_rest(lab)
    world.let_go.add(host_port(world, R2).device)
    await world.converge(1)
    assert not sees_carrier(world, R1)
    assert "restart" in wire_status(lab.wires[0], lab, await world.observed()).message
    world.let_go.clear()
    await world.converge(1)
    assert sees_carrier(world, R1)


async def test_what_we_hold_down_ourselves_tells_nothing() -> None:
    lab = make_slice(R1, R3, wires=(wire(R1, R3, up=False),))
    world = await at_rest(lab)
    assert not sees_carrier(world, R1)
    world = with_lab(world, lab.model_copy(update={"wires": (wire(R1, R3),)}))
    assert await world.converge(1) == 1
    assert sees_carrier(world, R1)
    assert sees_carrier(world, R3)


async def test_a_device_that_minds_falling_carriers_is_cut_instead_and_its_peer_is_not() -> None:
    lab = make_slice(C1, R3, wires=(wire(C1, R3),))
    world = await at_rest(lab)
    down = with_lab(world, lab.model_copy(update={"wires": (wire(C1, R3, up=False),)}))
    await down.converge(1)
    assert sees_carrier(down, C1)
    assert not sees_carrier(down, R3)
    assert host_port(down, C1).peer is None
    assert host_port(down, R3).peer is None
    up = with_lab(down, lab)
    await up.converge(1)
    assert host_port(up, C1).peer == host_port(up, R3).device
    assert sees_carrier(up, R3)


async def test_a_cut_link_stays_apart_while_its_far_node_is_down_and_as_it_is_while_nobody_knows() -> None:
    far = make_node("r2", "hosted")
    lab = make_slice(C1, far, wires=(wire(C1, far),))
    world = await at_rest(lab)
    world.end(far, RuntimePhase.UNKNOWN)
    assert (await world.plan()).empty
    world.end(far, RuntimePhase.EXITED)
    await world.converge(1)
    assert host_port(world, C1).peer is None
    assert sees_carrier(world, C1)


async def test_a_link_into_a_segment_that_is_down_takes_the_carrier_or_the_port() -> None:
    lab = make_slice(C1, R1, segments=(LAN,), plugs=(plug(C1, LAN), plug(R1, LAN)))
    world = await at_rest(lab)
    assert sees_carrier(world, R1)
    down = lab.model_copy(update={"plugs": (plug(C1, LAN, up=False), plug(R1, LAN, up=False))})
    world = with_lab(world, down)
    await world.converge(1)
    assert sees_carrier(world, C1)
    assert not sees_carrier(world, R1)
    assert host_port(world, C1).segment is None
    assert host_port(world, R1).segment == LAN.device


# -- segments ----------------------------------------------------------------------------------------------------------


async def test_a_segment_is_made_before_its_ports_go_in_and_goes_after_they_left() -> None:
    lab = make_slice(R1, R2, segments=(LAN,), plugs=(plug(R1, LAN), plug(R2, LAN)))
    world = await at_rest(lab)
    assert world.network.segments[LAN.device].alias == (
        f"wireloom segment i=inst l=lab-1 s={LAN.id} name=lab/lan"
    )  # fmt: skip
    assert {host_port(world, node).segment for node in (R1, R2)} == {LAN.device}
    world = with_lab(world, make_slice(R1, R2))
    plans = await world.plan()
    assert plans.drop_segments == (LAN.device,)
    assert set(plans.detach) == {host_port(world, node).device for node in (R1, R2)}
    await world.converge(1)
    assert world.network.segments == {}


async def test_segments_of_others_are_never_dropped() -> None:
    world = await at_rest(make_slice(R1))
    for name, alias in {
        "other-lab": SegmentAlias(installation="inst", lab_id="lab-2", segment_id="s", name="x").text(),
        "the-host's": SegmentAlias(installation="inst", name="management").text(),
        "stranger": "",
    }.items():
        world.network.segments[name] = Segment(name=name, alias=alias, up=True)
    assert (await world.plan()).empty


@pytest.mark.parametrize(
    "changes", [{"mtu": 9000}, {"tagging": "802.1q"}, {"tagging": "802.1ad"}, {"name": "other"}], ids=str
)
async def test_a_segment_that_changed_is_mended_with_its_ports(changes: dict[str, object]) -> None:
    lab = make_slice(R1, segments=(LAN,), plugs=(plug(R1, LAN),))
    world = await at_rest(lab)
    wanted = segment(**{"device": LAN.device, "id": LAN.id, **changes})  # type: ignore[arg-type]
    world = with_lab(world, lab.model_copy(update={"segments": (wanted,)}))
    assert [plan.name for plan in (await world.plan()).segments] == [LAN.device]
    assert await world.converge(1) == 1
    vlans = None if wanted.tagging == "none" else Vlans.access()
    assert (host_port(world, R1).vlans, host_port(world, R1).mtu) == (vlans, wanted.mtu)


async def test_a_port_becomes_another_port_of_its_switch() -> None:
    lan = segment(tagging="802.1q")
    lab = make_slice(R1, R3, segments=(lan,), plugs=(plug(R1, lan), plug(R3, lan, vlans=Vlans.access(7))))
    world = await at_rest(lab)
    assert host_port(world, R1).vlans == Vlans.access(1)
    trunk = Vlans.trunk([(10, 20)], 1)
    world = with_lab(world, lab.model_copy(update={"plugs": (plug(R1, lan, vlans=trunk), lab.plugs[1])}))
    plans = await world.plan()
    assert [(item.device, item.vlans) for item in plans.attach] == [(host_port(world, R1).device, trunk)]
    assert not plans.detach


async def test_a_bridge_of_the_host_is_plugged_into_and_left_alone() -> None:
    office = segment("office", "external", uplink=Uplink(device="br0"))
    lab = make_slice(R1, segments=(office,), plugs=(plug(R1, office),))
    world = await at_rest(lab, bridges=frozenset({"br0"}))
    assert host_port(world, R1).segment == "br0"
    assert world.network.segments == {}
    status = segment_status(office, lab, await world.observed())
    assert (status.state, status.details["device"]) == (LinkState.UP, "br0")
    world = with_lab(world, make_slice(R1))
    plans = await world.plan()
    assert not plans.drop_segments
    assert plans.detach == (host_port(world, R1).device,)


async def test_a_vlan_of_the_hosts_bridge_is_an_uplink_like_any_other() -> None:
    office = segment("office", "external", uplink=Uplink(device="br0", vlan=20))
    world = World(make_slice(segments=(office,)), bridges=frozenset({"br0"}))
    plans = await world.plan()
    assert [plan.uplink for plan in plans.segments] == [office.uplink]
    await world.apply(plans)
    found = world.network.segments[office.device]
    member = Uplink(device="br0", vlan=20).member("inst")
    world.network.segments[office.device] = found.model_copy(update={"uplink": member})
    assert (await world.plan()).empty


async def test_a_way_out_has_the_hosts_address() -> None:
    nat = NatIntent(subnet="10.99.4.0/24", gateway="10.99.4.1", dhcp=("10.99.4.128", "10.99.4.254"))
    way = segment("way", "nat", nat=nat)
    world = World(make_slice(segments=(way,)))
    assert [plan.address for plan in (await world.plan()).segments] == ["10.99.4.1/24"]
    status = segment_status(way, world.lab, await world.observed())
    assert (status.state, status.details["dhcp"]) == (LinkState.PENDING, "10.99.4.128 - 10.99.4.254")


async def test_a_way_out_that_gets_another_subnet_is_mended() -> None:
    first, second = (NatIntent(subnet=f"10.99.{n}.0/24", gateway=f"10.99.{n}.1") for n in (1, 2))
    world = await at_rest(make_slice(segments=(segment("way", "nat", nat=first),)))
    world = with_lab(world, make_slice(segments=(segment("way", "nat", nat=second),)))
    assert [plan.address for plan in (await world.plan()).segments] == ["10.99.2.1/24"]
    assert await world.converge(1) == 1


async def test_a_cable_moves_from_a_wire_to_a_switch_and_back_in_one_step() -> None:
    lab = make_slice(R1, R3, segments=(LAN,), wires=(wire(R1, R3),))
    world = await at_rest(lab)
    world = with_lab(world, lab.model_copy(update={"wires": (), "plugs": (plug(R1, LAN),)}))
    plans = await world.plan()
    assert [item.device for item in plans.attach] == [host_port(world, R1).device]
    assert [item.a for item in plans.cut] == [host_port(world, R3).device], "what moves is never cut first"
    assert host_port(world, R1).device not in plans.device_carriers
    await world.converge(1)
    world = with_lab(world, lab)
    plans = await world.plan()
    assert not plans.detach
    await world.converge(1)
    assert host_port(world, R1).peer == host_port(world, R3).device
    assert host_port(world, R1).segment is None


async def test_a_wire_whose_new_segment_is_refused_does_not_go_on() -> None:
    lab = make_slice(R1, R3, wires=(wire(R1, R3),))
    world = await at_rest(lab)
    other = with_lab(world, make_slice(R1, R3, segments=(LAN,), plugs=(plug(R1, LAN),)))
    plans = await other.plan()
    assert {item.a for item in plans.cut} == {host_port(world, R1).device, host_port(world, R3).device}


async def test_management_ports_stay_where_they_are() -> None:
    world = await at_rest(make_slice(R1, R2))
    assert {host_port(world, node, 0).segment for node in (R1, R2)} == {MANAGEMENT}
    assert (await world.plan()).empty


# -- impairments -------------------------------------------------------------------------------------------------------


async def test_each_direction_of_a_wire_is_made_where_its_frames_leave_the_host() -> None:
    lab = make_slice(R1, R2, wires=(wire(R1, R2, impairment=LinkImpairment(forward=SLOW, backward=LOSSY)),))
    world = await at_rest(lab)
    assert (host_port(world, R2).to_guest, host_port(world, R1).to_guest) == (SLOW, LOSSY)
    read = wire_status(lab.wires[0], lab, await world.observed()).impairment
    assert (read.forward, read.backward) == (SLOW, LOSSY)
    world = with_lab(world, make_slice(R1, R2, wires=(wire(R1, R2),)))
    await world.converge(1)
    assert (host_port(world, R2).to_guest, host_port(world, R1).to_guest) == (None, None)


async def test_a_link_into_a_segment_is_impaired_at_its_one_port() -> None:
    impairment = LinkImpairment(forward=SLOW, backward=LOSSY)
    lab = make_slice(R1, segments=(LAN,), plugs=(plug(R1, LAN, impairment=impairment),))
    world = await at_rest(lab)
    assert (host_port(world, R1).from_guest, host_port(world, R1).to_guest) == (SLOW, LOSSY)
    assert plug_status(lab.plugs[0], lab, await world.observed()).impairment == impairment


async def test_an_impairment_ends_when_its_time_is_over() -> None:
    impairment = LinkImpairment(forward=SLOW, forward_until=1_500.0)
    later = LinkImpairment(forward=SLOW, forward_until=1_800.0)
    lab = make_slice(
        R1, R3, segments=(LAN,), wires=(wire(R1, R3, impairment=impairment),),
        plugs=(PlugIntent(id="p", port=ref(R1, 2), segment=LAN.id, impairment=later),),
    )  # fmt: skip
    world = await at_rest(lab)
    plans = await world.plan()
    assert plans.empty
    assert plans.wake_at == 1_500.0
    world.now = 1_500.0
    plans = await world.plan()
    assert [(plan.device, plan.to_guest) for plan in plans.impair] == [(host_port(world, R3).device, None)]
    assert plans.wake_at == 1_800.0
    await world.apply(plans)
    world.now = 1_900.0
    await world.converge(1)
    assert (await world.plan()).wake_at is None
    assert host_port(world, R1, 2).from_guest is None


async def test_each_direction_ends_at_its_own_time() -> None:
    impairment = LinkImpairment(forward=SLOW, backward=LOSSY, forward_until=1_500.0, backward_until=1_800.0)
    lab = make_slice(R1, R3, wires=(wire(R1, R3, impairment=impairment),))
    world = await at_rest(lab)
    assert (await world.plan()).wake_at == 1_500.0
    world.now = 1_600.0
    await world.converge(1)
    assert (host_port(world, R3).to_guest, host_port(world, R1).to_guest) == (None, LOSSY)
    read = wire_status(lab.wires[0], lab, await world.observed()).impairment
    assert read == LinkImpairment(backward=LOSSY, backward_until=1_800.0)
    assert (await world.plan()).wake_at == 1_800.0
    world.now = 1_800.0
    await world.converge(1)
    assert host_port(world, R1).to_guest is None


async def test_an_impairment_of_nothing_is_none() -> None:
    nothing = LinkImpairment(forward=Impairment(), backward=Impairment(), forward_until=2_000.0)
    world = await at_rest(make_slice(R1, R3, wires=(wire(R1, R3, impairment=nothing),)))
    assert (await world.plan()).empty


# -- status ------------------------------------------------------------------------------------------------------------


async def test_a_link_whose_guest_shut_its_port_is_down_and_says_so() -> None:
    lab = make_slice(R1, R2, segments=(LAN,), wires=(wire(R1, R2),))
    world = await at_rest(lab)
    world.shut.add(host_port(world, R1).device)
    await world.converge(1)
    status = wire_status(lab.wires[0], lab, await world.observed())
    assert (status.state, status.message) == (LinkState.DOWN, "r1:eth1 is shut down by its guest")


async def test_a_link_into_a_segment_is_up_only_when_the_host_shows_it_there() -> None:
    lan = segment(tagging="802.1q", mtu=9000)
    lab = make_slice(R1, R2, segments=(lan,), plugs=(plug(R1, lan), plug(R2, lan, up=False)))
    world = await at_rest(lab)
    first, second = link_statuses(lab, await world.observed()).plugs
    assert (first.state, first.mtu, second.state) == (LinkState.UP, 9000, LinkState.DOWN)
    observed = await world.observed()
    problems = {lan.device: "refused"}
    assert link_statuses(lab, observed, problems).segments[0].state is LinkState.FAILED
    assert link_statuses(lab, observed, problems).plugs[0].state is LinkState.FAILED
    device = host_port(world, R1).device
    for changes in ({"segment": None}, {"vlans": Vlans.access(9)}, {"up": False}):
        ports = {**observed.network.ports, device: host_port(world, R1).model_copy(update=changes)}
        network = observed.network.model_copy(update={"ports": ports})
        seen = type(observed)(runtimes=observed.runtimes, network=network, capabilities=observed.capabilities)
        assert plug_status(lab.plugs[0], lab, seen).state is LinkState.PENDING
    gone = observed.network.model_copy(update={"segments": {}})
    seen = type(observed)(runtimes=observed.runtimes, network=gone, capabilities=observed.capabilities)
    assert plug_status(lab.plugs[0], lab, seen).message == "the segment lan is not there yet"
    assert segment_status(lan, lab, seen).message == "not made yet"
    world.end(R1, RuntimePhase.EXITED)
    assert plug_status(lab.plugs[0], lab, await world.observed()).message == "r1 is not running"


async def test_a_removed_lab_has_no_links() -> None:
    lab = make_slice(R1, R2, segments=(LAN,), wires=(wire(R1, R2),))
    world = await at_rest(lab)
    world = with_lab(world, lab.model_copy(update={"removed": True}))
    found = link_statuses(world.lab, await world.observed())
    assert (found.wires, found.plugs, found.segments) == ((), (), ())
    await world.converge(2)
    assert world.network.ports == {}
    assert world.network.segments == {}
