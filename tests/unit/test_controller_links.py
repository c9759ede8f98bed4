"""Verbs on links and segments: what they store, what hosts are told, what views say, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_rig import SUBNET, Rig, make_rig, until

from wireloom.errors import Conflict, InvalidInput, NotFound, TopologyInvalid, Unsupported
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.link_views import ClearRequest, ImpairRequest, LinkRequest, LinkView, Parts, SegmentRequest
from wireloom.model.network import DataPlaneAbilities
from wireloom.model.presets import PRESETS
from wireloom.model.slice import Slice
from wireloom.model.views import DeployRequest, OperationState, OperationView
from wireloom.model.vlans import Vlans

LAB = """\
# three of them
name: lab
defaults: {device: linux, provider: simulated, spare-ports: 2}
nodes:
  a:
  b:
  c:
segments:
  lan: {kind: switch}   # the office
links:
  - [a:eth1, b:eth1]    # the cable
  - [c:eth1, lan]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as found:
        await found.add_host()
        yield found


async def link(rig: Rig, verb: str, a: str, b: str, **more: Any) -> OperationView:
    request = LinkRequest.model_validate({"verb": verb, "a": a, "b": b, **more})
    return await rig.ended(await rig.controller.links.link("lab", request))


async def impair(rig: Rig, a: str, b: str, **more: Any) -> OperationView:
    request = ImpairRequest.model_validate({"a": a, "b": b, **more})
    return await rig.ended(await rig.controller.links.impair("lab", request))


async def clear(rig: Rig, a: str = "", b: str = "") -> OperationView:
    return await rig.ended(await rig.controller.links.clear("lab", ClearRequest(a=a, b=b)))


async def segment(rig: Rig, verb: str, name: str, **more: Any) -> OperationView:
    request = SegmentRequest.model_validate({"verb": verb, "name": name, **more})
    return await rig.ended(await rig.controller.links.segment("lab", request))


def shown(rig: Rig, lab: str = "lab") -> dict[str, LinkView]:
    return {f"{link.a} {link.b}": link for link in rig.controller.lab(lab).links}


def told(rig: Rig) -> Slice:
    return next(iter(rig.hosts["h1"].slices.values()))


# -------------------------------------------------------------------- links and segments


async def test_links_to_ports_and_to_segments_are_shown_together(rig: Rig) -> None:
    assert (await rig.deploy(LAB)).state is OperationState.DONE
    links = shown(rig)
    assert [(found.kind, found.state, found.mtu) for found in links.values()] == [
        ("wire", "up", 1500),
        ("plug", "up", 1500),
    ]
    assert list(links) == ["a:eth1 b:eth1", "c:eth1 lan"]
    [lan] = rig.controller.lab("lab").segments
    assert (lan.name, lan.kind, lan.host, lan.links, lan.state) == ("lan", "switch", "h1", 1, "up")


async def test_a_port_is_plugged_into_a_segment_and_taken_out_of_it(rig: Rig) -> None:
    await rig.deploy(LAB)
    assert (await link(rig, "add", "a:eth2", "lan", vlan=10)).state is OperationState.DONE
    found = shown(rig)["a:eth2 lan"]
    assert found.vlans is not None
    assert found.vlans.untagged == 10
    assert rig.controller.lab("lab").segments[0].tagging == "802.1q"
    assert (await link(rig, "down", "lan", "a:eth2")).state is OperationState.DONE
    assert (shown(rig)["a:eth2 lan"].state, shown(rig)["a:eth2 lan"].up) == ("down", False)
    assert (await link(rig, "remove", "a:eth2", "lan")).state is OperationState.DONE
    assert list(shown(rig)) == ["a:eth1 b:eth1", "c:eth1 lan"]


