"""From a file that has arrived to images of the catalogue: unpack, look, accept, store, identify, take up.

Everything that is made on the way lies in the job's folder until it is in the store of blobs, and what is in the store
without being taken up goes again. Begun anew after a kill, it makes the same and finds what is there already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol

from wireloom.controller.library.incoming import RESERVE, leaving_room, need_room
from wireloom.controller.library.records import ImageCatalogue, JobContext, NewImage
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.tools import Tools
from wireloom.controller.tasks import KeyedLocks
from wireloom.errors import Conflict, InvalidInput, NotFound, Unsupported
from wireloom.library.blobs import BlobStore
from wireloom.library.durable import file_digest
from wireloom.library.names import inner_name
from wireloom.library.sniff import COMPRESSED, DISKS, Sniffed
from wireloom.library.values import Accepted, Facts, ImageRefused, Limits
from wireloom.model.device import Device
from wireloom.model.images import (
    FORMAT_OF_PROVIDER,
    DeviceProposal,
    ImageFormat,
    ImageState,
    ImageView,
    JobChoices,
    JobStage,
    Offer,
    Provenance,
    SourceKind,
    check_image_name,
)

__all__ = ["Arrived", "Intake", "IntakeCatalogue", "Opened", "Origin", "Wish", "fitting_name"]

_ARCHIVES: Final = frozenset({"docker-archive", "oci-archive", "rootfs", "tar"})
_PROVIDERS: Final[dict[ImageFormat, str]] = {kind: name for name, kind in FORMAT_OF_PROVIDER.items()}
#: As of :class:`Provenance`.
Origin = Literal["upload", "url", "pull", "engine", "node", "iso", "extract"]
#: Of ``st_blocks``, whatever the file system has.
_BLOCK: Final = 512
#: Digits of a digest that tell two images of one proposed name apart.
_MARK: Final = 8


class IntakeCatalogue(ImageCatalogue, Protocol):
    """What coming in needs of the catalogue beyond what everybody does."""

    def check_device(self, device: str, provider: str) -> str:
        """The device's own name. :raises NotFound: no such device. :raises Unsupported: it does not run there."""
        ...

    async def drop_file(self, digest: str) -> bool:
        """Remove a stored file that no image has."""
        ...


