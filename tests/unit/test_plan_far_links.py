"""Planning of wires to other hosts: what is joined, cut, told, and whose carrier is raised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wiring_world import ROUNDS, World, make_node, make_slice, ref

from wireloom.model.network import Tunnel
from wireloom.model.slice import NodeIntent, RemoteEnd, Slice, WireIntent
from wireloom.model.state import LinkState, RuntimePhase
from wireloom.model.underlay import FarEnd, Way
from wireloom.planning.cabling import Cabling
from wireloom.planning.link_status import link_statuses
from wireloom.planning.tunnels import told_ends

A = make_node("a")
HERE = Way(remote="192.0.2.2")
GOOD = FarEnd(id="far", alive=True, programmed=True)


def far_wire(node: NodeIntent = A, **changes: Any) -> WireIntent:
    remote = {"end": "b", "host": "h2", "vni": 7, "name": "b:eth1", **changes.pop("remote", {})}
    values = {
        "id": "far",
        "a": ref(node),
        "b": {"node_id": "id-b", "index": 1},
        "remote": RemoteEnd(**remote),
        **changes,
    }
    return WireIntent.model_validate(values)


def world(node: NodeIntent = A, phase: RuntimePhase = RuntimePhase.RUNNING, **changes: Any) -> World:
    made = World(make_slice(node, wires=(far_wire(node, **changes),)), phases={node.id: phase})
    made.ways = {("h2", "none"): HERE}
    made.far_ends = {("h2", "far"): GOOD}
    return made


def device(node: NodeIntent = A) -> str:
    return node.ports[1].device


async def settled(found: World) -> World:
    await found.converge(ROUNDS)
    return found


async def test_a_port_is_joined_before_anything_is_heard_of_the_other_end() -> None:
    found = world()
    found.far_ends = {}
    await settled(found)
    port = found.network.ports[device()]
    assert port.tunnel == Tunnel(remote="192.0.2.2", vni=7)
    assert not port.up


@pytest.mark.parametrize(
    ("far", "up"),
    [
        (GOOD, True),
        (GOOD.model_copy(update={"alive": False}), False),
        (GOOD.model_copy(update={"up": False}), False),
        (GOOD.model_copy(update={"shut": True}), False),
        (GOOD.model_copy(update={"programmed": False}), True),
    ],
)
@pytest.mark.parametrize("node", [A, make_node("a", "hosted")], ids=["device", "provider"])
async def test_the_carrier_is_what_the_other_host_says(far: FarEnd, up: bool, node: NodeIntent) -> None:
    found = world(node)
    found.far_ends = {("h2", "far"): far}
    await settled(found)
    assert found.carrier(node, node.ports[1]) is up


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("far", [None, GOOD.model_copy(update={"alive": None})], ids=["nothing told", "engine away"])
async def test_while_nobody_knows_the_carrier_stays_as_it_is(far: FarEnd | None, before: bool) -> None:
    found = world()
    found.far_ends = {("h2", "far"): GOOD.model_copy(update={"alive": before})}
    await settled(found)
    found.far_ends = {} if far is None else {("h2", "far"): far}
    await settled(found)
    assert found.network.ports[device()].up is before


async def test_what_another_host_than_the_wires_own_says_is_not_listened_to() -> None:
    found = world()
    found.far_ends = {("h3", "far"): GOOD}
    await settled(found)
    assert not found.network.ports[device()].up


async def test_an_address_that_nobody_tells_any_more_cuts_no_wire() -> None:
    found = await settled(world())
    found.ways = {}
    assert (await found.plan()).empty
    assert found.network.ports[device()].tunnel is not None


async def test_another_number_takes_the_place_of_the_old_one_even_while_the_way_is_not_known() -> None:
    found = await settled(world())
    found.lab = make_slice(A, wires=(far_wire(remote={"vni": 8}),))
    found.ways = {}
    await settled(found)
    assert found.network.ports[device()].tunnel is None
    found.ways = {("h2", "none"): HERE}
    await settled(found)
    assert found.network.ports[device()].tunnel == Tunnel(remote="192.0.2.2", vni=8)


async def test_a_port_moves_between_a_wire_here_and_one_to_another_host_in_one_step() -> None:
    b = make_node("b")
    near = WireIntent(id="near", a=ref(A), b=ref(b))
    found = World(make_slice(A, b, wires=(near,)), phases={A.id: RuntimePhase.RUNNING, b.id: RuntimePhase.RUNNING})
    found.ways, found.far_ends = {("h2", "none"): HERE}, {("h2", "far"): GOOD}
    await settled(found)
    away, back = make_slice(A, b, wires=(far_wire(),)), make_slice(A, b, wires=(near,))
    found.lab = away
    plans = await found.plan()
    assert [plan.device for plan in plans.tunnels] == [device()]
    assert device() not in {plan.a for plan in plans.cut}
    await found.apply(plans)
    assert (found.network.ports[device()].tunnel, found.network.ports[device()].peer) == (HERE_TUNNEL, None)
    found.lab = back
    plans = await found.plan()
    assert ([plan.a for plan in plans.join], plans.untunnel) == ([device()], ())
    await settled(found)
    assert (found.network.ports[device()].tunnel, found.network.ports[device()].peer) == (None, device(b))


HERE_TUNNEL = Tunnel(remote="192.0.2.2", vni=7)


async def test_a_device_that_minds_carriers_is_joined_only_while_both_ends_hold_the_wire_up() -> None:
    minding = make_node("a", link_down="cut")
    found = await settled(world(minding))
    assert found.network.ports[device()].tunnel == HERE_TUNNEL
    found.far_ends = {("h2", "far"): GOOD.model_copy(update={"alive": False})}
    await settled(found)
    assert (found.network.ports[device()].tunnel, found.network.ports[device()].up) == (None, True)
    found.far_ends = {}
    assert (await found.plan()).empty


async def test_the_other_host_minds_a_carrier_that_falls() -> None:
    found = await settled(world(remote={"link_down": "cut"}))
    found.lab = make_slice(A, wires=(far_wire(remote={"link_down": "cut"}, up=False),))
    await settled(found)
    assert (found.network.ports[device()].tunnel, found.network.ports[device()].up) == (None, False)


async def test_a_way_that_is_known_to_be_cut_is_said_and_takes_no_carrier() -> None:
    found = await settled(world())
    found.ways = {("h2", "none"): HERE.model_copy(update={"problem": "host h2 does not answer"})}
    assert (await found.plan()).empty
    (status,) = link_statuses(found.lab, await found.observed()).wires
    assert (status.state, status.message, status.follows) == (LinkState.PENDING, "host h2 does not answer", False)


@pytest.mark.parametrize(
    ("remote", "message"),
    [
        ("192.0.2.2", "frames of more than 1350 bytes to host h2 travel in fragments"),
        ("2001:db8::2", "frames of more than 1330 bytes to host h2 are lost"),
    ],
)
async def test_frames_that_are_too_large_for_the_way_are_said(remote: str, message: str) -> None:
    found = world()
    found.ways = {("h2", "none"): Way(remote=remote, mtu=1400)}
    await settled(found)
    (status,) = link_statuses(found.lab, await found.observed()).wires
    assert (status.state, status.message) == (LinkState.UP, message)
    found.ways = {("h2", "none"): Way(remote=remote, mtu=1600)}
    (status,) = link_statuses(found.lab, await found.observed()).wires
    assert status.message == ""


async def test_what_is_refused_is_a_failure_of_the_link() -> None:
    found = await settled(world())
    (status,) = link_statuses(found.lab, await found.observed(), {device(): "no room"}).wires
    assert (status.state, status.message) == (LinkState.FAILED, "no room")


async def test_a_host_tells_what_its_end_is_like() -> None:
    found = await settled(world())
    assert told_ends(Cabling(found.lab, await found.observed())) == {"h2": (GOOD,)}
    found.shut = {device()}
    assert told_ends(Cabling(found.lab, await found.observed()))["h2"][0].shut
    found.end(A, RuntimePhase.EXITED)
    gone = FarEnd(id="far", alive=False, programmed=False)
    assert told_ends(Cabling(found.lab, await found.observed())) == {"h2": (gone,)}
    found.lab = found.lab.model_copy(update={"removed": True})
    assert told_ends(Cabling(found.lab, await found.observed())) == {}


# --- whatever happens -----------------------------------------------------------------------------------

PHASES = st.sampled_from([RuntimePhase.RUNNING, RuntimePhase.EXITED, RuntimePhase.UNKNOWN])
FAR_ENDS = st.none() | st.builds(
    FarEnd, id=st.just("far"), up=st.booleans(), alive=st.sampled_from([True, False, None]), shut=st.booleans()
)
LABS = st.fixed_dictionaries(
    {
        "wired": st.sampled_from(["far", "near", "no"]),
        "vni": st.integers(0, 3),
        "up": st.booleans(),
        "minds": st.booleans(),
        "far_minds": st.booleans(),
        "far": FAR_ENDS,
        "way": st.sampled_from(["", "192.0.2.2", "192.0.2.3"]),
        "phases": st.tuples(PHASES, PHASES),
        "mtu": st.sampled_from([1500, 9000]),
    }
)


def lab_of(step: dict[str, Any]) -> Slice:
    a, b = make_node("a", link_down="cut" if step["minds"] else "carrier"), make_node("b")
    wires = {
        "far": (
            far_wire(
                a,
                up=step["up"],
                mtu=step["mtu"],
                remote={"vni": step["vni"], "link_down": "cut" if step["far_minds"] else "carrier"},
            ),
        ),
        "near": (WireIntent(id="near", a=ref(a), b=ref(b), up=step["up"], mtu=step["mtu"]),),
        "no": (),
    }
    return make_slice(a, b, wires=wires[step["wired"]])


@settings(deadline=None)
@given(st.lists(LABS, min_size=1, max_size=4))
async def test_whatever_comes_the_host_comes_to_rest_and_leads_where_it_should(steps: list[dict[str, Any]]) -> None:
    found = World(lab_of(steps[0]), phases={"id-a": RuntimePhase.RUNNING, "id-b": RuntimePhase.RUNNING})
    for step in steps:
        found.lab = lab_of(step)
        found.ways = {("h2", "none"): Way(remote=step["way"])} if step["way"] else {}
        found.far_ends = {("h2", "far"): step["far"]} if step["far"] is not None else {}
        for node, phase in zip(found.lab.nodes, step["phases"], strict=True):
            found.end(node, phase)
        before = found.network.ports.get(device())
        await found.converge(ROUNDS)
        port = found.network.ports.get(device())
        if port is None:
            continue
        joins = step["wired"] == "far" and step["vni"] and step["way"]
        minds = step["minds"] or step["far_minds"]
        if joins and not minds:
            assert port.tunnel == Tunnel(remote=step["way"], vni=step["vni"])
            assert port.mtu == step["mtu"]
        if step["wired"] != "far" or not step["vni"]:
            assert port.tunnel is None
        if step["wired"] == "far":
            assert port.peer is None
            known = step["far"] is not None and step["far"].alive is not None
            alive = step["phases"][0] is RuntimePhase.RUNNING
            if alive and not step["minds"] and known and not (step["far"].shut and step["far"].alive):
                assert port.up is (step["up"] and step["far"].up and step["far"].alive)
            if alive and not step["minds"] and step["far"] is None and step["up"] and before is not None:
                assert port.up is before.up
