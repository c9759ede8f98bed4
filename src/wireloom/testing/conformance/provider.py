"""The provider conformance suite: what every provider must keep, whatever its technology.

A test runner takes :data:`CHECKS`, one rig for each::

    async with rig_for(harness) as rig:
        await check.run(rig)

Checks raise ``AssertionError``. They know no technology: what differs is in the harness and in the declared
capabilities. A check is left out only where ``reason_to_skip`` gives a capability that is not declared.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from wireloom.errors import Conflict, ImageMissing, InvalidInput, NotFound, NotPermitted, RuntimeFailed
from wireloom.model.runtime import Capabilities, EventKind
from wireloom.model.state import RuntimePhase
from wireloom.testing.conformance import provider_guest as guest
from wireloom.testing.conformance import provider_images as images
from wireloom.testing.conformance import provider_moves as moves
from wireloom.testing.conformance.provider_rig import (
    ConsoleTalk,
    GuestCommands,
    GuestFacts,
    ProviderHarness,
    Rig,
    expect,
    gather_log,
    port_intent,
    rig_for,
)

__all__ = ["CHECKS", "Check", "ConsoleTalk", "GuestCommands", "GuestFacts", "ProviderHarness", "Rig", "rig_for"]

_EVENT_S = 1.0
_CANCEL_AFTER_S = (0.0, 0.005, 0.02, 0.08, 0.3)
_GATE_WATCH_S = 0.5


# ---------------------------------------------------------------------- what needs no running guest


async def check_capabilities(rig: Rig) -> None:
    """Capabilities name the provider and hold together; the settings have a schema."""
    found = rig.capabilities
    assert found.name == rig.provider.name
    assert found.version
    assert found.parallel_starts >= 1
    assert found.consoles, "there is no console of any kind"
    assert (found.carrier == "provider") == (rig.provider.abilities.carrier is not None)
    assert {talk.request.kind for talk in rig.harness.talks} == found.consoles
    assert rig.provider.settings_schema()["type"] == "object"


async def check_create(rig: Rig) -> None:
    """A created runtime is observed with its labels, once, and does not run."""
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        status = await rig.status(runtime_id)
        assert status.phase is RuntimePhase.CREATED
        assert (status.identity, status.name) == (spec.identity, spec.name)
        assert (status.incarnation, status.spec_hash) == (spec.incarnation, spec.spec_hash)
        assert [found.runtime_id for found in await rig.provider.observe()] == [runtime_id]
        assert await rig.harness.debris(rig.installation) != [], "the harness counts nothing"
    assert list(await rig.provider.observe()) == []
    await rig.expect_no_debris()


async def check_create_again(rig: Rig) -> None:
    """The same spec gives the same runtime; another spec or incarnation is a conflict and changes nothing."""
    await check_create(rig)
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        assert await rig.provider.create(spec) == runtime_id
        for other in (spec.model_copy(update={"spec_hash": "0002"}), spec.model_copy(update={"incarnation": 2})):
            await expect(Conflict, rig.provider.create(other))
        assert (await rig.status(runtime_id)).spec_hash == spec.spec_hash


async def check_found_after_restart(rig: Rig) -> None:
    """A new provider finds every runtime by its labels and can go on with it."""
    specs = [rig.spec("n1"), rig.spec("n2")]
    ids = {await rig.provider.create(spec) for spec in specs}
    async with rig.restarted() as other:
        assert {status.runtime_id for status in await other.observe()} == ids
        assert {await other.create(spec) for spec in specs} == ids
        for runtime_id in ids:
            await other.destroy(runtime_id)
    assert list(await rig.provider.observe()) == []


async def check_missing_image(rig: Rig) -> None:
    """An image that is nowhere is said so, with advice, and leaves nothing, not in the node's folder either."""
    spec = rig.spec(image=rig.harness.missing_image)
    before = sorted(spec.folder.rglob("*"))
    error = await expect(ImageMissing, rig.provider.create(spec))
    assert error.hint
    assert sorted(spec.folder.rglob("*")) == before
    await rig.expect_no_debris()
    assert not await rig.provider.images.has(spec.image)


