"""``wireloom images`` on a whole installation: a file comes in whatever is killed meanwhile, and goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from image_site import without_images

from wireloom.testing.installation import IMAGES, WIRELOOM, Installation, until

SUBNET = "172.30.113.0/24"
LAB = "name: lab\nnodes:\n  a: {device: linux, provider: docker}\n"
KEPT = "what has arrived is kept; the same command goes on from there"

pytestmark = [pytest.mark.docker, pytest.mark.libvirt]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    told: str


class Terminal:
    """The command line of one user."""

    def __init__(self, host: Installation) -> None:
        self.host = host
        self.environment = {**host.environment, "XDG_CACHE_HOME": str(host.folder / "cache")}

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            str(WIRELOOM), *words, env=self.environment, stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL
        )

    async def run(self, *words: str) -> Ended:
        return await self.end(await self.start(*words))

    async def end(self, process: asyncio.subprocess.Process) -> Ended:
        try:
            out, told = await asyncio.wait_for(process.communicate(), 120)
        except TimeoutError:
            process.kill()
            raise
        return Ended(process.returncode or 0, out.decode(), told.decode())

    async def images(self) -> dict[str, dict[str, object]]:
        """What ``images ls`` has, by name."""
        listed = await self.run("images", "ls", "--json")
        return {item["name"]: item for item in json.loads(listed.out)}


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    async with without_images(SUBNET) as made:
        yield made


@pytest.fixture
def terminal(host: Installation) -> Terminal:
    return Terminal(host)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return Path(shutil.copy(IMAGES / "linux.qcow2", tmp_path / "linux.qcow2"))


@pytest.fixture
def container(tmp_path: Path) -> Path:
    file = tmp_path / "linux.tar"
    subprocess.run(["docker", "save", "-o", str(file), "wireloom/linux:latest"], check=True, timeout=60)
    return file


def arrived(host: Installation) -> int:
    """Bytes of the one upload that there is."""
    folder = host.data / "library" / "uploads"
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.exists() else 0


async def held_in_the_midst(host: Installation, sender: asyncio.subprocess.Process) -> int:
    """Stop ``sender`` once some of its file has arrived, and all that is under way; how much that is."""
    while not arrived(host):
        assert sender.returncode is None
        await asyncio.sleep(0.002)
    sender.send_signal(signal.SIGSTOP)
    before = -1
    while (now := arrived(host)) != before:
        before = now
        await asyncio.sleep(0.2)
    return now


def go_on(sender: asyncio.subprocess.Process) -> None:
    """What was stopped works again, if it still lives."""
    with contextlib.suppress(ProcessLookupError):
        sender.send_signal(signal.SIGCONT)


async def test_an_upload_outlasts_a_controller_that_is_killed(
    host: Installation, terminal: Terminal, disk: Path
) -> None:
    words = ("images", "import", str(disk), "--name", "wlt-linux", "--device", "linux")
    sender = await terminal.start(*words)
    try:
        offset = await held_in_the_midst(host, sender)
        assert 0 < offset < disk.stat().st_size
        await host.replace("controller")
    finally:
        go_on(sender)
    ended = await terminal.end(sender)
    assert (ended.code, ended.out) == (0, "image wlt-linux.qcow2\n"), ended
    images = await terminal.images()
    assert images["wlt-linux.qcow2"]["size"] == disk.stat().st_size
    assert arrived(host) == 0

    assert (await terminal.run("images", "push", "wlt-linux.qcow2")).code == 0
    there = host.data / "images" / "wlt-linux.qcow2"

    async def is_there() -> bool:
        return "h1" in (await terminal.run("images", "ls")).out and there.exists()

    await until(is_there, "the image is not on the host")
    assert (await terminal.run("images", "verify", "wlt-linux.qcow2")).code == 0
    assert (await terminal.run("images", "rm", "wlt-linux.qcow2")).code == 0

    async def is_gone() -> bool:
        return not await terminal.images() and not there.exists()

    await until(is_gone, "the image is still there")


async def test_the_same_command_goes_on_after_everything_was_killed(
    host: Installation, terminal: Terminal, container: Path
) -> None:
    name = f"wlt-{uuid.uuid4().hex[:8]}/linux:1"
    words = ("images", "import", str(container), "--name", name, "--device", "linux", "--default")
    sender = await terminal.start(*words)
    try:
        offset = await held_in_the_midst(host, sender)
        assert 0 < offset < container.stat().st_size
        await host.kill("controller")
        sender.send_signal(signal.SIGINT)
    finally:
        go_on(sender)
    interrupted = await terminal.end(sender)
    assert interrupted.code == 130, interrupted
    assert KEPT in interrupted.told
    assert arrived(host) == offset
    await host.start("controller")
    await host.answering()
    assert arrived(host) == offset
    again = await terminal.run(*words)
    assert (again.code, again.out) == (0, f"image {name}\n"), again
    begun = next(line for line in again.told.splitlines() if " upload " in line)
    assert f" upload {100 * offset // container.stat().st_size // 10 * 10} %" in begun

    await used_and_taken_away(host, terminal, name)


def engine_has(name: str) -> bool:
    command = ["docker", "image", "inspect", name]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


async def used_and_taken_away(host: Installation, terminal: Terminal, name: str) -> None:
    """A lab whose node takes the device's default keeps the image; without it, it goes from everywhere."""
    await host.deploy(LAB)
    assert (await host.wired()).nodes[0].image == name
    refused = await terminal.run("images", "rm", name, "--json")
    assert refused.code == 1
    assert json.loads(refused.out)["error"]["code"] == "conflict"
    assert "used by node a of lab lab, device linux, whose default it is" in refused.told
    await host.destroy()
    assert (await terminal.run("images", "set", name, "--no-default")).code == 0
    gone = await terminal.run("images", "rm", name)
    assert (gone.code, gone.out) == (0, f"{name} goes as soon as it is off h1\n")

    async def is_gone() -> bool:
        return not engine_has(name) and not await terminal.images()

    await until(is_gone, "the image is still there")
    stored = [path for path in (host.data / "library" / "blobs" / "sha256").rglob("*") if path.is_file()]
    assert stored == []
    collected = await terminal.run("images", "collect")
    assert (collected.code, collected.out) == (0, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good disk, and one that would show a file of the host."""
    (tmp_path / "many").mkdir()
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    for name, options in (("good", []), ("bad", ["-F", "raw", "-b", "/etc/passwd"])):
        file = tmp_path / "many" / f"{name}.qcow2"
        subprocess.run([*create, *options, str(file), "8M"], check=True, timeout=30)
    return tmp_path / "many"


async def test_a_folder_with_a_file_that_must_not_come_in(host: Installation, terminal: Terminal, folder: Path) -> None:
    ended = await terminal.run("images", "import", str(folder), "--json")
    assert ended.code == 1
    bad, good = json.loads(ended.out)
    assert (bad["job"]["state"], bad["job"]["error"]["details"]) == ("failed", {"reason": "backing-file"})
    assert good["job"]["state"] == "done"
    assert list(await terminal.images()) == ["good.qcow2"]
    assert arrived(host) == 0
    assert (await terminal.run("images", "rm", "good.qcow2")).code == 0
