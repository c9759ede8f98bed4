"""Images of the library: what is known of them, where they are, and the work that brings them in.

=======  =================================================  ====================  ============================
method   path (below ``/api/v1``)                           body                  answer
=======  =================================================  ====================  ============================
GET      /images                                                                  list[ImageView]
GET      /images/{id}                                                             ImageView
PATCH    /images/{id}                                       ImageUpdate           ImageView
DELETE   /images/{id}                                                             ImageView (being deleted)
POST     /images/{id}/verify                                                      JobView
POST     /images/{id}/push, …/unpush                        HostsRequest          ImageView
POST     /images/{id}/extract                               ExtractRequest        JobView
POST     /images/imports                                    ImportRequest         JobView
POST     /images/pulls                                      PullRequest           JobView
POST     /images/adoptions                                  AdoptRequest          JobView
POST     /images/saves                                      SaveRequest           JobView
GET      /images/engine?host=                                                     list[EngineImageView]
POST     /images/collect                                    CollectRequest        CollectView
GET      /image-jobs                                                              list[JobView]
GET      /image-jobs/{id}                                                         JobView
GET      /image-jobs/{id}/log?follow=                                             text, a line each
POST     /image-jobs/{id}/cancel, …/retry                                         JobView
POST     /image-jobs/{id}/choice                            Choice                JobView
GET      /image-secrets                                                           list of names
PUT      /image-secrets/{name}                              bytes                 (nothing)
DELETE   /image-secrets/{name}                                                    (nothing)
GET      /blobs/{digest}                                    (``Range``)           bytes
GET      /uploads                                                                 list[UploadView]
*        /uploads, /uploads/{id}                            the tus protocol, version 1.0.0
=======  =================================================  ====================  ============================

``{id}`` is the id, never the name: names of containers' images have slashes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final, Literal

from wireloom.errors import InvalidInput
from wireloom.model.base import Value

__all__ = [
    "DIGEST",
    "FORMAT_OF_PROVIDER",
    "AdoptRequest",
    "Choice",
    "CollectRequest",
    "CollectView",
    "DeviceProposal",
    "EngineImageView",
    "ExtractRequest",
    "HostsRequest",
    "ImageFormat",
    "ImagePin",
    "ImageState",
    "ImageUpdate",
    "ImageUse",
    "ImageView",
    "ImportRequest",
    "JobChoices",
    "JobKind",
    "JobStage",
    "JobState",
    "JobView",
    "Offer",
    "Presence",
    "PresenceState",
    "Provenance",
    "PullRequest",
    "SaveRequest",
    "ServedDevice",
    "SourceKind",
    "UploadView",
    "check_digest",
    "check_image_name",
    "engine_name",
]

#: What is stored and what hosts get; everything else is converted when it comes in.
ImageFormat = Literal["docker-archive", "qcow2"]
FORMAT_OF_PROVIDER: Final[dict[str, ImageFormat]] = {"docker": "docker-archive", "libvirt": "qcow2"}

#: What an image was when it came.
SourceKind = Literal[
    "docker-archive", "oci-archive", "rootfs", "qcow2", "raw", "vmdk", "vhd", "vhdx", "ova", "iol", "node"
]

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
#: A file name without surprises, with the ending that says what it is.
_DISK_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}\.qcow2")
#: As distribution/reference has it, without digests: host, path of lower case, tag.
_REFERENCE: Final = re.compile(
    r"(?=.{1,255}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
)
#: How a container's image may name the registry that it is of when it names none.
_PUBLIC: Final = ("docker.io/", "index.docker.io/")


def check_digest(text: str) -> str:
    """``text``, where it is ``sha256:`` and 64 digits. :raises InvalidInput: it is not."""
    if not DIGEST.fullmatch(text):
        raise InvalidInput(f"{text!r} is not a digest", hint="it is sha256: and 64 hexadecimal digits")
    return text


def check_image_name(name: str, image_format: ImageFormat) -> str:
    """``name``, where an image of that format can have it. :raises InvalidInput: it cannot."""
    if image_format == "qcow2" and not _DISK_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is not a name for a disk image",
            hint="letters, digits, dot, dash, underscore and plus, ending in .qcow2, such as vios-159-3.m6.qcow2",
        )
    if image_format == "docker-archive" and not _REFERENCE.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is not a name for a container's image", hint="it is like ceos:4.32.0F or vendor/router:1.2"
        )
    return name


def engine_name(provider: str, name: str) -> str:
    """What an engine of ``provider`` takes ``name`` for: a container's image has a tag, and is of the public registry
    where no other is named. Of two names that are the same to it, both become one.
    """
    if FORMAT_OF_PROVIDER.get(provider) != "docker-archive":
        return name
    for registry in _PUBLIC:
        name = name.removeprefix(registry)
    official = name.removeprefix("library/")
    if "/" not in official:
        name = official
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


class ImageState(StrEnum):
    """``damaged``: the stored bytes are not what they were; ``deleting``: hosts still have it."""

    READY = "ready"
    DAMAGED = "damaged"
    DELETING = "deleting"


class Provenance(Value):
    """Where an image is from.

    :ivar source: file name, URL without credentials, reference, ``lab/node`` or name of the image it was made from.
    :ivar sha256: of what came in, before it was unpacked or converted; :ivar size: its bytes.
    :ivar parents: ids of images it was made from. :ivar notes: what was done to it, in order.
    """

    origin: Literal["upload", "url", "pull", "engine", "node", "iso", "extract"]
    source: str
    kind: SourceKind
    sha256: str = ""
    size: int = 0
    who: str = ""
    at: float = 0
    parents: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class DeviceProposal(Value):
    """What an image may be; ``confidence`` 0 to 1, ``reasons`` in words."""

    device: str
    version: str = ""
    confidence: float
    reasons: tuple[str, ...] = ()


class ServedDevice(Value):
    """A device that an image is for; ``default``: nodes of the device that name no image take this one."""

    device: str
    default: bool = False


class PresenceState(StrEnum):
    """``away``: the host does not answer; what it had is not known to have gone."""

    PRESENT = "present"
    FETCHING = "fetching"
    LOADING = "loading"
    DAMAGED = "damaged"
    FAILED = "failed"
    REMOVING = "removing"
    AWAY = "away"


class Presence(Value):
    """An image on a host; ``done`` of ``total`` bytes while it comes."""

    host: str
    state: PresenceState
    done: int = 0
    total: int = 0
    error: dict[str, Any] | None = None


class ImageUse(Value):
    """What uses an image: a node of a lab, a device whose default it is, or a job."""

    kind: Literal["node", "device", "job"]
    name: str
    lab: str = ""
    host: str = ""


class ImagePin(Value):
    """Exactly this image, as hosts are told of it.

    :ivar digest: of the stored file; :ivar size: its bytes.
    :ivar content: what ``ImageInfo.digest`` of the provider says of it once it is there: for a container the engine's
        id, for a disk the digest of the file.
    """

    provider: str
    name: str
    format: ImageFormat
    digest: str
    size: int
    content: str


class ImageView(Value):
    """An image of the library.

    :ivar virtual_size: of a disk as a guest sees it, of a container all its layers unpacked; bytes.
    :ivar needs: what it needs of a host beyond its devices' own needs (``privileged``, ``kvm``).
    :ivar devices: confirmed by a user, or proposed with certainty; :ivar proposals: what else it may be.
    :ivar problem: wire form of an error, where ``state`` is ``damaged``.
    """

    id: str
    name: str
    provider: str
    format: ImageFormat
    digest: str
    content: str
    size: int
    virtual_size: int = 0
    architecture: str = ""
    version: str = ""
    state: ImageState = ImageState.READY
    problem: dict[str, Any] | None = None
    needs: tuple[str, ...] = ()
    devices: tuple[ServedDevice, ...] = ()
    proposals: tuple[DeviceProposal, ...] = ()
    provenance: Provenance
    presence: tuple[Presence, ...] = ()
    used_by: tuple[ImageUse, ...] = ()
    created_at: float = 0
    verified_at: float = 0

    @property
    def pin(self) -> ImagePin:
        """What hosts are told of it."""
        return ImagePin(
            provider=self.provider,
            name=self.name,
            format=self.format,
            digest=self.digest,
            size=self.size,
            content=self.content,
        )


class ImageUpdate(Value):
    """What a user says of an image; ``None`` leaves what is. ``devices`` takes the place of all that it served."""

    devices: tuple[ServedDevice, ...] | None = None
    version: str | None = None


class HostsRequest(Value):
    """Empty: all hosts."""

    hosts: tuple[str, ...] = ()


class ImportRequest(Value):
    """Bring a file in: one that was uploaded, or one that the controller fetches. Exactly one of the two.

    :ivar name: of the image; empty: made from the file's name. :ivar sha256: what the file must have; empty: anything.
    :ivar device: what it is; empty: it is identified. :ivar default: make it that device's default.
    :ivar auto_build: an IOL binary becomes a node's image at once.
    """

    upload: str = ""
    url: str = ""
    name: str = ""
    sha256: str = ""
    device: str = ""
    version: str = ""
    default: bool = False
    auto_build: bool = True


class UploadView(Value):
    """A file that was sent, or is being sent, and is no image yet.

    :ivar size: bytes that it will have; ``None``: not said yet. :ivar offset: how many are there.
    :ivar job: id of the job that has it; empty: it waits to be imported.
    :ivar expires_at: it is removed then, unless it is gone on with or imported; UNIX seconds.
    """

    id: str
    file: str
    size: int | None
    offset: int
    job: str = ""
    created_at: float
    expires_at: float


class PullRequest(Value):
    """Have a host's engine fetch an image, and bring it into the library. Credentials are kept nowhere.

    :ivar host: empty: any host that can.
    """

    reference: str
    host: str = ""
    username: str = ""
    password: str = ""
    name: str = ""
    device: str = ""
    default: bool = False


class AdoptRequest(Value):
    """Bring an image that a host's engine, or image folder, has already into the library."""

    host: str
    provider: str
    image: str
    name: str = ""
    device: str = ""
    default: bool = False


