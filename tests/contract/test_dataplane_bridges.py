"""What the kernel's data plane promises of the host around its segments: NICs, bridges of others, the firewall."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from wiring_world import CAPABILITIES, make_node, make_slice, port_alias

from wireloom.agent.network import HostNetwork
from wireloom.dataplane.host import leftovers, traffic
from wireloom.dataplane.host.netlink import Netlink, open_transport
from wireloom.dataplane.host.uplinks import Uplinks
from wireloom.dataplane.kernel import KernelDataPlane, firewall
from wireloom.errors import Conflict, DataPlaneFailed, Unsupported
from wireloom.model.identity import device_name
from wireloom.model.network import DataPlaneState, PlugPlan, SegmentPlan, Uplink
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import PlugIntent, PortRef, SegmentIntent, Slice
from wireloom.model.state import RuntimePhase
from wireloom.model.vlans import Vlans
from wireloom.planning.plan import Observed
from wireloom.planning.wires import WirePlans, plan_wires
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.conformance.dataplane_segments import plugged, refused, segment_plan
from wireloom.testing.conformance.dataplane_world import world
from wireloom.testing.frames import FRAMES, SEGMENT_FRAMES, internet_checksum, source_of
from wireloom.testing.guests import receive, run_command

pytestmark = pytest.mark.kernel

PLAY = Path(__file__).parent / "uplink_play.py"
#: Frames that an ordinary bridge forwards, whatever it was told of link-local groups.
ORDINARY = {name: SEGMENT_FRAMES[name] for name in ("ipv4", "arp", "ipv6-multicast", "unknown-type")}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(KernelDataPlane) as made:
        yield made


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@asynccontextmanager
async def bridge_of_somebody_else(mtu: int = 1500) -> AsyncIterator[str]:
    """A bridge with a port, as an administrator would make it: its address is that of its port."""
    mark = secrets.token_hex(4)
    name, port = f"br{mark}", f"nic{mark}"
    await run_command("ip", "link", "add", name, "type", "bridge")
    mac = f"02:00:{mark[:2]}:{mark[2:4]}:{mark[4:6]}:{mark[6:]}"
    await run_command("ip", "link", "add", port, "address", mac, "mtu", str(mtu), "type", "veth", "peer", f"x{mark}")
    for device in (port, f"x{mark}", name):
        await run_command("ip", "link", "set", device, "up")
    await run_command("ip", "link", "set", port, "master", name)
    try:
        yield name
    finally:
        await run_command("ip", "link", "del", name)
        await run_command("ip", "link", "del", port)


def settings(bridge: str) -> dict[str, Any]:
    """Everything that ``ip`` shows of a bridge but its clocks."""
    shown = json.loads(output("ip", "-d", "-j", "link", "show", bridge))[0]
    data = {key: value for key, value in shown["linkinfo"]["info_data"].items() if not key.endswith("_timer")}
    return {"address": shown["address"], "mtu": shown["mtu"], **data}


def rules(bridge: str) -> list[str]:
    found = output("iptables", "-w", "-S", "FORWARD") + output("ip6tables", "-w", "-S", "FORWARD")
    return [line for line in found.splitlines() if bridge in line]


async def into(rig: Rig, bridge: str, kind: str, **more: Any) -> Plug:
    plug = await rig.plug(kind)
    await rig.plane.ensure_plugs([PlugPlan(device=plug.device, segment=bridge, **more)])
    return plug


async def test_bridge_of_somebody_else_is_joined_and_never_changed(rig: Rig) -> None:
    async with bridge_of_somebody_else() as bridge:
        before = settings(bridge)
        a, b = await into(rig, bridge, "veth"), await into(rig, bridge, "tap")
        await both_ways(a, b, ORDINARY)
        state = await rig.plane.observe()
        assert bridge in state.bridges
        assert bridge not in state.segments
        assert [(state.ports[plug.device].segment, state.ports[plug.device].vlans) for plug in (a, b)] == [
            (bridge, None),
            (bridge, None),
        ]
        assert settings(bridge) == before
        await rig.plane.remove_plugs([a.device])
        await silent(b, a)
        await rig.plane.remove_segment(bridge)
        await rig.plane.withdraw()
        await silent(a, b)
        assert settings(bridge) == before


async def test_segments_are_not_shown_as_bridges_of_others(rig: Rig) -> None:
    async with Rig(KernelDataPlane) as other:
        mine, theirs = await rig.segment(), await other.segment()
        assert not {mine, theirs} & (await rig.plane.observe()).bridges


async def test_port_that_would_change_a_bridge_of_somebody_else_is_refused(rig: Rig) -> None:
    async with bridge_of_somebody_else(mtu=9000) as bridge:
        before = settings(bridge)
        assert before["mtu"] == 9000
        plug, fine = await rig.plug("veth"), await rig.plug("veth")
        plans = [PlugPlan(device=one.device, segment=bridge, mtu=mtu) for one, mtu in ((plug, 1500), (fine, 9000))]
        with pytest.raises(Conflict) as caught:
            await rig.plane.ensure_plugs(plans)
        assert caught.value.details["device"] == plug.device
        assert "9000" in caught.value.hint
        state = await rig.plane.observe()
        assert (state.ports[plug.device].segment, state.ports[fine.device].segment) == (None, bridge)
        assert settings(bridge) == before
        with pytest.raises(Unsupported):
            await into(rig, bridge, "veth", mtu=9000, vlans=Vlans.access(10))


async def test_bridge_that_is_only_named_like_ours_is_somebody_elses(rig: Rig) -> None:
    name = f"wl{secrets.token_hex(4)}"
    await run_command("ip", "link", "add", name, "type", "bridge")
    try:
        assert name in (await rig.plane.observe()).bridges
        with pytest.raises(DataPlaneFailed) as caught:
            await rig.plane.ensure_segment(SegmentPlan(name=name, alias="wireloom segment i=x name=lab/lan"))
        assert caught.value.details["errno"] == "EEXIST"
        await rig.plane.remove_segment(name)
        assert name in (await rig.plane.observe()).bridges
    finally:
        await run_command("ip", "link", "del", name)


@pytest.mark.parametrize("kind", ["bridge", "ifb"])
async def test_devices_that_a_killed_agent_did_not_come_to_label_are_swept(
    rig: Rig, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = device_name("s", secrets.token_hex(4))
    await run_command("ip", "link", "add", name, "type", kind)
    try:
        await rig.plane.observe()
        await rig.plane.observe()
        assert (NET / name).exists(), "whoever makes it now was given no time to label it"
        monkeypatch.setattr(leftovers, "_PATIENCE_S", 0.0)
        await rig.plane.observe()
        assert not (NET / name).exists()
    finally:
        if (NET / name).exists():
            await run_command("ip", "link", "del", name)


async def test_neither_a_bridge_nor_its_port_is_taken_for_a_nic(rig: Rig) -> None:
    async with bridge_of_somebody_else() as bridge:
        before = settings(bridge)
        for device, words in ((bridge, "a switch itself"), (f"nic{bridge[2:]}", f"used by the bridge {bridge}")):
            await refused(rig, segment_plan(rig, uplink=Uplink(device=device)), Conflict, words)
        assert settings(bridge) == before


@pytest.mark.parametrize("way", ["unplugged", "port removed", "plane withdrawn"])
async def test_firewall_lets_our_ports_of_a_foreign_bridge_through_and_forgets_them(rig: Rig, way: str) -> None:
    async with bridge_of_somebody_else() as bridge:
        a, b = await into(rig, bridge, "veth"), await into(rig, bridge, "veth")
        assert len(rules(bridge)) == 4, "for each family what comes from our ports and what goes to them"
        assert all("wlp+" in rule for rule in rules(bridge))
        await rig.plane.remove_plugs([a.device])
        assert rules(bridge), "one port of ours is still there"
        if way == "unplugged":
            await rig.plane.remove_plugs([b.device])
        elif way == "port removed":
            await rig.plane.remove_ports([b.device])
        else:
            await rig.plane.withdraw()
        assert rules(bridge) == []


async def test_packets_of_a_switch_are_neither_tracked_nor_translated(rig: Rig) -> None:
    """An engine that publishes a port of the host's would else take what is for the same address in a lab."""
    plan = segment_plan(rig)
    await rig.plane.ensure_segment(plan)
    a, b = await plugged(rig, plan), await plugged(rig, plan, "tap")
    address = f"203.0.113.{secrets.randbelow(200)}"
    publish = ("iptables", "-w", "-t", "nat", "-I", "PREROUTING", "-d", address, "-j", "DNAT", "--to", "203.0.113.222")
    await run_command(*publish)
    try:
        frame = datagram(address)
        a.guest.send(frame)
        assert await receive(b.guest, source_of(frame)) == frame
        # With the host in it, it is a network of the host's, and its rules hold.
        await rig.plane.ensure_segment(plan.model_copy(update={"address": "198.51.100.1/24"}))
        frame = datagram(address)
        a.guest.send(frame)
        assert await receive(b.guest, source_of(frame), 0.3) != frame
    finally:
        await run_command(*publish[:4], "-D", *publish[5:])


