"""Which host is told to have or to drop which image, and what is known of what hosts have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from catalogue_rig import BOTH, DOCKER, SIMULATED, add, entry, tell, told
from controller_rig import Rig, make_rig, until

from wireloom.controller.hub import Mailbox
from wireloom.errors import Conflict, ImageMissing, NotFound, RuntimeFailed, Unsupported
from wireloom.model.images import ImageState, ImageView, PresenceState
from wireloom.model.views import DeployRequest, OperationState, StreamMessage

URL = "http://controller:7430/api/v1"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as made:
        made.controller.library.distribution.serve_at(URL)
        await made.add_host("h1", providers=BOTH)
        await made.add_host("h2", providers=BOTH, management_subnet="172.30.1.0/24")
        yield made


def state(rig: Rig, image: ImageView) -> dict[str, PresenceState]:
    return {item.host: item.state for item in rig.controller.library.catalogue.get(image.id).presence}


def is_gone(rig: Rig, image: ImageView) -> bool:
    return all(other.id != image.id for other in rig.controller.library.catalogue.all())


async def next_image(box: Mailbox) -> StreamMessage:
    while True:
        for message in await box.take():
            if message.type == "image":
                return message


async def knows(rig: Rig, host: str, *images: ImageView) -> None:
    pins = tuple(image.pin for image in images)
    await until(lambda: (document := rig.fabric.library(host)) is not None and document.known == pins)


async def drops(rig: Rig, host: str, image: ImageView) -> None:
    await until(lambda: (document := rig.fabric.library(host)) is not None and document.unwanted == (image.pin,))


# -------------------------------------------------------------------- documents


async def test_every_host_is_told_what_there_is_and_where_it_is_fetched(rig: Rig) -> None:
    container, disk = await add(rig, "box:1", b"1"), await add(rig, "box.qcow2", b"2")
    await knows(rig, "h1", disk, container)
    document = await told(rig, "h1")
    (source,) = document.sources
    assert (source.url, source.host, source.digests) == (URL, "", None)
    assert rig.controller.library.distribution.may_read_blobs(source.token)
    assert (document.wanted, document.unwanted) == ((), ())
    other = await told(rig, "h2")
    assert other.known == document.known
    assert other.sources[0].token != source.token


async def test_a_host_is_told_of_images_that_it_can_run(rig: Rig) -> None:
    await rig.add_host("h3", providers=(DOCKER, SIMULATED), management_subnet="172.30.2.0/24")
    container, disk = await add(rig, "box:1", b"1"), await add(rig, "box.qcow2", b"2")
    await knows(rig, "h1", disk, container)
    await knows(rig, "h3", container)


async def test_what_has_not_changed_is_not_written_again(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    before = await told(rig, "h1")
    rig.controller.library.distribution.wake()
    other = await add(rig, "box:2", b"2")
    await knows(rig, "h1", image, other)
    assert (await told(rig, "h1")).generation > before.generation
    again = await told(rig, "h1")
    await tell(rig, "h1", entry(image))
    assert await told(rig, "h1") == again


async def test_it_is_all_written_again_when_the_fabric_lost_its_store(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    before = await told(rig, "h1")
    rig.fabric.lose_store()
    await knows(rig, "h1", image)
    assert (await told(rig, "h1")).generation > before.generation


async def test_a_fabric_that_is_away_is_told_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.controller.library.distribution.RETRY_S", 0.0)
    rig.fabric.connected = False
    image = await add(rig, "box:1")
    rig.fabric.connected = True
    await knows(rig, "h1", image)


# -------------------------------------------------------------------- presence


async def test_presence_is_what_hosts_say_while_they_live(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    with rig.controller.hub.subscribe() as box:
        await tell(rig, "h1", entry(image, PresenceState.FETCHING, done=3, total=7))
        message = await next_image(box)
    assert message.data["presence"][0]["done"] == 3
    await tell(rig, "h1", entry(image))
    await tell(rig, "h2", entry(image, PresenceState.FAILED, error=RuntimeFailed("no room").to_wire()))
    assert state(rig, image) == {"h1": PresenceState.PRESENT, "h2": PresenceState.FAILED}
    rig.fabric.expire_host("h1")
    await until(lambda: state(rig, image)["h1"] is PresenceState.AWAY)


async def test_another_image_of_that_name_is_not_it(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await tell(rig, "h1", entry(image.model_copy(update={"content": "sha256:" + "0" * 64})))
    assert state(rig, image) == {}


async def test_views_of_hosts_say_how_many_images_are_there_and_how_much_room_is_left(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    await tell(rig, "h1", entry(image), free=42)
    view = next(view for view in rig.controller.hosts() if view.host == "h1")
    assert (view.images, view.image_room) == (1, 42)


# -------------------------------------------------------------------- push


async def test_a_pushed_image_is_wanted_on_these_hosts_also_after_a_restart(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await rig.controller.library.distribution.push(image.id, ["h2"])
    for _ in range(2):
        await until(lambda: (document := rig.fabric.library("h2")) is not None and document.wanted == (image.pin,))
        assert (await told(rig, "h1")).wanted == ()
        rig.fabric.lose_store()
        await rig.restart()
        for host in rig.hosts.values():
            await rig.fabric.put_host(host.facts)


async def test_a_push_to_all_is_to_those_that_can_run_it(rig: Rig) -> None:
    await rig.add_host("h3", providers=(SIMULATED,), management_subnet="172.30.2.0/24")
    image = await add(rig, "box:1")
    await rig.controller.library.distribution.push(image.id, [])
    await until(lambda: (document := rig.fabric.library("h1")) is not None and document.wanted == (image.pin,))
    assert (await told(rig, "h3")).wanted == ()
    with pytest.raises(Unsupported, match="host h3 has no provider docker"):
        await rig.controller.library.distribution.push(image.id, ["h3"])
    with pytest.raises(NotFound, match="there is no host h9"):
        await rig.controller.library.distribution.push(image.id, ["h9"])


async def test_a_push_is_taken_back_for_good(rig: Rig) -> None:
    image = await add(rig, "box:1")
    pushes = rig.controller.library.distribution
    await pushes.push(image.id, [])
    await until(lambda: (document := rig.fabric.library("h2")) is not None and document.wanted == (image.pin,))
    await pushes.unpush(image.id, ["h2"])
    await until(lambda: (document := rig.fabric.library("h2")) is not None and document.wanted == ())
    assert (await told(rig, "h1")).wanted == (image.pin,)
    assert (await told(rig, "h2")).known == (image.pin,)
    await pushes.unpush(image.id, ["h2"])
    with pytest.raises(NotFound, match="there is no host h9"):
        await pushes.unpush(image.id, ["h9"])
    await pushes.unpush(image.id, [])
    await until(lambda: (document := rig.fabric.library("h1")) is not None and document.wanted == ())
    assert await rig.store.images.wishes() == {}


async def test_a_push_that_no_host_can_take_is_refused(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.add_host("h1", providers=(SIMULATED,))
        image = await add(rig, "box:1")
        with pytest.raises(Unsupported, match="no host has a provider docker"):
            await rig.controller.library.distribution.push(image.id, [])


async def test_a_damaged_image_is_not_pushed(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await rig.controller.library.catalogue.found_damaged(image.digest, RuntimeFailed("bytes have changed"))
    with pytest.raises(Conflict, match="is damaged"):
        await rig.controller.library.distribution.push(image.id, [])


# -------------------------------------------------------------------- removal


async def test_a_deleted_image_is_there_until_every_host_has_said_that_it_is_gone(rig: Rig) -> None:
    library = rig.controller.library
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    await tell(rig, "h1", entry(image))
    assert (await library.catalogue.delete(image.id)).state is ImageState.DELETING
    for host in ("h1", "h2"):
        await drops(rig, host, image)
        assert (await told(rig, host)).known == ()
    await tell(rig, "h1", entry(image, PresenceState.REMOVING))
    await tell(rig, "h2")
    await until(lambda: state(rig, image) == {"h1": PresenceState.REMOVING})
    with pytest.raises(Conflict, match="is being deleted"):
        await add(rig, "box:1")
    assert library.blobs.has(image.digest)
    await tell(rig, "h1")
    await until(lambda: is_gone(rig, image))
    await until(lambda: not library.blobs.has(image.digest))
    await until(lambda: (document := rig.fabric.library("h1")) is not None and document.unwanted == ())
    await add(rig, "box:1", b"another content")


async def test_deleting_it_twice_is_no_error(rig: Rig) -> None:
    image = await add(rig, "box:1")
    first = await rig.controller.library.catalogue.delete(image.id)
    assert await rig.controller.library.catalogue.delete(image.id) == first


async def test_a_host_that_is_away_drops_it_when_it_comes_back_whatever_happened_meanwhile(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h2", image)
    await tell(rig, "h2", entry(image))
    rig.fabric.expire_host("h2")
    await until(lambda: "h2" not in rig.controller.live.alive)
    await rig.controller.library.catalogue.delete(image.id)
    await drops(rig, "h1", image)
    await tell(rig, "h1")
    await until(lambda: state(rig, image) == {"h2": PresenceState.AWAY})
    rig.fabric.lose_store()
    await rig.restart()
    await drops(rig, "h2", image)  # nobody has heard of the host since the controller started
    assert rig.controller.library.catalogue.get(image.id).state is ImageState.DELETING
    await rig.fabric.put_host(rig.hosts["h2"].facts)
    await tell(rig, "h2", entry(image))
    assert not is_gone(rig, image)
    await tell(rig, "h2")
    await until(lambda: is_gone(rig, image))


async def test_a_word_about_an_older_document_does_not_count(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    before = await told(rig, "h1")
    await rig.controller.library.catalogue.delete(image.id)
    await drops(rig, "h1", image)
    await tell(rig, "h2")
    await tell(rig, "h1", generation=before.generation)
    assert state(rig, image) == {"h1": PresenceState.REMOVING}
    await tell(rig, "h1")
    await until(lambda: is_gone(rig, image))


async def test_a_word_about_a_document_of_another_time_is_asked_for_again(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await rig.controller.library.catalogue.delete(image.id)
    await drops(rig, "h1", image)
    await tell(rig, "h2")
    late = (await told(rig, "h1")).generation + 10**9
    await tell(rig, "h1", generation=late)
    await until(lambda: (document := rig.fabric.library("h1")) is not None and document.generation > late)
    assert not is_gone(rig, image)
    await tell(rig, "h1")
    await until(lambda: is_gone(rig, image))


async def test_a_removal_that_was_confirmed_is_finished_after_a_kill(rig: Rig) -> None:
    image = await add(rig, "box:1")
    going = image.model_copy(update={"state": ImageState.DELETING})
    await rig.store.images.begin_removal(going, [], 1)
    await rig.restart()
    assert is_gone(rig, image)
    assert not rig.controller.library.blobs.has(image.digest)


async def test_a_host_that_was_removed_is_not_waited_for(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await rig.controller.library.catalogue.delete(image.id)
    await drops(rig, "h1", image)
    await tell(rig, "h1")
    with pytest.raises(Conflict, match="its agent is there"):
        await rig.controller.host_parts.removal.remove("h2")
    rig.fabric.expire_host("h2")
    await until(lambda: "h2" not in rig.controller.live.alive)
    token = rig.controller.library.distribution.host_token("h2")
    assert rig.controller.library.distribution.may_read_blobs(token)
    await rig.controller.host_parts.removal.remove("h2")
    await until(lambda: is_gone(rig, image))  # what h1 said may still be on its way into the database
    assert not rig.controller.library.distribution.may_read_blobs(token)
    with pytest.raises(NotFound):
        await rig.controller.host_parts.removal.remove("h2")


# -------------------------------------------------------------------- sources and tokens


async def test_hosts_that_serve_are_offered_to_the_others_while_they_live(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await knows(rig, "h1", image)
    await tell(rig, "h1", entry(image), url="http://h1:1", digests=frozenset({image.digest}))
    await until(lambda: len(rig.fabric.library("h2").sources) == 2)  # type: ignore[union-attr]
    own, other = (await told(rig, "h2")).sources
    assert own.host == ""
    assert (other.host, other.url, other.digests) == ("h1", "http://h1:1", frozenset({image.digest}))
    assert other.token == (await told(rig, "h1")).serve_token
    assert len((await told(rig, "h1")).sources) == 1
    rig.fabric.expire_host("h1")
    await until(lambda: len(rig.fabric.library("h2").sources) == 1)  # type: ignore[union-attr]


async def test_the_controller_does_not_offer_what_is_damaged(rig: Rig) -> None:
    image, other = await add(rig, "box:1"), await add(rig, "box:2", b"2")
    await rig.controller.library.catalogue.found_damaged(image.digest, RuntimeFailed("bytes have changed"))
    whole = frozenset({other.digest})
    await until(lambda: rig.fabric.library("h1").sources[0].digests == whole)  # type: ignore[union-attr]


async def test_only_tokens_of_hosts_of_the_installation_count(rig: Rig) -> None:
    distribution = rig.controller.library.distribution
    token = distribution.host_token("h1")
    assert distribution.may_read_blobs(token)
    code = token.partition(".")[2]
    for wrong in ("", "h1", f"h1.{code[:-1]}", f"h2.{code}", distribution.host_token("h9"), "ü.ü"):
        assert not distribution.may_read_blobs(wrong)
    assert not distribution.may_read_blobs(f"h1.{(await told(rig, 'h1')).serve_token}")
    await rig.restart()
    assert rig.controller.library.distribution.host_token("h1") == token
    secret = rig.folder / "library" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600


# -------------------------------------------------------------------- preflight

LAB = "name: lab\nnodes:\n  a: {device: generic, provider: docker, image: 'box:1', host: h2}\n"


async def test_an_image_that_can_be_fetched_is_not_missing(rig: Rig) -> None:
    image = await add(rig, "box:1")
    plan = await rig.controller.labs.plan(DeployRequest(topology=LAB))
    assert (plan.problems, plan.warnings) == ((), ("image box:1 is not on h2 and is fetched first",))
    await tell(rig, "h2", entry(image))
    assert (await rig.controller.labs.plan(DeployRequest(topology=LAB))).warnings == ()
    assert (await rig.deploy(LAB)).state is OperationState.DONE


async def test_a_host_without_room_for_an_image_is_refused(rig: Rig) -> None:
    image = await add(rig, "box:1", b"x" * 100)
    await tell(rig, "h2", free=99)
    (problem,) = (await rig.controller.labs.plan(DeployRequest(topology=LAB))).problems
    assert problem["code"] == "capacity-exceeded"
    assert "host h2 has no room for image box:1" in problem["message"]
    await tell(rig, "h2", free=100)
    assert (await rig.controller.labs.plan(DeployRequest(topology=LAB))).problems == ()
    await tell(rig, "h2", entry(image), free=1)
    assert (await rig.controller.labs.plan(DeployRequest(topology=LAB))).problems == ()


async def test_room_is_counted_for_all_images_of_a_host(rig: Rig) -> None:
    await add(rig, "box:1", b"x" * 100)
    await add(rig, "box:2", b"y" * 100)
    await tell(rig, "h2", free=150)
    both = LAB + "  b: {device: generic, provider: docker, image: 'box:2', host: h2}\n"
    plan = await rig.controller.labs.plan(DeployRequest(topology=both))
    assert [problem["node"] for problem in plan.problems] == ["b"]


async def test_a_damaged_image_is_missing_but_where_it_is_whole(rig: Rig) -> None:
    image = await add(rig, "box:1")
    await rig.controller.library.catalogue.found_damaged(image.digest, RuntimeFailed("bytes have changed"))
    with pytest.raises(ImageMissing, match="image box:1 is damaged in the library: bytes have changed"):
        await rig.deploy(LAB)
    await tell(rig, "h2", entry(image))
    assert (await rig.deploy(LAB)).state is OperationState.DONE