class SaveRequest(Value):
    """Make an image of a stopped node: its disk, flattened, or its container's files."""

    lab: str
    node: str
    name: str
    default: bool = False


class ExtractRequest(Value):
    """Take the disk out of a container's image that wraps a virtual machine; ``name`` of the new image, or empty."""

    name: str = ""


class EngineImageView(Value):
    """An image that a host has; ``library``: id of the library's image of that name and content, or empty."""

    host: str
    provider: str
    name: str
    content: str
    size: int
    library: str = ""


class CollectRequest(Value):
    dry_run: bool = True


class CollectView(Value):
    """What the library's folder held and nothing needs: digests or names of files, and their bytes."""

    removed: tuple[str, ...] = ()
    size: int = 0


# --- jobs -------------------------------------------------------------------------------------

JobKind = Literal["import", "pull", "adopt", "save", "extract", "verify"]


class JobState(StrEnum):
    """``choice``: it waits for a user to choose from ``JobView.choices``."""

    WAITING = "waiting"
    RUNNING = "running"
    CHOICE = "choice"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobStage(StrEnum):
    """What a job is at; ``done`` of ``total`` of :class:`JobView` are bytes of the stage."""

    QUEUED = "queued"
    FETCH = "fetch"
    EXPORT = "export"
    DIGEST = "digest"
    UNPACK = "unpack"
    INSPECT = "inspect"
    CONVERT = "convert"
    BUILD = "build"
    STORE = "store"
    IDENTIFY = "identify"


