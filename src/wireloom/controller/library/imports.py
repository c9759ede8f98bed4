"""The verbs that bring images into the library, and what their jobs do. Each checks, makes a job, and returns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from wireloom.controller.library.exports import Exports, HostLost
from wireloom.controller.library.intake import Arrived, Intake, IntakeCatalogue, Origin, Wish, fitting_name
from wireloom.controller.library.jobs import ImageJobs
from wireloom.controller.library.media_intake import MediaIntake
from wireloom.controller.library.places import Lane
from wireloom.controller.library.records import JobContext
from wireloom.controller.library.requests import (
    AdoptTask,
    ExtractTask,
    ImportTask,
    PullTask,
    SaveTask,
    VerifyTask,
    check_name,
    checked_sha256,
    format_of,
    pull_task,
    web_task,
)
from wireloom.controller.library.soundness import Soundness
from wireloom.controller.library.sources import Hosts
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.tools import Tools
from wireloom.controller.library.uploads import Committed, Uploads
from wireloom.controller.library.urls import UrlFetcher
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported
from wireloom.fabric.image_documents import ExportOpen
from wireloom.library.blobs import BlobStore
from wireloom.library.durable import file_digest, flush_file
from wireloom.library.values import ImageRefused, Limits
from wireloom.model.images import (
    AdoptRequest,
    ExtractRequest,
    ImageState,
    ImageView,
    ImportRequest,
    JobStage,
    JobView,
    PullRequest,
    SaveRequest,
    engine_name,
)

__all__ = ["Imports"]

#: Name of the file that arrived, in a job's folder; and while it is fetched.
_SOURCE: Final = "source"
_PARTIAL: Final = "source.part"
#: When a controller begins, all hosts that are there are heard of within so long.
HEARD_S: Final = 30.0
_LOOK_S: Final = 0.5
#: A host that is lost while it sends is asked so often in all; each time it is waited for a little longer before, and
#: not longer than until it has been away for so long.
SENDS: Final = 5
PAUSE_S: Final = 5.0
RETURN_S: Final = 1800.0

Fetch = Callable[[Path], Awaitable[Committed]]


class Imports:
    """Use cases. :meth:`serve` has the jobs know what to do; then they may start."""

    def __init__(
        self,
        *,
        jobs: ImageJobs,
        uploads: Uploads,
        urls: UrlFetcher,
        exports: Exports,
        intake: Intake,
        media: MediaIntake,
        soundness: Soundness,
        catalogue: IntakeCatalogue,
        blobs: BlobStore,
        hosts: Hosts,
        threads: Threads,
        tools: Tools,
        known_device: Callable[[str], str],
        limits: Limits | None = None,
    ) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._urls = urls
        self._exports = exports
        self._intake = intake
        self._media = media
        self._soundness = soundness
        self._catalogue = catalogue
        self._blobs = blobs
        self._hosts = hosts
        self._threads = threads
        self._tools = tools
        self._known_device = known_device
        self._limits = limits or Limits()
        self._all_heard_at = 0.0

    def serve(self) -> None:
        """Have jobs done from now on."""
        self._all_heard_at = time.monotonic() + HEARD_S
        self._jobs.serve("import", self._import, self._first_lane)
        self._jobs.serve("pull", self._pull, self._first_lane)
        self._jobs.serve("adopt", self._adopt, self._first_lane)
        self._jobs.serve("save", self._save, self._first_lane)
        self._jobs.serve("extract", self._extract)
        self._jobs.serve("verify", self._verify)
        self._jobs.on_dropped(self._uploads.drop_job)

    # ---------------------------------------------------------------- verbs

    async def import_file(self, request: ImportRequest) -> JobView:
        """Import a file that was uploaded, or that the controller fetches.

        :raises InvalidInput: not exactly one of the two, or a name, digest or address that is none.
        :raises NotFound: no such upload, or device. :raises Conflict: the upload is not complete, or a job has it.
        """
        if bool(request.upload) == bool(request.url):
            raise InvalidInput("name an upload or an address, one of the two")
        if request.name:
            check_name(request.name)
        request = request.model_copy(
            update={"sha256": checked_sha256(request.sha256), "device": self._device(request.device)}
        )
        if request.url:
            fetched, secrets = web_task(request)
            return await self._jobs.submit("import", f"import {fetched.url}", fetched, secrets=secrets)
        upload = await self._uploads.complete(request.upload)
        task = ImportTask.model_validate({**request.model_dump(), "file": upload.file})
        return await self._jobs.submit("import", f"import {upload.file}", task, upload=upload.id)

    async def pull(self, request: PullRequest) -> JobView:
        """Have a host's engine fetch an image. :raises InvalidInput: :raises NotFound: :raises Unavailable: no host."""
        task, secrets = pull_task(request.model_copy(update={"device": self._device(request.device)}))
        if request.host:
            self._hosts.need(request.host, "docker")
        return await self._jobs.submit("pull", f"pull {task.reference}", task, secrets=secrets)

    async def adopt(self, request: AdoptRequest) -> JobView:
        """Take what a host has. :raises InvalidInput: :raises NotFound: :raises Unavailable: the host is away."""
        image_format = format_of(request.provider)
        self._hosts.need(request.host, request.provider)
        if not request.image.strip() or not request.image.isprintable():
            raise InvalidInput("name the image as the host has it")
        update = {"device": self._device(request.device)}
        if request.name:
            update["name"] = fitting_name(request.name, image_format)
        task = AdoptTask.model_validate({**request.model_dump(), **update})
        return await self._jobs.submit("adopt", f"adopt {request.image} of {request.host}", task)

    async def save(self, request: SaveRequest) -> JobView:
        """Make an image of a stopped node.

        :raises NotFound: no such lab or node. :raises Conflict: it is not stopped, or the name is taken.
        :raises InvalidInput: the name is none, or nodes of its provider make no images. :raises Unavailable:
        """
        node = self._hosts.stopped_node(request.lab, request.node)
        name = fitting_name(request.name, format_of(node.provider))
        self._refuse_taken(name)
        task = SaveTask.model_validate({**request.model_dump(), "name": name})
        return await self._jobs.submit("save", f"save {request.lab}/{request.node} as {name}", task)

    async def extract(self, image_id: str, request: ExtractRequest) -> JobView:
        """Take the disk out of a container's image.

        :raises NotFound: no such image. :raises Conflict: it is not whole, or the name is taken.
        :raises Unsupported: it is no container's. :raises InvalidInput: the name is none.
        """
        image = self._catalogue.get(image_id)
        if image.format != "docker-archive":
            raise Unsupported(f"{image.name} is a disk already")
        _need_whole(image)
        name = fitting_name(request.name, "qcow2") if request.name else ""
        if name:
            self._refuse_taken(name)
        return await self._jobs.submit(
            "extract", f"extract the disk of {image.name}", ExtractTask(image_id=image_id, name=name)
        )

    async def verify(self, image_id: str) -> JobView:
        """Read an image again, everywhere. :raises NotFound: no such image."""
        image = self._catalogue.get(image_id)
        return await self._jobs.submit("verify", f"verify {image.name}", VerifyTask(image_id=image_id))

    # ---------------------------------------------------------------- what jobs do

    async def _import(self, job: JobContext) -> None:
        task = ImportTask.model_validate(job.request)
        fetch = partial(self._from_web, job, task) if task.url else partial(self._from_upload, job, task)
        arrived = await self._arrive(job, fetch, "url" if task.url else "upload", task.url)
        arrived = replace(arrived, source=task.url or arrived.name)
        if task.sha256 and arrived.digest != f"sha256:{task.sha256}":
            raise ImageRefused("digest", f"{arrived.name} has {arrived.digest}, which is not what was expected")
        work = await self._intake.work_folder(job)
        opened = await self._intake.open(job, arrived, work)
        if opened.sniffed.kind == "iso":
            await self._media.take_iso(job, arrived, opened)
        elif opened.sniffed.kind == "gns3a":
            await self._media.take_appliance(job, arrived, opened)
        else:
            wish = Wish(task.name, task.device, task.version, task.default, task.auto_build)
            await self._intake.take(job, arrived, opened, wish, work)

    async def _pull(self, job: JobContext) -> None:
        task = PullTask.model_validate(job.request)
        if task.withheld and not job.secrets and not self._has_arrived(job):
            raise _lost("the credentials")
        wanted = ExportOpen(
            provider="docker",
            image=task.reference,
            pull=True,
            borrow=engine_name("docker", task.reference) != engine_name("docker", task.name),
            username=job.secrets.get("username", ""),
            password=job.secrets.get("password", ""),
            upload="",
            token="",
        )
        fetch = partial(self._from_host, job, lambda: task.host or self._hosts.puller(), wanted, "pulled.tar")
        arrived = await self._arrive(job, fetch, "pull", task.reference)
        await self._take(job, arrived, Wish(name=task.name, device=task.device, default=task.default))

    async def _adopt(self, job: JobContext) -> None:
        task = AdoptTask.model_validate(job.request)
        wanted = ExportOpen(provider=task.provider, image=task.image, upload="", token="")
        fetch = partial(self._from_host, job, lambda: task.host, wanted, task.image)
        arrived = await self._arrive(job, fetch, "engine", f"{task.host}: {task.image}")
        await self._take(job, arrived, Wish(name=task.name, device=task.device, default=task.default))

    async def _save(self, job: JobContext) -> None:
        task = SaveTask.model_validate(job.request)
        memory = job.memory.get("node")
        node = self._hosts.stopped_node(task.lab, task.node) if memory is None else self._hosts.remembered(memory)
        await job.remember(node=asdict(node))
        wanted = ExportOpen(provider=node.provider, lab_id=node.lab_id, node_id=node.node_id, upload="", token="")
        fetch = partial(self._from_host, job, lambda: node.host, wanted, task.name)
        arrived = await self._arrive(job, fetch, "node", f"{task.lab}/{task.node}")
        base = self._catalogue.named(node.image)
        arrived = replace(arrived, kind="node", parents=(base.id,) if base is not None else ())
        wish = Wish(task.name, node.device, base.version if base is not None else "", task.default)
        await self._take(job, arrived, wish)

    async def _extract(self, job: JobContext) -> None:
        task = ExtractTask.model_validate(job.request)
        image = self._catalogue.get(task.image_id)
        arrived = await self._arrive(job, partial(self._from_archive, job, image), "extract", image.name)
        arrived = replace(arrived, parents=(image.id,))
        device, likely = self._served_native(image), await self._intake.native_device(image.name)
        wish = Wish(task.name, device, image.version, likely=likely, only=frozenset({"qcow2"}))
        await self._take(job, arrived, wish)

    async def _verify(self, job: JobContext) -> None:
        await self._soundness.verify(job, VerifyTask.model_validate(job.request).image_id)

    async def _take(self, job: JobContext, arrived: Arrived, wish: Wish) -> None:
        work = await self._intake.work_folder(job)
        opened = await self._intake.open(job, arrived, work)
        await self._intake.take(job, arrived, opened, wish, work)

    # ---------------------------------------------------------------- how files arrive

    async def _arrive(self, job: JobContext, fetch: Fetch, origin: Origin, source: str) -> Arrived:
        """The file of a job: what an attempt before this one brought, or else what ``fetch`` brings."""
        path = job.folder / _SOURCE
        if not self._has_arrived(job):
            came = await fetch(path)
            await self._threads.run(flush_file, path)  # what is remembered must be there after a loss of power, too
            await job.remember(arrived={"name": came.name, "digest": came.digest, "size": came.size})
        await job.turn("disk")
        known = job.memory["arrived"]
        return Arrived(path, known["name"], known["digest"], known["size"], origin, source)

    def _first_lane(self, job: JobContext) -> Lane:
        """What a job begins with: files that are here already are waited for no more."""
        return "disk" if job.request.get("upload") or self._has_arrived(job) else "network"

    def _has_arrived(self, job: JobContext) -> bool:
        return "arrived" in job.memory and (job.folder / _SOURCE).exists()

    async def _from_upload(self, job: JobContext, task: ImportTask, path: Path) -> Committed:
        told = partial(job.progress, JobStage.DIGEST)
        if path.exists():  # it was committed, and the controller was killed before that was remembered
            digest = await self._threads.run(file_digest, path, told)
            await self._uploads.drop_job(job.id)
            return Committed(task.file, digest, path.stat().st_size)
        try:
            return await self._uploads.commit(task.upload, path, told)
        except NotFound as error:
            raise NotFound("the uploaded file is not kept any more", hint="upload it again") from error

    async def _from_web(self, job: JobContext, task: ImportTask, path: Path) -> Committed:
        if task.withheld and "url" not in job.secrets:
            raise _lost("the rest of the address")

        async def remember(validator: str) -> None:
            await job.remember(validator=validator)

        partial_file = job.folder / _PARTIAL
        came = await self._urls.fetch(
            job.secrets.get("url") or task.url,
            partial_file,
            validator=str(job.memory.get("validator", "")),
            remember=remember,
            progress=partial(job.progress, JobStage.FETCH),
            told=job.report,
        )
        await self._threads.run(partial_file.replace, path)
        return Committed(came.name, came.digest, came.size)

    async def _from_host(
        self, job: JobContext, host: Callable[[], str], wanted: ExportOpen, name: str, path: Path
    ) -> Committed:
        """What a host sends; one that is lost meanwhile is asked anew when it is back, a few times.

        :raises HostLost: once more than that. Other errors as of :meth:`_sender` and of :meth:`Exports.fetch`.
        """
        until = self._all_heard_at
        if job.memory.get("lost"):  # the controller was restarted while the host was waited for
            until = max(until, time.monotonic() + RETURN_S)
        while True:
            chosen = await self._sender(job, host, wanted.provider, until)
            try:
                return await self._exports.fetch(job, chosen, wanted, name, path)
            except HostLost as error:
                lost = int(job.memory.get("lost", 0)) + 1
                if lost >= SENDS:
                    await job.remember(lost=0)  # a user who tries again has all of them again
                    raise
                await job.remember(lost=lost)
                job.report(f"{error.message}: it is asked again when it is back ({lost + 1} of {SENDS} times)")
            await job.turn(None)
            await asyncio.sleep(PAUSE_S * 2 ** (lost - 1))
            until = time.monotonic() + RETURN_S

    async def _sender(self, job: JobContext, host: Callable[[], str], provider: str, until: float) -> str:
        """The host that is to send. One that is not there is waited for until then, without a place.

        :raises NotFound: no such host. :raises Unavailable: it is away. :raises Unsupported: it has no such engine.
        """
        while True:
            job.progress(JobStage.EXPORT, 0, 0)
            try:
                self._exports.need_address()
                chosen = host()
                self._hosts.need(chosen, provider)
            except (NotFound, Unavailable):
                if time.monotonic() > until:
                    raise
            else:
                await job.turn("network")
                return chosen
            await job.turn(None)
            await asyncio.sleep(_LOOK_S)

    async def _from_archive(self, job: JobContext, image: ImageView, path: Path) -> Committed:
        """The largest disk in a container's image that stands alone."""
        _need_whole(image)
        archive = self._blobs.path(image.digest)
        told = partial(job.progress, JobStage.INSPECT)
        found = await self._threads.run(self._tools.disks_inside, archive, self._limits, told)
        whole = [disk for disk in found if not disk.backed]
        if not whole:
            raise NotFound(f"there is no disk of a machine in {image.name}")
        disk = whole[0]
        for other in found:
            job.report(f"{other.path}: {other.form}, {other.size} bytes{'' if other is disk else ', left out'}")
        await self._threads.run(_unlink, path)
        await self._intake.need_room(job.folder, disk.size)
        told = partial(job.progress, JobStage.UNPACK)
        await self._threads.run(self._tools.extract_disk, archive, disk, path, self._limits, told)
        digest = await self._threads.run(file_digest, path, partial(job.progress, JobStage.DIGEST))
        return Committed(disk.path.rpartition("/")[2], digest, disk.size)

    # ---------------------------------------------------------------- inside

    def _served_native(self, image: ImageView) -> str:
        """The device that a container's image was said to be for, where that runs as a machine, too; or empty."""
        for served in image.devices:
            with suppress(NotFound, Unsupported):
                return self._catalogue.check_device(served.device, "libvirt")
        return ""

    def _device(self, name: str) -> str:
        """The device's own name, or empty. :raises NotFound: no such device."""
        return self._known_device(name) if name else ""

    def _refuse_taken(self, name: str) -> None:
        there = self._catalogue.named(name)
        if there is not None:
            raise Conflict(f"there is an image {name} already", hint="choose another name", details={"image": there.id})


def _need_whole(image: ImageView) -> None:
    if image.state is not ImageState.READY:
        raise Conflict(f"image {image.name} is {image.state.value}")


def _lost(what: str) -> Unavailable:
    return Unavailable(
        f"{what} was kept in memory alone, and the controller was restarted since", hint="ask for it again, as before"
    )


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