def datagram(address: str) -> bytes:
    """A packet over UDP to ``address``."""
    frame = bytearray(FRAMES["ipv4"]())
    frame[30:34] = socket.inet_aton(address)
    frame[24:26] = bytes(2)
    frame[24:26] = internet_checksum(bytes(frame[14:34])).to_bytes(2)
    return bytes(frame)


async def test_rules_of_bridges_that_somebody_removed_are_swept(rig: Rig) -> None:
    async with bridge_of_somebody_else() as bridge:
        await into(rig, bridge, "veth")
        assert rules(bridge)
    await rig.plane.remove_segment(await rig.segment())
    assert rules(bridge) == []


async def test_rules_that_a_firewall_lost_are_put_back(rig: Rig) -> None:
    """As a reload of the host's firewall loses them, for our switches and for our ports of a bridge of others."""
    segment = await rig.segment()
    async with bridge_of_somebody_else() as bridge:
        inside = [await rig.plug("veth", segment=segment), await rig.plug("tap", segment=segment)]
        outside = [await into(rig, bridge, "veth"), await into(rig, bridge, "tap")]
        before = rules(segment), rules(bridge)
        for program in ("iptables", "ip6tables"):
            for line in output(program, "-w", "-S", "FORWARD").splitlines():
                if segment in line or bridge in line:
                    await run_command(program, "-w", *line.replace("-A", "-D", 1).split())
        assert (rules(segment), rules(bridge)) == ([], [])
        for a, b in (inside, outside):
            a.guest.send(frame := FRAMES["ipv4"]())
            assert await receive(b.guest, source_of(frame), 0.2) is None
        await rig.plane.mend()
        for a, b in (inside, outside):
            await both_ways(a, b, {"ipv4": FRAMES["ipv4"]})
        assert (rules(segment), rules(bridge)) == before


