"""What the data plane over Open vSwitch promises beyond the contract: no left-overs, others left alone, restarts."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ovs_rig import PrivateOvs, private_ovs

from wireloom.agent.network import HostNetwork
from wireloom.commands import run
from wireloom.dataplane.host.uplinks import NOTES
from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.errors import Conflict, NotFound, Unavailable, Unsupported
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import short_hash
from wireloom.model.network import PlugPlan, PortEvent, PortPlan, SegmentAlias, SegmentPlan, Uplink, WirePlan
from wireloom.model.vlans import Vlans
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent, wire
from wireloom.testing.conformance.dataplane_rig import NET, Plug, Rig
from wireloom.testing.conformance.dataplane_segments import plugged, refused, segment_plan
from wireloom.testing.conformance.dataplane_world import world
from wireloom.testing.frames import FRAMES, SEGMENT_FRAMES, internet_checksum
from wireloom.testing.guests import run_command, socket_in

pytestmark = pytest.mark.kernel


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(OvsDataPlane) as made:
        yield made


@pytest.fixture
async def ovs(tmp_path: Path) -> AsyncIterator[PrivateOvs]:
    async with private_ovs(tmp_path) as made:
        yield made


async def vsctl(*words: str) -> str:
    done = await run("ovs-vsctl", "--timeout=10", *words)
    assert done.code == 0, done
    return done.output


async def rows(table: str, installation: str) -> list[str]:
    """Names (or ids) of what the database holds of an installation."""
    column = "_uuid" if table == "QoS" else "name"
    owner = f"external_ids:wireloom-installation={installation}"
    return (await vsctl("--bare", f"--columns={column}", "find", table, owner)).split()


def netns_of(plan: PortPlan) -> str:
    assert isinstance(plan.attachment, NamespaceAttachment)
    return plan.attachment.netns


# --- what is left ---------------------------------------------------------------------------------


async def test_container_that_died_leaves_nothing_in_the_database(rig: Rig) -> None:
    a, b = await rig.plug("veth"), await rig.plug("tap")
    await rig.plane.ensure_wires([wire(a, b)])
    a.guest.close()
    await run_command("ip", "netns", "del", Path(netns_of(a.plan)).name)
    await until_gone(a.device)
    assert (await rig.plane.observe()).ports[b.device].peer is None
    assert await rows("Port", rig.installation) == [b.device]


async def test_removing_a_port_that_went_by_itself_leaves_nothing_in_the_database(rig: Rig) -> None:
    plug = await rig.plug("tap")
    plug.guest.close()
    await run_command("ip", "link", "del", plug.device)
    await rig.plane.remove_ports([plug.device])
    assert await rows("Port", rig.installation) == []
    assert await rows("Bridge", rig.installation) == []


async def until_gone(device: str) -> None:
    for _ in range(500):
        if not (NET / device).exists():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a device outlives the namespace of its guest")


async def test_only_port_is_made_anew_for_a_container_that_was_restarted(rig: Rig) -> None:
    """Its old device has gone, and nobody has looked since."""
    plug = await rig.plug("veth")
    await run_command("ip", "link", "del", plug.device)
    await rig.plane.ensure_ports([plug.plan])
    other = await rig.plug("tap")
    await rig.plane.ensure_wires([wire(plug, other)])
    await both_ways(Plug(plug.plan, await rig.guest(plug.plan)), other, one_frame())


async def test_last_port_takes_everything_of_ours_along(rig: Rig) -> None:
    segment = await rig.segment()
    a, b = await rig.plug("veth"), await rig.plug("tap", segment=segment)
    assert len(await rows("Bridge", rig.installation)) == 2
    await rig.plane.remove_ports([a.device, b.device])
    await rig.plane.remove_segment(segment)
    for table in ("Bridge", "Port", "QoS"):
        assert await rows(table, rig.installation) == []


async def test_port_that_gets_the_number_of_another_gets_none_of_its_frames(rig: Rig) -> None:
    a, b = await rig.plug("veth"), await rig.plug("veth")
    await rig.plane.ensure_wires([wire(a, b)])
    await rig.plane.remove_ports([b.device])
    c = await rig.plug("veth")
    await silent(a, c)
    await silent(c, a)
    assert (await rig.plane.observe()).ports[a.device].peer is None


# --- what is others' ------------------------------------------------------------------------------


@asynccontextmanager
async def foreign_bridge() -> AsyncIterator[str]:
    """A bridge of somebody else's, of this host's datapath."""
    name = f"foreign{secrets.token_hex(3)}"
    await vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev", "fail_mode=secure")
    await run_command("ovs-ofctl", "add-flow", name, "priority=7,actions=NORMAL")
    try:
        yield name
    finally:
        await vsctl("del-br", name)


async def shown(bridge: str) -> tuple[str, str, str]:
    """All that Open vSwitch has of a bridge."""
    flows = await run("ovs-ofctl", "--no-stats", "dump-flows", bridge)
    return await vsctl("list", "Bridge", bridge), await vsctl("list-ports", bridge), flows.output


async def test_bridges_of_others_are_left_alone(rig: Rig) -> None:
    async with foreign_bridge() as name:
        before = await shown(name)
        a, b = await rig.plug("veth"), await rig.plug("tap")
        await rig.plane.ensure_wires([wire(a, b)])
        assert name in (await rig.plane.observe()).bridges
        await rig.plane.remove_segment(name)
        await rig.plane.withdraw()
        assert await shown(name) == before


async def test_ports_are_plugged_into_a_bridge_of_others_and_leave_it_as_it_was(rig: Rig) -> None:
    async with foreign_bridge() as name:
        before = await shown(name)
        await rig.plane.ensure_segment(SegmentPlan(name=name, alias="", foreign=True))
        a, b = await rig.plug("veth"), await rig.plug("tap")
        await rig.plane.ensure_plugs([PlugPlan(device=plug.device, segment=name) for plug in (a, b)])
        await both_ways(a, b, {"ipv4": FRAMES["ipv4"]})
        assert {port.segment for port in (await rig.plane.observe()).ports.values()} == {name}
        with pytest.raises(Unsupported):
            await rig.plane.ensure_plugs([PlugPlan(device=a.device, segment=name, vlans=Vlans.access(3))])
        await rig.plane.remove_plugs([a.device])
        await rig.plane.remove_ports([b.device])
        assert await shown(name) == before


async def test_last_wire_goes_while_a_port_is_in_a_bridge_of_others(rig: Rig) -> None:
    async with foreign_bridge() as name:
        a, b, c = [await rig.plug("veth") for _ in range(3)]
        await rig.plane.ensure_wires([wire(a, b)])
        await rig.plane.ensure_plugs([PlugPlan(device=c.device, segment=name)])
        await rig.plane.remove_ports([a.device, b.device])
        assert (await rig.plane.observe()).ports[c.device].segment == name
        assert await rows("Bridge", rig.installation) == []
        await rig.plane.remove_ports([c.device])
        assert [await rows(table, rig.installation) for table in ("Port", "QoS")] == [[], []]


async def test_port_in_a_bridge_that_others_removed_leaves_nothing_in_the_database(rig: Rig) -> None:
    async with foreign_bridge() as name:
        port = await rig.plug("veth")
        await rig.plane.ensure_plugs([PlugPlan(device=port.device, segment=name)])
    await rig.plane.remove_ports([port.device])
    for table in ("Bridge", "Port", "QoS"):
        assert await rows(table, rig.installation) == []


async def test_missing_bridge_of_others_is_refused(rig: Rig) -> None:
    with pytest.raises(NotFound):
        await rig.plane.ensure_segment(SegmentPlan(name="nosuchbridge", alias="", foreign=True))


async def test_nic_with_filters_of_others_is_refused(rig: Rig) -> None:
    async with world() as outside:
        await filter_frames(outside.nic, "ingress")
        before = await filters(outside.nic)
        await refused(rig, segment_plan(rig, uplink=Uplink(device=outside.nic)), Conflict, "filters")
        assert before
        assert await filters(outside.nic) == before


async def test_filters_that_others_give_a_nic_meanwhile_stay(rig: Rig) -> None:
    async with world() as outside:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
        for filtered in (True, False):
            await rig.plane.ensure_segment(plan)
            if filtered:
                await filter_frames(outside.nic, "clsact")
            await rig.plane.remove_segment(plan.name)
            left = await filters(outside.nic)
            assert ("pref 7 " in left, "pref 200" in left) == (filtered, False)
            await run("tc", "qdisc", "del", "dev", outside.nic, "clsact")
        assert "clsact" not in (await run("tc", "qdisc", "show", "dev", outside.nic)).output


async def filter_frames(nic: str, hook: str) -> None:
    """A filter of somebody else's that lets everything pass."""
    await run("tc", "qdisc", "add", "dev", nic, hook)
    program = ("bpf", "bytecode", "1,6 0 0 4294967295,")
    await run_command("tc", "filter", "add", "dev", nic, "ingress", "pref", "7", *program)


