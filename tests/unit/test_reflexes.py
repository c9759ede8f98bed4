"""What happens at one end of a link is shown at the other at once; a node's links are made before its guest runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.pace import Pace
from wireloom.agent.surroundings import part_around, restricted
from wireloom.errors import Conflict
from wireloom.model.identity import device_name
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.network import ImpairmentPlan, PlugPlan, SegmentPlan, WirePlan
from wireloom.model.slice import NodeIntent, PlugIntent, PortRef, SegmentIntent, Slice
from wireloom.model.state import LinkState
from wireloom.model.vlans import Vlans
from wireloom.planning.wires import WirePlans

SEGMENT = device_name("s", "test", "lan")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def slow_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on the loop looks so rarely that whatever happens was done by a reflex."""
    return lambda: monkeypatch.setattr(Pace, "pause", lambda _: 60.0)


async def soon(check: Callable[[], bool]) -> None:
    for _ in range(100):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


def up(host: Host, node: NodeIntent, index: int) -> bool:
    return host.network.ports[node.ports[index].device].up


async def test_a_node_that_dies_takes_its_peers_carrier(host: Host, slow_loop: Callable[[], None]) -> None:
    a, b = make_node("a"), make_node("b", restart_policy="never")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
        slow_loop()
        agent.reconciler.wake()
        await asyncio.sleep(0.02)
        host.worlds["alpha"].crash("b")
        await soon(lambda: not up(host, a, 1))


async def test_a_guest_that_shuts_its_port_takes_its_peers_carrier(host: Host, slow_loop: Callable[[], None]) -> None:
    a, b = make_node("a"), make_node("b")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
        slow_loop()
        agent.reconciler.wake()
        await asyncio.sleep(0.02)
        port = host.network.ports[b.ports[2].device]
        for carrier in (False, True):
            host.network.ports[port.device] = port.model_copy(update={"carrier": carrier})
            host.network.publish(host.network.ports[port.device])
            await soon(lambda carrier=carrier: up(host, a, 1) is carrier)  # type: ignore[misc]


async def test_a_machine_sees_its_peer_die_through_its_hypervisor(host: Host, slow_loop: Callable[[], None]) -> None:
    a, b = make_node("a", "beta"), make_node("b", restart_policy="never")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
        slow_loop()
        agent.reconciler.wake()
        await asyncio.sleep(0.02)
        machine = host.worlds["beta"].by_node("a")
        assert machine.carriers[1]
        host.worlds["alpha"].crash("b")
        await soon(lambda: machine.carriers[1] is False)


