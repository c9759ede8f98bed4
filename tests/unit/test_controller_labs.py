"""Verbs edit intent; hosts do the rest; what is seen is merged; nothing is lost with any process or store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from controller_rig import SUBNET, TWO_NODES, Rig, make_rig, until

from wireloom.errors import Conflict, InvalidInput, NotFound, NotPermitted, TopologyInvalid, Unavailable
from wireloom.model.runtime import Capabilities
from wireloom.model.slice import Slice
from wireloom.model.state import LinkState, NodeState
from wireloom.model.views import ActionRequest, DeployRequest, LabView, LinkRequest, NodeView, OperationState

THREE_NODES = TWO_NODES.replace("  b:\n", "  b:\n  c:\n")


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("wireloom.controller.observer.REFRESH_PAUSE_S", 0.0)
    async with make_rig(tmp_path) as made:
        yield made


def lab(rig: Rig, name: str = "pair") -> LabView:
    return rig.controller.lab(name)


def node(rig: Rig, name: str) -> NodeView:
    return next(item for item in lab(rig).nodes if item.name == name)


def slice_of(rig: Rig, host: str = "h1") -> Slice:
    return next(iter(rig.hosts[host].slices.values()))


async def act(rig: Rig, verb: str, *nodes: str) -> OperationState:
    request = ActionRequest.model_validate({"verb": verb, "nodes": nodes})
    return (await rig.ended(await rig.controller.labs.act("pair", request))).state


async def link(rig: Rig, verb: str, a: str, b: str) -> OperationState:
    request = LinkRequest.model_validate({"verb": verb, "a": a, "b": b})
    return (await rig.ended(await rig.controller.links.link("pair", request))).state


# -------------------------------------------------------------------- deploy


async def test_deploying_makes_every_node_run_with_its_own_address(rig: Rig) -> None:
    await rig.add_host()
    operation = await rig.deploy()
    assert (operation.state, operation.done, operation.total) == (OperationState.DONE, 3, 3)
    assert [(item.name, item.mgmt_ipv4) for item in lab(rig).nodes] == [("a", "172.30.0.2"), ("b", "172.30.0.3")]
    assert lab(rig).converged
    assert slice_of(rig).management is not None
    assert slice_of(rig).management.subnet == SUBNET  # type: ignore[union-attr]


async def test_deploying_the_same_again_changes_nothing(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    before = slice_of(rig)
    again = await rig.deploy()
    assert (again.state, again.done, again.total, again.generation) == (OperationState.DONE, 3, 3, 1)
    assert lab(rig).revision == 1
    assert slice_of(rig) == before
    assert host.starts == 2


async def test_deploying_the_same_again_gives_failed_nodes_another_chance(rig: Rig) -> None:
    host = await rig.add_host()
    host.failing = {"b": {"code": "image-missing", "message": "no image", "hint": "load it"}}
    failed = await rig.deploy()
    assert failed.state is OperationState.FAILED
    assert [(error["node"], error["code"]) for error in failed.errors] == [("b", "image-missing")]
    assert node(rig, "b").error is not None

    host.failing = {}
    assert (await rig.deploy()).state is OperationState.DONE
    assert (lab(rig).revision, host.starts) == (1, 2)


async def test_a_new_revision_touches_only_what_changed(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    ids = {item.name: item.id for item in lab(rig).nodes}
    started = node(rig, "a").started_at

    changed = THREE_NODES.replace("  b:\n", "  b: {memory: 512}\n")
    assert (await rig.deploy(changed)).state is OperationState.DONE
    assert lab(rig).revision == 2
    assert {item.name: item.id for item in lab(rig).nodes if item.name != "c"} == ids
    assert node(rig, "a").started_at == started
    assert host.starts == 4  # b anew, and c

    assert (await rig.deploy(TWO_NODES)).state is OperationState.DONE
    assert [item.name for item in lab(rig).nodes] == ["a", "b"]


async def test_a_node_of_another_provider_is_another_node(rig: Rig) -> None:
    both = (Capabilities(name="simulated"), Capabilities(name="docker"))
    await rig.add_host(providers=both)
    await rig.deploy()
    before = {item.name: item.id for item in lab(rig).nodes}
    await rig.deploy(TWO_NODES.replace("  b:\n", "  b: {provider: docker}\n"))
    after = {item.name: item.id for item in lab(rig).nodes}
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]


async def test_mistakes_in_a_topology_store_nothing(rig: Rig) -> None:
    await rig.add_host()
    with pytest.raises(TopologyInvalid) as raised:
        await rig.deploy("name: x\nnodes: {r1: {device: nope}, r2: {memory: lots}}\n")
    assert len(raised.value.details["diagnostics"]) >= 2
    assert await rig.store.snapshots() == []


async def test_privileged_nodes_need_the_installations_consent(rig: Rig) -> None:
    await rig.add_host()
    with pytest.raises(NotPermitted):
        await rig.deploy(allow_privileged=True)


async def test_planning_stores_and_publishes_nothing(rig: Rig) -> None:
    host = await rig.add_host()
    plan = await rig.controller.labs.plan(DeployRequest(topology=TWO_NODES))
    assert [change.action for change in plan.changes] == ["add", "add", "add"]
    assert (await rig.store.snapshots(), host.slices) == ([], {})

    await rig.deploy()
    plan = await rig.controller.labs.plan(DeployRequest(topology=THREE_NODES.replace("  - [a:eth1, b:eth1]", "  []")))
    assert {(change.kind, change.action) for change in plan.changes} == {("node", "add"), ("link", "remove")}


# -------------------------------------------------------------------- preflight


async def test_without_a_host_nothing_is_stored(rig: Rig) -> None:
    with pytest.raises(Unavailable) as raised:
        await rig.deploy()
    assert len(raised.value.details["problems"]) == 2
    assert await rig.store.snapshots() == []


async def test_a_refused_node_stops_no_other(rig: Rig) -> None:
    host = await rig.add_host()
    operation = await rig.deploy(THREE_NODES.replace("  c:\n", "  c: {provider: docker}\n"))
    assert operation.state is OperationState.FAILED
    assert [(error["node"], error["code"]) for error in operation.errors] == [("c", "unsupported")]
    assert [(item.name, item.state) for item in lab(rig).nodes] == [("a", "running"), ("b", "running"), ("c", "failed")]
    assert {item.name for item in slice_of(rig).nodes} == {"a", "b"}
    assert host.starts == 2


async def test_a_refused_node_starts_by_itself_when_its_engine_comes(rig: Rig) -> None:
    host = await rig.add_host(providers=(Capabilities(name="simulated"), Capabilities(name="docker", available=False)))
    await rig.deploy(THREE_NODES.replace("  c:\n", "  c: {provider: docker}\n"))
    assert node(rig, "c").state is NodeState.FAILED
    ready = (Capabilities(name="simulated"), Capabilities(name="docker"))
    await rig.fabric.put_host(host.facts.model_copy(update={"providers": ready}))
    await until(lambda: node(rig, "c").state is NodeState.RUNNING)
    assert host.starts == 3


async def test_what_runs_is_never_refused_away(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    gone = (Capabilities(name="simulated", available=False, problem="engine is down"),)
    await rig.fabric.put_host(host.facts.model_copy(update={"providers": gone}))
    await until(lambda: rig.controller.live.facts("h1").providers == gone)  # type: ignore[union-attr]
    await rig.deploy(TWO_NODES.replace("# two of them", "# the same two"))
    assert {item.name for item in slice_of(rig).nodes} == {"a", "b"}


async def test_memory_that_no_host_has_is_refused_per_node(rig: Rig) -> None:
    await rig.add_host(memory_mb=1000)
    operation = await rig.deploy(TWO_NODES.replace("  b:\n", "  b: {memory: 4096}\n"))
    assert [(error["node"], error["code"]) for error in operation.errors] == [("b", "capacity-exceeded")]


async def test_dependents_of_a_refused_node_are_refused_with_it(rig: Rig) -> None:
    await rig.add_host()
    text = THREE_NODES.replace("  b:\n", "  b: {provider: docker}\n").replace("  c:\n", "  c: {depends-on: [b]}\n")
    operation = await rig.deploy(text)
    assert [error["node"] for error in operation.errors] == ["b", "c"]


async def test_privileged_nodes_are_refused_without_consent_and_where_the_host_cannot(rig: Rig) -> None:
    await rig.add_host()
    text = THREE_NODES.replace("  c:\n", "  c: {settings: {privileged: true}}\n")
    operation = await rig.deploy(text)
    assert [(error["node"], error["code"]) for error in operation.errors] == [("c", "not-permitted")]


# -------------------------------------------------------------------- verbs


async def test_stop_and_start_keep_everything_but_the_power(rig: Rig) -> None:
    await rig.add_host()
    await rig.deploy()
    before = slice_of(rig).nodes
    assert await act(rig, "stop", "a") is OperationState.DONE
    assert [(item.name, item.state, item.power) for item in lab(rig).nodes] == [
        ("a", "stopped", "off"),
        ("b", "running", "on"),
    ]
    assert lab(rig).links[0].state is LinkState.PENDING
    assert await act(rig, "start", "a") is OperationState.DONE
    after = slice_of(rig).nodes
    assert after[0] == before[0].model_copy(update={"attention": 1})
    assert after[1] == before[1]


async def test_restart_and_wipe_are_counters_and_wait_for_another_start(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    assert await act(rig, "restart", "a") is OperationState.DONE
    assert await act(rig, "wipe", "b") is OperationState.DONE
    a, b = slice_of(rig).nodes
    assert (a.restarts, a.incarnation, b.restarts, b.incarnation) == (1, 1, 0, 2)
    assert host.starts == 4


async def test_a_restart_is_not_done_while_the_old_runtime_still_runs(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    host.obeys = False
    operation = await rig.controller.labs.act("pair", ActionRequest(verb="restart", nodes=("a",)))
    await until(lambda: slice_of(rig).generation == 2)
    stale = rig.controller.live.statuses(lab(rig).id)["h1"]
    await rig.fabric.put_observation(stale.model_copy(update={"generation": 2, "converged": False}))
    await until(lambda: rig.controller.board.operation(operation.id).done == 1)  # type: ignore[union-attr]
    assert (await rig.controller.operation(operation.id)).total == 2  # the wire is done, and the node is not
    await host.report(lab(rig).id)
    assert (await rig.ended(operation)).state is OperationState.DONE


async def test_wipe_names_its_nodes(rig: Rig) -> None:
    await rig.add_host()
    await rig.deploy()
    with pytest.raises(InvalidInput):
        await act(rig, "wipe")
    with pytest.raises(NotFound, match="zz"):
        await act(rig, "stop", "zz")
    with pytest.raises(NotFound):
        await rig.controller.labs.act("nowhere", ActionRequest(verb="stop"))


async def test_links_change_by_rewriting_the_topology(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    assert await link(rig, "add", "a:eth2", "b:eth2") is OperationState.DONE
    assert len(slice_of(rig).wires) == 2
    assert rig.controller.topology("pair").startswith("# two of them\n")
    assert await link(rig, "down", "b:eth1", "a:eth1") is OperationState.DONE
    assert {item.a: item.state for item in lab(rig).links} == {"a:eth1": LinkState.DOWN, "a:eth2": LinkState.UP}
    assert await link(rig, "up", "a:eth1", "b:eth1") is OperationState.DONE
    assert await link(rig, "remove", "a:eth2", "b:eth2") is OperationState.DONE
    assert len(lab(rig).links) == 1
    assert host.starts == 2  # no node was touched
    assert lab(rig).revision == 5


async def test_bad_links_are_refused_and_change_nothing(rig: Rig) -> None:
    await rig.add_host()
    await rig.deploy()
    with pytest.raises(Conflict):
        await link(rig, "add", "a:eth1", "b:eth1")
    with pytest.raises(NotFound):
        await link(rig, "down", "a:eth7", "b:eth7")
    with pytest.raises(TopologyInvalid):
        await link(rig, "add", "a:eth1", "b:eth2")  # the port is in use
    assert (lab(rig).revision, lab(rig).generation) == (1, 1)


# -------------------------------------------------------------------- removal


async def test_destroy_ends_when_the_host_confirms(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    host.obeys = False
    lab_id = lab(rig).id
    operation = await rig.controller.labs.destroy("pair")
    await until(lambda: host.slices[lab_id].removed)
    assert lab(rig).removing
    assert (await rig.controller.operation(operation.id)).state is OperationState.RUNNING
    with pytest.raises(Conflict, match="being removed"):
        await rig.deploy()

    await host.report(lab_id)
    assert (await rig.ended(operation)).state is OperationState.DONE
    assert (await rig.store.snapshots(), await rig.fabric.intents("h1")) == ([], {})
    with pytest.raises(NotFound):
        lab(rig)
    host.obeys = True
    assert (await rig.deploy()).state is OperationState.DONE


async def test_a_lab_of_a_lost_host_waits_for_it(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    rig.fabric.expire_host("h1")
    await until(lambda: not rig.controller.live.alive)
    operation = await rig.controller.labs.destroy("pair")
    await until(lambda: host.slices[lab(rig).id].removed)
    assert (await rig.controller.operation(operation.id)).state is OperationState.RUNNING
    await rig.fabric.put_host(host.facts)
    assert (await rig.ended(operation)).state is OperationState.DONE


# -------------------------------------------------------------------- observation


async def test_nodes_of_a_silent_host_are_unknown(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    rig.fabric.expire_host("h1")
    await until(lambda: node(rig, "a").state is NodeState.UNKNOWN)
    assert "h1 does not answer" in node(rig, "a").message
    assert rig.controller.board.summaries()[0].state == "unknown"
    await rig.fabric.put_host(host.facts)
    await until(lambda: node(rig, "a").state is NodeState.RUNNING)


async def test_an_operation_that_a_later_verb_overtakes_ends(rig: Rig) -> None:
    host = await rig.add_host()
    host.slow = {"b"}
    first = await rig.controller.labs.deploy(DeployRequest(topology=TWO_NODES))
    assert await act(rig, "stop", "b") is OperationState.DONE
    assert (await rig.ended(first)).state is OperationState.DONE


async def test_unchanged_values_tell_nobody(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    with rig.controller.hub.subscribe() as mailbox:
        await rig.fabric.put_host(host.facts.model_copy(update={"time": asyncio.get_running_loop().time()}))
        await host.report(lab(rig).id)
        await rig.fabric.put_host(host.facts.model_copy(update={"cpus": 9}))
        messages = await mailbox.take()
    assert [(message.type, message.data["facts"]["cpus"]) for message in messages] == [("host", 9)]


async def test_a_host_with_another_management_network_gets_new_addresses(rig: Rig) -> None:
    host = await rig.add_host()
    await rig.deploy()
    await rig.fabric.put_host(host.facts.model_copy(update={"management_subnet": "172.31.0.0/24"}))
    await until(lambda: node(rig, "a").mgmt_ipv4 == "172.31.0.2")
    await until(lambda: slice_of(rig).nodes[1].mgmt_ipv4 == "172.31.0.3")
    assert slice_of(rig).management.gateway == "172.31.0.1"  # type: ignore[union-attr]


# -------------------------------------------------------------------- nothing is lost


async def test_a_restarted_controller_goes_on_where_it_was(rig: Rig) -> None:
    host = await rig.add_host()
    host.slow = {"b"}
    operation = await rig.controller.labs.deploy(DeployRequest(topology=TWO_NODES))
    await until(lambda: node(rig, "a").state is NodeState.RUNNING)
    await rig.restart()
    await until(lambda: rig.controller.live.alive)
    host.slow = set()
    await host.report(lab(rig).id)
    assert (await rig.ended(operation)).state is OperationState.DONE
    assert host.starts == 2


async def test_a_lost_store_of_the_fabric_is_written_again(rig: Rig) -> None:
    await rig.add_host()
    await rig.deploy()
    before = await rig.fabric.intents("h1")
    rig.fabric.lose_store()
    rig.hosts["h1"].slices.clear()
    await until(lambda: rig.hosts["h1"].slices)
    assert await rig.fabric.intents("h1") == before


async def test_a_fabric_that_is_away_delays_and_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.controller.publisher.RETRY_S", 0.0)
    await rig.add_host()
    rig.fabric.connected = False
    operation = await rig.controller.labs.deploy(DeployRequest(topology=TWO_NODES))
    assert operation.state is OperationState.RUNNING
    rig.fabric.connected = True
    assert (await rig.ended(operation)).state is OperationState.DONE


async def test_intent_of_a_lab_that_nobody_knows_is_taken_back(rig: Rig) -> None:
    ours = Slice(installation=rig.controller.installation, lab_id="ghost", lab="ghost", generation=1)
    theirs = Slice(installation="another", lab_id="theirs", lab="theirs", generation=1)
    await rig.fabric.put_intent("h1", ours)
    await rig.fabric.put_intent("h1", theirs)
    await rig.add_host()
    await until(lambda: not rig.hosts["h1"].slices.get("ghost"))
    rig.controller.publisher.resync()
    await until(lambda: "h1.ghost" not in rig.fabric.intent_keys)
    assert rig.fabric.intent_keys == {"h1.theirs"}


async def test_concurrent_verbs_on_one_lab_follow_each_other(rig: Rig) -> None:
    await rig.add_host()
    await rig.deploy()
    verbs = [rig.controller.labs.act("pair", ActionRequest(verb="restart")) for _ in range(5)]
    operations = await asyncio.gather(*verbs)
    assert sorted(operation.generation for operation in operations) == [2, 3, 4, 5, 6]
    for operation in operations:
        assert (await rig.ended(operation)).state is OperationState.DONE
    assert slice_of(rig).nodes[0].restarts == 5