async def filters(nic: str) -> str:
    return (await run("tc", "filter", "show", "dev", nic, "ingress")).output


# --- what the guests' frames do -------------------------------------------------------------------


async def test_tcp_between_containers_arrives(rig: Rig) -> None:
    """The datapath in user space passes on what a NIC would have finished: checksums, segments."""
    plans = [
        rig.plan(await rig.namespace()).model_copy(update={"addresses": (f"198.51.100.{host}/24",)}) for host in (1, 2)
    ]
    await rig.plane.ensure_ports(plans)
    await rig.plane.ensure_wires([WirePlan(a=plans[0].device, b=plans[1].device)])
    data = secrets.token_bytes(300_000)
    assert await sent_over_tcp(netns_of(plans[0]), netns_of(plans[1]), "198.51.100.2", data) == data


async def test_tcp_from_a_container_to_the_host_arrives(rig: Rig) -> None:
    segment = await rig.segment("198.51.100.1/24")
    plan = rig.plan(await rig.namespace(), segment=segment).model_copy(update={"addresses": ("198.51.100.2/24",)})
    await rig.plane.ensure_ports([plan])
    data = secrets.token_bytes(300_000)
    assert await sent_over_tcp(netns_of(plan), "/proc/self/ns/net", "198.51.100.1", data) == data


