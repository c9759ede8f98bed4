"""The library's way in on a temporary folder and a real database, with a catalogue in memory, and hosts that send."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from controller_rig import until

from wireloom.controller.hub import Hub, Mailbox
from wireloom.controller.journal import Journal
from wireloom.controller.library.exports import Exports
from wireloom.controller.library.imports import Imports
from wireloom.controller.library.intake import Intake
from wireloom.controller.library.jobs import ImageJobs, Work
from wireloom.controller.library.media_intake import MediaIntake, MediaTools
from wireloom.controller.library.places import Lane
from wireloom.controller.library.records import JobContext, NewImage
from wireloom.controller.library.soundness import Soundness
from wireloom.controller.library.sources import Hosts, SavedNode
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.tools import Tools
from wireloom.controller.library.uploads import Uploads
from wireloom.controller.library.urls import UrlFetcher
from wireloom.controller.store import Store
from wireloom.devices import DeviceFolder
from wireloom.errors import Conflict, NotFound, Unsupported
from wireloom.fabric.image_documents import ExportMessage, ExportOpen
from wireloom.fabric.methods import EXPORT
from wireloom.library.blobs import BlobStore
from wireloom.library.media import MediumImage
from wireloom.library.sniff import Sniffed
from wireloom.library.values import Accepted, Facts, ImageRefused, Limits, Progress
from wireloom.model.base import Value
from wireloom.model.device import Device
from wireloom.model.images import (
    DeviceProposal,
    ImageUpdate,
    ImageView,
    JobChoices,
    JobView,
    ServedDevice,
)
from wireloom.testing.memory_fabric import MemoryFabric, MemoryStream

URL = "http://127.0.0.1:7430/api/v1"
DEVICES = {"vios": ("libvirt",), "ceos": ("docker",), "iol-xe": ("docker",)}


class Ask(Value):
    """A request of a test's own jobs."""

    what: str = ""


class MemoryCatalogue:
    """A catalogue that keeps the promises of ``ImageCatalogue``, and nothing else."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self.images: dict[str, ImageView] = {}
        self.refuse: Exception | None = None
        self.providers: Callable[[str], Sequence[str] | None] = DEVICES.get

    def all(self) -> Sequence[ImageView]:
        return sorted(self.images.values(), key=lambda image: image.name)

    def get(self, image_id: str) -> ImageView:
        if image_id not in self.images:
            raise NotFound("no such image")
        return self.images[image_id]

    def named(self, name: str) -> ImageView | None:
        return next((image for image in self.images.values() if image.name == name), None)

    def pin(self, provider: str, name: str) -> None:
        raise AssertionError("nobody who brings images in asks for pins")

    def default(self, device: str, provider: str) -> str | None:
        served = [(image, item) for image in self.all() for item in image.devices if image.provider == provider]
        return next((image.name for image, item in served if item.device == device and item.default), None)

    def check_device(self, device: str, provider: str) -> str:
        providers = self.providers(device)
        if providers is None:
            raise NotFound(f"there is no device {device}")
        if provider not in providers:
            raise Unsupported(f"device {device} does not run on {provider}")
        return device

    async def add(self, new: NewImage) -> ImageView:
        if self.refuse is not None:
            raise self.refuse
        assert self.blobs.has(new.digest)
        there = self.named(new.name)
        if there is not None and there.content != new.content:
            raise Conflict(f"the name {new.name} belongs to another image already")
        if there is not None:
            return there
        facts = {name: value for name, value in vars(new).items() if name not in {"device", "default"}}
        devices = (ServedDevice(device=new.device, default=new.default),) if new.device else ()
        image = ImageView(id=f"{len(self.images):012x}", devices=devices, **facts)
        self.images[image.id] = image
        return image

    async def update(self, image_id: str, change: ImageUpdate) -> ImageView:
        self.images[image_id] = self.get(image_id).model_copy(update={"devices": change.devices})
        return self.images[image_id]

    async def drop_file(self, digest: str) -> bool:
        if any(image.digest == digest for image in self.images.values()):
            return False
        self.blobs.remove(digest)
        return True


def words_of(path: Path) -> list[str]:
    """A test's file says in its first line what it is: ``kind name``."""
    return path.read_bytes()[:200].decode(errors="replace").split("\n")[0].split()