async def test_container_engine_that_starts_later_does_not_part_the_ports(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It has the firewall look at bridged frames from then on; before that there was no need for rules."""
    with monkeypatch.context() as before:
        before.setattr(firewall, "_PROGRAMS", dict.fromkeys(("iptables", "ip6tables"), tmp_path / "no-such-setting"))
        segment = await rig.segment()
        a, b = await rig.plug("veth", segment=segment), await rig.plug("tap", segment=segment)
        assert rules(segment) == []
    await rig.plane.mend()
    assert len(rules(segment)) == 2
    await both_ways(a, b, {"ipv4": FRAMES["ipv4"]})


async def test_mending_keeps_the_host_in_the_segments_where_it_speaks(rig: Rig) -> None:
    """Whether its packets are tracked there does not depend on who looks."""
    quiet, spoken = await rig.segment(), await rig.segment("198.51.100.1/24")
    for _ in range(2):
        untracked = output("iptables", "-w", "-t", "raw", "-S", "PREROUTING")
        assert quiet in untracked
        assert spoken not in untracked
        await rig.plane.mend()


async def test_nic_and_a_vlan_of_it_are_not_taken_by_two_segments(tmp_path: Path) -> None:
    """The one would get the other's frames, or keep them from it."""
    uplinks = Uplinks(Netlink(open_transport()), "two-segments", tmp_path)
    async with world() as outside:
        plans = [
            SegmentPlan(name=f"wls{vlan}", alias="", uplink=Uplink(device=outside.nic, vlan=vlan))
            for vlan in (None, 20, 21)
        ]
        for first, others in ((plans[0], plans[1:]), (plans[1], plans[:1])):
            # A kernel without devices for VLANs refuses only once it is noted who has which.
            with suppress(DataPlaneFailed):
                uplinks.take(first)
            for other in others:
                with pytest.raises(Conflict, match=f"{outside.nic} is used by"):
                    uplinks.take(other)
            uplinks.give_back(first.name)


async def test_planned_ways_out_leave_nothing_to_plan(rig: Rig) -> None:
    """What the planner asks for and what is observed then are the same thing, for every kind of external segment."""
    node = make_node("r1", ports=4)
    netns = await rig.namespace()
    async with world() as free, world(addressed=True) as used, bridge_of_somebody_else() as bridge:
        before = used.lines()
        uplinks = (Uplink(device=free.nic), Uplink(device=used.nic, addresses="move"), Uplink(device=bridge))
        segments = tuple(
            SegmentIntent(id=f"s{i}", name=f"s{i}", kind="external", device=rig.segment_name(), uplink=uplink)
            for i, uplink in enumerate(uplinks, 1)
        )
        plugs = tuple(
            PlugIntent(id=f"p{i}", port=PortRef(node_id=node.id, index=i), segment=f"s{i}") for i in (1, 2, 3)
        )
        lab = make_slice(node, segments=segments, plugs=plugs).model_copy(update={"installation": rig.installation})
        ports = [rig.plan(netns).model_copy(update={"alias": port_alias(lab, node, port)}) for port in node.ports]
        made = tuple(
            port.model_copy(update={"device": plan.device}) for port, plan in zip(node.ports, ports, strict=True)
        )
        lab = lab.model_copy(update={"nodes": (node.model_copy(update={"ports": made}),)})
        await rig.plane.ensure_ports(ports)
        for wanted in (lab, lab, lab.model_copy(update={"segments": (), "plugs": ()})):
            await carry_out(rig, await planned(rig, wanted))
            again = await planned(rig, wanted)
            assert again.empty, again
        assert (used.lines(), free.link().get("master")) == (before, None)


async def planned(rig: Rig, lab: Slice, state: DataPlaneState | None = None) -> WirePlans:
    runtimes = {
        node.id: RuntimeStatus(
            runtime_id="rt",
            name=node.name,
            identity=lab.identity(node),
            incarnation=node.incarnation,
            spec_hash="",
            phase=RuntimePhase.RUNNING,
        )
        for node in lab.nodes
    }
    observed = Observed(runtimes=runtimes, network=state or await rig.plane.observe(), capabilities=CAPABILITIES)
    return plan_wires(lab, observed, frozenset(), 1000.0)


async def carry_out(rig: Rig, plans: WirePlans) -> None:
    for segment in plans.segments:
        await rig.plane.ensure_segment(segment)
    await rig.plane.ensure_plugs(plans.attach)
    await rig.plane.remove_plugs(plans.detach)
    await rig.plane.set_carrier(dict(plans.device_carriers))
    for name in plans.drop_segments:
        await rig.plane.remove_segment(name)


@pytest.mark.parametrize("wanted", [True, False])
async def test_port_that_was_left_shut_in_its_segment_goes_where_it_should_be(rig: Rig, wanted: bool) -> None:
    """As after a crash between putting it in and opening it, or between shutting it and taking it out."""
    node = make_node("r1", ports=1)
    segment = SegmentIntent(id="s1", name="lan", kind="switch", device=rig.segment_name())
    plugs = (PlugIntent(id="p1", port=PortRef(node_id=node.id, index=1), segment="s1"),)
    owner = {"installation": rig.installation, "lab_id": "lab-2"}
    lab = make_slice(node, segments=(segment,), plugs=plugs).model_copy(update=owner)
    shut = rig.plan(await rig.namespace()).model_copy(update={"alias": port_alias(lab, node, node.ports[1])})
    ports = (node.ports[0], node.ports[1].model_copy(update={"device": shut.device}))
    lab = lab.model_copy(update={"nodes": (node.model_copy(update={"ports": ports}),)})
    await rig.plane.ensure_ports([shut])
    network = HostNetwork(rig.plane)
    await change(network, rig, lab)
    a, b = Plug(shut, await rig.guest(shut)), await rig.plug("tap", segment=segment.device)
    await both_ways(a, b, one_frame())
    fence = ("bpf", "bytecode", "1,6 0 0 2", "da")
    await run_command("tc", "qdisc", "add", "dev", a.device, "ingress")
    await run_command("tc", "filter", "add", "dev", a.device, "parent", "ffff:", "pref", "200", "handle", "1", *fence)
    await silent(a, b)
    network.invalidate()
    await change(network, rig, lab if wanted else lab.model_copy(update={"plugs": ()}))
    if wanted:
        await both_ways(a, b, one_frame())
    else:
        await silent(b, a)


async def change(network: HostNetwork, rig: Rig, lab: Slice) -> None:
    """What an agent does for links."""
    await network.refresh()
    await network.change(await planned(rig, lab, network.state))


async def test_abilities_tell_of_a_kernel_that_cannot_fence(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await rig.plane.abilities()).fence == ""
    whole = traffic.fence(1, "lo")
    unknown = dataclasses.replace(whole, body=whole.body.replace(b"bpf\0", b"xyz\0"))
    monkeypatch.setattr(traffic, "fence", lambda *_: unknown)
    await rig.restart()
    assert "cls_bpf" in (await rig.plane.abilities()).fence


async def test_abilities_name_what_this_kernel_lacks(rig: Rig) -> None:
    able = await rig.plane.abilities()
    trials = {
        "vlans": "ip link add br0 type bridge vlan_filtering 1",
        "vlan_devices": "ip link set lo up; ip link add link lo name vlan7 type vlan id 7",
    }
    for name, trial in trials.items():
        process = await asyncio.create_subprocess_exec("unshare", "-n", "sh", "-c", trial, stderr=subprocess.DEVNULL)
        works = await process.wait() == 0
        assert (getattr(able, name) == "") == works
    assert (able.qinq == "") == (able.vlans == "")


async def test_whoever_is_killed_while_taking_or_giving_back_a_nic_loses_nothing_of_the_host(tmp_path: Path) -> None:
    """At each single message to the kernel; each time one undoes it, and another finishes it."""
    command = ("unshare", "-n", sys.executable, str(PLAY), str(tmp_path / "notes"))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    async with asyncio.timeout(240):
        shown, _ = await process.communicate()
    assert process.returncode == 0, shown.decode()
    assert int(shown) > 100, "hardly anybody was killed"