async def sent_over_tcp(sender: str, receiver: str, address: str, data: bytes) -> bytes:
    """What arrives at ``address`` in one namespace of what is sent from the other."""
    loop = asyncio.get_running_loop()
    listener = await socket_in(receiver, socket.AF_INET, socket.SOCK_STREAM)
    opened = await socket_in(sender, socket.AF_INET, socket.SOCK_STREAM)
    with listener, opened:
        listener.bind((address, 0))
        listener.listen()
        async with asyncio.timeout(10):
            await loop.sock_connect(opened, listener.getsockname())
            accepted, _ = await loop.sock_accept(listener)
            reader, writer = await asyncio.open_connection(sock=accepted)
            sending = asyncio.create_task(loop.sock_sendall(opened, data))
            arrived = await reader.readexactly(len(data))
            await sending
            writer.close()
            await writer.wait_closed()
    return arrived


@pytest.mark.parametrize("wired", [False, True])
async def test_host_does_not_hear_what_a_guest_sends(rig: Rig, wired: bool) -> None:
    """Not even a packet to the host's own addresses, link and IP."""
    plug = await rig.plug("veth")
    if wired:
        await rig.plane.ensure_wires([wire(plug, await rig.plug("tap"))])
    await rig.segment("198.51.100.1/24")
    datagram = FRAMES["ipv4"]()
    packet = bytearray(datagram[14:])
    packet[16:20] = socket.inet_aton("198.51.100.1")
    packet[10:12] = bytes(2)
    packet[10:12] = internet_checksum(bytes(packet[:20])).to_bytes(2)
    packet[26:28] = bytes(2)  # UDP without a checksum
    host = bytes.fromhex((NET / plug.device / "address").read_text().strip().replace(":", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("198.51.100.1", 0xC001))
        listener.setblocking(False)
        plug.guest.send(host + datagram[6:14] + bytes(packet))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(listener, 2048), 0.3)


async def test_queues_of_a_device_stay_as_they_are(rig: Rig) -> None:
    plug = await rig.plug("veth")
    await run_command(
        "tc",
        "qdisc",
        "replace",
        "dev",
        plug.device,
        "root",
        "tbf",
        "rate",
        "1mbit",
        "burst",
        "2000",
        *("latency", "50ms"),
    )
    await rig.plane.ensure_wires([wire(plug, await rig.plug("veth"))])
    assert "tbf" in (await run("tc", "qdisc", "show", "dev", plug.device)).output


# --- other data planes ----------------------------------------------------------------------------


async def test_running_ports_go_from_one_data_plane_to_the_other_and_back(rig: Rig) -> None:
    other = KernelDataPlane(rig.installation)
    a, b = await rig.plug("veth"), await rig.plug("tap")
    try:
        for leaves, comes in ((rig.plane, other), (other, rig.plane), (rig.plane, other)):
            await leaves.ensure_wires([wire(a, b)])
            await leaves.withdraw()
            await comes.ensure_wires([wire(a, b)])
            await both_ways(a, b, one_frame())
            # Asked once more, as at each start of an agent, it disturbs nobody.
            await leaves.withdraw()
            await both_ways(a, b, one_frame())
        await other.withdraw()
    finally:
        await other.close()


# --- restarts -------------------------------------------------------------------------------------


async def test_wires_are_mended_when_the_daemon_was_killed(ovs: PrivateOvs) -> None:
    async with Rig(ovs.plane) as rig:
        a, b = await rig.plug("veth"), await rig.plug("veth")
        await rig.plane.ensure_wires([wire(a, b)])
        await both_ways(a, b, one_frame())
        events = rig.plane.watch()
        heard = asyncio.ensure_future(next_loss(events))
        await asyncio.sleep(0)
        await ovs.kill()
        await asyncio.wait_for(heard, 5)
        with pytest.raises(Unavailable):
            await rig.plane.observe()
        heard = asyncio.ensure_future(next_loss(events))
        await ovs.start()
        await asyncio.wait_for(heard, 5)
        state = await rig.plane.observe()
        assert {port.peer for port in state.ports.values()} == {None}
        await rig.plane.ensure_wires([wire(a, b)])
        await both_ways(a, b, one_frame())
        await rig.plane.close()
        assert await anext(events, None) is None
        await rig.restart()


