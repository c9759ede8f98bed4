"""Media that hold many things: reference-platform ISOs, of which a user chooses, and appliance files.

What was brought in of a medium is remembered item by item, so that a job that is cut off, or tried again after some of
it failed, goes on with the rest. An item that is refused does not keep the others out.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from wireloom.controller.library.incoming import RESERVE, leaving_room, need_room, plain_name
from wireloom.controller.library.intake import Arrived, Intake, IntakeCatalogue, Opened, Wish
from wireloom.controller.library.records import JobContext
from wireloom.controller.library.threads import Threads
from wireloom.errors import InvalidInput, Unsupported, WireloomError
from wireloom.library import media
from wireloom.library.blobs import BlobStore
from wireloom.library.durable import file_digest
from wireloom.library.media import Appliance, ApplianceImage, ImageMatch, MediumImage
from wireloom.library.values import ImageRefused, Limits, Progress
from wireloom.model.device import Device
from wireloom.model.images import ImageState, ImageUpdate, ImageView, JobChoices, JobStage, Offer, ServedDevice

__all__ = ["MediaCatalogue", "MediaIntake", "MediaTools"]

#: Key of a job's memory: offer → id of the image, or name of the device, that was made of it.
_DONE: Final = "done"
_MOST_TEXT: Final = 4 << 20
_MEDIA: Final = frozenset({"iso", "gns3a"})


class MediaCatalogue(IntakeCatalogue, Protocol):
    async def update(self, image_id: str, change: ImageUpdate) -> ImageView:
        """See :meth:`wireloom.controller.library.catalogue.Catalogue.update`."""
        ...


@dataclass(frozen=True)
class MediaTools:
    """See the functions of :mod:`wireloom.library.media` that stand here. They block."""

    offers: Callable[[Path, Iterable[Device], Limits], JobChoices] = media.offers
    image: Callable[[Path, str, Iterable[Device], Limits], MediumImage] = media.image
    extract: Callable[[Path, str, Path, Limits, Progress], Path] = media.extract
    device: Callable[[Path, str, Iterable[Device], Limits], str] = media.device
    appliance: Callable[[str, Iterable[Device]], Appliance] = media.gns3


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
                made = await self._take_offer(job, arrived, opened, offer)
            except WireloomError as error:
                errors[offer.title] = error
                job.report(f"{offer.title}: {error}")
            else:
                await job.remember(**{_DONE: {**job.memory.get(_DONE, {}), offer.key: made}})
        _raise_all(errors, len(offers))

    async def _take_offer(self, job: JobContext, arrived: Arrived, opened: Opened, offer: Offer) -> str:
        """Id of the image, or name of the device, that it became."""
        if offer.kind == "image":
            return await self._take_image(job, arrived, opened, offer)
        text = await self._threads.run(self._tools.device, opened.path, offer.key, list(self._devices()), self._limits)
        if text:
            return await self._new_device(job, text, arrived.name)
        job.report(f"{offer.title} is {offer.device or 'a device'} that is there already")
        return offer.device

    async def _take_image(self, job: JobContext, arrived: Arrived, opened: Opened, offer: Offer) -> str:
        known = await self._threads.run(self._tools.image, opened.path, offer.key, list(self._devices()), self._limits)
        # A copy that was cut off goes on where it was, so its folder is not emptied.
        copies, work = job.folder / "copies", await self._intake.work_folder(job, "item")
        await self._threads.run(partial(copies.mkdir, mode=0o700, parents=True, exist_ok=True))
        await self._threads.run(need_room, copies, offer.size, reserve=self._reserve)
        told = leaving_room(partial(job.progress, JobStage.UNPACK), copies, reserve=self._reserve)
        path = await self._threads.run(self._tools.extract, opened.path, offer.key, copies, self._limits, told)
        digest = await self._threads.run(file_digest, path, partial(job.progress, JobStage.DIGEST))
        size = (await self._threads.run(path.stat)).st_size
        item = Arrived(path, plain_name(path.name), digest, size, "iso", _source(arrived, offer))
        found = await self._intake.open(job, item, work)
        if found.sniffed.kind in _MEDIA:
            raise ImageRefused("format", f"{offer.title} is a medium within a medium")
        wish = Wish(device=known.device, version=known.version, default_if_none=True)
        image = await self._intake.take(job, item, found, wish, work)
        await self._threads.run(_remove, (copies, work))  # what is stored is not kept a second time
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
        """Have its device, and say which of the files that it wants are in the library, by their checksums.

        :raises ImageRefused: it is no such file. :raises Unsupported: no device can be made of it.
        :raises InvalidInput: the device would not be valid.
        """
        text = await self._threads.run(_text_of, opened.path)
        appliance = await self._threads.run(self._tools.appliance, text, list(self._devices()))
        if appliance.problem:
            raise Unsupported(f"{appliance.title}: {appliance.problem}")
        found: dict[str, tuple[ImageView, ImageMatch]] = {}
        for image in self._catalogue.all():
            match = await self._match(job, appliance, image)
            if match is not None:
                found.setdefault(match.image.name, (image, match))
        for wanted in appliance.images:
            job.report(_verdict(wanted, found.get(wanted.name)))
        for warning in appliance.warnings:
            job.report(f"warning: {warning}")
        name = appliance.serves or await self._new_device(job, appliance.device, arrived.name)
        for image, match in found.values():
            if match.certain and match.image.boots:
                await self._serve(job, image, name)

    async def _match(self, job: JobContext, appliance: Appliance, image: ImageView) -> ImageMatch | None:
        """Which of an appliance's files an image is; it is read only where its size is that of one with a digest."""
        provenance, md5 = image.provenance, ""
        as_it_came = image.digest.removeprefix("sha256:") == provenance.sha256
        sizes = {wanted.size for wanted in appliance.images if wanted.md5}
        if image.state is not ImageState.READY:
            return None
        if as_it_came and image.size in sizes:
            told = partial(job.progress, JobStage.DIGEST)
            blob = self._blobs.path(image.digest)
            md5 = (await self._threads.run(file_digest, blob, told, algorithm="md5")).removeprefix("md5:")
        return appliance.match(file=plain_name(provenance.source), md5=md5, size=provenance.size)

    async def _serve(self, job: JobContext, image: ImageView, device: str) -> None:
        """Have ``image`` serve ``device`` too; the first one that does is its default."""
        if any(item.device == device for item in image.devices):
            return
        first = self._catalogue.default(device, image.provider) is None
        served = (*image.devices, ServedDevice(device=device, default=first))
        try:
            await self._catalogue.update(image.id, ImageUpdate(devices=served))
        except WireloomError as error:  # the device is there all the same
            job.report(f"warning: {image.name} is not for {device}: {error.message}")

    async def _new_device(self, job: JobContext, text: str, source: str) -> str:
        name = await self._add_device(text, source)
        await job.made(devices=[name])
        job.report(f"device {name} is known now")
        return name


def _verdict(wanted: ApplianceImage, found: tuple[ImageView, ImageMatch] | None) -> str:
    """What a report says of a file that an appliance wants."""
    if found is None:
        return f"{wanted.name} (MD5 {wanted.md5 or 'not said'}, {wanted.size} bytes) is not in the library"
    image, match = found
    return f"{wanted.name} is {'' if match.certain else 'perhaps '}image {image.name}: {match.reason}"


def _remove(folders: Iterable[Path]) -> None:
    """Blocking."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


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
    """What went wrong as one error, which is a refusal only where nothing of it could end otherwise."""
    if not errors:
        return
    first = next(iter(errors.values()))
    if of == 1:
        raise first
    message = f"{len(errors)} of {of} could not be imported: {', '.join(errors)}"
    hint = "the job's log says why each of them; the others are in the library"
    refused = [error for error in errors.values() if isinstance(error, ImageRefused)]
    summary = InvalidInput(message, hint=hint)
    if len(refused) == len(errors):
        summary = ImageRefused(refused[0].details["reason"], message, hint=hint)
    summary.details["items"] = [{"title": title, **error.to_wire()} for title, error in errors.items()]
    raise summary
