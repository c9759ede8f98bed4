"""Devices through the controller: changed while it runs, with labs that use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_rig import Rig, make_rig, until

from wireloom.errors import Conflict, ImageMissing, InvalidInput, NotFound, Unsupported
from wireloom.fabric.documents import ImagesAnswer, ImagesQuestion
from wireloom.fabric.methods import IMAGES
from wireloom.model.device_views import DeviceFileRequest
from wireloom.model.views import ActionRequest, DeployRequest, LinkRequest, OperationState

BOX = """
name: box
hardware: {cpu: 1, memory: {default: 256MB, minimum: 128MB}, spare-ports: 2}
providers: {libvirt: {image: box.qcow2}}
"""
LAB = "name: lab\nnodes:\n  a: {device: box, provider: simulated, memory: 300}\n"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as made:
        await made.add_host()
        yield made


async def add(rig: Rig, text: str = BOX, **more: Any) -> None:
    await rig.controller.devices.add(DeviceFileRequest(text=text, **more))


async def test_an_added_device_can_be_deployed_at_once(rig: Rig) -> None:
    await add(rig)
    assert (await rig.deploy(LAB)).state is OperationState.DONE
    view = next(view for view in rig.controller.devices.views() if view.name == "box")
    assert (view.origin, view.images["libvirt"]) == ("own", "box.qcow2")


async def test_checking_a_file_changes_nothing(rig: Rig) -> None:
    await add(rig, dry_run=True)
    with pytest.raises(NotFound):
        rig.controller.devices.details("box")


async def test_a_device_of_a_lab_cannot_be_removed(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(LAB)
    with pytest.raises(Conflict, match=r"lab lab could not go on: .*there is no device 'box'"):
        await rig.controller.devices.remove("box", "device")
    await rig.ended(await rig.controller.labs.destroy("lab"))
    await rig.controller.devices.remove("box", "device")
    assert all(view.name != "box" for view in rig.controller.devices.views())


async def test_a_file_put_there_by_hand_is_read_on_request_and_its_mistakes_are_told(rig: Rig) -> None:
    (rig.folder / "devices").mkdir()
    (rig.folder / "devices" / "box.yaml").write_text(BOX)
    (rig.folder / "devices" / "torn.yaml").write_text("a: [")
    problems = await rig.controller.devices.reload()
    assert [Path(problem.file).name for problem in problems] == ["torn.yaml"]
    assert rig.controller.devices.details("box").device.name == "box"
    assert rig.controller.devices.problems() == problems


async def test_a_controller_comes_up_with_broken_files(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(LAB)
    (rig.folder / "devices" / "torn.yaml").write_text("a: [")
    controller = await rig.restart()
    assert len(controller.devices.problems()) == 1
    assert controller.lab("lab").nodes[0].device == "box"


async def test_an_override_counts_for_the_next_plan(rig: Rig) -> None:
    await add(rig)
    request = DeployRequest(topology=LAB)
    assert not (await rig.controller.labs.plan(request)).problems
    await add(rig, "hardware: {memory: {default: 512MB, minimum: 400MB}}", kind="override", source="box.yaml")
    with pytest.raises(InvalidInput, match="300 MiB of memory is too little"):
        await rig.controller.labs.plan(request)


LARGER = "hardware: {memory: {default: 512MB}}"
PLAIN = "name: lab\nnodes:\n  a: {device: box, provider: simulated}\n  b: {device: linux, provider: simulated}\n"


async def override(rig: Rig, text: str = LARGER) -> None:
    await add(rig, text, kind="override", source="box.yaml")


async def changes(rig: Rig, topology: str = PLAIN) -> list[tuple[str, str, tuple[str, ...]]]:
    found = (await rig.controller.labs.plan(DeployRequest(topology=topology))).changes
    return [(change.name, change.action, change.reasons) for change in found]


def memory(rig: Rig) -> int:
    return next(iter(rig.hosts["h1"].slices.values())).nodes[0].memory_mb


async def test_a_plan_says_which_nodes_a_changed_device_makes_anew_and_deploying_does_it(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(PLAIN)
    await override(rig)
    reason = "memory: 256 → 512, as its device definition changed; this takes a new runtime"
    assert await changes(rig) == [("a", "recreate", (reason,))]
    assert (memory(rig), rig.hosts["h1"].starts) == (256, 2)
    assert (await rig.controller.devices.node_profile("lab", "a")).pending == (reason,)
    assert (await rig.controller.devices.node_profile("lab", "b")).pending == ()

    operation = await rig.deploy(PLAIN)
    assert (operation.state, operation.generation) == (OperationState.DONE, 2)
    assert (memory(rig), rig.hosts["h1"].starts) == (512, 3)
    assert rig.controller.lab("lab").revision == 1
    assert await changes(rig) == []
    assert (await rig.controller.devices.node_profile("lab", "a")).pending == ()
    assert (await rig.deploy(PLAIN)).generation == 2

    await rig.controller.devices.remove("box", "override")
    assert [change[:2] for change in await changes(rig)] == [("a", "recreate")]


async def test_a_change_that_needs_no_new_runtime_is_planned_and_deployed_too(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(PLAIN)
    await override(rig, "stop-grace: 9")
    reason = "grace time of the device: 5 → 9, as its device definition changed"
    assert await changes(rig) == [("a", "change", (reason,))]
    assert (await rig.deploy(PLAIN)).generation == 2
    assert (rig.hosts["h1"].starts, await changes(rig)) == (2, [])


async def test_verbs_leave_nodes_as_they_were_deployed_until_they_are_made_anew(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(PLAIN)
    await override(rig)
    labs = rig.controller.labs
    await rig.ended(await rig.controller.links.link("lab", LinkRequest(verb="add", a="a:eth1", b="b:eth1")))
    await rig.ended(await labs.act("lab", ActionRequest(verb="stop", nodes=("b",))))
    await rig.ended(await labs.act("lab", ActionRequest(verb="start", nodes=("b",))))
    await rig.ended(await labs.act("lab", ActionRequest(verb="restart", nodes=("a",))))
    assert (memory(rig), rig.hosts["h1"].starts) == (256, 4)
    await rig.ended(await labs.act("lab", ActionRequest(verb="wipe", nodes=("a",))))
    assert (memory(rig), rig.hosts["h1"].starts) == (512, 5)


async def test_a_restarted_controller_leaves_nodes_as_they_were_deployed(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(PLAIN)
    await override(rig)
    await rig.restart()
    await until(lambda: rig.controller.lab("lab").converged)
    await rig.ended(await rig.controller.labs.act("lab", ActionRequest(verb="restart", nodes=("b",))))
    assert (memory(rig), rig.hosts["h1"].starts) == (256, 3)
    assert [change[:2] for change in await changes(rig)] == [("a", "recreate")]


async def test_an_override_that_a_lab_could_not_live_with_is_refused(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(LAB)
    demanding = "hardware: {memory: {default: 1GiB, minimum: 512MB}}"
    with pytest.raises(Conflict, match=r"lab lab could not go on: .*300 MiB of memory is too little"):
        await add(rig, demanding, kind="override", source="box.yaml")
    assert rig.controller.devices.details("box").override == ""
    await rig.ended(await rig.controller.labs.act("lab", ActionRequest(verb="stop")))


async def test_an_override_speaks_only_for_what_it_says(rig: Rig) -> None:
    await add(rig)
    await add(rig, "providers: {libvirt: {settings: {nic_model: e1000}}}", kind="override", source="box.yaml")
    view = await rig.controller.labs.plan(DeployRequest(topology=LAB.replace("simulated", "libvirt")))
    origins = {value.path: value.origin.layer for value in view.profiles["a"]}
    assert (origins["settings.nic_model"], origins["image"]) == ("override", "device")


async def test_hidden_devices_are_listed_as_such_and_can_be_deployed(rig: Rig) -> None:
    await add(rig)
    assert (await rig.controller.devices.set_hidden("box", True)).hidden
    assert (await rig.deploy(LAB)).state is OperationState.DONE


async def test_a_node_tells_where_its_values_come_from(rig: Rig) -> None:
    await add(rig)
    await rig.deploy(LAB)
    profile = await rig.controller.devices.node_profile("lab", "a")
    values = {item.path: (item.value, item.origin.layer, item.origin.where) for item in profile.values}
    assert values["memory"] == (300, "node", "topology.yml:3")
    assert values["cpu"][:2] == (1, "device")
    assert [port.role for port in profile.ports] == ["mgmt", "spare", "spare"]
    with pytest.raises(NotFound):
        await rig.controller.devices.node_profile("lab", "b")


async def test_a_plan_tells_where_values_of_changed_nodes_come_from(rig: Rig) -> None:
    await add(rig)
    view = await rig.controller.labs.plan(DeployRequest(topology=LAB))
    assert {item.path: item.origin.layer for item in view.profiles["a"]}["memory"] == "node"


async def test_images_that_a_host_has_not_are_refused_before_anything_is_made(rig: Rig) -> None:
    asked: list[ImagesQuestion] = []

    async def answer(question: ImagesQuestion) -> ImagesAnswer:
        asked.append(question)
        wire = ImageMissing("image gone is not on this host", hint="copy it").to_wire()
        return ImagesAnswer(missing={"simulated": {"gone": wire}}, absent={"simulated": ("far",)})

    await rig.fabric.serve("h1", IMAGES, answer)
    lab = "name: lab\ndefaults: {device: linux, provider: simulated}\nnodes: {a: {image: gone}, b: {image: far}}\n"
    view = await rig.controller.labs.plan(DeployRequest(topology=lab))
    assert [(item["node"], item["code"]) for item in view.problems] == [("a", "image-missing")]
    assert view.warnings == ("image far is not on h1 and is fetched first",)
    assert [question.wanted for question in asked] == [{"simulated": ("far", "gone")}]


async def test_a_host_that_does_not_tell_of_its_images_stops_nothing(rig: Rig) -> None:
    assert (
        await rig.deploy("name: lab\nnodes: {a: {device: linux, provider: simulated}}")
    ).state is OperationState.DONE


async def test_a_controller_without_a_folder_refuses_changes(rig: Rig) -> None:
    service = type(rig.controller.devices)(
        topologies=rig.controller.devices._topologies, board=rig.controller.board, folder=None
    )
    with pytest.raises(Unsupported):
        await service.add(DeviceFileRequest(text=BOX))