async def test_nothing_is_said_of_links_while_the_daemon_is_away(ovs: PrivateOvs) -> None:
    """Its database is there all the same, and tells what would be."""
    async with Rig(ovs.plane) as rig:
        await rig.plane.observe()
        await ovs.kill()
        network = HostNetwork(rig.plane)
        with pytest.raises(Unavailable):
            await network.refresh()
        assert "ovs-vswitchd" in network.outage
        await ovs.start()
        await network.refresh()
        assert not network.outage


async def next_loss(events: AsyncIterator[PortEvent]) -> None:
    """Until somebody says that everything has to be looked at anew."""
    while (await anext(events)).device:
        pass


async def test_segment_is_mended_when_the_daemons_were_restarted(ovs: PrivateOvs) -> None:
    async with Rig(ovs.plane) as rig:
        name = rig.segment_name()
        alias = SegmentAlias(installation=rig.installation, name="lab/lan")
        plan = SegmentPlan(name=name, alias=alias.text(), address="198.51.100.1/24", tagging="802.1q")
        await rig.plane.ensure_segment(plan)
        plugs = [await rig.plug(kind) for kind in ("veth", "tap")]
        vlans = Vlans.access(7)
        await rig.plane.ensure_plugs([PlugPlan(device=plug.device, segment=name, vlans=vlans) for plug in plugs])
        before = await rig.plane.observe()
        await ovs.stop()
        await ovs.start()
        await rig.plane.observe()
        assert await rig.plane.observe() == before
        assert "198.51.100.1/24" in (await run("ip", "-o", "address", "show", "dev", name)).output
        plain = {key: make for key, make in SEGMENT_FRAMES.items() if key not in {"802.1q", "q-in-q"}}
        await both_ways(plugs[0], plugs[1], plain)


async def test_hosts_address_is_back_when_the_daemons_were_restarted(ovs: PrivateOvs) -> None:
    """The device that held it meanwhile is made anew by them, without it."""
    async with Rig(ovs.plane) as rig, world(addressed=True) as outside:
        name = rig.segment_name()
        alias = SegmentAlias(installation=rig.installation, name="lab/office")
        uplink = Uplink(device=outside.nic, addresses="move")
        await rig.plane.ensure_segment(SegmentPlan(name=name, alias=alias.text(), uplink=uplink))
        before = outside.lines(name)
        assert any(outside.host in line for line in before[0])
        await ovs.stop()
        await ovs.start()
        await rig.plane.observe()
        assert outside.lines(name) == before
        assert (await rig.plane.observe()).segments[name].uplink == outside.nic


@pytest.mark.parametrize("again", ["observed", "asked for"])
async def test_nic_that_the_database_holds_from_an_earlier_boot_is_taken_anew(ovs: PrivateOvs, again: str) -> None:
    """A boot takes our notes and the filters at the NIC along; ovs-vswitchd takes the NIC at its start all the same."""
    async with Rig(ovs.plane) as rig, world() as outside:
        plan = segment_plan(rig, uplink=Uplink(device=outside.nic))
        await rig.plane.ensure_segment(plan)
        await ovs.stop()
        shutil.rmtree(NOTES / short_hash("uplinks", rig.installation))
        await run_command("tc", "qdisc", "del", "dev", outside.nic, "clsact")
        await ovs.start()
        await rig.restart()
        if again == "observed":
            state = await rig.plane.observe()
            assert state.segments[plan.name].uplink is None
            assert outside.nic not in await ovs.vsctl("list-ports", plan.name)
        await rig.plane.ensure_segment(plan)
        assert (await rig.plane.observe()).segments[plan.name].uplink == outside.nic
        assert "clsact" in (await run("tc", "qdisc", "show", "dev", outside.nic)).output, "the host hears the NIC"
        await both_ways(await plugged(rig, plan), outside, one_frame())
        await rig.plane.remove_segment(plan.name)
        assert outside.nic not in await ovs.vsctl("--bare", "--columns=name", "list", "Port")


async def test_host_without_daemons_says_so_and_has_nothing_to_give_up(tmp_path: Path) -> None:
    plane = OvsDataPlane("nobody", tmp_path)
    try:
        await plane.withdraw()
        with pytest.raises(Unavailable) as caught:
            await plane.observe()
        assert caught.value.hint
    finally:
        await plane.close()
