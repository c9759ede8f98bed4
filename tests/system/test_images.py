"""The reference images themselves: containers in a bare engine, disks in a bare QEMU."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from image_machine import IDE_CDROM, SCSI_CDROM_ON_Q35, VIRTIO_DISK, Machine, iso_medium, run

IMAGES = Path(os.environ.get("WIRELOOM_TEST_IMAGES", "/var/lib/wireloom/images"))
READY_SECONDS = 15
STOP_SECONDS = 3

FRR_CONF = """\
frr defaults traditional
hostname r1
interface lo
 ip address 10.255.0.1/32
 ip ospf area 0
exit
router ospf
 ospf router-id 10.255.0.1
exit
router isis CORE
 net 49.0001.0000.0000.0001.00
exit
"""
# Only the real ip can make a bridge; busybox's own could not.
SETUP = "ip link add wlsetup type bridge\necho setup was here\n"


@pytest.fixture(scope="module")
def manifest() -> list[dict[str, Any]]:
    """The built images; a missing manifest fails, because set-up promises it."""
    document: dict[str, list[dict[str, Any]]] = json.loads((IMAGES / "manifest.json").read_text())
    return document["images"]


def entry(manifest: list[dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    return next(image for image in manifest if (image["name"], image["kind"]) == (name, kind))


class Container:
    """One container, started with files copied in between create and start."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def copy(self, folder: Path, target: str, text: str) -> None:
        source = folder / Path(target).name
        source.write_text(text)
        await run("docker", "cp", source, f"{self.name}:{target}")

    async def start(self, ready: str, times: int = 1) -> None:
        await run("docker", "start", self.name)
        began = time.monotonic()
        while (await self.log()).count(ready) < times:
            assert time.monotonic() - began < READY_SECONDS, await self.log()
            await asyncio.sleep(0.05)

    async def log(self) -> str:
        return await run("docker", "logs", self.name)

    async def exec(self, *command: str) -> str:
        return await run("docker", "exec", self.name, *command)

    async def stop(self) -> float:
        began = time.monotonic()
        await run("docker", "stop", "--time", "10", self.name)
        return time.monotonic() - began

    async def address(self) -> str:
        format_ = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return (await run("docker", "inspect", "--format", format_, self.name)).strip()


async def create(image: dict[str, Any]) -> Container:
    name = f"wl-image-test-{uuid.uuid4().hex[:8]}"
    capabilities = [f"--cap-add={capability}" for capability in image["capabilities"]]
    await run("docker", "create", "--name", name, *capabilities, image["references"][0])
    return Container(name)


@pytest.fixture
async def frr(manifest: list[dict[str, Any]]) -> AsyncIterator[Container]:
    container = await create(entry(manifest, "frr", "container"))
    yield container
    await run("docker", "rm", "--force", container.name)


@pytest.fixture
async def linux(manifest: list[dict[str, Any]]) -> AsyncIterator[Container]:
    container = await create(entry(manifest, "linux", "container"))
    yield container
    await run("docker", "rm", "--force", container.name)


