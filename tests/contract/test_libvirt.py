"""What only the libvirt provider promises, on this host's libvirtd: reconnection, taps, disks, images, definitions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest
from libvirt_harness import IMAGE_FOLDER, LibvirtHarness, run

from wireloom.day0 import build_fat, build_iso
from wireloom.errors import Conflict, ImageMissing, InvalidInput, RuntimeFailed, Unavailable
from wireloom.model.runtime import ConsoleRequest, EventKind, Medium, RuntimeEvent, RuntimeSpec
from wireloom.model.slice import PortIntent
from wireloom.model.state import RuntimePhase
from wireloom.providers.libvirt import LibvirtProvider
from wireloom.testing.conformance.provider import Rig, rig_for
from wireloom.testing.conformance.provider_rig import EventLog, gather_log, port_intent

pytestmark = pytest.mark.libvirt

SYSTEM_SOCKET = "/run/libvirt/libvirt-sock"
GOLDEN = Path(__file__).parent.parent / "unit" / "golden" / "libvirt"
EMULATOR_LOGS = Path("/var/log/libvirt/qemu")
SOON_S = 20.0


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with rig_for(LibvirtHarness()) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not ``tmp_path``, which lets no other user in."""
    with tempfile.TemporaryDirectory(prefix="wl-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def small_image(path: Path, *options: str) -> Path:
    await run("qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "1M")
    return path


class Relay:
    """A socket in front of libvirtd's: closing it looks like a libvirtd that went away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(SYSTEM_SOCKET)
        self._writers |= {writer, far_writer}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def next_event(events: AsyncIterator[RuntimeEvent], kind: EventKind) -> RuntimeEvent:
    async with asyncio.timeout(SOON_S):
        while (event := await anext(events)).kind is not kind:
            pass
        return event


async def test_a_lost_daemon_is_unavailable_and_its_return_is_told(rig: Rig) -> None:
    relay = Relay(rig.folder / "relay.sock")
    await relay.open()
    provider = LibvirtProvider(
        rig.installation, uri=f"qemu+unix:///system?socket={relay.path}", image_folder=IMAGE_FOLDER
    )
    events = provider.watch()
    try:
        await next_event(events, EventKind.RESYNC)
        await relay.close()
        with pytest.raises(Unavailable):
            await provider.observe()
        lost = await provider.capabilities()
        assert not lost.available
        assert lost.problem
        created = await rig.provider.create(rig.spec())
        await relay.open()
        await next_event(events, EventKind.RESYNC)
        assert [status.runtime_id for status in await provider.observe()] == [created]
        await provider.destroy(created)
        assert (await next_event(events, EventKind.REMOVED)).runtime_id == created
    finally:
        await provider.close()
        await relay.close()


async def test_a_machine_whose_tap_was_made_anew_is_not_released_but_powered_off(rig: Rig) -> None:
    spec = rig.spec(ports=1)
    async with rig.created(spec) as runtime_id:
        await rig.provider.start(runtime_id)
        await rig.harness.remove_ports(spec)
        await rig.harness.make_ports(spec)
        with pytest.raises(RuntimeFailed) as caught:
            await rig.provider.release(runtime_id)
        assert caught.value.details == {"devices": [spec.ports[0].device]}
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED)
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.RUNNING)


async def test_a_start_without_its_taps_fails_and_leaves_it_as_it_was(rig: Rig) -> None:
    spec = rig.spec(ports=1)
    async with rig.created(spec) as runtime_id:
        await rig.harness.remove_ports(spec)
        with pytest.raises(RuntimeFailed) as caught:
            await rig.provider.start(runtime_id)
        assert caught.value.details == {"devices": [spec.ports[0].device]}
        await rig.expect_phase(runtime_id, RuntimePhase.CREATED)


async def test_a_failed_power_on_leaves_no_record_of_a_run(rig: Rig) -> None:
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        next(spec.storage.glob("system-*")).unlink()
        with pytest.raises(RuntimeFailed):
            await rig.provider.start(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.CREATED)
        await rig.provider.create(spec)
        await rig.provider.start(runtime_id)
        await rig.expect_phase(runtime_id, RuntimePhase.GATED)


async def test_a_guest_takes_its_configuration_from_the_day0_medium(rig: Rig) -> None:
    medium = rig.folder / "day0.iso"
    medium.write_bytes(build_iso("CIDATA", {"hostname": b"day0-host\n", "frr.conf": b"hostname day0-host\n"}))
    spec = rig.spec(image="frr.qcow2", media=(Medium(kind="iso", path=str(medium)),), memory_mb=256)
    async with rig.booted(spec) as runtime_id:
        log = await gather_log(rig.provider, runtime_id, rb"day0-host login:", rig.harness.boot_s)
    assert b"day-0 data applied" in log


async def test_every_kind_of_medium_reaches_the_guest_from_files_that_others_cannot_read(rig: Rig) -> None:
    files = {"x.txt": b"from-the-medium\n"}
    media = []
    for kind, attach, content in (
        ("iso", "cdrom", build_iso("CIDATA", {"hostname": b"day0-host\n"})),
        ("fat", "usb", build_fat("vmm-data", files, size_mb=1).to_bytes()),
        ("fat", "disk", build_fat("disk", files, size_mb=2, partition=True).to_bytes()),
    ):
        path = rig.folder / f"day0-{attach}"
        path.touch(0o600)
        path.write_bytes(content)
        media.append(Medium.model_validate({"kind": kind, "path": str(path), "attach": attach}))
    spec = rig.spec(image="frr.qcow2", media=tuple(media), memory_mb=256, smbios={"system.product": "VM-VEX"})
    async with rig.booted(spec) as runtime_id:
        await gather_log(rig.provider, runtime_id, rb"day0-host login:", rig.harness.boot_s)
        console = await rig.provider.console(runtime_id, ConsoleRequest(kind="serial"))
        for line in (
            b"root",
            b"frr",
            b"cat /sys/class/dmi/id/product_name",
            b"grep -ac from-the-medium /dev/vdb",
            b"cat /sys/block/vdb/ro",
        ):
            await console.write(line + b"\n")
            await asyncio.sleep(1)
        answers = rb"(?s)VM-VEX\r.*/dev/vdb\r.*[\r\n]1\r.*vdb/ro\r.*[\r\n]1\r"
        assert await gather_log(rig.provider, runtime_id, answers, 30)
        await console.close()
        assert all(Path(medium.path).stat().st_uid != 0 for medium in media)
    assert {Path(medium.path).stat().st_mode & 0o777 for medium in media} == {0o600}


async def test_a_folder_that_the_emulator_cannot_enter_is_named(rig: Rig) -> None:
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        spec.folder.chmod(0o700)
        with pytest.raises(RuntimeFailed) as caught:
            await rig.provider.start(runtime_id)
        assert str(spec.folder) in caught.value.hint


async def test_a_removed_machine_leaves_no_log_of_its_emulator(rig: Rig) -> None:
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        await rig.provider.start(runtime_id)
        assert list(EMULATOR_LOGS.glob(f"{spec.name}.*")) != []
    assert list(EMULATOR_LOGS.glob(f"{spec.name}.*")) == []


async def test_disks_are_kept_by_incarnation_and_image(rig: Rig) -> None:
    spec = rig.spec()
    disks = []
    for changes in ({}, {"spec_hash": "2"}, {"incarnation": 2}, {"image": "frr.qcow2"}):
        async with rig.created(spec.model_copy(update=changes)):
            disks.append(len(list(spec.storage.iterdir())))
    assert disks == [1, 1, 2, 3]


def port(node_id: str, index: int, position: int, role: Literal["mgmt", "data", "reserved"]) -> PortIntent:
    made = port_intent(node_id, index)
    return made.model_copy(update={"position": position, "role": role})


async def test_reserved_ports_are_where_the_guest_counts_them_and_carry_nothing(rig: Rig) -> None:
    plain = rig.spec()
    node_id = plain.identity.node_id
    ports = (
        port(node_id, 1, 3, "data"), port(node_id, -2, 2, "reserved"),
        port(node_id, -1, 1, "reserved"), port(node_id, 0, 0, "mgmt"),
    )  # fmt: skip
    async with rig.created(plain.model_copy(update={"ports": ports})) as runtime_id:
        await rig.provider.start(runtime_id)
        live = ElementTree.fromstring(await run("virsh", "dumpxml", runtime_id))  # noqa: S314
        nics = {nic.find("mac").get("address"): nic for nic in live.iter("interface")}
        slots = [int(nics[item.mac].find("address").get("slot"), 0) for item in sorted(ports, key=lambda p: p.position)]
        assert slots == sorted(slots)
        carriers = (await rig.status(runtime_id)).carriers
        assert carriers == {0: True, 1: True, -1: False, -2: False}
        await rig.provider.set_carrier(runtime_id, {-1: False, -2: False, 1: False})
        assert (await rig.status(runtime_id)).carriers == {0: True, 1: False, -1: False, -2: False}
        attachment = await rig.provider.attachment(runtime_id, ports[1])
        assert attachment is not None


async def test_a_system_disk_is_as_large_as_asked_and_never_smaller(rig: Rig) -> None:
    spec = rig.spec()
    image = (await disk_info(IMAGE_FOLDER / spec.image))["virtual-size"]
    sizes = []
    for number, size_gb in enumerate((0.001, 3, 0, 2, 4)):
        async with rig.created(spec.model_copy(update={"disk_gb": size_gb, "spec_hash": str(number)})):
            (disk,) = spec.storage.iterdir()
            sizes.append((await disk_info(disk))["virtual-size"])
    assert sizes == [image, 3 << 30, 3 << 30, 3 << 30, 4 << 30]


async def disk_info(path: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(await run("qemu-img", "info", "--output=json", "-U", str(path)))
    return found


async def test_a_grown_disk_boots(rig: Rig) -> None:
    async with rig.booted(rig.spec(disk_gb=3)) as runtime_id:
        await rig.expect_phase(runtime_id, RuntimePhase.RUNNING)


async def test_a_foreign_machine_of_our_name_is_never_touched(rig: Rig) -> None:
    spec = rig.spec()
    xml = rig.folder / "foreign.xml"
    xml.write_text(
        f"<domain type='qemu'><name>{spec.name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    await run("virsh", "define", str(xml))
    try:
        with pytest.raises(Conflict):
            await rig.provider.create(spec)
        assert list(await rig.provider.observe()) == []
        assert list(spec.storage.iterdir()) == []
    finally:
        await run("virsh", "undefine", spec.name)


async def test_images_that_refer_to_other_files_are_refused(rig: Rig, folder: Path) -> None:
    base = await small_image(folder / "base.qcow2")
    overlay = await small_image(folder / "overlay.qcow2", "-b", str(base), "-F", "qcow2")
    outside = await small_image(folder / "outside.qcow2", "-o", f"data_file={folder / 'data.raw'}")
    for image in (overlay, outside):
        with pytest.raises(InvalidInput):
            await rig.provider.create(rig.spec(image=str(image)))
    with pytest.raises(InvalidInput):
        await rig.provider.create(rig.spec(image="../../etc/shadow"))
    async with rig.created(rig.spec(image=str(base))):
        pass


async def test_an_image_is_loaded_read_only_and_kept_while_it_is_used(folder: Path) -> None:
    provider = LibvirtProvider(f"t-{secrets.token_hex(4)}", image_folder=folder / "images")
    harness = LibvirtHarness()
    try:
        with pytest.raises(ImageMissing):
            await provider.images.load("tiny.qcow2")
        loaded = await provider.images.load("tiny.qcow2", await small_image(folder / "source.qcow2"))
        assert [image.name for image in await provider.images.list()] == ["tiny.qcow2"]
        assert loaded.digest.startswith("sha256:")
        assert (folder / "images" / "tiny.qcow2").stat().st_mode & 0o777 == 0o444
        spec = await used_by(provider, harness, folder)
        with pytest.raises(Conflict):
            await provider.images.remove("tiny.qcow2")
        for status in await provider.observe():
            await provider.destroy(status.runtime_id)
        await provider.images.remove("tiny.qcow2")
        assert not await provider.images.has(spec.image)
    finally:
        await provider.close()


async def used_by(provider: LibvirtProvider, harness: LibvirtHarness, folder: Path) -> RuntimeSpec:
    capabilities = await provider.capabilities()
    rig = Rig(harness, provider, capabilities, provider._installation, folder)
    spec = rig.spec(image="tiny.qcow2")
    await provider.create(spec)
    return spec


@pytest.mark.parametrize("definition", sorted(GOLDEN.glob("*.xml")), ids=lambda path: path.stem)
async def test_libvirt_accepts_the_golden_definitions(definition: Path, folder: Path) -> None:
    name = f"wl-golden-{secrets.token_hex(4)}"
    xml = folder / "domain.xml"
    text = definition.read_text().replace("wl-lab-r1-01234567", name)
    uuid = text.split("<uuid>")[1].split("</uuid>")[0]
    xml.write_text(text.replace(uuid, f"{secrets.token_hex(4)}{uuid[8:]}"))
    await run("virsh", "define", "--validate", str(xml))
    await run("virsh", "undefine", "--nvram", name)


async def test_a_reboot_from_inside_is_another_boot(rig: Rig) -> None:
    harness = LibvirtHarness()
    async with rig.created(rig.spec()) as runtime_id, events_of(rig) as events:
        await rig.provider.start(runtime_id)
        await rig.provider.release(runtime_id)
        await gather_log(rig.provider, runtime_id, rb"login:", harness.boot_s)
        first = await rig.status(runtime_id)
        await events.wait_for(EventKind.STARTED, timeout_s=SOON_S)
        pid = await run("virsh", "domid", runtime_id)
        await harness.reboot(rig.provider, runtime_id)
        async with asyncio.timeout(harness.boot_s):
            while (second := await rig.status(runtime_id)).started_at == first.started_at:
                await events.wait_for(EventKind.STARTED, timeout_s=harness.boot_s)
        assert await run("virsh", "domid", runtime_id) == pid, "its emulator has lived on"
        assert second.phase is RuntimePhase.RUNNING
        assert second.started_at == (await rig.provider.boots(runtime_id))[0].started_at
        await gather_log(rig.provider, runtime_id, rb"login:", harness.boot_s)
        logs = [await log_of(rig, runtime_id, boot) for boot in (0, 1)]
        assert b"reboot" in logs[1]
        assert all(log.count(b"login: ") >= 1 for log in logs)
        assert not logs[0].startswith(logs[1][:1000])
        async with rig.restarted() as other:
            (seen,) = await other.observe(runtime_id)
            assert seen.started_at == second.started_at, "another agent knows it"
        await rig.provider.stop(runtime_id, 0)
        assert (await rig.status(runtime_id)).started_at == second.started_at
        await rig.provider.start(runtime_id)
        assert [await log_of(rig, runtime_id, boot) for boot in (1, 2)] == logs


async def log_of(rig: Rig, runtime_id: str, boot: int) -> bytes:
    return b"".join([chunk async for chunk in rig.provider.boot_log(runtime_id, boot=boot)])


@contextlib.asynccontextmanager
async def events_of(rig: Rig) -> AsyncIterator[EventLog]:
    events = EventLog(rig.provider.watch())
    try:
        await events.wait_for(EventKind.RESYNC)
        yield events
    finally:
        await events.close()