def look(path: Path) -> Sniffed:
    kind = (words_of(path) or ["unknown"])[0]
    known = {"qcow2", "raw", "docker-archive", "iol", "gzip", "zip", "iso", "gns3a", "tar"}
    return Sniffed(cast(Any, kind if kind in known else "unknown"), path.stat().st_size)


def unwrap(path: Path, folder: Path, limits: Limits, progress: Progress) -> Path:
    """What follows the first line."""
    target = folder / "unpacked"
    target.write_bytes(path.read_bytes().partition(b"\n")[2])
    progress(1, 1)
    return target


def accept_disk(path: Path, name: str, folder: Path, limits: Limits, progress: Progress) -> Accepted:
    """``qcow2 bad`` is refused; ``raw`` is converted."""
    words = words_of(path)
    if "bad" in words:
        raise ImageRefused("backing-file", f"{name} names another file")
    file = path
    if words[0] == "raw":
        file = folder / "converted.qcow2"
        file.write_bytes(b"qcow2 of " + path.read_bytes())
    progress(1, 1)
    facts = Facts(file=name, kind=cast(Any, words[0]))
    stem = name.rpartition(".")[0] or name
    return Accepted(file, "qcow2", cast(Any, words[0]), f"{stem}.qcow2", facts=facts, notes=("accepted",))


def accept_archive(path: Path, name: str, folder: Path, limits: Limits, progress: Progress) -> Accepted:
    file = folder / "accepted.tar"
    file.write_bytes(path.read_bytes())
    content = f"sha256:{hashlib.sha256(b'config' + path.read_bytes()).hexdigest()}"
    tag = (words_of(path)[1:] or ["ceos:1"])[0]
    return Accepted(file, "docker-archive", "docker-archive", tag, content=content, facts=Facts(file=name, tags=(tag,)))


def build_iol(binary: Path, base: Path, folder: Path, **wish: Any) -> Accepted:
    file = folder / "image.tar"
    file.write_bytes(b"docker-archive " + binary.read_bytes())
    wish["say"]("built")
    content = f"sha256:{hashlib.sha256(binary.read_bytes()).hexdigest()}"
    return Accepted(file, "docker-archive", "iol", wish["name"] or "iol:17", content=content, facts=Facts(kind="iol"))


def identify(facts: Facts, devices: object) -> Sequence[DeviceProposal]:
    if facts.file.startswith("vios") or (facts.kind == "qcow2" and "vr-vios:15" in facts.tags):
        return (DeviceProposal(device="vios", version="15.9", confidence=0.95),)
    if facts.kind == "iol":
        return (DeviceProposal(device="iol-xe", version="17", confidence=0.95),)
    return (DeviceProposal(device="vios", confidence=0.5),)


TOOLS = replace(
    Tools(),
    sniff=look,
    unpack=unwrap,
    accept_disk=accept_disk,
    accept_archive=accept_archive,
    find_base=lambda folder: folder,
    build_iol=build_iol,
    identify=identify,
)


@dataclass
class Medium:
    """What an ISO of a test holds: files by key, device files by key."""

    choices: JobChoices = field(default_factory=JobChoices)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    images: dict[str, MediumImage] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    appliance: Any = None

    def extract(self, path: Path, key: str, folder: Path, limits: Limits, progress: Progress) -> Path:
        name, content = self.files[key]
        (folder / name).write_bytes(content)
        return folder / name

    def tools(self) -> MediaTools:
        return MediaTools(
            offers=lambda path, devices, limits: self.choices,
            image=lambda path, key, devices, limits: self.images[key],
            extract=self.extract,
            device=lambda path, key, devices, limits: self.devices[key],
            appliance=lambda text, devices: self.appliance,
        )


