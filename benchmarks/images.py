"""Large images through the library: a disk and an archive of Docker brought in with the command line, the disk synced
to a second host, and its removal; each against what the machine's own programs need for the same bytes, in turns.

* Import: ``wireloom images import FILE`` from nothing to its last byte, against ``sha256sum FILE`` and ``cp FILE
  COPY``, one after the other, on the same file system.
* Sync: the real agent of a host that has another data folder, so that it has nothing to link to and fetches by HTTP,
  against ``curl`` of the same file from the same controller. Twice: until the file is in the host's own store, with
  its digest verified; and until the image can be used, for which the provider reads and inspects it once more.
* Memory: controller, agent and command line as they were at most, in an installation that has large images only,
  against one that has small ones only.

Content is random, and all of it is in the page cache for both sides, as is the memory for its copies. Needs root,
``curl`` and ``qemu-img``; and, for the time that it runs, disk space of four times the largest image.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common import Result, compared, measured, median, parser, report

from wireloom.agent.login import AgentLogin
from wireloom.client import Client
from wireloom.client.transport import API_PREFIX
from wireloom.errors import NotFound
from wireloom.library.archives import write_archive
from wireloom.model.images import ImageView, PresenceState
from wireloom.testing.installation import WIRELOOM, Installation, own_folder, until

MIB: Final = 1 << 20
IMPORT_LIMIT, SYNC_LIMIT = 1.3, 1.2
#: MiB that a process may have more at most, whatever the size of the image.
MEMORY_LIMIT_MIB: Final = 32.0
DEADLINE_S: Final = 300.0
LOOK_S: Final = 0.02
CONFIG: Final = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sleep"]}}


@dataclass
class Site:
    """An installation whose one host fetches from its controller, as a host elsewhere does."""

    host: Installation
    other: Path
    command_line: dict[str, str]
    client_mib: float = 0.0

    @property
    def processes(self) -> dict[str, float]:
        """Memory of each process at most, MiB."""
        found = {name: memory_mib(process.pid) for name, process in self.host.processes.items()}
        return {**found, "command line": self.client_mib}


@dataclass
class Times:
    """Seconds of each round, by what was done."""

    of: dict[str, list[float]] = field(default_factory=dict)

    async def take(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        began = time.perf_counter()
        await work()
        self.of.setdefault(what, []).append(time.perf_counter() - began)

    def result(self, name: str, what: str, baseline: str, limit: float | None) -> Result:
        own, other = self.of[what], self.of[baseline]
        ratio = median([mine / theirs for mine, theirs in zip(own, other, strict=True)])
        return compared(name, median(own), median(other), "s", ratio=ratio, at_most=limit)


def memory_mib(pid: int) -> float:
    """``VmHWM``: resident at most since the process began; 0 when it has gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    with own_folder(show_logs=False) as folder:
        host = Installation(folder, {"XDG_CACHE_HOME": str(folder / "cache")})
        command_line = host.environment
        other = folder / "other"
        try:
            await host.start("controller")
            await until(lambda: _introduced(host), "the controller did not come up")
            shutil.copytree(host.data / "agent", other / "agent")
            host.extra_environment["WIRELOOM_DATA_DIR"] = str(other)
            await host.start("agent")
            await host.answering()
            yield Site(host, other, command_line)
        finally:
            await host.down()


async def _introduced(host: Installation) -> bool:
    return AgentLogin.load(host.data) is not None


# -- what is brought in ------------------------------------------------------------------------------------------


def fill(file: Path, size: int) -> None:
    with file.open("wb") as writer:
        for _ in range(size // MIB):
            writer.write(os.urandom(MIB))


def make_disk(file: Path, size: int) -> None:
    """A qcow2 file with ``size`` bytes of data, none of them a hole."""
    raw = file.with_suffix(".raw")
    try:
        fill(raw, size)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(file))
    finally:
        raw.unlink(missing_ok=True)