@dataclass(frozen=True)
class Arrived:
    """A file that is there, whole.

    :ivar name: as its user knows it, for identification. :ivar digest: of all of it; ``size``: its bytes.
    :ivar origin: as of :class:`Provenance`; ``source`` too. :ivar parents: ids of images that it was made from.
    :ivar kind: what it is said to be in its provenance, whatever it looks like. :ivar notes: what was done to it.
    """

    path: Path
    name: str
    digest: str
    size: int
    origin: Origin
    source: str
    parents: tuple[str, ...] = ()
    kind: SourceKind | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What is wanted of an image that comes in; empty: it is found out.

    :ivar likely: the device that it is for, where the file does not say another one with certainty.
    :ivar default_if_none: make it its device's default, where the library has none. :ivar only: what it must become,
        where nothing else would do.
    """

    name: str = ""
    device: str = ""
    version: str = ""
    default: bool = False
    auto_build: bool = True
    likely: str = ""
    default_if_none: bool = False
    only: frozenset[ImageFormat] = field(default_factory=lambda: frozenset(FORMAT_OF_PROVIDER.values()))


@dataclass(frozen=True)
class Opened:
    """A file out of what it was compressed in. ``name`` is that of the file inside."""

    path: Path
    name: str
    sniffed: Sniffed
    notes: tuple[str, ...] = ()


class Intake:
    """:param devices: all that are known now. :param reserve: bytes of the disk that stay free.

    :param base_folder: where the archive is that IOL images are built on.
    """

    def __init__(
        self,
        *,
        blobs: BlobStore,
        catalogue: IntakeCatalogue,
        devices: Callable[[], Iterable[Device]],
        tools: Tools,
        threads: Threads,
        clock: Callable[[], float],
        base_folder: Path,
        limits: Limits | None = None,
        reserve: int = RESERVE,
    ) -> None:
        self._blobs = blobs
        self._catalogue = catalogue
        self._devices = devices
        self._tools = tools
        self._threads = threads
        self._clock = clock
        self._base_folder = base_folder
        self._limits = limits or Limits()
        self._reserve = reserve
        self._digests = KeyedLocks()

    async def work_folder(self, job: JobContext, name: str = "work") -> Path:
        """An empty folder in the job's own; what an earlier attempt left there is gone."""
        return await self._threads.run(_fresh, job.folder / name)

    async def need_room(self, folder: Path, size: int) -> None:
        """See to it that a file of ``size`` bytes has room in ``folder``. :raises CapacityExceeded: it has not."""
        await self._threads.run(need_room, folder, size, reserve=self._reserve)

    async def open(self, job: JobContext, arrived: Arrived, work: Path) -> Opened:
        """Unpack one layer of compression, and say what is inside. :raises ImageRefused:

        A vendor's bundle is opened, too; what is in it may be packed once more.
        """
        limits = self._limits
        # However often it is unpacked, it becomes no larger than it could at once.
        limits = replace(limits, size=min(limits.size, limits.free + limits.ratio * arrived.size))
        opened = await self._unpacked(job, await self._look(arrived.path, arrived.name), work / "unpacked", limits)
        if opened.sniffed.kind != "tar":
            return opened
        inside = await self._out_of_bundle(job, opened, work / "bundle", limits)
        return opened if inside is None else await self._unpacked(job, inside, work / "inside", limits)

    async def _unpacked(self, job: JobContext, packed: Opened, folder: Path, limits: Limits) -> Opened:
        """What is in a file that is compressed; others as they are. ``folder`` is made for it."""
        packing = packed.sniffed.kind
        if packing not in COMPRESSED:
            return packed
        await self.need_room(folder.parent, packed.sniffed.size)
        await self._threads.run(folder.mkdir)
        job.report(f"unpacking ({packing})")
        told = leaving_room(partial(job.progress, JobStage.UNPACK), folder, reserve=self._reserve)
        path = await self._threads.run(self._tools.unpack, packed.path, folder, limits, told)
        # A zip archive knows the name of what is in it; of the others it is the name without its ending.
        name = path.name if packing == "zip" else inner_name(packed.name)
        opened = await self._look(path, name)
        if opened.sniffed.kind in COMPRESSED:
            raise ImageRefused("compressed-twice", f"what was in the {packing} file is compressed once more")
        return replace(opened, notes=(*packed.notes, f"unpacked ({packing})"))

    async def _out_of_bundle(self, job: JobContext, bundle: Opened, folder: Path, limits: Limits) -> Opened | None:
        """The image in a vendor's bundle; ``None``: it is no bundle. ``folder`` is made for it."""
        await self.need_room(folder.parent, bundle.sniffed.size)
        await self._threads.run(folder.mkdir)
        told = leaving_room(partial(job.progress, JobStage.UNPACK), folder, reserve=self._reserve)
        path = await self._threads.run(self._tools.take_out, bundle.path, folder, limits, told)
        if path is None:
            return None
        job.report(f"{path.name} is taken out of {bundle.name}")
        opened = await self._look(path, path.name)
        return replace(opened, notes=(*bundle.notes, f"taken out of {bundle.name}"))

    async def take(self, job: JobContext, arrived: Arrived, opened: Opened, wish: Wish, work: Path) -> ImageView:
        """Make an image of one file. :raises ImageRefused: it must not come in."""
        accepted = await self._accept(job, opened, wish, work)
        if accepted.format not in wish.only:
            raise InvalidInput(f"a {accepted.format} came, where {', '.join(sorted(wish.only))} was asked for")
        arrived = replace(arrived, notes=(*arrived.notes, *opened.notes))
        return await self.keep(job, accepted, arrived, wish)

    async def keep(self, job: JobContext, accepted: Accepted, arrived: Arrived, wish: Wish) -> ImageView:
        """Store an accepted file, and take it up in the catalogue.

        :raises Conflict: the name that was asked for belongs to another image.
        """
        for warning in accepted.warnings:
            job.report(f"warning: {warning}")
        digest = await self._digest(job, accepted, arrived)
        new = await self._described(job, accepted, digest, arrived, wish)
        async with self._digests.hold(digest):
            image = None
            try:
                await self._store(job, accepted.file, digest)
                image = await self._take_up(job, new, accepted, wish)
            finally:
                if image is None:
                    await self._catalogue.drop_file(digest)
        await job.made(images=[image.id])
        served = ", ".join(device.device for device in image.devices) or "no device yet"
        job.report(f"image {image.name} is in the library, for {served}")
        return image

    async def _take_up(self, job: JobContext, new: NewImage, accepted: Accepted, wish: Wish) -> ImageView:
        """A name that was proposed may have been given to another image since, by another job; then it gets a new one.

        :raises Conflict: the name that was asked for belongs to another image.
        """
        try:
            return await self._catalogue.add(new)
        except Conflict:
            name = self._name(job, new.provider, new.content, accepted, wish)
            if name == new.name:
                raise
            return await self._catalogue.add(replace(new, name=name))

    async def native_device(self, name: str) -> str:
        """The device that a machine in a container called ``name`` is with certainty, or empty."""
        facts = Facts(kind="qcow2", tags=(name,))
        proposals = await self._threads.run(self._tools.identify, facts, list(self._devices()))
        return proposals[0].device if proposals and proposals[0].confidence >= self._tools.certain else ""

    # ---------------------------------------------------------------- what it is

    async def _look(self, path: Path, name: str) -> Opened:
        return Opened(path, name, await self._threads.run(self._tools.sniff, path))

    async def _accept(self, job: JobContext, opened: Opened, wish: Wish, work: Path) -> Accepted:
        kind, limits = opened.sniffed.kind, self._limits
        stage = JobStage.CONVERT if kind in DISKS - {"qcow2"} else JobStage.INSPECT
        told = leaving_room(partial(job.progress, stage), work, reserve=self._reserve)
        job.progress(stage, 0, opened.sniffed.size)
        job.report(f"{opened.name} is {_words(opened.sniffed)}")
        if kind in DISKS:
            await self._need_room_to_convert(opened, work)
            return await self._threads.run(self._tools.accept_disk, opened.path, opened.name, work, limits, told)
        if kind in _ARCHIVES:
            await self.need_room(work, opened.sniffed.size)
            return await self._threads.run(self._tools.accept_archive, opened.path, opened.name, work, limits, told)
        if kind == "iol":
            return await self._build(job, opened, wish, work)
        hint = (
            "qcow2, raw, VMDK, VHD, OVA, Docker and OCI archives, file trees in tar files, IOL binaries can be imported"
        )
        raise ImageRefused("format", f"{opened.name} is {_words(opened.sniffed)}, and no image", hint=hint)

    async def _need_room_to_convert(self, opened: Opened, work: Path) -> None:
        """A new file takes about what is used of the old one; a disk in an OVA is taken out of it before.

        How much a packed file takes that is unpacked nobody knows: what it says of itself counts zeros, too, which take
        no room. :raises CapacityExceeded: there is not enough.
        """
        kind = opened.sniffed.kind
        if kind != "qcow2":
            used = (await self._threads.run(opened.path.stat)).st_blocks * _BLOCK
            await self.need_room(work, 2 * used if kind == "ova" else used)

    async def _build(self, job: JobContext, opened: Opened, wish: Wish, work: Path) -> Accepted:
        """An IOL binary becomes a node's image, at once or when the user says so."""
        if not wish.auto_build:
            title = f"build a node's image of {opened.name}"
            offer = Offer(key="build", kind="image", title=title, size=opened.sniffed.size)
            await job.choose(JobChoices(title=title, offers=(offer,)))
        job.progress(JobStage.BUILD, 0, 0)
        base = await self._threads.run(self._tools.find_base, self._base_folder)
        return await self._threads.run(
            self._tools.build_iol,
            opened.path,
            base,
            work,
            name=fitting_name(wish.name, "docker-archive") if wish.name else "",
            file_name=opened.name,
            limits=self._limits,
            progress=leaving_room(partial(job.progress, JobStage.BUILD), work, reserve=self._reserve),
            say=job.report,
        )

    # ---------------------------------------------------------------- what is kept of it

    async def _digest(self, job: JobContext, accepted: Accepted, arrived: Arrived) -> str:
        """Of the file to be stored; one that is stored as it came was digested on its way."""
        if accepted.file == arrived.path:
            return arrived.digest
        return await self._threads.run(file_digest, accepted.file, partial(job.progress, JobStage.DIGEST))

    async def _store(self, job: JobContext, file: Path, digest: str) -> None:
        """Have it in the store of blobs, and still where it is: another attempt may need it."""
        damaged = any(image.digest == digest and image.state is ImageState.DAMAGED for image in self._catalogue.all())
        told = partial(job.progress, JobStage.STORE)
        job.progress(JobStage.STORE, 0, 0)
        await self._threads.run(_adopt, self._blobs, file, digest, told, renew=damaged)

    async def _described(
        self, job: JobContext, accepted: Accepted, digest: str, arrived: Arrived, wish: Wish
    ) -> NewImage:
        job.progress(JobStage.IDENTIFY, 0, 0)
        provider = _PROVIDERS[accepted.format]
        content = accepted.content or digest
        proposals = await self._threads.run(self._tools.identify, accepted.facts, list(self._devices()))
        device, version = self._device(job, provider, proposals, wish)
        return NewImage(
            name=self._name(job, provider, content, accepted, wish),
            provider=provider,
            format=accepted.format,
            digest=digest,
            content=content,
            size=(await self._threads.run(accepted.file.stat)).st_size,
            provenance=Provenance(
                origin=arrived.origin,
                source=arrived.source,
                kind=arrived.kind or accepted.kind,
                sha256=arrived.digest.removeprefix("sha256:"),
                size=arrived.size,
                at=self._clock(),
                parents=arrived.parents,
                notes=(*arrived.notes, *accepted.notes),
            ),
            virtual_size=accepted.virtual_size,
            architecture=accepted.architecture,
            version=wish.version or version,
            needs=accepted.needs,
            device=device,
            default=bool(device) and self._is_default(device, provider, wish),
            proposals=tuple(item for item in proposals if item.device != device),
        )

    def _device(
        self, job: JobContext, provider: str, proposals: Sequence[DeviceProposal], wish: Wish
    ) -> tuple[str, str]:
        """Which device it is for, empty where nobody is sure; and the version that goes with it."""
        best = proposals[0] if proposals else None
        certain = best.device if best and best.confidence >= self._tools.certain else ""
        device = wish.device or certain or wish.likely
        if device:
            try:
                device = self._catalogue.check_device(device, provider)
            except (NotFound, Unsupported) as error:
                # What took long to bring in is not thrown away for that; the user can say another device later.
                job.report(f"warning: {error.message}; the image is for no device yet")
                device = ""
        if wish.default and not device:
            job.report("warning: it is nobody's default, for it is not known what it is")
        version = next((item.version for item in proposals if item.device == device), best.version if best else "")
        return device, version

    def _is_default(self, device: str, provider: str, wish: Wish) -> bool:
        return wish.default or (wish.default_if_none and self._catalogue.default(device, provider) is None)

    def _name(self, job: JobContext, provider: str, content: str, accepted: Accepted, wish: Wish) -> str:
        """What was asked for; else the name that this content has already; else the proposed one, made unique."""
        if wish.name:
            return fitting_name(wish.name, accepted.format)
        there = [image for image in self._catalogue.all() if (image.provider, image.content) == (provider, content)]
        there = [image for image in there if image.state is not ImageState.DELETING]
        if there:
            job.report(f"the same content is in the library already, as {there[0].name}")
            return there[0].name
        name = accepted.name
        if self._catalogue.named(name) is not None:
            name = _marked(name, content, accepted.format)
            job.report(f"the name {accepted.name} belongs to another image, so this one is {name}")
        return check_image_name(name, accepted.format)