async def test_a_node_that_is_stopped_takes_its_peers_carrier_before_the_action_is_done(
    host: Host, slow_loop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = make_node("a"), make_node("b")
    agent = Agent(host)
    stop = agent.providers["alpha"].stop
    stopped, done = asyncio.Event(), asyncio.Event()

    async def stop_slowly(runtime_id: str, grace_s: float) -> None:
        await stop(runtime_id, grace_s)
        stopped.set()
        await done.wait()

    monkeypatch.setattr(agent.providers["alpha"], "stop", stop_slowly)
    async with agent.alive():
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
        agent.reconciler.set_slice("lab-1", make_lab(a, make_node("b", power="off"), generation=2))
        await stopped.wait()
        slow_loop()
        await soon(lambda: not up(host, a, 1))
        assert agent.actions.is_busy("id-b")
        done.set()


async def test_nothing_is_concluded_from_ports_that_were_not_read_yet(host: Host) -> None:
    a, b = make_node("a", "beta"), make_node("b", "beta")
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
    before = host.worlds["beta"].calls["set_carrier"]
    host.network.delays["observe"] = 0.2
    async with Agent(host).alive() as heir:
        heir.reconciler.set_slice("lab-1", make_lab(a, b))
        heir.reflexes.node_changed("lab-1", a.id)
        await heir.until(settled())
    assert host.worlds["beta"].calls["set_carrier"] == before
    assert host.worlds["beta"].by_node("a").carriers[1]


def with_segment(lab: Slice, *ports: PortRef, vlan: int | None = None) -> Slice:
    segment = SegmentIntent(
        id="lan", name="lan", kind="switch", device=SEGMENT, mtu=9000, tagging="802.1q" if vlan else "none"
    )
    plugs = tuple(
        PlugIntent(
            id=f"plug{number}",
            port=port,
            segment="lan",
            vlans=Vlans.access(vlan) if vlan else None,
            impairment=LinkImpairment(forward=Impairment(rate_kbit=1000)),
        )
        for number, port in enumerate(ports)
    )
    return lab.model_copy(update={"segments": (segment,), "plugs": plugs})


async def test_a_nodes_links_are_made_before_its_guest_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by holding the release: plugs with their segment, VLAN, MTU and impairment, and the carrier, are there."""
    a, b = make_node("a"), make_node("b", "beta")
    lab = with_segment(make_lab(a, b), PortRef(node_id=a.id, index=2), vlan=7)
    seen = {}
    agent = Agent(host)
    release = agent.providers["alpha"].release

    async def look_and_release(runtime_id: str) -> None:
        seen["port"] = host.network.ports[a.ports[2].device]
        await release(runtime_id)

    monkeypatch.setattr(agent.providers["alpha"], "release", look_and_release)
    async with agent.alive():
        agent.reconciler.set_slice("lab-1", lab)
        await agent.until(settled())
    port = seen["port"]
    assert (port.segment, port.vlans, port.mtu, port.up) == (SEGMENT, Vlans.access(7), 9000, True)
    assert port.from_guest == Impairment(rate_kbit=1000)


async def test_an_impairment_ends_by_itself_with_a_line_in_the_history(host: Host) -> None:
    a, b = make_node("a"), make_node("b")
    lab = make_lab(a, b)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        status = await agent.until(settled())
        timed = LinkImpairment(forward=Impairment(delay_ms=10), forward_until=status.observed_at + 1.0)
        wires = (lab.wires[0].model_copy(update={"impairment": timed}),)
        agent.reconciler.set_slice("lab-1", lab.model_copy(update={"wires": wires, "generation": 2}))
        await agent.until(lambda status: status.wires[0].impairment.forward == timed.forward)
        assert host.network.ports[b.ports[2].device].to_guest == timed.forward
        await agent.until(lambda status: status.wires[0].impairment.forward is None)
        await soon(lambda: "link.impairment-ended" in [event.kind for event in agent.reports.events])
    assert host.network.ports[b.ports[2].device].to_guest is None


async def test_a_segment_goes_with_its_last_wish(host: Host) -> None:
    a = make_node("a")
    lab = with_segment(make_lab(a), PortRef(node_id=a.id, index=1), PortRef(node_id=a.id, index=2))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        status = await agent.until(lambda status: status.converged and status.nodes[0].ready == "yes")
        assert [plug.state for plug in status.plugs] == [LinkState.UP] * 2
        assert host.network.segments.keys() == {SEGMENT}
        agent.reconciler.set_slice("lab-1", make_lab(a, generation=2))
        await agent.until(lambda status: status.converged and status.generation == 2)
    assert host.network.segments == {}
    assert host.network.ports[a.ports[1].device].segment is None


async def test_a_port_whose_segment_is_refused_waits_without_haste(host: Host) -> None:
    a = make_node("a")
    refused = Conflict("the NIC is in use")
    host.network.fail("ensure_segment", refused, times=10_000)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", with_segment(make_lab(a), PortRef(node_id=a.id, index=1)))
        status = await agent.until(lambda status: bool(status.plugs) and status.plugs[0].state is LinkState.FAILED)
        assert "the NIC is in use" in status.plugs[0].message
        assert status.segments[0].state is LinkState.FAILED
        await agent.until(lambda status: status.nodes[0].ready == "yes")
        await asyncio.sleep(0.1)
        before = host.network.calls["observe"]
        await asyncio.sleep(0.5)
        assert host.network.calls["observe"] <= before + 2
        host.network.faults.clear()
        await agent.until(lambda status: status.converged)


def test_the_part_around_a_node_holds_its_links_and_far_ends_and_no_more() -> None:
    nodes = [make_node(name) for name in "abcd"]
    lab = with_segment(make_lab(*nodes), PortRef(node_id="id-a", index=2), PortRef(node_id="id-d", index=1))
    part = part_around(lab, {"id-b"})
    assert [node.name for node in part.lab.nodes] == ["a", "b", "c"]
    assert [wire.id for wire in part.lab.wires] == ["w0", "w1"]
    assert part.lab.plugs == ()
    assert part.devices == {nodes[0].ports[1].device, nodes[2].ports[2].device, *(p.device for p in nodes[1].ports)}


def test_a_restricted_plan_touches_the_named_devices_only() -> None:
    plans = WirePlans(
        plug={"n": (1,)},
        unplug=("x",),
        join=(WirePlan(a="a", b="b"), WirePlan(a="a", b="x")),
        cut=(WirePlan(a="a", b="x"), WirePlan(a="x", b="a")),
        device_carriers={"a": True, "x": False},
        segments=(SegmentPlan(name="s", alias=""), SegmentPlan(name="t", alias="")),
        drop_segments=("u",),
        attach=(PlugPlan(device="a", segment="s"), PlugPlan(device="x", segment="t")),
        detach=("b", "x"),
        impair=(ImpairmentPlan(device="a"), ImpairmentPlan(device="x")),
        wake_at=1,
    )
    assert restricted(plans, {"a", "b"}) == replace(
        plans,
        plug={},
        unplug=(),
        join=plans.join[:1],
        cut=plans.cut[:1],
        device_carriers={"a": True},
        segments=plans.segments[:1],
        drop_segments=(),
        attach=plans.attach[:1],
        detach=("b",),
        impair=plans.impair[:1],
        wake_at=None,
    )


async def test_a_port_that_was_just_raised_is_not_taken_for_one_that_its_guest_has_shut(host: Host) -> None:
    a, b = make_node("a"), make_node("b")
    agent = Agent(host)
    async with agent.alive():
        agent.reconciler.set_slice("lab-1", make_lab(a, b))
        await agent.until(settled())
        network, device = agent.network, a.ports[1].device
        # What the kernel shows of a veth whose host side is down.
        host.network.ports[device] = host.network.ports[device].model_copy(update={"up": False, "carrier": False})
        await network.refresh(force=True)
        await network.set_carriers({device: True})
        assert network.ports[device].carrier