class FakeHosts:
    """Hosts that are there, and nodes that are stopped."""

    def __init__(self) -> None:
        self.there = {"h1"}
        self.node = SavedNode("lab1", "node1", "h1", "libvirt", "vios", "vios.qcow2")

    def alive(self) -> frozenset[str]:
        return frozenset(self.there)

    def need(self, host: str, provider: str) -> None:
        if host not in self.there:
            raise NotFound(f"there is no host {host}")

    def puller(self) -> str:
        return "h1"

    def stopped_node(self, lab: str, name: str) -> SavedNode:
        return self.node

    def remembered(self, facts: Mapping[str, Any]) -> SavedNode:
        return SavedNode(**facts)


class Rig:
    """``up`` begins a controller's library, ``kill`` ends it as kill -9 does: nothing of it is written any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.hub = Hub()
        self.fabric = MemoryFabric()
        self.hosts = FakeHosts()
        self.medium = Medium()
        self.works: dict[str, Work] = {}
        self.tools = TOOLS
        self.web: Any = None
        self.addresses: dict[str, str] = {}
        self.pauses: list[float] = []
        self.device_files: dict[str, str] = {}
        self.device_folder: DeviceFolder | None = None
        self.sound = True
        self.limits = Limits(size=1 << 30)
        self.reserve = 0
        self.at_once: dict[Lane, int] = {"network": 2, "disk": 2}
        self.blobs = BlobStore(folder / "blobs")
        self.catalogue = MemoryCatalogue(self.blobs)
        self.store: Store
        self.jobs: ImageJobs
        self.uploads: Uploads
        self.imports: Imports

    async def up(self) -> None:
        self.store = await Store.open(f"sqlite+aiosqlite:///{self.folder / 'wireloom.sqlite'}")
        work, clock = self.store.image_work, lambda: self.now
        work._clock = clock
        self.threads = Threads(4)
        self.jobs = ImageJobs(
            store=work,
            folder=self.folder / "jobs",
            hub=self.hub,
            journal=Journal(fabric=self.fabric, hub=self.hub, clock=clock),
            clock=clock,
            at_once=self.at_once,
        )
        self.uploads = Uploads(
            store=work,
            folder=self.folder / "uploads",
            threads=self.threads,
            clock=clock,
            limits=self.limits,
            reserve=self.reserve,
        )
        self._make_imports(clock)
        self.imports.serve()
        for kind, does in self.works.items():
            self.jobs.serve(cast(Any, kind), does)
        await self.uploads.start()
        await self.jobs.start()

    def _make_imports(self, clock: Callable[[], float]) -> None:
        parts: dict[str, Any] = {"catalogue": self.catalogue, "blobs": self.blobs, "threads": self.threads}
        intake = Intake(
            devices=self._devices,
            tools=self.tools,
            clock=clock,
            base_folder=self.folder,
            limits=self.limits,
            reserve=self.reserve,
            **parts,
        )
        media = MediaIntake(
            intake=intake,
            devices=self._devices,
            add_device=self._add_device,
            tools=MediaTools() if self.device_folder is not None else self.medium.tools(),
            limits=self.limits,
            reserve=self.reserve,
            **parts,
        )
        urls = UrlFetcher(
            self.threads,
            limits=self.limits,
            reserve=self.reserve,
            transport=self.web,
            resolve=self._resolve,
            pause=self._pause,
        )
        self.imports = Imports(
            jobs=self.jobs,
            uploads=self.uploads,
            urls=urls,
            exports=Exports(fabric=cast(Any, self.fabric), uploads=self.uploads, url=lambda: URL),
            intake=intake,
            media=media,
            soundness=Soundness(
                catalogue=self.catalogue, fabric=cast(Any, self.fabric), check=self._check, alive=self.hosts.alive
            ),
            hosts=cast(Hosts, self.hosts),
            tools=self.tools,
            known_device=lambda name: name,
            limits=self.limits,
            **parts,
        )

    def use_devices(self, folder: DeviceFolder) -> None:
        """Real devices, the user's own among them."""
        self.device_folder = folder
        known = folder.catalogue
        self.catalogue.providers = lambda name: tuple(found.providers) if (found := known().find(name)) else None

    def _devices(self) -> Iterable[Device]:
        return () if self.device_folder is None else self.device_folder.catalogue()

    async def _add_device(self, text: str, source: str) -> str:
        if self.device_folder is not None:
            return self.device_folder.add(text, kind="device", source=source)
        name = text.partition(":")[2].strip()
        self.device_files[name] = text
        return name

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        return [self.addresses.get(host, "8.8.8.8")]

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def _check(self, image_id: str, progress: Progress) -> bool:
        return self.sound

    async def down(self) -> None:
        await self.jobs.stop()
        await self.uploads.stop()
        await self.store.close()
        self.threads.close()

    async def restart(self) -> None:
        await self.down()
        await self.up()

    async def kill(self) -> None:
        """Nothing is stored from here on, as when the process is gone; then a new one begins."""

        async def nothing(*_: object, **__: object) -> None:
            return None

        work: Any = self.store.image_work
        work.save_job = work.forget_upload = nothing
        for job in self.jobs._jobs.values():
            cast(Any, job).drop_files = lambda: None
        await self.down()
        await self.up()

    # ---------------------------------------------------------------- what tests do

    async def uploaded(self, content: bytes, name: str = "vios.qcow2", **metadata: str) -> str:
        """Id of an upload that is all there."""
        upload = await self.uploads.create(len(content), {"filename": name, **metadata})
        await self.uploads.write(upload, 0, pieces(content))
        return upload

    async def ended(self, job: JobView) -> JobView:
        """The job, when its work is over: done, failed, cancelled, or waiting for a choice."""
        over = {"done", "failed", "cancelled", "choice"}
        await until_quietly(lambda: self.jobs.get(job.id).state.value in over and not self.working(job.id))
        return self.jobs.get(job.id)

    def let_wait(self) -> None:
        """Jobs begin no more, until the next restart."""
        self.jobs._places._at_once = {"network": 0, "disk": 0}

    def working(self, job_id: str) -> bool:
        return self.jobs._jobs[job_id].working is not None

    async def sends(self, content: bytes, *messages: ExportMessage, host: str = "h1") -> list[ExportOpen]:
        """Have ``host`` send ``content`` when it is asked to; what it is asked is in the list that is returned."""
        asked: list[ExportOpen] = []
        sha256 = f"sha256:{hashlib.sha256(content).hexdigest()}"
        last = messages or (ExportMessage(stage="send", done=1, total=2), ExportMessage(stage="done", sha256=sha256))

        async def answer(question: ExportOpen) -> MemoryStream:
            asked.append(question)
            upload = question.upload.rpartition("/")[2]
            assert await self.uploads.may_write(upload, question.token)
            await self.uploads.finish_length(upload, len(content))
            await self.uploads.write(upload, 0, pieces(content))
            lines = b"".join(message.model_dump_json().encode() + b"\n" for message in last)
            return MemoryStream(lines[:7], lines[7:], ends=True)

        await self.fabric.serve_stream(host, EXPORT, answer)
        return asked

    def debris(self) -> list[str]:
        """Files that are left of jobs and uploads, but for logs."""
        folders = (self.folder / "jobs", self.folder / "uploads")
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "log"]
        return [str(path.relative_to(self.folder)) for path in files]


async def until_quietly(condition: Callable[[], object]) -> None:
    """As ``until``, for work in threads: the loop is not kept busy."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no one event that stands for all of them
            await asyncio.sleep(0.002)


async def pieces(content: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for place in range(0, len(content), size):
        yield content[place : place + size]
    if not content:
        yield b""


def told_jobs(mailbox: Mailbox) -> Callable[[], Awaitable[list[JobView]]]:
    """What a reader of the stream of changes is told of jobs next."""

    async def take() -> list[JobView]:
        return [JobView.model_validate(item.data) for item in await mailbox.take() if item.type == "job"]

    return take


@asynccontextmanager
async def make_library(folder: Path, **works: Callable[[JobContext], Awaitable[None]]) -> AsyncIterator[Rig]:
    rig = Rig(folder)
    rig.works = dict(works)
    await rig.up()
    try:
        yield rig
    finally:
        await rig.down()


__all__ = ["DEVICES", "TOOLS", "URL", "Ask", "MemoryCatalogue", "Rig", "make_library", "pieces", "told_jobs", "until"]