async def test_a_link_is_moved_in_one_revision_and_comments_stay(rig: Rig) -> None:
    await rig.deploy(LAB)
    before = rig.controller.lab("lab")
    operation = await link(rig, "move", "a:eth1", "b:eth1", to="c:eth2")
    after = rig.controller.lab("lab")
    assert (operation.state, operation.verb) == (OperationState.DONE, "link-move")
    assert (after.revision, after.generation) == (before.revision + 1, before.generation + 1)
    assert "a:eth1 c:eth2" in shown(rig)
    assert "  - [a:eth1, c:eth2]    # the cable" in rig.controller.topology("lab")
    assert rig.hosts["h1"].starts == 3


async def test_a_link_is_moved_from_a_port_to_a_segment(rig: Rig) -> None:
    await rig.deploy(LAB)
    assert (await link(rig, "move", "b:eth1", "a:eth1", to="lan")).state is OperationState.DONE
    assert set(shown(rig)) == {"b:eth1 lan", "c:eth1 lan"}


async def test_segments_come_and_go_with_the_links_to_them(rig: Rig) -> None:
    await rig.deploy(LAB)
    assert (await segment(rig, "add", "core", qinq=True, mtu=9000)).state is OperationState.DONE
    assert {found.name: found.mtu for found in rig.controller.lab("lab").segments} == {"lan": 1500, "core": 9000}
    assert (await segment(rig, "remove", "lan")).state is OperationState.DONE
    assert [found.name for found in rig.controller.lab("lab").segments] == ["core"]
    assert list(shown(rig)) == ["a:eth1 b:eth1"]
    with pytest.raises(NotFound):
        await segment(rig, "remove", "lan")
    with pytest.raises(Conflict):
        await segment(rig, "add", "core")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("a:eth1", "nowhere", "no segment nowhere"),
        ("x:eth1", "b:eth1", "no node x"),
        ("a:zz9", "b:eth1", "no interface zz9"),
        ("a:eth2", "b:eth2", "no link a:eth2 -- b:eth2"),
    ],
)
async def test_a_link_that_is_not_there_is_named(rig: Rig, a: str, b: str, message: str) -> None:
    await rig.deploy(LAB)
    with pytest.raises(NotFound, match=message):
        await impair(rig, a, b, preset="lte")


async def test_a_segment_that_cannot_be_made_fails_its_operation_and_no_other(rig: Rig) -> None:
    await rig.deploy(LAB)
    rig.hosts["h1"].refused["office"] = "this host has no network interface eth7"
    operation = await segment(rig, "add", "office", kind="external", interface="eth7")
    assert operation.state is OperationState.FAILED
    assert operation.errors[0]["message"] == "segment office: this host has no network interface eth7"
    assert rig.controller.lab("lab").segments[1].state == "failed"
    assert (await link(rig, "add", "a:eth2", "lan")).state is OperationState.DONE


async def test_a_port_takes_one_link(rig: Rig) -> None:
    await rig.deploy(LAB)
    with pytest.raises(TopologyInvalid):
        await link(rig, "add", "a:eth1", "lan")
    assert rig.controller.lab("lab").revision == 1


# -------------------------------------------------------------------- NICs beyond those made


async def test_a_nic_beyond_those_made_is_a_conflict_that_names_the_node_and_the_way_out(rig: Rig) -> None:
    await rig.deploy(LAB)
    await link(rig, "add", "a:eth2", "b:eth2")
    before = rig.controller.lab("lab")
    with pytest.raises(Conflict) as caught:
        await link(rig, "add", "a:eth9", "lan")
    assert caught.value.node == "a"
    assert "--restart" in caught.value.hint
    assert caught.value.details["nics"] == {"a": {"made": 3, "needed": 11}}
    assert rig.controller.lab("lab") == before
    assert rig.hosts["h1"].starts == 3


async def test_with_restart_the_node_gets_its_nic(rig: Rig) -> None:
    await rig.deploy(LAB)
    operation = await link(rig, "add", "a:eth9", "lan", restart=True)
    assert operation.state is OperationState.DONE
    assert rig.hosts["h1"].starts == 4
    assert shown(rig)["a:eth9 lan"].state == "up"