def make_archive(file: Path, size: int) -> None:
    """An archive as ``docker save`` makes it, of one layer with one file."""
    content, layer = file.with_suffix(".content"), file.with_suffix(".layer")
    try:
        fill(content, size)
        run("tar", "-C", str(content.parent), "-cf", str(layer), content.name)
        content.unlink()
        write_archive(file, config=CONFIG, layers=[layer], tags=["wlbench/large:1"])
    finally:
        content.unlink(missing_ok=True)
        layer.unlink(missing_ok=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)


async def run_aside(*command: str) -> None:
    await asyncio.to_thread(run, *command)


# -- what is measured --------------------------------------------------------------------------------------------


async def import_by_hand(file: Path) -> None:
    copy = file.with_suffix(".copy")
    await run_aside("sh", "-c", 'sha256sum "$1" && cp "$1" "$2"', "sh", str(file), str(copy))


async def import_with_us(here: Site, file: Path, name: str) -> None:
    """The command line, whose memory is looked at while it runs."""
    command = [str(WIRELOOM), "images", "import", str(file), "--name", name, "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, env=here.command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    ended = asyncio.create_task(process.wait())
    async with asyncio.timeout(DEADLINE_S):
        while not ended.done():
            here.client_mib = max(here.client_mib, memory_mib(process.pid))
            await asyncio.wait([ended], timeout=0.05)
    if ended.result() != 0:
        sys.exit(f"{' '.join(command)} failed")


async def fetch_by_hand(here: Site, image: ImageView, target: Path) -> None:
    async with here.host.client() as client:
        endpoint = client.endpoint
    url = f"{endpoint.url}{API_PREFIX}/blobs/{image.digest}"
    header = f"Authorization: Bearer {endpoint.token}"
    await run_aside("curl", "--silent", "--fail", "--noproxy", "*", "-H", header, "-o", str(target), url)


async def copy_to_the_disk(here: Site, image: ImageView, target: Path, times: Times) -> None:
    """By hand; taken are the times until the copy is there, and until it is safe, as ours is."""
    began = time.perf_counter()
    await fetch_by_hand(here, image, target)
    times.of.setdefault("copied", []).append(time.perf_counter() - began)
    await run_aside("sync", str(target))
    times.of.setdefault("copied to the disk", []).append(time.perf_counter() - began)


async def sync(here: Site, image: ImageView, times: Times) -> None:
    """Push the image to the host; taken are the times until its file is there, and until it can be used."""
    stored = image.digest.removeprefix("sha256:")
    file = here.other / "cache" / "blobs" / "sha256" / stored[:2] / stored
    began = time.perf_counter()
    async with here.host.client() as client:
        await client.images.push(image.id)
        await when(lambda: asyncio.to_thread(file.exists))
        times.of.setdefault("fetched", []).append(time.perf_counter() - began)
        await when(lambda: _usable(client, image))
        times.of.setdefault("synced", []).append(time.perf_counter() - began)


async def remove(here: Site, image: ImageView) -> None:
    """Until the image is neither in the library nor on the host."""
    async with here.host.client() as client:
        await client.images.delete(image.id)
        await when(lambda: _gone(client, image))


async def _usable(client: Client, image: ImageView) -> bool:
    return [item.state for item in (await client.images.get(image.id)).presence] == [PresenceState.PRESENT]


async def _gone(client: Client, image: ImageView) -> bool:
    try:
        await client.images.get(image.id)
    except NotFound:
        return True
    return False


async def when(check: Callable[[], Awaitable[bool]]) -> None:
    """Return soon after ``check`` holds."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if await check():
                return
            await asyncio.sleep(LOOK_S)


async def imported(here: Site, name: str) -> ImageView:
    async with here.host.client() as client:
        return next(image for image in await client.images.all() if image.name == name)


async def in_turns(file: Path, number: int, *work: Callable[[], Awaitable[None]]) -> None:
    """One after the other; each round begins with another one, and each finds the memory that it needs.

    A virtual machine's host takes back what its guest does not use, and gives it again several times slower than it is
    written to: without the copy whoever comes first would pay for both.
    """
    for each in work if number % 2 == 0 else reversed(work):
        aside = file.with_suffix(".aside")
        await asyncio.to_thread(shutil.copyfile, file, aside)
        aside.unlink()
        await each()


async def disk_round(here: Site, file: Path, number: int, times: Times) -> None:
    copy, name = file.with_suffix(".copy"), "wlbench-disk.qcow2"
    await in_turns(
        file,
        number,
        lambda: times.take("by hand", lambda: import_by_hand(file)),
        lambda: times.take("imported", lambda: import_with_us(here, file, name)),
    )
    copy.unlink()
    image = await imported(here, name)
    await in_turns(
        file,
        number,
        lambda: copy_to_the_disk(here, image, copy, times),
        lambda: sync(here, image, times),
    )
    copy.unlink()
    await times.take("removed", lambda: remove(here, image))


async def archive_round(here: Site, file: Path, number: int, times: Times) -> None:
    name = "wlbench/large:1"
    await in_turns(
        file,
        number,
        lambda: times.take("by hand", lambda: import_by_hand(file)),
        lambda: times.take("imported", lambda: import_with_us(here, file, name)),
    )
    file.with_suffix(".copy").unlink()
    await remove(here, await imported(here, name))


async def rounds(disk_size: int, archive_size: int, count: int) -> tuple[Times, Times, dict[str, float]]:
    """In one installation: times with a disk, times with an archive, and memory at most."""
    disks, archives = Times(), Times()
    async with site() as here:
        file = here.host.folder / "disk.qcow2"
        make_disk(file, disk_size)
        for number in range(count):
            await disk_round(here, file, number, disks)
        file.unlink()
        file = here.host.folder / "large.tar"
        make_archive(file, archive_size)
        for number in range(count):
            await archive_round(here, file, number, archives)
        return disks, archives, here.processes


def memory(large: dict[str, float], small: dict[str, float]) -> list[Result]:
    return [
        measured(
            f"memory of the {name} for large images beyond that for small ones ({most:.0f} MiB at most)",
            most - small[name],
            "MiB",
            at_most=MEMORY_LIMIT_MIB,
        )
        for name, most in large.items()
    ]


async def measure(options: Namespace) -> Sequence[Result]:
    *_, small = await rounds(options.small * MIB, options.small * MIB, 1)
    disks, archives, large = await rounds(options.disk * MIB, options.archive * MIB, options.rounds)
    disk, archive = f"disk of {options.disk} MiB", f"archive of {options.archive} MiB"
    return [
        disks.result(f"{disk} imported", "imported", "by hand", IMPORT_LIMIT),
        archives.result(f"{archive} imported", "imported", "by hand", IMPORT_LIMIT),
        disks.result(f"{disk} in a second host's store", "fetched", "copied", SYNC_LIMIT),
        disks.result(f"{disk} in a second host's store, both on the disk", "fetched", "copied to the disk", None),
        disks.result(f"{disk} ready for use there", "synced", "copied", None),
        measured(f"{disk} removed from library and host", median(disks.of["removed"]), "s"),
        *memory(large, small),
    ]


if __name__ == "__main__":
    choices = parser(__doc__)
    choices.add_argument("--rounds", type=int, default=5)
    choices.add_argument("--disk", type=int, default=2048, metavar="MIB")
    choices.add_argument("--archive", type=int, default=1024, metavar="MIB")
    choices.add_argument("--small", type=int, default=256, metavar="MIB", help="of the other installation's images")
    arguments = choices.parse_args()
    for program in ("curl", "qemu-img"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed")
    report("images", asyncio.run(measure(arguments)), arguments.json)
