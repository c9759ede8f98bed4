"""From raw observation to the states that users see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_plan import CAPABILITIES, NOW, PAIR, R1, R2, change, converged, make_slice, make_wire

from wireloom.model.network import DataPlaneState
from wireloom.model.state import LinkState, NodeState, NodeStep, Readiness, RuntimePhase
from wireloom.planning.link_status import wire_status
from wireloom.planning.plan import NodeRecord, Observed, plan
from wireloom.planning.status import node_status

WIRE = PAIR.wires[0]


def state_of(observed: Observed) -> NodeState:
    return node_status(R1, observed, plan(PAIR, observed, NOW), (NodeStep.BOOT, {})).state


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (RuntimePhase.CREATED, NodeState.CREATING),
        (RuntimePhase.GATED, NodeState.CREATING),
        (RuntimePhase.RUNNING, NodeState.RUNNING),
        (RuntimePhase.EXITED, NodeState.STOPPED),
        (RuntimePhase.UNKNOWN, NodeState.UNKNOWN),
    ],
)
def test_every_phase_has_its_state(phase: RuntimePhase, state: NodeState) -> None:
    assert state_of(change(converged(PAIR), R1, phase=phase)) is state


def test_a_node_of_an_engine_that_is_away_is_unknown_not_failed() -> None:
    away = {**CAPABILITIES, "alpha": CAPABILITIES["alpha"].model_copy(update={"available": False})}
    assert state_of(replace(converged(PAIR), capabilities=away)) is NodeState.UNKNOWN


def test_a_terminal_error_shows_as_failed_with_its_cause() -> None:
    record = NodeRecord(terminal=True, error={"code": "image-missing"}, incarnation=1)
    observed = replace(converged(PAIR), runtimes={}, records={R1.id: record})
    status = node_status(R1, observed, plan(PAIR, observed, NOW), (NodeStep.IMAGE, {}))
    assert status.state is NodeState.FAILED
    assert status.error == {"code": "image-missing"}


def test_running_is_not_ready() -> None:
    observed = converged(PAIR)
    status = node_status(R1, observed, plan(PAIR, observed, NOW), (NodeStep.BOOT, {}))
    assert (status.state, status.ready) == (NodeState.RUNNING, Readiness.UNKNOWN)
    ready = replace(observed, ready={R1.id: Readiness.YES})
    assert node_status(R1, ready, plan(PAIR, ready, NOW), (NodeStep.BOOT, {})).step is NodeStep.READY


def test_a_node_is_configuring_until_the_commands_of_this_boot_have_run() -> None:
    node, observed = R1.model_copy(update={"post_boot": ("date",)}), converged(PAIR)
    started = observed.runtimes[R1.id].started_at or 1

    def configuring(boot: float, phase: RuntimePhase = RuntimePhase.RUNNING) -> bool:
        records = {**observed.records, R1.id: replace(observed.records[R1.id], configured_boot=boot)}
        seen = change(replace(observed, records=records), R1, phase=phase)
        return node_status(node, seen, plan(PAIR, seen, NOW), (NodeStep.BOOT, {})).configuring

    assert configuring(0)
    assert configuring(started - 10)
    assert not configuring(started)
    assert not configuring(0, RuntimePhase.EXITED)
    assert not node_status(R1, observed, plan(PAIR, observed, NOW), (NodeStep.BOOT, {})).configuring


def test_a_wire_is_up_only_when_the_kernel_shows_it_joined_and_both_ends_live() -> None:
    observed = converged(PAIR)
    assert wire_status(WIRE, PAIR, observed).state is LinkState.UP
    stopped = change(observed, R2, phase=RuntimePhase.EXITED)
    assert wire_status(WIRE, PAIR, stopped).state is LinkState.PENDING
    assert "r2" in wire_status(WIRE, PAIR, stopped).message
    unplugged = replace(observed, network=DataPlaneState())
    assert wire_status(WIRE, PAIR, unplugged).state is LinkState.PENDING


def test_a_wire_that_only_one_side_redirects_is_not_up() -> None:
    observed = converged(PAIR)
    device = R1.ports[1].device
    ports = dict(observed.network.ports)
    ports[device] = ports[device].model_copy(update={"peer": None})
    assert wire_status(WIRE, PAIR, replace(observed, network=DataPlaneState(ports=ports))).state is LinkState.PENDING


def test_a_wire_that_the_user_switched_off_is_down() -> None:
    lab = make_slice(R1, R2, wires=(make_wire(R1, R2, up=False),))
    assert wire_status(lab.wires[0], lab, converged(lab)).state is LinkState.DOWN


def test_a_tap_that_lost_its_guest_is_not_shown_as_up() -> None:
    observed = converged(PAIR)
    device = R2.ports[2].device
    ports = dict(observed.network.ports)
    ports[device] = ports[device].model_copy(update={"kind": "tap", "carrier": False})
    status = wire_status(WIRE, PAIR, replace(observed, network=DataPlaneState(ports=ports)))
    assert status.state is LinkState.PENDING
    assert "restart" in status.message