async def test_a_node_that_is_off_gets_its_nic_when_it_is_next_made(rig: Rig) -> None:
    from wireloom.model.views import ActionRequest

    await rig.deploy(LAB)
    await rig.ended(await rig.controller.labs.act("lab", ActionRequest(verb="stop", nodes=("a",))))
    assert (await link(rig, "add", "a:eth9", "lan")).state is OperationState.DONE


async def test_a_port_that_says_nothing_is_shown_as_what_it_is_in_a_segment_with_vlans(rig: Rig) -> None:
    await rig.deploy(LAB)
    assert shown(rig)["c:eth1 lan"].vlans is None
    await link(rig, "add", "b:eth2", "lan", vlan=10)
    assert {name: found.vlans for name, found in shown(rig).items() if found.kind == "plug"} == {
        "c:eth1 lan": Vlans.access(1),
        "b:eth2 lan": Vlans.access(10),
    }


# -------------------------------------------------------------------- impairments


async def test_an_impairment_is_set_shown_and_cleared_without_a_revision(rig: Rig) -> None:
    await rig.deploy(LAB)
    parts = Parts(delay_ms=50, jitter_ms=5, loss=1)
    assert (await impair(rig, "a:eth1", "b:eth1", parts=parts)).state is OperationState.DONE
    wanted = Impairment(delay_ms=50, jitter_ms=5, loss=1)
    view = shown(rig)["a:eth1 b:eth1"].impairment
    assert view.configured == view.operational == LinkImpairment(forward=wanted, backward=wanted)
    assert (view.forward_origin, view.backward_origin) == ("user", "user")
    assert rig.controller.lab("lab").revision == 1

    assert (await clear(rig, "b:eth1", "a:eth1")).state is OperationState.DONE
    view = shown(rig)["a:eth1 b:eth1"].impairment
    assert view.configured == view.operational == LinkImpairment()
    assert (view.forward_origin, view.backward_origin) == ("topology", "topology")


async def test_each_direction_is_set_on_its_own_as_the_user_names_the_ends(rig: Rig) -> None:
    await rig.deploy(LAB)
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(loss=1))
    await impair(rig, "b:eth1", "a:eth1", parts=Parts(loss=2), direction="forward")
    configured = shown(rig)["a:eth1 b:eth1"].impairment.configured
    assert configured == LinkImpairment(forward=Impairment(loss=1), backward=Impairment(loss=2))


async def test_a_preset_is_changed_by_parts_and_turns_with_the_ends(rig: Rig) -> None:
    await rig.deploy(LAB)
    await impair(rig, "b:eth1", "a:eth1", preset="dsl", parts=Parts(loss=3))
    dsl = PRESETS["dsl"]
    assert shown(rig)["a:eth1 b:eth1"].impairment.configured == LinkImpairment(
        forward=dsl.backward.model_copy(update={"loss": 3}), backward=dsl.forward.model_copy(update={"loss": 3})
    )
    with pytest.raises(NotFound, match="no preset modem"):
        await impair(rig, "a:eth1", "b:eth1", preset="modem")


async def test_parts_that_do_not_go_together_are_refused(rig: Rig) -> None:
    await rig.deploy(LAB)
    with pytest.raises(InvalidInput, match="jitter and reordering need a delay"):
        await impair(rig, "a:eth1", "b:eth1", parts=Parts(jitter_ms=5))


async def test_clearing_wins_over_the_topology_and_all_links_are_cleared_at_once(rig: Rig) -> None:
    text = LAB.replace("- [c:eth1, lan]", "- {endpoints: [c:eth1, lan], impairment: {rate: 1mbit}}")
    await rig.deploy(text)
    plug = shown(rig)["c:eth1 lan"].impairment
    assert (plug.configured.forward, plug.forward_origin) == (Impairment(rate_kbit=1000), "topology")
    await impair(rig, "a:eth1", "b:eth1", preset="lossy")
    assert (await clear(rig)).state is OperationState.DONE
    links = shown(rig)
    assert all(found.impairment.operational == LinkImpairment() for found in links.values())
    assert [found.impairment.forward_origin for found in links.values()] == ["topology", "user"]
    await rig.deploy(text + "# another comment\n")
    assert shown(rig)["c:eth1 lan"].impairment.configured == LinkImpairment()


