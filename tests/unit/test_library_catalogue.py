"""The catalogue of images: what comes in, whose default it is, what uses it, and its end on a library without hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from catalogue_rig import BOTH, MIXED, add, digest_of, stored
from controller_rig import Rig, make_rig, until

from wireloom.controller.intents import definitions_of
from wireloom.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    RuntimeFailed,
    TopologyInvalid,
    Unavailable,
    Unsupported,
)
from wireloom.model.device_views import DeviceFileRequest
from wireloom.model.images import ImageState, ImageUpdate, ImageUse, JobState, JobView, ServedDevice
from wireloom.model.views import DeployRequest, StreamMessage
from wireloom.planning.topology import parse_topology

BARE = "name: bare\nnodes:\n  a: {device: generic, provider: docker}\n"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as made:
        yield made


def served(device: str = "generic", *, default: bool = True) -> ImageUpdate:
    return ImageUpdate(devices=(ServedDevice(device=device, default=default),))


async def messages(rig: Rig, kind: str, work: Any) -> list[StreamMessage]:
    """What readers are told of ``kind`` while ``work`` is done."""
    with rig.controller.hub.subscribe() as box:
        await work
        return [message for message in await box.take() if message.type == kind]


async def test_an_image_is_there_after_a_restart_as_it_was_before(rig: Rig) -> None:
    made = await add(rig, "box:1", device="generic", default=True, version="1", needs=("kvm",))
    catalogue = (await rig.restart()).library.catalogue
    assert catalogue.all() == [made]
    assert catalogue.get(made.id) == catalogue.named("box:1") == made
    assert catalogue.default("generic", "docker") == "box:1"
    pin = catalogue.pin("docker", "box:1")
    assert pin is not None
    assert (pin.digest, pin.content, pin.size) == (made.digest, made.content, made.size)


async def test_readers_are_told_of_images_that_come_and_go(rig: Rig) -> None:
    (told,) = await messages(rig, "image", add(rig, "box.qcow2"))
    image = rig.controller.library.catalogue.named("box.qcow2")
    assert image is not None
    assert told.data == image.model_dump(mode="json")
    (gone,) = await messages(rig, "image-removed", rig.controller.library.catalogue.delete(image.id))
    assert gone.data == {"id": image.id, "name": "box.qcow2"}


async def test_the_same_name_with_the_same_content_is_no_error(rig: Rig) -> None:
    first = await add(rig, "box.qcow2", device="generic")
    assert await add(rig, "box.qcow2") == first


async def test_an_image_that_comes_again_serves_what_it_comes_for_too(rig: Rig) -> None:
    await add(rig, "box.qcow2", device="generic", default=True)
    again = await add(rig, "box.qcow2", device="linux", default=True)
    served = (ServedDevice(device="generic", default=True), ServedDevice(device="linux", default=True))
    assert again.devices == served
    assert (await add(rig, "box.qcow2", device="linux")).devices == served
    assert rig.controller.library.catalogue.default("linux", "libvirt") == "box.qcow2"


@pytest.mark.parametrize("name", ["box.qcow2", "vendor/box:1"])
async def test_a_name_belongs_to_one_content(rig: Rig, name: str) -> None:
    first = await add(rig, name)
    with pytest.raises(Conflict, match="belongs to another image already") as refused:
        await add(rig, name, b"another content")
    assert refused.value.details["image"] == first.id


@pytest.mark.parametrize(
    ("name", "changes", "error"),
    [
        ("../box.qcow2", {}, InvalidInput),
        ("box\n:1", {}, InvalidInput),
        ("box:1", {"provider": "libvirt"}, InvalidInput),
        ("box:1", {"digest": "sha256:no"}, InvalidInput),
        ("box:1", {"device": "no-such"}, NotFound),
        ("box.qcow2", {"device": "ceos"}, Unsupported),
    ],
)
async def test_what_is_no_image_is_not_taken_up(rig: Rig, name: str, changes: dict[str, Any], error: type) -> None:
    new = stored(rig, "box.qcow2" if name.endswith("qcow2") else "box:1", **changes)
    with pytest.raises(error):
        await rig.controller.library.catalogue.add(type(new)(**{**new.__dict__, "name": name}))
    assert rig.controller.library.catalogue.all() == []


async def test_an_image_without_its_file_is_not_taken_up(rig: Rig) -> None:
    new = stored(rig, "box.qcow2")
    rig.controller.library.blobs.remove(new.digest)
    with pytest.raises(Unavailable):
        await rig.controller.library.catalogue.add(new)


async def test_a_device_has_one_default_on_each_provider(rig: Rig) -> None:
    catalogue = rig.controller.library.catalogue
    first = await add(rig, "box:1", device="generic", default=True)
    disk = await add(rig, "box.qcow2", device="generic", default=True)
    second = await add(rig, "box:2", b"2", device="generic", default=True)
    for _ in range(2):
        assert catalogue.get(first.id).devices == (ServedDevice(device="generic"),)
        assert catalogue.get(second.id).devices == catalogue.get(disk.id).devices
        assert catalogue.default("generic", "docker") == "box:2"
        assert catalogue.default("generic", "libvirt") == "box.qcow2"
        assert catalogue.default("generic", "simulated") is None
        catalogue = (await rig.restart()).library.catalogue


async def test_devices_are_confirmed_under_their_own_names(rig: Rig) -> None:
    image = await add(rig, "box:1")
    view = await rig.controller.library.catalogue.update(image.id, served("eos"))
    assert view.devices == (ServedDevice(device="ceos", default=True),)
    assert view.used_by == (ImageUse(kind="device", name="ceos"),)


async def test_a_node_that_names_no_image_takes_the_default_and_says_so(rig: Rig) -> None:
    await rig.add_host(providers=BOTH)
    await add(rig, "box:1", device="generic", default=True)
    await rig.deploy(BARE)
    profile = await rig.controller.devices.node_profile("bare", "a")
    assert profile.image == "box:1"
    assert next(str(value.origin) for value in profile.values if value.path == "image") == "library"


async def test_without_a_default_the_device_s_own_image_counts(rig: Rig) -> None:
    await rig.add_host(providers=BOTH)
    text = BARE.replace("generic", "linux")
    await rig.deploy(text)
    assert (await rig.controller.devices.node_profile("bare", "a")).image == "wireloom/linux:latest"
    await add(rig, "box:1", device="linux", default=True)
    plan = await rig.controller.labs.plan(DeployRequest(topology=text))
    reason = "image: wireloom/linux:latest → box:1, the default of its device now; this takes a new runtime"
    assert plan.changes[0].reasons == (reason,)


async def test_lists_of_devices_show_the_default_that_counts(rig: Rig) -> None:
    await add(rig, "ceos:4.32.0F", device="ceos", default=True)
    assert rig.controller.devices.details("ceos").device.images["docker"] == "ceos:4.32.0F"
    assert (
        next(view for view in rig.controller.devices.views() if view.name == "ceos").images["docker"] == "ceos:4.32.0F"
    )
    values = {value.path: value for value in rig.controller.devices.details("ceos").values}
    assert str(values["providers.docker.image"].origin) == "library"


async def test_a_deployed_node_keeps_its_image_whatever_the_default_becomes(rig: Rig) -> None:
    host = await rig.add_host(providers=BOTH)
    await add(rig, "box:1", device="generic", default=True)
    await rig.deploy(BARE)
    await add(rig, "box:2", b"2", device="generic", default=True)
    await rig.restart()
    await rig.controller._renderer.reload(rig.controller.board.lab_ids[0])
    await until(lambda: rig.controller.live.alive)
    (slice_,) = host.slices.values()
    assert (slice_.nodes[0].image, [pin.name for pin in slice_.images]) == ("box:1", ["box:1"])
    await rig.deploy(BARE)
    await until(lambda: next(iter(host.slices.values())).nodes[0].image == "box:2")


async def test_a_default_that_a_lab_needs_is_not_taken_away(rig: Rig) -> None:
    await rig.add_host(providers=BOTH)
    first = await add(rig, "box:1", device="generic", default=True)
    await rig.deploy(BARE)
    with pytest.raises(Conflict, match=r"lab bare could not go on without the default"):
        await rig.controller.library.catalogue.update(first.id, served(default=False))
    await add(rig, "box:2", b"2", device="generic", default=True)
    assert rig.controller.library.catalogue.default("generic", "docker") == "box:2"


async def test_slices_carry_exactly_the_pins_of_their_nodes(rig: Rig) -> None:
    host = await rig.add_host(providers=BOTH)
    await rig.deploy(MIXED)
    (before,) = host.slices.values()
    assert before.images == ()
    disk = await add(rig, "box.qcow2")
    await add(rig, "other:1", b"other")
    await until(lambda: next(iter(host.slices.values())).images == (disk.pin,))
    container = await add(rig, "box:1", b"box")
    await until(lambda: next(iter(host.slices.values())).images == (container.pin, disk.pin))
    (after,) = host.slices.values()
    assert [node.spec_hash() for node in after.nodes] == [node.spec_hash() for node in before.nodes]
    assert definitions_of({"h1": after}) == definitions_of({"h1": before})
    assert after.generation == before.generation
    assert after.pin(after.nodes[0]) == container.pin


async def test_an_image_without_a_tag_is_the_latest_one(rig: Rig) -> None:
    host = await rig.add_host(providers=BOTH)
    image = await add(rig, "box:latest")
    await rig.deploy(BARE.replace("docker}", "docker, image: box}"))
    await until(lambda: next(iter(host.slices.values())).images)
    (slice_,) = host.slices.values()
    pin = slice_.pin(slice_.nodes[0])
    assert pin is not None
    assert (pin.name, pin.content) == ("box", image.content)
    with pytest.raises(Conflict):
        await rig.controller.library.catalogue.delete(image.id)


async def test_a_name_of_another_provider_s_image_means_nothing(rig: Rig) -> None:
    await add(rig, "box.qcow2")
    assert rig.controller.library.catalogue.pin("simulated", "box.qcow2") is None
    assert rig.controller.library.catalogue.pin("docker", "box.qcow2") is None


async def test_an_image_that_needs_it_runs_privileged_unless_the_topology_says_otherwise(rig: Rig) -> None:
    schema = {"docker": {"type": "object", "properties": {"privileged": {"type": "boolean"}}}}
    rig.controller._topologies._schemas = schema
    await add(rig, "vrnetlab/box:1", needs=("privileged", "kvm"))
    lab = "name: lab\nnodes:\n  a: {device: linux, provider: docker, image: 'vrnetlab/box:1'}\n"
    node = rig.controller._topologies.parse(lab, source="lab.yml", files={}).nodes[0]
    assert (node.settings["privileged"], node.image_needs) == (True, ("privileged", "kvm"))
    assert str(node.origins["settings.privileged"]) == "library"
    off = lab.replace("1'}", "1', settings: {privileged: false}}")
    assert rig.controller._topologies.parse(off, source="lab.yml", files={}).nodes[0].settings["privileged"] is False


async def test_what_uses_an_image_is_said_and_keeps_it(rig: Rig) -> None:
    await rig.add_host(providers=BOTH)
    await rig.deploy(MIXED)
    catalogue = rig.controller.library.catalogue
    image = await add(rig, "box:1", device="generic", default=True)
    uses = (ImageUse(kind="node", name="c", lab="mixed", host="h1"), ImageUse(kind="device", name="generic"))
    assert catalogue.get(image.id).used_by == catalogue.uses(image.id) == uses
    with pytest.raises(Conflict, match="used by node c of lab mixed, device generic, whose default it is") as refused:
        await catalogue.delete(image.id)
    assert refused.value.details["used_by"] == [use.model_dump(mode="json") for use in uses]
    assert refused.value.hint
    assert catalogue.get(image.id).state is ImageState.READY
    await rig.ended(await rig.controller.labs.destroy("mixed"))
    await catalogue.update(image.id, served(default=False))
    await catalogue.delete(image.id)


async def test_work_that_needs_an_image_keeps_it_until_it_has_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    library, image = rig.controller.library, await add(rig, "box:1")
    job = JobView(id="0a", kind="extract", title="extract the disk of box:1", state=JobState.RUNNING)
    monkeypatch.setattr(library.jobs, "unfinished", lambda: [(job, {"image_id": image.id}), (job, {"image_id": "0"})])
    assert library.catalogue.get(image.id).used_by == (ImageUse(kind="job", name="0a"),)
    with pytest.raises(Conflict, match="used by job 0a"):
        await library.catalogue.delete(image.id)
    monkeypatch.undo()
    await library.catalogue.delete(image.id)


async def test_an_image_is_not_deleted_while_a_verb_may_begin_to_use_it(rig: Rig) -> None:
    await rig.add_host(providers=BOTH)
    image = await add(rig, "box:1")
    async with rig.controller._locks.hold("mixed"):
        deleting = asyncio.create_task(rig.controller.library.catalogue.delete(image.id))
        await asyncio.sleep(0)
        assert not deleting.done()
        assert rig.controller.library.catalogue.is_closing(image)
        with pytest.raises(Conflict, match="is being deleted"):
            await rig.controller.library.catalogue.update(image.id, served())
    await deleting


async def test_a_node_of_an_image_that_is_being_deleted_is_refused(rig: Rig) -> None:
    await rig.add_host(providers=BOTH)
    image = await add(rig, "box:1")
    await rig.controller.library.catalogue.delete(image.id)
    with pytest.raises(Conflict, match="image box:1 is being deleted"):
        await rig.deploy("name: lab\nnodes:\n  a: {device: generic, provider: docker, image: 'box:1'}\n")


async def test_several_names_have_one_file_which_goes_with_the_last(rig: Rig) -> None:
    library = rig.controller.library
    first, second = await add(rig, "one.qcow2"), await add(rig, "two.qcow2")
    assert first.digest == second.digest
    await library.catalogue.delete(first.id)
    assert library.blobs.has(second.digest)
    await library.catalogue.delete(second.id)
    assert not library.blobs.has(second.digest)
    assert library.catalogue.all() == []
    await add(rig, "one.qcow2", b"another content")  # the name is free again


async def test_no_such_image(rig: Rig) -> None:
    catalogue = rig.controller.library.catalogue
    for call in (catalogue.delete("0"), catalogue.update("0", served())):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        catalogue.get("0")
    assert catalogue.named("0") is None


async def test_damage_is_said_of_all_names_and_ends_when_the_image_comes_again(rig: Rig) -> None:
    library = rig.controller.library
    first, second = await add(rig, "one:1"), await add(rig, "two:1")
    hit = await library.catalogue.found_damaged(first.digest, RuntimeFailed("bytes have changed"))
    assert {image.id for image in hit} == {first.id, second.id}
    view = library.catalogue.get(first.id)
    assert (view.state, (view.problem or {})["message"]) == (ImageState.DAMAGED, "bytes have changed")
    again = stored(rig, "one:1", b"packed another way", content=first.content)
    mended = await library.catalogue.add(again)
    assert (mended.id, mended.state, mended.problem) == (first.id, ImageState.READY, None)
    assert mended.digest == digest_of(b"packed another way")
    assert library.catalogue.get(second.id).state is ImageState.DAMAGED
    await library.catalogue.found_sound(second.digest)
    assert library.catalogue.get(second.id).state is ImageState.READY


async def test_a_user_s_own_device_can_have_a_default(rig: Rig) -> None:
    text = "name: own\nhardware: {cpu: 1, memory: 256MB}\nproviders: {docker: {}}\n"
    await rig.controller.devices.add(DeviceFileRequest(text=text))
    image = await add(rig, "box:1")
    await rig.controller.library.catalogue.update(image.id, served("own"))
    assert rig.controller.library.catalogue.default("own", "docker") == "box:1"


async def test_where_nobody_asked_the_library_a_missing_image_is_odd_but_allowed(rig: Rig) -> None:
    devices = rig.controller._topologies.devices
    parsed = parse_topology(BARE, devices=devices, images=None)
    assert [item.message for item in parsed.warnings] == ["device 'generic' has no image of its own on docker"]
    with pytest.raises(TopologyInvalid):
        parse_topology(BARE, devices=devices)