def fitting_name(name: str, image_format: ImageFormat) -> str:
    """The name that a user means: the ending of disks and the tag ``latest`` may be left out.

    :raises InvalidInput: it is none for an image of that format.
    """
    if image_format == "qcow2" and not name.endswith(".qcow2"):
        name = f"{name}.qcow2"
    if image_format == "docker-archive" and ":" not in name.rpartition("/")[2]:
        name = f"{name}:latest"
    return check_image_name(name, image_format)


def _marked(name: str, content: str, image_format: ImageFormat) -> str:
    """``name`` with a few digits of its content, which nobody else has."""
    mark = content.removeprefix("sha256:")[:_MARK]
    if image_format == "qcow2":
        return f"{name.removesuffix('.qcow2')[:100]}-{mark}.qcow2"
    repository, _, tag = name.rpartition(":")
    return f"{repository}:{tag[:100]}-{mark}"


def _words(sniffed: Sniffed) -> str:
    kind = "of no known kind" if sniffed.kind == "unknown" else f"of kind {sniffed.kind}"
    return f"{kind} ({sniffed.detail})" if sniffed.detail else kind


def _fresh(folder: Path) -> Path:
    """``folder``, there and empty. Blocking."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _adopt(blobs: BlobStore, file: Path, digest: str, progress: Callable[[int, int], None], *, renew: bool) -> None:
    """Blocking. A file that nobody may write is shared by a link, and no byte of it is copied."""
    file.chmod(0o444)
    if renew:
        blobs.remove(digest)
    blobs.adopt(file, digest, move=False, progress=progress)