async def check_images(rig: Rig) -> None:
    """The present image is listed; one that is neither here nor anywhere cannot be loaded; removal is idempotent."""
    store = rig.provider.images
    assert await store.has(rig.harness.image)
    listed = {info.name: info for info in await store.list()}
    loaded = await store.load(rig.harness.image) if rig.harness.image not in listed else listed[rig.harness.image]
    assert loaded.digest
    assert loaded.size > 0
    error = await expect(ImageMissing, store.load(rig.harness.missing_image, rig.folder / "no-such-file"))
    assert error.hint
    await store.remove(rig.harness.missing_image)


async def check_wrong_settings(rig: Rig) -> None:
    """Unknown or wrong settings are refused before anything is made."""
    await expect(InvalidInput, rig.provider.create(rig.spec(settings=rig.harness.wrong_settings)))
    await rig.expect_no_debris()


async def check_unknown_runtime(rig: Rig) -> None:
    """A runtime that is gone is no error for observe, destroy and attachment, and not found for verbs that need it."""
    async with rig.created(rig.spec()) as gone:
        pass
    assert list(await rig.provider.observe(gone)) == []
    await rig.provider.destroy(gone)
    assert await rig.provider.attachment(gone, port_intent("x", 1)) is None
    await expect(NotFound, rig.provider.start(gone))
    await expect(NotFound, rig.provider.release(gone))
    await expect(NotFound, rig.provider.stop(gone, 0))


async def check_installations_are_apart(rig: Rig) -> None:
    """Two installations on one engine do not see each other's runtimes."""
    async with (
        rig_for(rig.harness) as other,
        rig.created(rig.spec()) as mine,
        other.created(other.spec()) as theirs,
    ):
        assert [status.runtime_id for status in await rig.provider.observe()] == [mine]
        assert [status.runtime_id for status in await other.provider.observe()] == [theirs]
        assert list(await rig.provider.observe(theirs)) == []


async def check_cancelled_create(rig: Rig) -> None:
    """Cancelling create at any moment leaves nothing behind, and create works afterwards."""
    for number, after_s in enumerate(_CANCEL_AFTER_S):
        spec = rig.spec(f"c{number}")
        work = asyncio.create_task(rig.provider.create(spec))
        await asyncio.sleep(after_s)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await rig.provider.destroy(await work)  # it was faster
        assert list(await rig.provider.observe()) == [], f"cancelled after {after_s} s, and a runtime is left"
        await rig.expect_no_debris()
        async with rig.created(spec):
            pass


async def check_privileged_needs_consent(rig: Rig) -> None:
    """Privileges need the user's consent; a technology that knows none refuses the setting."""
    known = rig.harness.privileged_settings
    settings = {**rig.harness.settings, "privileged": True} if known is None else known
    refusal = InvalidInput if known is None else NotPermitted
    await expect(refusal, rig.provider.create(rig.spec(settings=settings, privileged_allowed=False)))
    await rig.expect_no_debris()


# ---------------------------------------------------------------------- the life of a runtime


async def check_gate(rig: Rig) -> None:
    """After start the runtime waits and none of the guest's code runs, until release. All of it is idempotent."""
    async with rig.created(rig.spec()) as runtime_id:
        await expect(RuntimeFailed, rig.provider.release(runtime_id))
        await rig.provider.start(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.GATED)
        assert (await rig.status(runtime_id)).started_at is not None
        await rig.provider.start(runtime_id)
        await asyncio.sleep(_GATE_WATCH_S)
        await rig.expect_phase(runtime_id, RuntimePhase.GATED)
        assert await guest.whole_log(rig, runtime_id) == b"", "the guest has run before its gate opened"
        await rig.provider.release(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.RUNNING)
        await rig.provider.release(runtime_id)
        await gather_log(rig.provider, runtime_id, rb"\S", rig.harness.boot_s)
        await rig.expect_phase(runtime_id, RuntimePhase.RUNNING)


async def check_life(rig: Rig) -> None:
    """Create, boot, stop, boot again, destroy: each phase is right, storage survives a stop, nothing is left."""
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        await rig.provider.stop(runtime_id, 0)
        await rig.expect_phase(runtime_id, RuntimePhase.CREATED)
        await rig.boot(runtime_id)
        first = await rig.status(runtime_id)
        await rig.harness.write_file(rig.provider, runtime_id, "kept", b"across a stop")
        await rig.provider.stop(runtime_id, 5)
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED)
        log = await guest.whole_log(rig, runtime_id)
        assert re.search(rig.harness.boot_pattern, log), "the boot log is gone after a stop"
        await rig.provider.stop(runtime_id, 0)
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED)

        await rig.provider.start(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.GATED)
        assert await guest.whole_log(rig, runtime_id) == b"", "the boot log of another power-on"
        await rig.provider.release(runtime_id)
        await rig.until_booted(runtime_id)
        second = await rig.status(runtime_id)
        assert (second.started_at or 0) > (first.started_at or 0)
        assert await rig.harness.read_file(rig.provider, runtime_id, "kept") == b"across a stop"
    assert list(await rig.provider.observe(runtime_id)) == []
    await rig.provider.destroy(runtime_id)
    await rig.expect_no_debris()


