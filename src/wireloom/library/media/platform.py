"""A reference platform's CD: what it offers, its images as files, and the devices that its definitions become.

The CD is read in a bounded process (:mod:`wireloom.library.media.reader`), and never mounted. That process says where
in the image each file lies; the bytes themselves are copied here, at the speed of the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from pydantic import ValidationError

from wireloom.errors import InvalidInput, NotFound
from wireloom.library.bounded import Bounds, python_module, run_bounded
from wireloom.library.identify import identify
from wireloom.library.media.definitions import NodeDefinition
from wireloom.library.media.devicetext import device_name
from wireloom.library.media.listing import Answer, Broken, ImageEntry, Medium, MediumFile, NodeEntry
from wireloom.library.media.nodes import PROVIDERS, DeviceText, additions, as_device, as_variant, problem_of
from wireloom.library.values import Facts, ImageRefused, Limits, Progress, no_progress
from wireloom.model.device import Device
from wireloom.model.images import JobChoices, Offer

__all__ = ["MediumImage", "Platform", "read_platform"]

_BLOCK: Final = 4 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PREFIX: Final = "cml"


@dataclass(frozen=True)
class MediumImage:
    """An image on a CD.

    :ivar file: its name there. :ivar device: that it is for: one that is there, or that :meth:`Platform.device` makes
        for :attr:`needs`; empty: not known. :ivar size: bytes. :ivar tag: of a container's image.
    """

    key: str
    title: str
    file: str
    device: str
    version: str
    size: int
    tag: str = ""
    needs: tuple[str, ...] = ()


def read_platform(path: Path, devices: Iterable[Device], limits: Limits) -> Platform:
    """Read what is on the CD. Blocks. :raises ImageRefused: it cannot be read, or is no reference platform's."""
    written = json.dumps({"entries": limits.entries, "name": limits.name, "json": limits.json})
    done = run_bounded(
        python_module("wireloom.library.media.reader", str(path), written),
        bounds=Bounds.to_inspect(limits, path, python=True),
    )
    try:
        answer = Answer.model_validate_json(done.output) if done.code == 0 else None
    except ValidationError:
        answer = None
    if answer is not None and answer.refusal is not None:
        raise ImageRefused(answer.refusal.reason, answer.refusal.message)
    if answer is None or answer.medium is None:
        last = done.errors.rpartition("\n")[2][:200]
        raise ImageRefused("corrupt", "the CD could not be read to its end", hint=last)
    return Platform(path, answer.medium, tuple(devices))


