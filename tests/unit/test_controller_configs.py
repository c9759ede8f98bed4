"""Use cases of the config store: revisions come from agents, what is active reaches the slice, and nothing is lost."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from config_rig import FIRST, SECOND, TOPOLOGY, Routers
from controller_rig import Rig, make_rig, until

from wireloom.configs import digest
from wireloom.errors import CapacityExceeded, Conflict, GuestFailed, InvalidInput, NotFound
from wireloom.fabric.config_documents import EXTRACT, LOAD, Extracted, ExtractQuestion, LoadAnswer, LoadQuestion
from wireloom.model.config_views import (
    ConfigPolicy,
    ConfigUpload,
    ExtractRequest,
    MapConfigs,
    NodeConfigView,
    RestoreConfig,
)
from wireloom.model.slice import NodeIntent, StoredConfig
from wireloom.model.views import ActionRequest, DeployRequest, OperationState, OperationView


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("wireloom.controller.observer.REFRESH_PAUSE_S", 0.0)
    async with make_rig(tmp_path) as made:
        yield made


@pytest.fixture
async def routers(rig: Rig) -> Routers:
    made = Routers(await rig.add_host())
    await made.serve()
    await rig.deploy(TOPOLOGY)
    return made


async def extract(rig: Rig, *nodes: str) -> OperationView:
    return await rig.ended(await rig.controller.config_workers.extract("pair", ExtractRequest(nodes=nodes)))


async def view(rig: Rig, node: str) -> NodeConfigView:
    return next(item for item in await rig.controller.configs.of_lab("pair") if item.node == node)


async def restore(rig: Rig, node: str, revision: str, *, reboot: bool = False) -> OperationView:
    request = RestoreConfig(revision=revision, reboot=reboot)
    return await rig.ended(await rig.controller.config_workers.restore("pair", node, request, rig.controller.configs))


def intent(routers: Routers, node: str) -> NodeIntent:
    lab = next(iter(routers.host.slices.values()))
    return next(item for item in lab.nodes if item.name == node)


def stored(routers: Routers, node: str) -> StoredConfig | None:
    return intent(routers, node).stored_config


async def numbers(rig: Rig, node: str) -> list[int]:
    return [item.number for item in await rig.controller.configs.revisions("pair", node)]


# -------------------------------------------------------------------- extracting


async def test_extracting_a_lab_stores_what_can_be_read_and_makes_it_active(rig: Rig, routers: Routers) -> None:
    operation = await extract(rig)
    assert (operation.state, operation.done, operation.total) == (OperationState.DONE, 2, 2)
    found = await view(rig, "a")
    assert (found.active, found.chosen_by, found.revisions, found.extractable) == (1, "extract", 1, True)
    assert found.latest is not None
    assert (found.latest.channel, found.latest.tried) == ("serial", {"ssh session": "no answer"})
    await until(lambda: stored(routers, "a") is not None)
    assert stored(routers, "a") == StoredConfig(revision=1, sha256=digest(FIRST), text=FIRST)
    assert stored(routers, "host") is None


async def test_an_active_revision_makes_no_node_anew_and_no_plan_shows_it(rig: Rig, routers: Routers) -> None:
    before = intent(routers, "a")
    starts = routers.host.starts
    await extract(rig)
    await until(lambda: stored(routers, "a") is not None)
    after = intent(routers, "a")
    assert after.spec_hash() == before.spec_hash()
    assert (after.incarnation, after.restarts) == (before.incarnation, before.restarts)
    assert routers.host.starts == starts
    plan = await rig.controller.labs.plan(DeployRequest(topology=TOPOLOGY))
    assert plan.changes == ()


async def test_the_same_text_again_is_no_new_revision(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    await extract(rig, "a")
    assert await numbers(rig, "a") == [1]
    routers.running["a"] = SECOND
    await extract(rig, "a")
    routers.running["a"] = FIRST
    await extract(rig, "a")
    assert await numbers(rig, "a") == [3, 2, 1]
    assert (await view(rig, "a")).active == 3


async def test_what_cannot_be_read_is_an_error_of_its_node_and_keeps_the_last_good_revision(
    rig: Rig, routers: Routers
) -> None:
    await extract(rig)
    del routers.running["a"]
    operation = await extract(rig)
    assert (operation.state, operation.done) == (OperationState.FAILED, 1)
    assert [(error["node"], error["details"]["tried"]) for error in operation.errors] == [("a", {"serial": "silent"})]
    assert (await view(rig, "a")).active == 1


async def test_a_lab_without_anything_to_read_is_refused(rig: Rig, routers: Routers) -> None:
    await rig.ended(await rig.controller.labs.act("pair", ActionRequest(verb="stop")))
    with pytest.raises(Conflict, match="powered on"):
        await rig.controller.config_workers.extract("pair", ExtractRequest())
    with pytest.raises(NotFound):
        await rig.controller.config_workers.extract("pair", ExtractRequest(nodes=("nobody",)))


async def test_an_extract_that_a_restart_of_the_controller_cut_off_has_failed(rig: Rig, routers: Routers) -> None:
    never = asyncio.Event()

    async def hang(_: ExtractQuestion) -> Extracted:
        await never.wait()
        raise AssertionError

    await rig.fabric.serve("h1", EXTRACT, hang)
    operation = await rig.controller.config_workers.extract("pair", ExtractRequest())
    await rig.restart()
    found = await rig.controller.operation(operation.id)
    assert found.state is OperationState.FAILED
    assert "restarted" in found.errors[0]["message"]


async def test_active_texts_that_would_fill_a_message_are_stored_but_not_made_active(
    rig: Rig, routers: Routers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wireloom.controller.store.configs.MAX_ACTIVE_BYTES", 100)
    await extract(rig, "a")
    routers.running["b"] = "version 15.9\n" + "!\n" * 50 + "end\n"
    assert (await extract(rig, "b")).state is OperationState.DONE
    assert [(item.number, item.active) for item in await rig.controller.configs.revisions("pair", "b")] == [(1, False)]
    await until(lambda: any(event.kind == "config.not-activated" for event in rig.fabric.published))
    with pytest.raises(CapacityExceeded, match="larger than"):
        await rig.controller.configs.activate("pair", "b", 1)
    with pytest.raises(CapacityExceeded):
        await rig.controller.configs.upload("pair", "b", ConfigUpload(text="x" * 99))
    assert await numbers(rig, "b") == [1]


# -------------------------------------------------------------------- what agents hold


async def test_what_was_read_before_a_stop_is_collected_activated_and_released(rig: Rig, routers: Routers) -> None:
    await routers.hold("a")
    await until(lambda: routers.released == [("a", 1)])
    found = await view(rig, "a")
    assert found.latest is not None
    assert (found.active, found.latest.origin, found.latest.who) == (1, "stop", "host h1")
    await until(lambda: stored(routers, "a") is not None)


async def test_what_is_held_while_the_controller_is_away_is_collected_when_it_is_back(
    rig: Rig, routers: Routers
) -> None:
    await rig.down()
    await routers.hold("a")
    await rig.up()
    await until(lambda: routers.released == [("a", 1)])
    assert await numbers(rig, "a") == [1]


async def test_a_reading_that_was_stored_but_not_released_is_not_stored_twice(rig: Rig, routers: Routers) -> None:
    await routers.hold("a")
    held = routers.held["a"]
    await until(lambda: routers.released)
    await rig.controller.configs.upload("pair", "a", ConfigUpload(text="hostname other\n"))
    routers.held["a"] = held
    await routers.host.report(next(iter(routers.host.slices)))
    await until(lambda: len(routers.released) == 2)
    assert await numbers(rig, "a") == [2, 1]
    assert (await view(rig, "a")).active == 2


# -------------------------------------------------------------------- the newest explicit act of the user wins


async def test_an_automatic_reading_waits_until_the_users_choice_was_used(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    await rig.controller.configs.upload("pair", "a", ConfigUpload(text=SECOND))
    routers.running["a"] = FIRST + "!\n"
    await routers.hold("a")
    await until(lambda: routers.released)
    assert (await view(rig, "a")).active == 2  # the node was not made with the upload yet
    assert intent(routers, "a").config_chosen

    routers.adopt(intent(routers, "a").id)  # now it was
    routers.running["a"] = SECOND.replace("end", "ntp\nend")
    await routers.hold("a")
    await until(lambda: len(routers.released) == 2)
    assert (await view(rig, "a")).active == 4
    await until(lambda: not intent(routers, "a").config_chosen)


async def test_another_startup_config_in_the_topology_takes_the_place_of_the_active_revision(
    rig: Rig, routers: Routers
) -> None:
    await extract(rig)
    await rig.deploy(TOPOLOGY.replace("hostname a", "hostname a9"))
    found = await view(rig, "a")
    assert (found.active, found.chosen_by, found.revisions) == (None, "topology", 1)
    assert (await view(rig, "b")).active == 1
    await until(lambda: stored(routers, "a") is None)
    await until(lambda: any(event.kind == "config.superseded" for event in rig.fabric.published))
    assert intent(routers, "a").config_chosen

    # What ran before the new text is read by itself: it is stored, and not active.
    await routers.hold("a")
    await until(lambda: routers.released)
    assert (await view(rig, "a")).active is None
    routers.adopt(intent(routers, "a").id)
    routers.running["a"] = SECOND
    await routers.hold("a")
    await until(lambda: len(routers.released) == 2)
    assert (await view(rig, "a")).active == 2


async def test_deploying_a_topology_with_other_changes_keeps_active_revisions(rig: Rig, routers: Routers) -> None:
    await extract(rig)
    await rig.deploy(TOPOLOGY.replace("nodes:", "nodes:\n  c: {device: linux}"))
    assert (await view(rig, "a")).active == 1
    assert stored(routers, "a") is not None


async def test_going_back_to_the_topology_is_a_choice_too(rig: Rig, routers: Routers) -> None:
    await extract(rig)
    await rig.controller.configs.activate("pair", "a", None)
    await until(lambda: stored(routers, "a") is None)
    assert intent(routers, "a").config_chosen
    with pytest.raises(NotFound, match="no revision 9"):
        await rig.controller.configs.activate("pair", "a", 9)


async def test_a_choice_of_what_the_node_was_once_made_with_waits_for_its_use_too(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    await rig.controller.configs.activate("pair", "a", 1)
    await until(lambda: intent(routers, "a").config_choice == 1)
    routers.adopt(intent(routers, "a").id)  # it was made with revision 1
    routers.running["a"] = SECOND
    await rig.controller.configs.activate("pair", "a", 1)  # and the user wants that again, not what runs
    await routers.hold("a")
    await until(lambda: routers.released)
    assert (await view(rig, "a")).active == 1
    await extract(rig, "a")  # now the user wants what runs
    assert (await view(rig, "a")).active == 2
    routers.running["a"] = FIRST + "!\n"
    await routers.hold("a")
    await until(lambda: len(routers.released) == 2)
    assert (await view(rig, "a")).active == 3


# -------------------------------------------------------------------- looking and comparing


async def test_any_two_configurations_can_be_compared(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    routers.running["a"] = SECOND
    library = rig.controller.configs
    diff = await library.diff("pair", "a", "active", "running")
    assert "+ip domain name x" in diff.diff
    assert (diff.before, diff.after) == ("a revision 1", "a running")
    assert await numbers(rig, "a") == [1]  # comparing stores nothing
    assert (await library.diff("pair", "a", "1", "latest")).diff == ""
    assert "-hostname a\n" in (await library.diff("pair", "a", "startup", "1")).diff or "startup"
    with pytest.raises(InvalidInput, match="names no revision"):
        await library.text("pair", "a", "yesterday")
    with pytest.raises(NotFound, match="no configuration is stored of pair/b") as nothing:
        await library.text("pair", "b", "latest")
    assert "wireloom configs extract pair b" in (nothing.value.hint or "")


async def test_a_name_or_number_that_nothing_has_is_told_as_such(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    library = rig.controller.configs
    with pytest.raises(NotFound, match="lab pair has no node nobody"):
        await library.text("pair", "nobody", "latest")
    with pytest.raises(NotFound, match="no lab is called nowhere"):
        await library.revisions("nowhere", "a")
    with pytest.raises(NotFound, match="there is no revision 99"):
        await library.text("pair", "a", "9" * 30)
    with pytest.raises(NotFound, match="there is no revision 99"):
        await library.activate("pair", "a", int("9" * 30))


async def test_a_lab_is_downloaded_as_one_file(rig: Rig, routers: Routers) -> None:
    with pytest.raises(NotFound):
        await rig.controller.configs.archive("pair", "latest")
    await extract(rig)
    archive = await rig.controller.configs.archive("pair", "latest")
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.namelist() == ["pair/configs.json", "pair/a.cfg", "pair/b.cfg"]
        assert opened.read("pair/a.cfg").decode() == FIRST


@pytest.mark.parametrize("text", ["", "  \n", "a\x00b", "x" * (1024 * 1024 + 1)])
async def test_an_upload_that_is_no_text_is_refused(rig: Rig, routers: Routers, text: str) -> None:
    with pytest.raises(InvalidInput):
        await rig.controller.configs.upload("pair", "a", ConfigUpload(text=text))


# -------------------------------------------------------------------- restoring


async def test_a_revision_is_loaded_into_the_running_node_after_saving_what_runs(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    routers.running["a"] = SECOND
    operation = await restore(rig, "a", "1")
    assert operation.state is OperationState.DONE
    assert routers.loaded == [("a", FIRST)]
    found = await rig.controller.configs.revisions("pair", "a")
    assert [(item.number, item.active) for item in found] == [(2, False), (1, True)]
    assert found[0].note == "before revision 1 was restored"
    assert routers.host.starts == 3  # nothing was made anew


async def test_a_restore_with_reboot_makes_the_node_anew_with_the_revision(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    routers.running["a"] = SECOND
    incarnation = intent(routers, "a").incarnation
    operation = await restore(rig, "a", "1", reboot=True)
    assert (operation.verb, operation.subject, operation.state) == ("restore", "pair a", OperationState.DONE)
    assert intent(routers, "a").incarnation == incarnation + 1
    assert stored(routers, "a") == StoredConfig(revision=1, sha256=digest(FIRST), text=FIRST)
    assert await numbers(rig, "a") == [2, 1]


async def test_a_restore_that_the_guest_refuses_changes_nothing(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    routers.running["a"] = SECOND
    await extract(rig, "a")

    async def refuse(question: LoadQuestion) -> LoadAnswer:
        raise GuestFailed("the configuration was refused (exit code 1)", node="a")

    await rig.fabric.serve("h1", LOAD, refuse)
    operation = await restore(rig, "a", "1")
    assert operation.state is OperationState.FAILED
    assert (await view(rig, "a")).active == 2


# -------------------------------------------------------------------- nodes that are gone


async def test_revisions_outlive_their_node_and_go_to_another(rig: Rig, routers: Routers) -> None:
    await extract(rig)
    await rig.deploy(TOPOLOGY.replace("  a: {start", "  a2: {start"))
    library = rig.controller.configs
    gone = await view(rig, "a")
    assert (gone.exists, gone.revisions, gone.suggested_for) == (False, 1, "pair/a2")
    assert (await library.text("pair", "a", "latest")).text == FIRST
    with pytest.raises(NotFound):
        await library.activate("pair", "a", 1)

    taken = await library.take_over("pair", "a2", MapConfigs(source_node="a", activate=True))
    assert [(item.number, item.origin, item.who, item.active) for item in taken] == [
        (1, "map", "pair/a revision 1", True)
    ]
    await until(lambda: stored(routers, "a2") is not None)
    with pytest.raises(Conflict, match="cisco_iosv"):
        await library.take_over("pair", "host", MapConfigs(source_node=gone.node_id))
    with pytest.raises(NotFound):
        await library.take_over("pair", "a2", MapConfigs(source_node="nobody"))

    await library.forget("pair", gone.node_id)
    assert not [item for item in await library.everything() if item.node_id == gone.node_id]
    assert (await library.text("pair", "a2", "1")).text == FIRST
    with pytest.raises(Conflict, match="is there"):
        await library.forget("pair", "a2")


async def test_revisions_outlive_their_lab(rig: Rig, routers: Routers) -> None:
    await extract(rig)
    await rig.ended(await rig.controller.labs.destroy("pair"))
    await until(lambda: not rig.controller.board.views())
    library = rig.controller.configs
    assert {item.node for item in await library.of_lab("pair")} == {"a", "b"}
    assert await library.archive("pair", "latest")
    await rig.deploy(TOPOLOGY)
    assert {(item.node, item.exists) for item in await library.of_lab("pair")} == {
        ("a", True), ("b", True), ("host", True), ("a", False), ("b", False),
    }  # fmt: skip
    await library.take_over("pair", "a", MapConfigs(source_node="a"))
    assert await numbers(rig, "a") == [1]
    assert (await view(rig, "a")).active is None


async def test_the_active_revision_is_not_deleted(rig: Rig, routers: Routers) -> None:
    await extract(rig, "a")
    with pytest.raises(Conflict, match="active"):
        await rig.controller.configs.delete("pair", "a", 1)
    routers.running["a"] = SECOND
    await extract(rig, "a")
    await rig.controller.configs.delete("pair", "a", 1)
    assert await numbers(rig, "a") == [2]
    with pytest.raises(NotFound):
        await rig.controller.configs.delete("pair", "a", 1)


# -------------------------------------------------------------------- by itself


async def test_a_schedule_reads_nodes_when_their_time_has_come(rig: Rig, routers: Routers) -> None:
    now = 1000.0
    keeper = rig.controller._config_keeper
    keeper._clock = keeper._store._clock = lambda: now
    await rig.controller.configs.set_policy("pair", ConfigPolicy(extract_every_s=100))
    await keeper.extract_due()
    assert await numbers(rig, "a") == [1]
    routers.running["a"] = SECOND
    del routers.running["b"]
    now += 50
    await keeper.extract_due()
    assert await numbers(rig, "a") == [1]
    now += 51
    await keeper.extract_due()
    assert await numbers(rig, "a") == [2, 1]
    assert (await view(rig, "a")).active == 2
    assert (await rig.controller.configs.revisions("pair", "a"))[0].origin == "schedule"
    routers.running["b"] = "version 15.9\nhostname b\nntp\nend\n"
    now += 10
    await keeper.extract_due()
    assert await numbers(rig, "b") == [1]  # it pauses after a failure
    now += 100
    await keeper.extract_due()
    assert await numbers(rig, "b") == [2, 1]


@pytest.mark.parametrize(
    "policy", [ConfigPolicy(extract_every_s=5), ConfigPolicy(keep=-1), ConfigPolicy(extract_every_s=-100)]
)
async def test_a_policy_that_makes_no_sense_is_refused(rig: Rig, routers: Routers, policy: ConfigPolicy) -> None:
    with pytest.raises(InvalidInput):
        await rig.controller.configs.set_policy("pair", policy)


async def test_retention_takes_old_revisions_away_but_never_the_active_one(rig: Rig, routers: Routers) -> None:
    for number in range(5):
        routers.running["a"] = f"version 15.9\nhostname a{number}\nend\n"
        await extract(rig, "a")
    await rig.controller.configs.activate("pair", "a", 1)
    await rig.controller.configs.set_policy("pair", ConfigPolicy(keep=2))
    await rig.controller._config_keeper.retain()
    assert await numbers(rig, "a") == [5, 4, 1]
    texts = await rig.controller.configs.text("pair", "a", "1")
    assert "hostname a0" in texts.text