async def check_destroy_at_every_phase(rig: Rig) -> None:
    """Destroy ends what is created, gated or running."""
    for phase in (RuntimePhase.CREATED, RuntimePhase.GATED, RuntimePhase.RUNNING):
        async with rig.created(rig.spec()) as runtime_id:
            if phase is not RuntimePhase.CREATED:
                await rig.provider.start(runtime_id)
            if phase is RuntimePhase.RUNNING:
                await rig.provider.release(runtime_id)
            await rig.expect_phase(runtime_id, phase)
        await rig.expect_no_debris()


async def check_attachment(rig: Rig) -> None:
    """Ports can be plugged at the declared phase: from the beginning, or between start and release."""
    early = rig.capabilities.attachments == "created"
    spec = rig.spec(ports=1)
    port = spec.ports[0]
    async with rig.created(spec) as runtime_id:
        first = await rig.provider.attachment(runtime_id, port)
        assert (first is not None) == early
        await rig.provider.start(runtime_id)
        gated = await rig.provider.attachment(runtime_id, port)
        assert gated is not None
        await rig.provider.release(runtime_id)
        assert await rig.provider.attachment(runtime_id, port) == gated, "the port would have to be made again"
        async with rig.restarted() as other:
            assert await other.attachment(runtime_id, port) == gated
        await rig.provider.stop(runtime_id, 0)
        assert (await rig.provider.attachment(runtime_id, port) is not None) == early


async def check_carriers(rig: Rig) -> None:
    """Carriers set while a runtime is off hold for its next start, those set while it runs are seen at once."""
    control = rig.provider.abilities.carrier
    assert control is not None
    spec = rig.spec(ports=2)
    async with rig.created(spec) as runtime_id:
        await control.set_carrier(runtime_id, {1: True, 2: False})
        await rig.provider.start(runtime_id)
        assert (await rig.status(runtime_id)).carriers == {1: True, 2: False}
        await rig.provider.release(runtime_id)
        await control.set_carrier(runtime_id, {1: False, 2: True})
        await control.set_carrier(runtime_id, {2: True})
        assert (await rig.status(runtime_id)).carriers == {1: False, 2: True}
        await rig.provider.stop(runtime_id, 0)
        await rig.provider.start(runtime_id)
        assert (await rig.status(runtime_id)).carriers == {1: False, 2: True}


async def check_limits(rig: Rig) -> None:
    """CPU and memory are limits that the engine knows of."""
    async with rig.created(rig.spec(cpu=1, memory_mb=rig.harness.memory_mb)) as runtime_id:
        await rig.provider.start(runtime_id)
        assert await rig.harness.limits(runtime_id) == (1, rig.harness.memory_mb)
    if rig.capabilities.fractional_cpu:
        async with rig.created(rig.spec(cpu=0.5)) as runtime_id:
            await rig.provider.start(runtime_id)
            assert (await rig.harness.limits(runtime_id))[0] == 0.5


async def check_seen_after_restart(rig: Rig) -> None:
    """A new provider sees gated and running as what they are, opens the gate, and stops."""
    await check_found_after_restart(rig)
    async with rig.created(rig.spec()) as runtime_id:
        await rig.provider.start(runtime_id)
        async with rig.restarted() as other:
            assert (await rig.status(runtime_id, other)).phase is RuntimePhase.GATED
            await other.release(runtime_id)
        async with rig.restarted() as other:
            assert (await rig.status(runtime_id, other)).phase is RuntimePhase.RUNNING
            await other.stop(runtime_id, 0)
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED)


# ---------------------------------------------------------------------- what happens behind the provider's back


