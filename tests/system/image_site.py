"""A controller, and hosts with data folders of their own: images come to them over HTTP as to any other."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

from wireloom.agent.login import AgentLogin
from wireloom.client import Client
from wireloom.client.images import ENDED
from wireloom.errors import NotFound
from wireloom.fabric.server import NatsServer
from wireloom.library.archives import write_archive
from wireloom.model.images import ImageView, ImportRequest, JobState, JobView, PresenceState
from wireloom.testing.installation import WIRELOOM, Installation, installed, own_folder, until

MIB = 1 << 20
#: The partition table of a disk that a machine can start from.
TABLE = bytes(446) + bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]) + bytes(48) + b"\x55\xaa"
CONFIG = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}}


class Site:
    """A controller, and a host with a data folder of its own: images come to it over HTTP as to any other."""

    def __init__(self, host: Installation) -> None:
        self.host = host
        self.data = host.folder / "host"
        self.other = host.folder / "other"  # of another host, which tests begin when they need it
        self.client = host.client

    @property
    def drafts(self) -> list[Path]:
        """Files that are on their way to the host."""
        with contextlib.suppress(FileNotFoundError):  # one became whole while it was looked at
            return [path for path in (self.data / "cache" / "blobs" / "drafts").glob("*") if path.stat().st_size]
        return []

    @property
    def files(self) -> list[Path]:
        """Whole files that the host has fetched, or half of something."""
        return [path for path in (self.data / "cache" / "blobs").rglob("*") if path.is_file()]

    @property
    def disks(self) -> list[str]:
        """What lies in the host's image folder."""
        return sorted(path.name for path in (self.data / "images").iterdir() if path.name != ".digests.json")

    @property
    def stored(self) -> list[str]:
        """Names of the library's files."""
        return [path.name for path in (self.host.data / "library" / "blobs").rglob("*") if path.is_file()]

    @property
    def work(self) -> list[Path]:
        """What jobs and uploads have on the disk, but for their logs."""
        library = self.host.data / "library"
        jobs = [path for path in (library / "jobs").rglob("*") if path.is_file() and path.name != "log"]
        return [*jobs, *(library / "uploads").iterdir()]


@contextlib.asynccontextmanager
async def running(
    subnet: str, *, prepare: Callable[[Site], contextlib.AbstractContextManager[None]] | None = None
) -> AsyncIterator[Site]:
    """A controller and the agent of ``h1``, which leave nothing behind.

    :param prepare: holds for as long as they run, and begins when their folders are there.
    """
    with own_folder() as folder, contextlib.ExitStack() as around:
        host = Installation(folder, {"WIRELOOM_MANAGEMENT_SUBNET": subnet})
        site = Site(host)
        site.data.mkdir()
        if prepare is not None:
            around.enter_context(prepare(site))
        fabric = host.data / "fabric"
        fabric.mkdir(mode=0o700)
        other = await NatsServer(fabric).agent("h2")  # whose keys the controller finds there
        try:
            await host.start("controller")
            await until(lambda: introduced(host), "the controller did not come up")
            login = AgentLogin.load(host.data)
            assert login is not None
            login.save(site.data)
            replace(login, claims=other.claims, seed=other.seed).save(site.other)
            for data in (site.data, site.other):
                (data / "images").mkdir(exist_ok=True)
            await start_agent(site)
            await host.answering()
            yield site
            assert host.debris() == []
        finally:
            await host.down()


@contextlib.asynccontextmanager
async def without_images(subnet: str, **environment: str) -> AsyncIterator[Installation]:
    """An installation whose image folder is its own, and empty: what nodes are made of comes from the library alone."""
    with own_folder() as folder:
        images = folder / "data" / "images"

        def own_images() -> None:
            images.unlink()
            images.mkdir()

        async with installed(folder, prepare=own_images, WIRELOOM_MANAGEMENT_SUBNET=subnet, **environment) as made:
            yield made


@contextlib.contextmanager
def engine_name(what: str) -> Iterator[str]:
    """Name of a container's image that nobody else has; a test that failed leaves none of it."""
    name = f"wlt-{uuid.uuid4().hex[:8]}/{what}"
    try:
        yield name
    finally:
        subprocess.run(["docker", "image", "rm", name], capture_output=True, timeout=60, check=False)


@contextlib.contextmanager
def made(file: Path) -> Iterator[Path]:
    """A large file, for as long as tests need it."""
    try:
        yield file
    finally:
        file.unlink()


async def introduced(host: Installation) -> bool:
    return AgentLogin.load(host.data) is not None


async def start_agent(site: Site, name: str = "agent", **environment: str) -> None:
    """Begin the agent of the host, or with another ``name`` that of another one."""
    host = site.host
    host.extra_environment["WIRELOOM_DATA_DIR"] = str(site.data)
    try:
        if name == "agent":
            await host.start("agent")
            return
        with (host.folder / f"{name}.log").open("ab") as log:
            host.processes[name] = await asyncio.create_subprocess_exec(
                str(WIRELOOM), "agent", env=host.environment | environment, stdout=log, stderr=log
            )
    finally:
        del host.extra_environment["WIRELOOM_DATA_DIR"]


def raw_disk(file: Path, size: int) -> Path:
    """A raw disk of noise, which is converted on its way in."""
    file.write_bytes(TABLE + os.urandom(size - len(TABLE)))
    return file


def converted(raw: Path) -> Path:
    """The same as qcow2, beside it."""
    file = raw.with_suffix(".qcow2")
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(file)]
    subprocess.run(command, check=True, timeout=60)
    return file


def archive_of(content: Path) -> Path:
    """A container's image with that one file, beside it."""
    layer, file = content.with_suffix(".layer"), content.with_suffix(".tar")
    subprocess.run(["tar", "-C", str(content.parent), "-cf", str(layer), content.name], check=True, timeout=60)
    write_archive(file, config=CONFIG, layers=[layer], tags=["large:1"])
    layer.unlink()
    return file


async def sent(client: Client, file: Path) -> str:
    upload = await client.images.begin_upload(file)
    await client.images.send(upload, file)
    return upload.rpartition("/")[2]


async def ended(client: Client, job: JobView, *, within_s: float = 120) -> JobView:
    async def over() -> bool:
        return (await client.images.job(job.id)).state in ENDED

    await until(over, "the job has not ended", within_s=within_s)
    return await client.images.job(job.id)


async def imported(client: Client, file: Path, name: str) -> ImageView:
    job = await client.images.import_file(ImportRequest(upload=await sent(client, file), name=name))
    found = await ended(client, job)
    assert found.state is JobState.DONE, found
    return await client.images.get(found.images[0])


async def at_once(condition: Callable[[], object], *, within_s: float = 60) -> None:
    """Return in the very moment in which ``condition`` holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.002)


async def present(client: Client, image: ImageView) -> bool:
    view = await client.images.get(image.id)
    return [item.state for item in view.presence] == [PresenceState.PRESENT]


async def gone(client: Client, image: ImageView) -> bool:
    try:
        await client.images.get(image.id)
    except NotFound:
        return True
    return False


def engine_id(name: str) -> str:
    """What the engine has of that name; empty: nothing."""
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def digest(file: Path) -> str:
    with file.open("rb") as reader:
        return f"sha256:{hashlib.file_digest(reader, 'sha256').hexdigest()}"
