"""Media that hold many things: reference-platform ISOs, of which a user chooses, and appliance files.

What was brought in of a medium is remembered item by item, so that a job that is cut off, or tried again after some of
it failed, goes on with the rest. An item that is refused does not keep the others out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from wireloom.controller.library.incoming import RESERVE, need_room
from wireloom.controller.library.intake import Arrived, Intake, IntakeCatalogue, Opened, Wish
from wireloom.controller.library.records import JobContext
from wireloom.controller.library.threads import Threads
from wireloom.errors import InvalidInput, WireloomError
from wireloom.library.blobs import BlobStore
from wireloom.library.durable import file_digest
from wireloom.library.values import ImageRefused, Limits, Progress
from wireloom.model.device import Device
from wireloom.model.images import ImageState, ImageUpdate, ImageView, JobChoices, JobStage, Offer, ServedDevice

__all__ = ["ApplianceFile", "ApplianceText", "MediaCatalogue", "MediaIntake", "MediaTools"]

#: Key of a job's memory: offer → id of the image, or name of the device, that was made of it.
_DONE: Final = "done"
_MOST_TEXT: Final = 4 << 20


class MediaCatalogue(IntakeCatalogue, Protocol):
    async def update(self, image_id: str, change: ImageUpdate) -> ImageView:
        """See :meth:`wireloom.controller.library.catalogue.Catalogue.update`."""
        ...


class ApplianceFile(Protocol):
    """A file that an appliance wants: its name, MD5 (32 digits) and bytes, as its maker says."""

    @property
    def name(self) -> str: ...
    @property
    def md5(self) -> str: ...
    @property
    def size(self) -> int: ...


class ApplianceText(Protocol):
    """An appliance file, read: the files that it wants, and the device file (YAML) that it becomes."""

    @property
    def images(self) -> Sequence[ApplianceFile]: ...
    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class MediaTools:
    """Functions of :mod:`wireloom.library.media`. They block.

    :ivar offers: what an ISO offers. :ivar extract: the file behind an offered image, into a folder.
    :ivar device: the device file (YAML) behind an offered device. :ivar appliance: an appliance file, read.
    """

    offers: Callable[[Path, Iterable[Device], Limits], JobChoices]
    extract: Callable[[Path, str, Path, Limits, Progress], Path]
    device: Callable[[Path, str, Iterable[Device], Limits], str]
    appliance: Callable[[str, Iterable[Device]], ApplianceText]


class MediaIntake:
    """:param add_device: stores a device file (YAML, and its name for diagnostics), and returns the device's name."""

    def __init__(
        self,
        *,
        intake: Intake,
        catalogue: MediaCatalogue,
        blobs: BlobStore,
        devices: Callable[[], Iterable[Device]],
        add_device: Callable[[str, str], Awaitable[str]],
        tools: MediaTools,
        threads: Threads,
        limits: Limits | None = None,
        reserve: int = RESERVE,
    ) -> None:
        self._intake = intake
        self._catalogue = catalogue
        self._blobs = blobs
        self._devices = devices
        self._add_device = add_device
        self._tools = tools
        self._threads = threads
        self._limits = limits or Limits()
        self._reserve = reserve

    # ---------------------------------------------------------------- reference-platform ISOs

    async def take_iso(self, job: JobContext, arrived: Arrived, opened: Opened) -> None:
        """Offer what is on the medium, and import what is chosen.

        :raises ImageRefused: it is not such a medium, or all that was chosen of it is refused.
        :raises InvalidInput: some of what was chosen could not be imported; ``details["items"]`` says what and why.
        """
        job.progress(JobStage.INSPECT, 0, opened.sniffed.size)
        choices = await self._threads.run(self._tools.offers, opened.path, list(self._devices()), self._limits)
        chosen = await job.choose(self._with_what_exists(choices, arrived))
        offers = [offer for offer in choices.offers if offer.key in set(chosen)]
        # Devices first: images are then made for them.
        offers.sort(key=lambda offer: offer.kind != "device")
        errors: dict[str, WireloomError] = {}
        for number, offer in enumerate(offers, 1):
            if offer.key in job.memory.get(_DONE, {}):
                continue
            job.report(f"{number} of {len(offers)}: {offer.title}")
            try:
                made = await self._take_offer(job, arrived, opened, offer, offers)
            except WireloomError as error:
                errors[offer.title] = error
                job.report(f"{offer.title}: {error}")
            else:
                await job.remember(**{_DONE: {**job.memory.get(_DONE, {}), offer.key: made}})
        _raise_all(errors, len(offers))

    async def _take_offer(
        self, job: JobContext, arrived: Arrived, opened: Opened, offer: Offer, chosen: Sequence[Offer]
    ) -> str:
        """Id of the image, or name of the device, that it became."""
        if offer.kind == "device":
            if offer.device:
                job.report(f"{offer.title} is {offer.device}, which is known")
                return offer.device
            text = await self._threads.run(
                self._tools.device, opened.path, offer.key, list(self._devices()), self._limits
            )
            return await self._new_device(job, text, arrived.name)
        work = await self._intake.work_folder(job, "item")
        await self._threads.run(need_room, work, offer.size, reserve=self._reserve)
        told = partial(job.progress, JobStage.UNPACK)
        path = await self._threads.run(self._tools.extract, opened.path, offer.key, work, self._limits, told)
        digest = await self._threads.run(file_digest, path, partial(job.progress, JobStage.DIGEST))
        size = (await self._threads.run(path.stat)).st_size
        item = Arrived(path, path.name, digest, size, "iso", _source(arrived, offer))
        inner = await self._intake.work_folder(job, "item-work")
        wish = Wish(device=_device_of(offer, chosen, job.memory.get(_DONE, {})))
        found = await self._intake.open(job, item, inner)
        if found.sniffed.kind in {"iso", "gns3a"}:
            raise ImageRefused("format", f"{offer.title} is a medium within a medium")
        image = await self._intake.take(job, item, found, wish, inner)
        await self._intake.work_folder(job, "item")  # what is stored is not kept a second time
        await self._intake.work_folder(job, "item-work")
        return image.id

    def _with_what_exists(self, choices: JobChoices, arrived: Arrived) -> JobChoices:
        """The offers, with the images that were made of them before."""
        by_source = {
            image.provenance.source: image.id
            for image in self._catalogue.all()
            if image.provenance.origin == "iso" and image.state is ImageState.READY
        }
        offers = tuple(
            offer.model_copy(update={"exists": offer.exists or by_source.get(_source(arrived, offer), "")})
            for offer in choices.offers
        )
        return choices.model_copy(update={"offers": offers})

    # ---------------------------------------------------------------- appliance files

    async def take_appliance(self, job: JobContext, arrived: Arrived, opened: Opened) -> None:
        """Make the device, and say which of the files that it wants are in the library, by their checksums.

        :raises ImageRefused: it is no such file. :raises InvalidInput: the device would not be valid.
        """
        text = await self._threads.run(_text_of, opened.path)
        appliance = await self._threads.run(self._tools.appliance, text, list(self._devices()))
        found: dict[str, ImageView] = {}
        for wanted in appliance.images:
            image = await self._with_md5(job, wanted)
            if image is not None:
                found[image.id] = image
                job.report(f"{wanted.name} is in the library, as {image.name}")
            else:
                job.report(f"{wanted.name} (MD5 {wanted.md5}, {wanted.size} bytes) is not in the library")
        name = await self._new_device(job, appliance.device, arrived.name)
        for image in found.values():
            await self._serve(job, image, name)

    async def _with_md5(self, job: JobContext, wanted: ApplianceFile) -> ImageView | None:
        """The image that is stored as it came and has that checksum; its size is looked at first."""
        for image in self._catalogue.all():
            as_it_came = image.digest.removeprefix("sha256:") == image.provenance.sha256
            if not as_it_came or image.size != wanted.size or image.state is not ImageState.READY:
                continue
            told = partial(job.progress, JobStage.DIGEST)
            digest = await self._threads.run(file_digest, self._blobs.path(image.digest), told, algorithm="md5")
            if digest == f"md5:{wanted.md5.lower()}":
                return image
        return None

    async def _serve(self, job: JobContext, image: ImageView, device: str) -> None:
        """Have ``image`` serve ``device`` too."""
        served = (*(item for item in image.devices if item.device != device), ServedDevice(device=device))
        try:
            await self._catalogue.update(image.id, ImageUpdate(devices=served))
        except WireloomError as error:  # the device is there all the same
            job.report(f"warning: {image.name} is not for {device}: {error.message}")

    async def _new_device(self, job: JobContext, text: str, source: str) -> str:
        name = await self._add_device(text, source)
        await job.made(devices=[name])
        job.report(f"device {name} is known now")
        return name