async def test_an_impairment_ends_by_itself_and_the_topology_holds_again(rig: Rig) -> None:
    await rig.deploy(LAB.replace("- [c:eth1, lan]", "- {endpoints: [c:eth1, lan], impairment: {rate: 1mbit}}"))
    await impair(rig, "c:eth1", "lan", parts=Parts(loss=9), for_s=0.05)
    assert told(rig).plugs[0].impairment.forward == Impairment(loss=9)
    await until(lambda: told(rig).plugs[0].impairment.forward == Impairment(rate_kbit=1000))
    assert (await rig.store.snapshots())[0].impairments == {}


async def test_a_time_for_one_direction_is_its_own(rig: Rig) -> None:
    await rig.deploy(LAB)
    await impair(rig, "b:eth1", "a:eth1", parts=Parts(loss=1), direction="forward", for_s=900)
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(rate_kbit=1000), direction="forward")
    configured = shown(rig)["a:eth1 b:eth1"].impairment.configured
    assert (configured.forward, configured.forward_until) == (Impairment(rate_kbit=1000), None)
    assert configured.backward == Impairment(loss=1)
    assert configured.backward_until is not None
    await clear(rig)
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(loss=1), direction="backward")
    view = shown(rig)["a:eth1 b:eth1"].impairment
    assert (view.forward_origin, view.backward_origin) == ("topology", "user")


async def test_of_a_direction_that_ends_the_topology_holds_again_and_the_other_stays(rig: Rig) -> None:
    await rig.deploy(LAB.replace("- [c:eth1, lan]", "- {endpoints: [c:eth1, lan], impairment: {rate: 1mbit}}"))
    await impair(rig, "c:eth1", "lan", parts=Parts(loss=9), direction="forward", for_s=0.05)
    await impair(rig, "c:eth1", "lan", parts=Parts(loss=8), direction="backward")
    wanted = LinkImpairment(forward=Impairment(rate_kbit=1000), backward=Impairment(loss=8))
    await until(lambda: told(rig).plugs[0].impairment == wanted)
    assert list((await rig.store.snapshots())[0].impairments.values()) == [LinkImpairment(backward=Impairment(loss=8))]


async def test_a_topology_that_says_something_new_of_a_link_ends_what_was_set_for_it(rig: Rig) -> None:
    slow = "- {endpoints: [c:eth1, lan], impairment: {rate: 1mbit}}"
    text = LAB.replace("- [c:eth1, lan]", slow)
    await rig.deploy(text)
    await clear(rig, "c:eth1", "lan")
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(loss=1))
    faster = text.replace("1mbit", "5mbit")
    plan = await rig.controller.labs.plan(DeployRequest(topology=faster))
    assert plan.warnings == (
        "link c:eth1 -- lan: its impairment has changed in the topology, which ends what was set or cleared for it by"
        " a verb",
    )
    await rig.deploy(faster)
    links = shown(rig)
    assert links["c:eth1 lan"].impairment.configured.forward == Impairment(rate_kbit=5000)
    assert links["c:eth1 lan"].impairment.forward_origin == "topology"
    assert links["a:eth1 b:eth1"].impairment.configured.forward == Impairment(loss=1)


async def test_what_was_set_of_a_link_stays_as_it_was_when_its_ends_change_places_in_the_file(rig: Rig) -> None:
    await rig.deploy(LAB)
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(loss=1), direction="forward")
    await rig.deploy(LAB.replace("[a:eth1, b:eth1]", "[b:eth1, a:eth1]"))
    assert shown(rig)["b:eth1 a:eth1"].impairment.configured == LinkImpairment(backward=Impairment(loss=1))


