"""Images over the fabric: what hosts are told to have and to drop, what they have, and what they are asked.

=====================  ==============================  ==================================================
what                   where                           written by
=====================  ==============================  ==================================================
wanted and unwanted    KV ``library``, key ``<host>``  controller
what a host has        KV ``shelves``, key ``<host>``  the host's agent
exports                stream ``image-export``         lines of :class:`ExportMessage`, as JSON
=====================  ==============================  ==================================================

Bytes of images never travel here: hosts fetch them by HTTP, and send them by HTTP (tus).
"""

from __future__ import annotations

from typing import Any, Literal

from wireloom.model.base import Value
from wireloom.model.images import ImagePin, PresenceState

__all__ = [
    "BlobSource",
    "ExportMessage",
    "ExportOpen",
    "HostImage",
    "HostImagesAnswer",
    "HostImagesQuestion",
    "HostLibrary",
    "HostShelf",
    "ShelfEntry",
    "VerifyAnswer",
    "VerifyQuestion",
]


class BlobSource(Value):
    """Where blobs are fetched: GET ``{url}/blobs/{digest}`` with ``Authorization: Bearer {token}``.

    :ivar host: whose agent serves there; empty: the controller. :ivar digests: what it has; ``None``: everything.
    """

    url: str
    token: str
    host: str = ""
    digests: frozenset[str] | None = None


class HostLibrary(Value):
    """What a host is to do about images. Nothing is removed but what ``unwanted`` names, and what no runtime uses.

    :ivar wanted: to be there ahead of any need (pre-pull, push).
    :ivar unwanted: deleted from the library: to go from engine and disk, where name and content are both these.
    :ivar known: every image of the library that this host could have: what the shelf tells of.
    :ivar sources: in the order in which they are tried. :ivar serve_token: what others show who fetch from this host.

    How many are fetched at once, what is kept and how often it is read again are the host's own settings.
    """

    host: str
    generation: int
    wanted: tuple[ImagePin, ...] = ()
    unwanted: tuple[ImagePin, ...] = ()
    known: tuple[ImagePin, ...] = ()
    sources: tuple[BlobSource, ...] = ()
    serve_token: str = ""


class ShelfEntry(Value):
    """An image of :attr:`HostLibrary.known` that is on the host, on its way, or has failed to come.

    :ivar done: of ``total`` bytes while it is fetched. :ivar error: wire form.
    """

    provider: str
    name: str
    content: str
    state: PresenceState
    done: int = 0
    total: int = 0
    error: dict[str, Any] | None = None


class HostShelf(Value):
    """What a host has of the library.

    :ivar generation: of the :class:`HostLibrary` that this is about: what was ``unwanted`` there and has no entry here
        is gone from the host.
    :ivar url: where its blobs are served to other hosts; empty: they are not. :ivar digests: what is served.
    :ivar free: bytes left where images are kept.
    """

    host: str
    generation: int
    entries: tuple[ShelfEntry, ...] = ()
    url: str = ""
    digests: frozenset[str] = frozenset()
    free: int = 0
    time: float = 0


class HostImagesQuestion(Value):
    """Which images has the host, whoever brought them?"""


class HostImage(Value):
    """``content`` as of :class:`~wireloom.model.runtime.ImageInfo`."""

    provider: str
    name: str
    content: str
    size: int


class HostImagesAnswer(Value):
    images: tuple[HostImage, ...] = ()
    problems: dict[str, dict[str, Any]] = {}  # provider → wire form


class VerifyQuestion(Value):
    """Read these images again, whole, and say what is wrong with them."""

    images: tuple[ImagePin, ...]


class VerifyAnswer(Value):
    """``damaged``: name → wire form; the host mends them by itself."""

    damaged: dict[str, dict[str, Any]] = {}


class ExportOpen(Value):
    """Have a host send an image, as one file of the library's format, to an upload that waits for it.

    Exactly one of ``image`` and ``node_id`` is given: an image that the host has, or with ``pull`` fetches first, or
    the disk or files of a stopped node.

    :ivar borrow: the name that is pulled by is not one that is wanted on the host: if it was not there before, it goes
        again once the image is written.
    :ivar upload: URL of the tus upload, of deferred length. :ivar token: to be shown there; never logged.
    """

    provider: str
    image: str = ""
    pull: bool = False
    borrow: bool = False
    username: str = ""
    password: str = ""
    lab_id: str = ""
    node_id: str = ""
    upload: str
    token: str


class ExportMessage(Value):
    """One line of an export; the last one has ``stage`` ``done``, or ``error``.

    :ivar done: bytes of ``total`` of the stage. :ivar sha256: of all that was sent.
    """

    stage: Literal["pull", "save", "send", "done"] = "save"
    done: int = 0
    total: int = 0
    sha256: str = ""
    error: dict[str, Any] | None = None