class Platform:
    """What is on a reference platform's CD, held against the devices that we have."""

    def __init__(self, path: Path, medium: Medium, devices: tuple[Device, ...]) -> None:
        self._path = path
        self._medium = medium
        self._devices = devices
        self._taken = {word.casefold() for device in devices for word in (device.name, *device.aliases)}
        self._nodes = {entry.definition.id: entry for entry in medium.nodes}
        self._images = {entry.definition.id: entry for entry in medium.images}
        self._broken = {item.key: item for item in medium.broken}
        self._matches = {name: self._match(entry.definition) for name, entry in self._nodes.items()}
        self._names = dict(self._new_names())

    # ---------------------------------------------------------------- what there is

    def choices(self) -> JobChoices:
        """Everything that can be chosen, and why some cannot be."""
        offers = [*map(self._node_offer, self._nodes.values()), *map(self._image_offer, self._images.values())]
        offers += map(_broken_offer, self._broken.values())
        return JobChoices(
            title=f"Reference platform {self._medium.label}".strip(),
            offers=tuple(offers),
            warnings=self._medium.left_out,
        )

    def image(self, key: str) -> MediumImage:
        """:raises NotFound: no such image on it. :raises ImageRefused: its definition cannot be used."""
        entry = self._image_entry(key)
        definition, offer = entry.definition, self._image_offer(entry)
        file = PurePosixPath(entry.files[0].path).name if entry.files else definition.disk_image
        device = offer.device or (self._names.get(definition.node_definition_id, "") if offer.needs else "")
        return MediumImage(
            key=key,
            title=definition.title,
            file=file,
            device=device,
            version=self._version(entry, file),
            size=offer.size,
            tag=definition.docker_tag,
            needs=offer.needs,
        )

    def device(self, key: str) -> DeviceText | None:
        """The device that a node definition becomes; ``None``: one of ours is what it is.

        :raises NotFound: no such definition on it. :raises ImageRefused: it cannot be used.
        """
        definition = self._node_entry(key).definition
        match = self._matches[definition.id]
        name = self._names.get(definition.id)
        if name is None:
            return None
        if match is not None:
            return as_variant(definition, name, match)
        clis = {device.cli.name for device in self._devices if device.cli is not None}
        return as_device(definition, name, clis)

    def extract(self, key: str, folder: Path, limits: Limits, progress: Progress = no_progress) -> Path:
        """Copy an image into ``folder``, under its own name. The file is whole, or not there. Goes on where it was.

        :raises NotFound: no such image on it. :raises ImageRefused: it cannot be used, is too large, or is not what
            its definition says.
        """
        entry = self._image_entry(key)
        if problem := _file_problem(entry):
            raise ImageRefused("manifest", f"{entry.definition.title}: {problem}")
        source = entry.files[0]
        if source.size > limits.size:
            raise ImageRefused("size", f"{source.path} has {source.size} bytes, and {limits.size} are let in")
        target = folder / PurePosixPath(source.path).name
        wanted = entry.definition.sha256.casefold() if self._is_disk(entry) else ""
        _copy(self._path, source, target, wanted if _DIGEST.fullmatch(wanted) else "", progress)
        return target

    # ---------------------------------------------------------------- offers

    def _node_offer(self, entry: NodeEntry) -> Offer:
        definition = entry.definition
        match = self._matches[definition.id]
        new = definition.id in self._names
        return Offer(
            key=f"device:{definition.id}",
            kind="device",
            title=definition.title,
            device="" if new or match is None else match.name,
            problem="" if match is not None else problem_of(definition),
        )

    def _image_offer(self, entry: ImageEntry) -> Offer:
        definition = entry.definition
        node = definition.node_definition_id
        match = self._matches.get(node) or self._known(node)
        new = node in self._names
        return Offer(
            key=f"image:{definition.id}",
            kind="image",
            title=definition.title,
            device="" if new or match is None else match.name,
            size=sum(file.size for file in entry.files),
            needs=(f"device:{node}",) if new else (),
            problem=self._image_problem(entry),
        )

    def _image_problem(self, entry: ImageEntry) -> str:
        node = self._nodes.get(entry.definition.node_definition_id)
        if problem := _file_problem(entry):
            return problem
        if node is not None and self._matches[node.definition.id] is None:
            return problem_of(node.definition)
        return ""

    def _is_disk(self, entry: ImageEntry) -> bool:
        """Whether the digest in its definition is that of the file: for a container's image it is the image's id."""
        node = self._nodes.get(entry.definition.node_definition_id)
        return node is not None and node.definition.sim.linux_native.libvirt_domain_driver == "kvm"

    def _version(self, entry: ImageEntry, file: str) -> str:
        definition = entry.definition
        match = self._matches.get(definition.node_definition_id)
        if match is not None:
            found = next(iter(identify(Facts(file=file), [match])), None)
            if found is not None and found.version:
                return found.version
        return definition.id.removeprefix(definition.node_definition_id).strip("-_.")

    # ---------------------------------------------------------------- devices

    def _match(self, definition: NodeDefinition) -> Device | None:
        """Our device for it: one that knows its id, or that is called so and runs in the same way."""
        known = self._known(definition.id)
        if known is not None:
            return known
        if definition.sim.linux_native.libvirt_domain_driver != "kvm":
            return None  # scripts of the platform are in its containers: another image of that name is not the same
        word = definition.id.casefold()
        named = (device for device in self._devices if word in {device.name, *map(str.casefold, device.aliases)})
        return next((device for device in named if PROVIDERS["kvm"] in device.providers), None)

    def _known(self, node: str) -> Device | None:
        """The device that says it is this node definition; the user's own first."""
        word = node.casefold()
        found = [device for device in self._devices if word in map(str.casefold, device.recognise.cml)]
        return next((device for device in found if device.recognise.own), next(iter(found), None))

    def _new_names(self) -> Iterator[tuple[str, str]]:
        """Names of the devices that are to be made, by node definition."""
        taken = set(self._taken)
        for node, entry in self._nodes.items():
            match = self._matches[node]
            if match is None and problem_of(entry.definition):
                continue
            if match is not None and (match.recognise.own or not additions(entry.definition, match)):
                continue
            name = device_name(node, _PREFIX, taken)
            taken.add(name)
            yield node, name

    # ---------------------------------------------------------------- by key

    def _node_entry(self, key: str) -> NodeEntry:
        entry = self._nodes.get(key.removeprefix("device:"))
        if entry is None or not key.startswith("device:"):
            raise self._missing(key)
        if problem := (self._matches[entry.definition.id] is None and problem_of(entry.definition)):
            raise InvalidInput(f"{entry.definition.title}: {problem}")
        return entry

    def _image_entry(self, key: str) -> ImageEntry:
        entry = self._images.get(key.removeprefix("image:"))
        if entry is None or not key.startswith("image:"):
            raise self._missing(key)
        return entry

    def _missing(self, key: str) -> NotFound | ImageRefused:
        broken = self._broken.get(key)
        if broken is not None:
            return ImageRefused(broken.why.reason, broken.why.message)
        return NotFound(f"there is no {key[:80]!r} on the CD")