async def test_an_impairment_outlives_the_controller_and_goes_with_its_link(rig: Rig) -> None:
    await rig.deploy(LAB)
    await impair(rig, "a:eth1", "b:eth1", preset="lossy")
    await rig.restart()
    await until(lambda: rig.controller.lab("lab").converged)
    assert shown(rig)["a:eth1 b:eth1"].impairment.configured.forward == Impairment(loss=5)
    await link(rig, "move", "a:eth1", "b:eth1", to="b:eth2")
    assert shown(rig)["a:eth1 b:eth2"].impairment.configured.forward == Impairment(loss=5)
    await link(rig, "remove", "a:eth1", "b:eth2")
    assert (await rig.store.snapshots())[0].impairments == {}


async def test_a_moved_link_stays_as_it_was_seen_from_the_end_that_stays(rig: Rig) -> None:
    await rig.deploy(LAB)
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(loss=1), direction="forward")
    await impair(rig, "a:eth1", "b:eth1", parts=Parts(loss=2), direction="backward")
    await link(rig, "move", "b:eth1", "a:eth1", to="lan")
    configured = shown(rig)["b:eth1 lan"].impairment.configured
    assert configured == LinkImpairment(forward=Impairment(loss=2), backward=Impairment(loss=1))
    await link(rig, "move", "b:eth1", "lan", to="c:eth2")
    [found] = [link for name, link in shown(rig).items() if "c:eth2" in name]
    seen = found.impairment.configured if found.a == "b:eth1" else found.impairment.configured.turned()
    assert seen == configured


# -------------------------------------------------------------------- what a host cannot do


UNABLE = DataPlaneAbilities(
    vlans="this kernel's bridges have no VLAN filtering",
    impairments={"delay": "module sch_netem is missing", "loss": "module sch_netem is missing"},
    impair_from_guest="module ifb is missing",
)


