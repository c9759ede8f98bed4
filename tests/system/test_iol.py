"""IOL from the binary to the wire: a stand-in is imported, two nodes of its image talk, and their NVRAM is read."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from iol_binaries import IMAGE_L2, program, says

from wireloom.client import Client
from wireloom.configs.nvram import parse_iol_nvram
from wireloom.model.images import ImageUpdate, ImportRequest, JobState, JobView
from wireloom.testing.installation import Installation, installed, own_folder, run, until

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
EMULATED = ROOT / "images/guest/emulated/usr/local/lib/wireloom/emulated"
LICENCE = "[license]\nr1 = 0123456789abcdef;\n"

LAB = """
name: lab
defaults: {device: iol-xe}
nodes:
  r1:
    startup-config: |
      hostname r1
      username admin privilege 15 secret admin
      enable secret admin
      interface Ethernet0/1
       ip address 10.1.2.1 255.255.255.0
      interface Ethernet1/0
       ip address 10.1.3.1 255.255.255.0
      line con 0
       privilege level 15
      end
  r2:
    startup-config: |
      hostname r2
      username admin privilege 15 secret admin
      enable secret admin
      interface Ethernet1/2
       ip address 10.1.2.2 255.255.255.0
      line con 0
       privilege level 15
      end
  host:
    device: linux
    image: wireloom/linux:latest
    startup-config: |
      ip address add 10.1.3.9/24 dev eth1
links:
  - [r1:Ethernet0/1, r2:Ethernet1/2]
  - [r1:Ethernet1/0, host:eth1]
"""


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """The stand-in, named as a reference platform names the real one."""
    files = {f"emulated/{path.name}": path.read_bytes() for path in EMULATED.glob("*.py")}
    files["__main__.py"] = (ROOT / "tests/system/iol_program.py").read_bytes()
    file = tmp_path / "x86_64_crb_linux-adventerprisek9-ms.bin"
    file.write_bytes(program(files))
    return file


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder) as installation:
            yield installation


async def ended(client: Client, file: Path, *, name: str = "", auto_build: bool = True) -> JobView:
    """The job of an import, when it does nothing more by itself."""
    url = await client.images.begin_upload(file)
    await client.images.send(url, file)
    request = ImportRequest(upload=url.rpartition("/")[2], name=name, default=True, auto_build=auto_build)
    job = await client.images.import_file(request)
    async with asyncio.timeout(60):
        while job.state in {JobState.WAITING, JobState.RUNNING}:
            await asyncio.sleep(0.1)
            job = await client.images.job(job.id)
    return job


async def import_stand_in(host: Installation, binary: Path) -> str:
    """Its image's name, which no other installation on the engine has; it is the default of its device."""
    name = f"wlt-{uuid.uuid4().hex[:8]}/iol-xe:1"
    async with host.client() as client:
        job = await ended(client, binary, name=name)
        assert job.state is JobState.DONE, job
        image = await client.images.get(job.images[0])
        assert (image.name, image.version, image.provenance.kind) == (name, "17.12.1", "iol")
        assert [(served.device, served.default) for served in image.devices] == [("iol-xe", True)]
        assert any("device iol-xe" in line for line in job.report)
    return name


async def forget(host: Installation, name: str) -> None:
    """Take the lab and the image away; the engine has it no more."""
    await host.destroy()
    async with host.client() as client:
        (image,) = await client.images.all()
        await client.images.update(image.id, ImageUpdate(devices=()))
        await client.images.delete(image.id)

        async def gone() -> bool:
            return not await client.images.all()

        await until(gone, "the image is still there", within_s=30)
    assert name not in run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}")


async def command(host: Installation, node: str, line: str) -> str:
    """What a router answers on its console."""
    async with host.client() as client:
        return (await client.exec("lab", node, [line])).stdout


async def ready(host: Installation) -> None:
    await host.reach(lambda view: all(node.ready == "yes" for node in view.nodes), "IOL did not boot")


async def test_stand_ins_boot_talk_and_keep_what_they_save(host: Installation, binary: Path) -> None:
    name = await import_stand_in(host, binary)
    await host.deploy(LAB)
    view = await host.wired()
    assert {node.image for node in view.nodes if node.device == "iol-xe"} == {name}
    await ready(host)

    # Frames cross a wire between two bridges, each on the port that the topology names.
    assert "100 percent" in await command(host, "r1", "ping 10.1.2.2")
    # A kernel's own frames pass too, with what it leaves to a NIC done.
    async with host.client() as client:
        answer = await client.exec("lab", "host", ["ping", "-c", "2", "-W", "2", "10.1.3.1"])
    assert answer.exit_code == 0, answer.stdout

    # Application ids differ, since hardware addresses are made of them.
    r1, r2 = (host.runtimes()[name][0] for name in ("r1", "r2"))
    assert environment(r1)["IOL_PID"] != environment(r2)["IOL_PID"]

    # What is saved is in NVRAM, on the node's own storage, and is what it starts with.
    assert "[OK]" in await command(host, "r2", "write memory")
    assert "hostname r2" in parse_iol_nvram(await asyncio.to_thread(saved_in, r2))
    async with host.client() as client:
        await client.restart("lab", ["r2"])
    await until(lambda: started_with(host, "r2", "its NVRAM"), "the restart")
    await ready(host)
    assert "hostname r2" in await command(host, "r2", "show running-config")
    await forget(host, name)


def environment(runtime: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in json.loads(run("docker", "inspect", runtime))[0]["Config"]["Env"])


def saved_in(runtime: str) -> bytes:
    command = ["docker", "exec", runtime, "cat", "/iol/data/nvram"]
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


async def started_with(host: Installation, node: str, what: str) -> bool:
    log = await asyncio.to_thread(run, "docker", "logs", host.runtimes()[node][0])
    return f"starting IOL with {what}" in log


async def test_a_licence_reaches_the_nodes_that_are_made_after_it_was_given(host: Installation, binary: Path) -> None:
    name = await import_stand_in(host, binary)
    async with host.client() as client:
        await client.images.put_secret("iol-licence", LICENCE.encode())
    await host.deploy("name: lab\nnodes: {r1: {device: iol-xe}}\n")
    await host.wired()
    (runtime,) = host.runtimes().values()
    assert run("docker", "exec", runtime[0], "cat", "/iol/data/iourc") == LICENCE
    assert run("docker", "exec", runtime[0], "stat", "-c", "%a", "/iol/iourc").strip() == "600"
    shown = [run("docker", "inspect", runtime[0]), run("docker", "logs", runtime[0])]
    logs = [path.read_text(errors="replace") for path in host.folder.glob("*.log")]
    async with host.client() as client:
        shown.append((await client.lab("lab")).model_dump_json())
    assert not [text for text in (*shown, *logs) if "0123456789abcdef" in text]
    await forget(host, name)


async def test_a_switch_is_built_when_the_user_says_so_and_a_script_never(host: Installation, tmp_path: Path) -> None:
    binary = tmp_path / "unknown.bin"
    binary.write_bytes(program(text=says(IMAGE_L2)))
    async with host.client() as client:
        job = await ended(client, binary, auto_build=False)
        assert job.state is JobState.CHOICE
        assert job.choices is not None
        assert [offer.key for offer in job.choices.offers] == ["build"]
        await client.images.cancel(job.id)
        binary.write_bytes(b"\x7fELF" + bytes(4000))
        job = await ended(client, binary)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error["code"] == "image-refused"
        assert not await client.images.all()