def _file_problem(entry: ImageEntry) -> str:
    if entry.missing:
        return f"its file {entry.missing[0]} is not on the CD"
    if not entry.files or not entry.files[0].size:
        return "it has no file"
    return f"it is made of {len(entry.files)} disks, and nodes boot from one image" if len(entry.files) > 1 else ""


def _broken_offer(item: Broken) -> Offer:
    kind = "image" if item.key.startswith("image:") else "device"
    return Offer(key=item.key, kind=kind, title=item.title, problem=item.why.message)


# ------------------------------------------------------------------ bytes


def _copy(image: Path, source: MediumFile, target: Path, sha256: str, progress: Progress) -> None:
    """Copy a file out of the image; what an earlier try has copied is read again, and gone on from."""
    part = target.with_name(f".{target.name}.part")
    digest = hashlib.sha256()
    with image.open("rb") as medium, part.open("a+b") as out:
        done = _taken_up(out, source.size, digest if sha256 else None, progress)
        for block in _blocks(medium, source, done):
            out.write(block)
            done += len(block)
            if sha256:
                digest.update(block)
            progress(done, source.size)
        out.flush()
        os.fsync(out.fileno())
    if sha256 and digest.hexdigest() != sha256:
        part.unlink()
        raise ImageRefused("digest", f"{source.path} is not what its definition says: its digest differs")
    part.replace(target)


def _taken_up(out: BinaryIO, size: int, digest: hashlib._Hash | None, progress: Progress) -> int:
    """Bytes that are there already."""
    length = out.seek(0, os.SEEK_END)
    if length > size:
        out.truncate(0)
        return 0
    if digest is None:
        return length
    out.seek(0)
    done = 0
    while block := out.read(_BLOCK):
        digest.update(block)
        done += len(block)
        progress(done, size)
    return done


def _blocks(medium: BinaryIO, source: MediumFile, skip: int) -> Iterator[bytes]:
    for offset, length in source.extents:
        start = min(skip, length)
        skip -= start
        medium.seek(offset + start)
        left = length - start
        while left:
            block = medium.read(min(left, _BLOCK))
            if not block:
                raise ImageRefused("truncated", f"{source.path} is cut off: the image has become shorter")
            left -= len(block)
            yield block