@pytest.fixture
async def unable(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as found:
        await found.add_host(dataplane=UNABLE)
        yield found


async def test_what_the_host_cannot_impair_is_refused_naming_what_is_missing(unable: Rig) -> None:
    await unable.deploy(LAB)
    with pytest.raises(Unsupported, match="sch_netem") as caught:
        await impair(unable, "a:eth1", "b:eth1", preset="lte")
    assert (caught.value.hint or "").startswith("load the module sch_netem on h1, or use another host;")
    with pytest.raises(Unsupported, match="ifb"):
        await impair(unable, "c:eth1", "lan", parts=Parts(rate_kbit=1000), direction="forward")
    assert (await impair(unable, "a:eth1", "b:eth1", parts=Parts(rate_kbit=1000))).state is OperationState.DONE
    assert (await unable.store.snapshots())[0].lab.generation == 2


async def test_a_topology_that_its_host_cannot_wire_is_refused_whole_and_planned_with_its_problems(unable: Rig) -> None:
    text = LAB.replace("- [c:eth1, lan]", "- {endpoints: [c:eth1, lan], vlan: 10, impairment: {delay: 1ms, loss: 1%}}")
    with pytest.raises(Unsupported, match="segment lan wants VLANs") as caught:
        await unable.deploy(text)
    codes = [problem["message"].split(": ")[0] for problem in caught.value.details["problems"]]
    assert codes == [
        "segment lan wants VLANs, which host h1 cannot do",
        "link c:eth1 -- lan wants delay and loss, which host h1 cannot do",
        "link c:eth1 -- lan wants an impairment on the way to its segment, which host h1 cannot do",
    ]
    hints = [problem["hint"].split(" on h1")[0] for problem in caught.value.details["problems"]]
    assert hints == [
        "use another host, or another data plane",
        "load the module sch_netem",
        "it takes the data plane kernel and the module ifb",
    ]
    assert await unable.store.snapshots() == []
    view = await unable.controller.labs.plan(DeployRequest(topology=text))
    assert [problem["message"].split(": ")[0] for problem in view.problems] == codes


async def test_what_is_deployed_already_is_no_reason_to_refuse_another_change(rig: Rig) -> None:
    host = rig.hosts["h1"]
    await rig.deploy(LAB.replace("- [c:eth1, lan]", "- {endpoints: [c:eth1, lan], vlan: 10}"))
    await rig.fabric.put_host(host.facts.model_copy(update={"dataplane": UNABLE}))
    await until(lambda: rig.controller.live.hosts["h1"].facts.dataplane == UNABLE)
    assert (await link(rig, "add", "a:eth2", "b:eth2")).state is OperationState.DONE
    with pytest.raises(Unsupported):
        await impair(rig, "a:eth2", "b:eth2", preset="lossy")


# -------------------------------------------------------------------- subnets of segments


def way_out(name: str, subnet: str = "") -> str:
    said = f", subnet: {subnet}" if subnet else ""
    return LAB.replace("name: lab", f"name: {name}").replace("{kind: switch}", f"{{kind: nat{said}}}")


async def test_labs_get_subnets_that_share_no_address_and_keep_them(rig: Rig) -> None:
    for name in ("one", "two"):
        assert (await rig.deploy(way_out(name))).state is OperationState.DONE
    subnets = [rig.controller.lab(name).segments[0].details["subnet"] for name in ("one", "two")]
    assert len(set(subnets)) == 2
    await rig.deploy(way_out("one").replace("  a:", "  a: {cpu: 2}"))
    await rig.restart()
    await until(lambda: all(rig.controller.lab(name).converged for name in ("one", "two")))
    assert [rig.controller.lab(name).segments[0].details["subnet"] for name in ("one", "two")] == subnets
    told_of = [item.segments[0].nat.subnet for item in rig.hosts["h1"].slices.values() if item.segments[0].nat]
    assert sorted(told_of) == sorted(subnets)


async def test_a_subnet_that_overlaps_another_one_is_a_conflict(rig: Rig) -> None:
    await rig.deploy(way_out("one", "10.5.0.0/24"))
    with pytest.raises(Conflict, match=r"10\.5\.0\.0/16 overlaps 10\.5\.0\.0/24, which is that of lab one"):
        await rig.deploy(way_out("two", "10.5.0.0/16"))
    with pytest.raises(Conflict, match="management network of host h1"):
        await rig.deploy(way_out("two", SUBNET))
    assert [found.lab.name for found in await rig.store.snapshots()] == ["one"]


async def test_a_subnet_is_free_again_when_its_lab_is_gone(rig: Rig) -> None:
    await rig.deploy(way_out("one", "10.5.0.0/24"))
    await rig.ended(await rig.controller.labs.destroy("one"))
    assert (await rig.deploy(way_out("two", "10.5.0.0/24"))).state is OperationState.DONE


# -------------------------------------------------------------------- what was deployed


async def test_definitions_are_those_of_the_deployment_though_the_fabric_has_lost_everything(rig: Rig) -> None:
    from wireloom.model.device_views import DeviceFileRequest

    await rig.deploy(LAB)
    memory = told(rig).nodes[0].memory_mb
    text = f"hardware: {{memory: {{default: {memory * 2}MB}}}}\n"
    await rig.controller.devices.add(DeviceFileRequest(kind="override", source="linux.yaml", text=text))
    lab_id = rig.controller.lab("lab").id
    await rig.down()
    await rig.fabric.delete_intent("h1", lab_id)
    await rig.up()
    await until(lambda: rig.hosts["h1"].slices)
    assert (told(rig).nodes[0].memory_mb, rig.hosts["h1"].starts) == (memory, 3)
    await rig.deploy(LAB)
    assert (told(rig).nodes[0].memory_mb, rig.hosts["h1"].starts) == (memory * 2, 6)
