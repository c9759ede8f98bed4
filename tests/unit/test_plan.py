"""The agent's planner: tables for single rules, Hypothesis for what must hold in every state."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import DataPlaneState, HostPort, PortAlias
from wireloom.model.runtime import Capabilities, RuntimeStatus
from wireloom.model.slice import (
    Condition,
    NodeIntent,
    PortIntent,
    PortRef,
    RestartPolicy,
    Slice,
    WireIntent,
)
from wireloom.model.state import Readiness, RuntimePhase
from wireloom.planning.plan import NodeRecord, Observed, Plan, Verb, plan

NOW = 1_000.0
BOOT = "boot-1"
CAPABILITIES = {
    "alpha": Capabilities(name="alpha", attachments="gated", carrier="device"),
    "beta": Capabilities(name="beta", attachments="created", carrier="provider", ports_fixed=True),
}


def make_node(name: str, provider: str = "alpha", **changes: object) -> NodeIntent:
    ports = tuple(
        PortIntent(
            index=index,
            name=f"eth{index}",
            guest_name=f"eth{index}",
            device=device_name("p", name, index),
            mac=mac_address(name, index),
            role="mgmt" if index == 0 else "data",
        )
        for index in range(3)
    )
    return NodeIntent(id=f"id-{name}", name=name, device="d", provider=provider, image="i", ports=ports).model_copy(
        update=changes
    )


def make_slice(*nodes: NodeIntent, wires: tuple[WireIntent, ...] = (), removed: bool = False) -> Slice:
    return Slice(
        installation="inst", lab_id="lab-1", lab="lab", generation=1, nodes=nodes, wires=wires, removed=removed
    )


def make_wire(a: NodeIntent, b: NodeIntent, up: bool = True, mtu: int = 1500) -> WireIntent:
    return WireIntent(
        id=f"{a.name}-{b.name}",
        a=PortRef(node_id=a.id, index=1),
        b=PortRef(node_id=b.id, index=2),
        up=up,
        mtu=mtu,
    )


def runtime_of(lab: Slice, node: NodeIntent, phase: RuntimePhase, wanted: dict[str, bool]) -> RuntimeStatus:
    carriers = {}
    if node.provider == "beta":
        carriers = {port.index: port.role == "mgmt" or wanted.get(port.device, False) for port in node.ports}
    return RuntimeStatus(
        runtime_id=f"rt-{node.name}",
        name=node.name,
        identity=lab.identity(node),
        incarnation=node.incarnation,
        spec_hash=node.spec_hash(),
        phase=phase,
        started_at=NOW - 10,
        carriers=carriers,
    )


def converged(lab: Slice) -> Observed:
    """The world in which everything is as ``lab`` says."""
    devices = {(node.id, port.index): port.device for node in lab.nodes for port in node.ports}
    peers = {}
    wanted = {}
    for wire in lab.wires:
        a, b = (devices[ref.node_id, ref.index] for ref in (wire.a, wire.b))
        peers[a], peers[b] = (b, wire.mtu), (a, wire.mtu)
        wanted[a] = wanted[b] = wire.up
    ports = {}
    for node in lab.nodes:
        for port in node.ports:
            peer, mtu = peers.get(port.device, (None, 1500))
            alias = PortAlias(
                installation="inst", lab_id="lab-1", node_id=node.id, index=port.index, name=f"lab/{node.name}"
            )
            up = port.role == "mgmt" or wanted.get(port.device, False) or node.provider == "beta"
            ports[port.device] = HostPort(
                device=port.device, alias=alias, kind="veth", mtu=mtu, up=up, carrier=up, peer=peer
            )
    live = [node for node in lab.nodes if node.power == "on"]
    return Observed(
        runtimes={node.id: runtime_of(lab, node, RuntimePhase.RUNNING, wanted) for node in live},
        records={
            node.id: NodeRecord(
                restarts=node.restarts, attention=node.attention, incarnation=node.incarnation, host_boot=BOOT
            )
            for node in lab.nodes
        },
        network=DataPlaneState(ports=ports),
        capabilities=CAPABILITIES,
        host_boot=BOOT,
    )


def verbs(decided: Plan) -> dict[str, Verb]:
    return {action.node_id: action.verb for action in decided.nodes}


def change(observed: Observed, node: NodeIntent, **changes: object) -> Observed:
    runtimes = dict(observed.runtimes)
    runtimes[node.id] = runtimes[node.id].model_copy(update=changes)
    return replace(observed, runtimes=runtimes)


R1, R2 = make_node("r1"), make_node("r2", "beta")
PAIR = make_slice(R1, R2, wires=(make_wire(R1, R2),))


def test_converged_lab_has_an_empty_plan() -> None:
    assert plan(PAIR, converged(PAIR), NOW).empty


def test_absent_nodes_come_up() -> None:
    decided = plan(PAIR, Observed(capabilities=CAPABILITIES, host_boot=BOOT), NOW)
    assert verbs(decided) == {R1.id: Verb.UP, R2.id: Verb.UP}
    assert all(action.reason for action in decided.nodes)


@pytest.mark.parametrize("phase", [RuntimePhase.CREATED, RuntimePhase.GATED])
def test_start_is_carried_on_from_where_it_was_interrupted(phase: RuntimePhase) -> None:
    assert verbs(plan(PAIR, change(converged(PAIR), R1, phase=phase), NOW)) == {R1.id: Verb.UP}


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        (RestartPolicy.ALWAYS, 0, True),
        (RestartPolicy.ALWAYS, 1, True),
        (RestartPolicy.ON_FAILURE, 0, False),
        (RestartPolicy.ON_FAILURE, 137, True),
        (RestartPolicy.ON_FAILURE, None, True),
        (RestartPolicy.NEVER, 1, False),
    ],
)
def test_a_node_that_ended_follows_its_restart_policy(policy: RestartPolicy, code: int | None, again: bool) -> None:
    node = make_node("r1", restart_policy=policy)
    lab = make_slice(node)
    observed = change(converged(lab), node, phase=RuntimePhase.EXITED, exit_code=code)
    assert verbs(plan(lab, observed, NOW)) == ({node.id: Verb.UP} if again else {})


def test_a_node_that_ended_starts_again_when_the_user_asks() -> None:
    node = make_node("r1", restart_policy=RestartPolicy.NEVER, attention=1)
    lab = make_slice(node)
    observed = change(converged(lab), node, phase=RuntimePhase.EXITED, exit_code=0)
    observed = replace(observed, records={node.id: NodeRecord(attention=0, incarnation=1, host_boot=BOOT)})
    assert verbs(plan(lab, observed, NOW)) == {node.id: Verb.UP}


def test_nodes_start_again_after_a_reboot_of_the_host_whatever_their_policy() -> None:
    node = make_node("r1", restart_policy=RestartPolicy.NEVER)
    lab = make_slice(node)
    observed = replace(change(converged(lab), node, phase=RuntimePhase.EXITED, exit_code=0), host_boot="boot-2")
    assert verbs(plan(lab, observed, NOW)) == {node.id: Verb.UP}


@pytest.mark.parametrize(
    ("changes", "verb"),
    [
        ({"power": "off"}, Verb.STOP),
        ({"restarts": 1}, Verb.RESTART),
        ({"incarnation": 2}, Verb.WIPE),
        ({"memory_mb": 512}, Verb.RECREATE),
        ({"image": "other"}, Verb.RECREATE),
    ],
)
def test_an_edit_of_intent_becomes_its_verb(changes: dict[str, object], verb: Verb) -> None:
    edited = make_slice(R1.model_copy(update=changes), R2, wires=PAIR.wires)
    assert verbs(plan(edited, converged(PAIR), NOW)) == {R1.id: verb}


@pytest.mark.parametrize(
    "changes",
    [{"labels": {"a": "b"}}, {"restart_policy": RestartPolicy.NEVER}, {"post_boot": ("true",)}, {"attention": 3}],
)
def test_what_does_not_concern_the_runtime_touches_nothing(changes: dict[str, object]) -> None:
    edited = make_slice(R1.model_copy(update=changes), R2, wires=PAIR.wires)
    assert plan(edited, converged(PAIR), NOW).nodes == ()


def test_a_node_that_left_the_topology_is_removed_and_the_other_stays() -> None:
    decided = plan(make_slice(R2), converged(PAIR), NOW)
    assert verbs(decided) == {R1.id: Verb.REMOVE}


def test_a_removed_lab_loses_runtimes_and_folders_alike() -> None:
    observed = converged(PAIR)
    observed = replace(observed, runtimes={R1.id: observed.runtimes[R1.id]})
    decided = plan(make_slice(R1, R2, removed=True), observed, NOW)
    assert verbs(decided) == {R1.id: Verb.REMOVE, R2.id: Verb.REMOVE}


def test_dependencies_hold_until_the_other_is_ready() -> None:
    late = make_node("late", depends_on={R1.id: Condition.READY})
    lab = make_slice(R1, late)
    observed = converged(lab)
    observed = replace(observed, runtimes={R1.id: observed.runtimes[R1.id]})
    decided = plan(lab, observed, NOW)
    assert verbs(decided) == {}
    assert "r1" in decided.waiting[0].reason
    ready = replace(observed, ready={R1.id: Readiness.YES})
    assert verbs(plan(lab, ready, NOW)) == {late.id: Verb.UP}


def test_dependencies_hold_on_every_start() -> None:
    late = make_node("late", depends_on={R1.id: Condition.RUNNING})
    lab = make_slice(R1, late)
    observed = change(converged(lab), late, phase=RuntimePhase.EXITED, exit_code=1)
    observed = change(observed, R1, phase=RuntimePhase.EXITED, exit_code=1)
    assert verbs(plan(lab, observed, NOW)) == {R1.id: Verb.UP}


def test_failures_wait_and_end_in_a_terminal_error_that_the_user_clears() -> None:
    observed = replace(converged(PAIR), runtimes={})
    failed = NodeRecord(failures=2, retry_at=NOW + 5, incarnation=1, host_boot=BOOT)
    waiting = plan(PAIR, replace(observed, records={R1.id: failed}), NOW)
    assert R1.id not in verbs(waiting)
    assert waiting.wake_at == NOW + 5
    terminal = replace(observed, records={R1.id: replace(failed, retry_at=0, terminal=True)})
    assert R1.id not in verbs(plan(PAIR, terminal, NOW))
    cleared = make_slice(R1.model_copy(update={"attention": 1}), R2, wires=PAIR.wires)
    assert verbs(plan(cleared, terminal, NOW))[R1.id] is Verb.UP


def test_a_restart_that_the_agent_asks_for_is_carried_through_unless_the_policy_forbids_it() -> None:
    for policy, running, ended in (
        (RestartPolicy.ON_FAILURE, Verb.RESTART, Verb.UP),
        (RestartPolicy.NEVER, None, None),
    ):
        node = make_node("r1", restart_policy=policy)
        lab = make_slice(node)
        observed = converged(lab)
        asked = replace(observed, records={node.id: replace(observed.records[node.id], restart_for="it hangs")})
        assert verbs(plan(lab, asked, NOW)).get(node.id) is running
        stopped = change(asked, node, phase=RuntimePhase.EXITED, exit_code=0)
        assert verbs(plan(lab, stopped, NOW)).get(node.id) is ended
        pausing = replace(asked, records={node.id: replace(asked.records[node.id], retry_at=NOW + 5)})
        assert verbs(plan(lab, pausing, NOW)) == {}


def test_a_missing_engine_stops_only_its_own_nodes() -> None:
    down = {"alpha": CAPABILITIES["alpha"].model_copy(update={"available": False, "problem": "gone"})}
    decided = plan(PAIR, Observed(capabilities={**CAPABILITIES, **down}, host_boot=BOOT), NOW)
    assert verbs(decided) == {R2.id: Verb.UP}
    assert "gone" in decided.waiting[0].reason


def test_busy_nodes_are_left_alone() -> None:
    observed = replace(converged(PAIR), runtimes={}, busy=frozenset({R1.id}))
    assert verbs(plan(PAIR, observed, NOW)) == {R2.id: Verb.UP}


def test_a_new_link_on_running_nodes_plugs_joins_and_raises_without_touching_them() -> None:
    before = make_slice(R1, R2)
    decided = plan(PAIR, converged(before), NOW)
    assert decided.nodes == ()
    assert [(wire.a, wire.b) for wire in decided.wires.join] == [
        (R1.port(1).device, R2.port(2).device)  # type: ignore[union-attr]
    ]
    assert decided.wires.device_carriers == {R1.port(1).device: True}  # type: ignore[union-attr]
    assert decided.wires.runtime_carriers == {R2.id: {2: True}}


def test_a_removed_link_is_cut_and_its_carriers_fall() -> None:
    decided = plan(make_slice(R1, R2), converged(PAIR), NOW)
    assert {wire.a for wire in decided.wires.cut} == {
        R1.port(1).device,  # type: ignore[union-attr]
        R2.port(2).device,  # type: ignore[union-attr]
    }
    assert decided.wires.device_carriers == {R1.port(1).device: False}  # type: ignore[union-attr]
    assert decided.wires.runtime_carriers == {R2.id: {2: False}}


def test_a_link_that_is_switched_off_keeps_its_wire_and_drops_both_carriers() -> None:
    lab = make_slice(R1, R2, wires=(make_wire(R1, R2, up=False),))
    decided = plan(lab, converged(PAIR), NOW)
    assert decided.wires.join == decided.wires.cut == ()
    assert decided.wires.device_carriers == {R1.port(1).device: False}  # type: ignore[union-attr]
    assert decided.wires.runtime_carriers == {R2.id: {2: False}}


def test_a_node_whose_engine_is_away_leaves_its_peers_carrier_alone() -> None:
    down = {"beta": CAPABILITIES["beta"].model_copy(update={"available": False, "problem": "away"})}
    observed = change(converged(PAIR), R2, phase=RuntimePhase.UNKNOWN)
    decided = plan(PAIR, replace(observed, capabilities={**CAPABILITIES, **down}), NOW)
    assert decided.wires.empty


def test_a_node_that_died_takes_its_peers_carrier_down() -> None:
    observed = change(converged(PAIR), R2, phase=RuntimePhase.EXITED, exit_code=0)
    decided = plan(PAIR, observed, NOW)
    assert decided.wires.device_carriers == {R1.port(1).device: False}  # type: ignore[union-attr]


def test_a_port_that_vanished_from_a_running_node_is_plugged_again() -> None:
    observed = converged(PAIR)
    ports = dict(observed.network.ports)
    del ports[R1.port(1).device]  # type: ignore[union-attr]
    decided = plan(PAIR, replace(observed, network=DataPlaneState(ports=ports)), NOW)
    assert decided.wires.plug == {R1.id: (1,)}


def test_an_mtu_that_differs_is_mended() -> None:
    lab = make_slice(R1, R2, wires=(make_wire(R1, R2, mtu=9000),))
    assert [wire.mtu for wire in plan(lab, converged(PAIR), NOW).wires.join] == [9000]


# -- properties --------------------------------------------------------------------------------------------------

PHASES = st.sampled_from(list(RuntimePhase))
NODE_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "power": st.sampled_from(["on", "off"]),
        "restarts": st.integers(0, 2),
        "attention": st.integers(0, 2),
        "restart_policy": st.sampled_from(list(RestartPolicy)),
    },
)


@st.composite
def labs(draw: st.DrawFn) -> Slice:
    count = draw(st.integers(1, 5))
    nodes = [make_node(f"n{i}", draw(st.sampled_from(["alpha", "beta"])), **draw(NODE_CHANGES)) for i in range(count)]
    wires = tuple(make_wire(a, b, up=draw(st.booleans())) for a, b in itertools.pairwise(nodes))
    return make_slice(*nodes, wires=wires)


@given(labs())
def test_every_converged_lab_has_an_empty_plan(lab: Slice) -> None:
    alive = [node.model_copy(update={"power": "on"}) for node in lab.nodes]
    lab = lab.model_copy(update={"nodes": tuple(alive)})
    assert plan(lab, converged(lab), NOW).empty


@given(labs(), st.data())
def test_a_wanted_right_and_running_node_is_never_touched(lab: Slice, data: st.DataObject) -> None:
    alive = tuple(node.model_copy(update={"power": "on"}) for node in lab.nodes)
    lab = lab.model_copy(update={"nodes": alive})
    observed = converged(lab)
    for node in alive:
        observed = change(observed, node, phase=data.draw(PHASES), exit_code=data.draw(st.none() | st.integers(0, 2)))
    touched = verbs(plan(lab, observed, NOW))
    for node in alive:
        if observed.runtimes[node.id].phase is RuntimePhase.RUNNING:
            assert node.id not in touched


@given(labs(), st.data())
def test_storage_is_destroyed_only_when_the_user_asked(lab: Slice, data: st.DataObject) -> None:
    observed = converged(
        lab.model_copy(update={"nodes": tuple(n.model_copy(update={"power": "on"}) for n in lab.nodes)})
    )
    for node in lab.nodes:
        observed = change(observed, node, phase=data.draw(PHASES))
    destructive = set(verbs(plan(lab, observed, NOW)).values()) & {Verb.WIPE, Verb.REMOVE}
    assert not destructive


@given(labs(), labs())
def test_planning_does_not_depend_on_the_order_of_what_is_observed(lab: Slice, other: Slice) -> None:
    observed = converged(
        other.model_copy(update={"nodes": tuple(n.model_copy(update={"power": "on"}) for n in other.nodes)})
    )
    reverse = replace(observed, runtimes=dict(reversed(list(observed.runtimes.items()))))
    first, second = plan(lab, observed, NOW), plan(lab, reverse, NOW)
    assert set(first.nodes) == set(second.nodes)
    assert first.wires == second.wires