def test_manifest_tells_the_truth_about_files(manifest: list[dict[str, Any]]) -> None:
    # Other checkouts of the project share the folder: what they built besides is listed too, and is held to the same.
    assert {(image["name"], image["kind"]) for image in manifest} >= {
        *((name, kind) for name in ("emulated", "frr", "linux") for kind in ("container", "disk")),
        ("dataplane", "disk"),
    }
    for image in manifest:
        file = IMAGES / image["file"]
        assert (IMAGES / image["link"]).resolve() == file.resolve()
        assert file.stat().st_mode & 0o777 == 0o444
        assert file.stat().st_size == image["size"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == image["sha256"]


def test_container_and_disk_hold_the_same_software(manifest: list[dict[str, Any]]) -> None:
    container = entry(manifest, "frr", "container")
    disk = entry(manifest, "frr", "disk")
    assert container["version"] == disk["version"]
    kernel = set(disk["packages"]) - set(container["packages"])
    assert set(container["packages"]) <= set(disk["packages"])
    assert all(package.startswith("linux-") for package in kernel)


@pytest.mark.docker
async def test_frr_container_loads_its_configuration_and_stops_quickly(frr: Container, tmp_path: Path) -> None:
    await frr.copy(tmp_path, "/etc/frr/frr.conf", FRR_CONF)
    await frr.copy(tmp_path, "/etc/wireloom/setup.sh", SETUP)
    await frr.start("frr ready")
    configuration = await frr.exec("vtysh", "-c", "show running-config")
    assert "ospf router-id 10.255.0.1" in configuration
    # A daemon that the daemons file does not name, but the configuration needs.
    assert "router isis CORE" in configuration
    assert "wlsetup" in await frr.exec("ip", "-brief", "link")
    assert (await frr.log()).index("setup was here") < (await frr.log()).index("frr ready")
    assert await frr.stop() < STOP_SECONDS


@pytest.mark.docker
async def test_frr_container_survives_a_restart(frr: Container, tmp_path: Path) -> None:
    await frr.copy(tmp_path, "/etc/frr/frr.conf", FRR_CONF)
    await frr.start("frr ready")
    await run("docker", "kill", frr.name)
    await frr.start("frr ready", times=2)
    assert "10.255.0.1" in await frr.exec("vtysh", "-c", "show ip ospf")


@pytest.mark.docker
async def test_frr_container_lets_in_by_ssh(frr: Container, tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    await frr.copy(tmp_path, "/etc/wireloom/authorized_keys", key.export_public_key().decode())
    await frr.start("frr ready")
    address = await frr.address()
    for user, login, command, expected in (
        ("root", {"client_keys": [key]}, "cat /etc/wireloom/role", "frr"),
        ("root", {"client_keys": [], "password": "frr"}, "echo $SHELL", "/bin/bash"),
        ("admin", {"client_keys": [], "password": "frr"}, "show version", "FRRouting"),
    ):
        async with (
            asyncio.timeout(20),
            asyncssh.connect(address, username=user, known_hosts=None, config=[], **login) as session,
        ):
            done = await session.run(command, check=True)
        assert expected in str(done.stdout)


@pytest.mark.docker
async def test_linux_container_is_a_plain_host(linux: Container, tmp_path: Path) -> None:
    await linux.copy(tmp_path, "/etc/wireloom/setup.sh", SETUP)
    await linux.start("linux ready")
    for tool in ("bash", "ip", "tc", "ss", "ping", "ethtool", "iperf3", "tcpdump", "traceroute"):
        assert await linux.exec("which", tool)
    assert "wlsetup" in await linux.exec("ip", "-brief", "link")
    assert await linux.stop() < STOP_SECONDS


async def overlay_of(image: str, folder: Path) -> Path:
    overlay = folder / "overlay.qcow2"
    base = (IMAGES / image).resolve()
    await run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay)
    return overlay


async def test_frr_machine_takes_day0_data_once_and_keeps_its_disk(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    files = {
        "frr.conf": FRR_CONF,
        "hostname": "r1\n",
        "setup.sh": SETUP,
        "authorized_keys": key.export_public_key().decode(),
    }
    medium = iso_medium(tmp_path / "day0.iso", files)
    overlay = await overlay_of("frr.qcow2", tmp_path)
    async with Machine(tmp_path, overlay, medium, IDE_CDROM) as machine:
        await machine.wait_for("frr ready")
        await machine.wait_for("r1 login:")
        assert "setup was here" in machine.log
        shown = await machine.ssh("vtysh -c 'show running-config'; ip -brief link", client_keys=[key])
        assert "ospf router-id 10.255.0.1" in shown
        assert "router isis CORE" in shown
        assert "wlsetup" in shown
        # The management port got its address by DHCP, and its default route gives way to every other.
        routes = await machine.ssh("ip -4 route; cat /etc/resolv.conf", client_keys=[key])
        assert "default via 10.0.2.2 dev eth0 metric 4261412864" in routes
        assert "nameserver 10.0.2.3" in routes
        version = await machine.ssh("show version", user="admin", password="frr")  # noqa: S106
        assert "FRRouting" in version
        await machine.qmp("device_add", driver="virtio-net-pci", netdev="spare", id="hotplugged", addr="10")
        appears = "for i in 1 2 3 4 5 6 7 8; do ip link show up | grep eth1 && exit; sleep 1; done; exit 1"
        await machine.ssh(appears, client_keys=[key])
        edit = "vtysh -c 'configure terminal' -c 'interface lo' -c 'description kept' -c end -c 'write memory'"
        await machine.ssh(edit, client_keys=[key])
        await machine.power_button()
    async with Machine(tmp_path, overlay, medium, IDE_CDROM) as machine:
        await machine.wait_for("frr ready")
        assert "day-0 data applied" not in machine.log
        assert "description kept" in await machine.ssh("vtysh -c 'show running-config'", client_keys=[key])


async def test_linux_machine_takes_day0_data_from_a_scsi_cdrom(tmp_path: Path) -> None:
    medium = iso_medium(tmp_path / "day0.iso", {"hostname": "h1\n", "setup.sh": SETUP}, label="config-2")
    overlay = await overlay_of("linux.qcow2", tmp_path)
    async with Machine(tmp_path, overlay, medium, SCSI_CDROM_ON_Q35) as machine:
        await machine.wait_for("linux ready")
        await machine.wait_for("h1 login:")
        shown = await machine.ssh("ip -brief link; cat /proc/sys/net/ipv4/ip_forward", password="frr")  # noqa: S106
        assert "wlsetup" in shown
        assert shown.splitlines()[-1] == "0"


async def test_linux_machine_takes_day0_data_from_a_fat_disk(tmp_path: Path) -> None:
    medium = tmp_path / "day0.fat"
    medium.write_bytes(b"\0" * (4 << 20))
    await run("mkfs.vfat", "-n", "CIDATA", medium)
    (tmp_path / "hostname").write_text("fathost\n")
    await run("mcopy", "-i", medium, tmp_path / "hostname", "::/")
    overlay = await overlay_of("linux.qcow2", tmp_path)
    async with Machine(tmp_path, overlay, medium, VIRTIO_DISK) as machine:
        await machine.wait_for("fathost login:")