class Offer(Value):
    """Something on a medium that can be imported.

    :ivar key: names it in :class:`Choice`. :ivar kind: ``device`` (a node definition) or ``image``.
    :ivar device: ours that it becomes or is for; empty: a new device is made. :ivar exists: id of the image that is it.
    :ivar problem: why it cannot be imported; empty: it can.
    """

    key: str
    kind: Literal["device", "image"]
    title: str
    device: str = ""
    size: int = 0
    needs: tuple[str, ...] = ()
    exists: str = ""
    problem: str = ""


class JobChoices(Value):
    """What a medium offers, and what goes for it as a whole."""

    title: str = ""
    offers: tuple[Offer, ...] = ()
    warnings: tuple[str, ...] = ()


class Choice(Value):
    """Keys of offers to import, what an image needs goes along; ``everything`` that can be."""

    keys: tuple[str, ...] = ()
    everything: bool = False


class JobView(Value):
    """Work on the library that takes long.

    :ivar done: of ``total`` bytes of the stage; ``total`` 0: not known.
    :ivar images: ids of what it made; :ivar devices: names of devices it made. :ivar report: what happened, in lines.
    :ivar error: wire form, where it failed.
    """

    id: str
    kind: JobKind
    title: str
    state: JobState = JobState.WAITING
    stage: JobStage = JobStage.QUEUED
    done: int = 0
    total: int = 0
    choices: JobChoices | None = None
    images: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    error: dict[str, Any] | None = None
    attempts: int = 0
    created_at: float = 0
    started_at: float | None = None
    finished_at: float | None = None
