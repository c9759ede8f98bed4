"""IOL from the binary to the wire: an image is built of a stand-in, two nodes of it talk, and their NVRAM is read."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from iol_binaries import program

from wireloom.configs.nvram import parse_iol_nvram
from wireloom.library.iol import build, find_base
from wireloom.testing.installation import IMAGES, Installation, installed, own_folder, run, until

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
EMULATED = ROOT / "images/guest/emulated/usr/local/lib/wireloom/emulated"
IMAGE = "wireloom-test/iol-xe:1"

LICENCE = "[license]\nr1 = 0123456789abcdef;\n"

LAB = f"""
name: lab
defaults: {{device: iol-xe, image: "{IMAGE}"}}
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


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stand-in's image in the engine."""
    folder = tmp_path_factory.mktemp("iol")
    files = {f"emulated/{path.name}": path.read_bytes() for path in EMULATED.glob("*.py")}
    files["__main__.py"] = (ROOT / "tests/system/iol_program.py").read_bytes()
    binary = folder / "x86_64_crb_linux-adventerprisek9-ms.bin"
    binary.write_bytes(program(files))
    made = build(binary, find_base(IMAGES), folder, name=IMAGE)
    run("docker", "load", "--quiet", "--input", str(made.file))
    run("docker", "tag", made.content, IMAGE)
    try:
        yield IMAGE
    finally:
        subprocess.run(["docker", "image", "rm", IMAGE], check=False, capture_output=True, timeout=60)


@pytest.fixture
async def host(image: str) -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder) as installation:
            yield installation


async def command(host: Installation, node: str, line: str) -> str:
    """What a router answers on its console."""
    async with host.client() as client:
        return (await client.exec("lab", node, [line])).stdout


async def ready(host: Installation) -> None:
    await host.reach(lambda view: all(node.ready == "yes" for node in view.nodes), "IOL did not boot")


async def test_stand_ins_boot_talk_and_keep_what_they_save(host: Installation) -> None:
    await host.deploy(LAB)
    await host.wired()
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


def environment(runtime: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in json.loads(run("docker", "inspect", runtime))[0]["Config"]["Env"])


def saved_in(runtime: str) -> bytes:
    command = ["docker", "exec", runtime, "cat", "/iol/data/nvram"]
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


async def started_with(host: Installation, node: str, what: str) -> bool:
    log = await asyncio.to_thread(run, "docker", "logs", host.runtimes()[node][0])
    return f"starting IOL with {what}" in log


async def test_a_licence_reaches_the_nodes_that_are_made_after_it_was_given(host: Installation) -> None:
    folder = host.data / "secrets"
    await host.kill("controller")
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "iol-licence").write_text(LICENCE)
    await host.start("controller")
    await host.answering()
    await host.deploy(f'name: lab\nnodes: {{r1: {{device: iol-xe, image: "{IMAGE}"}}}}\n')
    await host.wired()
    (runtime,) = host.runtimes().values()
    assert run("docker", "exec", runtime[0], "cat", "/iol/data/iourc") == LICENCE
    assert run("docker", "exec", runtime[0], "stat", "-c", "%a", "/iol/iourc").strip() == "600"
    shown = [run("docker", "inspect", runtime[0]), run("docker", "logs", runtime[0])]
    logs = [path.read_text(errors="replace") for path in host.folder.glob("*.log")]
    assert not [text for text in (*shown, *logs) if "0123456789abcdef" in text]