def _device_of(offer: Offer, chosen: Sequence[Offer], done: Mapping[str, Any]) -> str:
    """The device that an offered image is for: one of ours, or what a chosen definition that needs it became."""
    if offer.device:
        return offer.device
    related: Collection[Offer] = [item for item in chosen if item.kind == "device"]
    for item in related:
        if (offer.key in item.needs or item.key in offer.needs) and item.key in done:
            return str(done[item.key])
    return ""


def _source(arrived: Arrived, offer: Offer) -> str:
    return f"{arrived.name}: {offer.title}"


def _text_of(path: Path) -> str:
    """Blocking. :raises ImageRefused: it is too large, or no text."""
    if path.stat().st_size > _MOST_TEXT:
        raise ImageRefused("size", f"an appliance file has at most {_MOST_TEXT} bytes")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ImageRefused("corrupt", "the appliance file is no text") from None


def _raise_all(errors: Mapping[str, WireloomError], of: int) -> None:
    """What went wrong as one error, which is a refusal only where nothing could end otherwise."""
    if not errors:
        return
    items = [{"title": title, **error.to_wire()} for title, error in errors.items()]
    first = next(iter(errors.values()))
    if len(errors) == 1 and of == 1:
        raise first
    raise InvalidInput(
        f"{len(errors)} of {of} could not be imported: {', '.join(errors)}",
        hint="the job's log says why each of them; the others are in the library",
        details={"items": items},
    )