async def check_events(rig: Rig) -> None:
    """Each change is told, with the node it is about; the stream begins with ``RESYNC``."""
    spec = rig.spec()
    node_id = spec.identity.node_id
    async with rig.events() as log:
        async with rig.created(spec) as runtime_id:
            await rig.provider.start(runtime_id)
            await log.wait_for(EventKind.STARTED, node_id=node_id)
            await rig.provider.stop(runtime_id, 0)
            await log.wait_for(EventKind.EXITED, node_id=node_id)
        await log.wait_for(EventKind.REMOVED, node_id=node_id)


async def check_killed_behind_back(rig: Rig) -> None:
    """A runtime that ends by itself is told within a second, observed as exited, and can start again."""
    spec = rig.spec()
    async with rig.events() as log, rig.created(spec) as runtime_id:
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)
        killed = asyncio.get_running_loop().time()
        await rig.harness.kill(runtime_id)
        told = await log.wait_for(EventKind.EXITED, node_id=spec.identity.node_id)
        assert told - killed < _EVENT_S, f"told after {told - killed:.2f} s"
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED, within_s=_EVENT_S)
        await rig.provider.start(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.GATED)


async def check_restarted_behind_back(rig: Rig) -> None:
    """A restart by the engine is told and is another boot.

    A runtime that gets new ports with it waits at its gate until they are plugged; one that keeps them boots at once.
    """
    spec = rig.spec(ports=1)
    async with rig.events() as log, rig.created(spec) as runtime_id:
        await rig.boot(runtime_id)
        first = (await rig.status(runtime_id)).started_at or 0
        before = await rig.provider.attachment(runtime_id, spec.ports[0])
        await log.wait_for(EventKind.STARTED, node_id=spec.identity.node_id)
        await rig.harness.restart(runtime_id)
        await log.wait_for(EventKind.STARTED, node_id=spec.identity.node_id)
        after = await rig.provider.attachment(runtime_id, spec.ports[0])
        assert after is not None
        if rig.capabilities.attachments == "gated":
            await rig.expect_phase(runtime_id, RuntimePhase.GATED)
            assert after != before, "a port of the old run would be taken for one of the new"
            await rig.provider.release(runtime_id)
        else:
            await rig.expect_phase(runtime_id, RuntimePhase.RUNNING)
            assert after == before, "the port would have to be made again"
        await rig.until_booted(runtime_id)
        assert ((await rig.status(runtime_id)).started_at or 0) > first


# ---------------------------------------------------------------------- the suite


def always(_: Capabilities) -> str:
    return ""


@dataclass(frozen=True)
class Check:
    """One row of the suite. ``reason_to_skip`` gives the capability that is not declared, or nothing."""

    run: Callable[[Rig], Awaitable[None]]
    reason_to_skip: Callable[[Capabilities], str] = always

    @property
    def name(self) -> str:
        return self.run.__name__.removeprefix("check_")


CHECKS: tuple[Check, ...] = (
    Check(check_capabilities),
    Check(check_create_again),
    Check(check_missing_image),
    Check(check_images),
    Check(images.check_image_content),
    Check(images.check_image_refused),
    Check(images.check_image_replaced),
    Check(images.check_image_in_use),
    Check(images.check_image_exported),
    Check(images.check_image_verified),
    Check(images.check_image_loads_at_once),
    Check(images.check_image_load_cancelled),
    Check(images.check_node_saved),
    Check(moves.check_node_carried),
    Check(check_wrong_settings),
    Check(check_privileged_needs_consent),
    Check(check_unknown_runtime),
    Check(check_installations_are_apart),
    Check(check_cancelled_create),
    Check(check_gate),
    Check(check_life),
    Check(check_destroy_at_every_phase),
    Check(check_attachment),
    Check(check_carriers, lambda c: "" if c.carrier == "provider" else "carrier is the host device's"),
    Check(check_limits),
    Check(check_seen_after_restart),
    Check(check_events),
    Check(check_killed_behind_back),
    Check(check_restarted_behind_back),
    Check(guest.check_exec),
    Check(guest.check_console),
    Check(guest.check_boot_log),
    Check(guest.check_previous_boots),
    Check(guest.check_stats),
    Check(guest.check_files, lambda c: "" if c.files else "files are not declared"),
    Check(guest.check_file_reading, lambda c: "" if c.files else "files are not declared"),
    Check(guest.check_health),
    Check(guest.check_environment, lambda c: "" if c.exec and c.binds else "exec and binds are not declared"),
)
