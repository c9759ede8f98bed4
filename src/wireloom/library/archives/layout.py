"""Which image an archive holds, and where its parts are: Docker's ``manifest.json``, or OCI's ``index.json``.

::

    manifest.json ─┬─ Config ── a file ───────────────┐
                   └─ Layers ── files                 ├─ one configuration, whose diff_ids are the layers unpacked
    index.json ─ (index) ─ manifest ─┬─ config ───────┘
                                     └─ layers ── blobs/sha256/…, each by digest and size

Archives of newer engines have both; then both must mean the same image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from wireloom.library.archives.documents import (
    Document,
    digest_of,
    members_of,
    parse_config,
    parse_json,
    text_of,
    texts_of,
)
from wireloom.library.archives.outer import Outer
from wireloom.library.archives.paths import clean_path, shown_name
from wireloom.library.archives.streams import Window
from wireloom.library.archives.values import RUNNABLE, ArchiveConfig
from wireloom.library.values import ImageRefused, Limits
from wireloom.model.images import DIGEST

__all__ = ["Blob", "Image", "choose"]

#: Variants of an architecture that all of its processors run.
_ANY_PROCESSOR: Final = (None, "", "v1")
_IMAGES_MOST: Final = 64
_TAGS_MOST: Final = 64
_INDEX_DEPTH: Final = 4
_CONFIGS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_LAYER: Final = re.compile(
    r"application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.(diff|foreign\.diff)\.tar(\.gzip|\.zstd)?)"
)
_HEX: Final = re.compile(r"(?:.*/)?([0-9a-f]{64})(\.json)?")
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_OCI_NAME: Final = "org.opencontainers.image.ref.name"
_ATTESTS: Final = "vnd.docker.reference.type"


@dataclass(frozen=True)
class Blob:
    """A layer as the archive has it; ``digest`` of the packed bytes, empty where the archive does not tell."""

    window: Window
    digest: str = ""

    @property
    def size(self) -> int:
        return self.window.size


@dataclass(frozen=True)
class Image:
    """One image of an archive. ``blobs`` and ``config.layers`` are of equal length, lowest layer first."""

    kind: Literal["docker-archive", "oci-archive"]
    config: ArchiveConfig
    blobs: tuple[Blob, ...]
    tags: tuple[str, ...] = ()


def choose(outer: Outer, limits: Limits) -> Image:
    """The one image that ``outer`` is used for. :raises ImageRefused: there is none, or it is not clear which."""
    if outer.odd is not None:
        raise outer.odd
    docker = _docker_images(outer, limits) if outer.has("manifest.json") else []
    oci = _oci_images(outer, limits) if outer.has("index.json") and outer.has("oci-layout") else []
    if not docker and not oci:
        raise ImageRefused(
            "manifest", "the archive has no manifest of an image", hint="make it with docker save of 1.10 or later"
        )
    image = _best(docker or oci)
    if docker and oci:
        twins = [other for other in oci if other.config.content == image.config.content]
        if not twins:
            raise ImageRefused("manifest", "manifest.json and index.json of the archive tell of different images")
        image = replace(image, tags=image.tags or twins[0].tags)
    return image


def _best(images: Sequence[Image]) -> Image:
    distinct = {image.config.content: image for image in reversed(images)}
    for architecture in RUNNABLE:
        fitting = [image for image in distinct.values() if image.config.architecture == architecture]
        # Beside images for processors with more, the one that runs on all of them is meant.
        plain = [image for image in fitting if image.config.document.get("variant") in _ANY_PROCESSOR]
        fitting = plain if len(plain) == 1 else fitting
        if len(fitting) > 1:
            raise ImageRefused(
                "manifest", f"the archive holds {len(fitting)} images for {architecture}", hint="save one at a time"
            )
        if fitting:
            return fitting[0]
    told = ", ".join(sorted(shown_name(image.config.architecture) for image in distinct.values()))
    raise ImageRefused("architecture", f"the image is for {told}; hosts run {' and '.join(RUNNABLE)}")


def _docker_images(outer: Outer, limits: Limits) -> list[Image]:
    entries = parse_json(outer.small("manifest.json", limits), "manifest.json", limits)
    if not isinstance(entries, list) or not entries:
        raise ImageRefused("manifest", "manifest.json is no list of images")
    if len(entries) > _IMAGES_MOST:
        raise ImageRefused("unbounded", f"the archive holds {len(entries)} images, at most {_IMAGES_MOST} are read")
    return [_docker_image(outer, members_of(entry, "an image of manifest.json"), limits) for entry in entries]


def _docker_image(outer: Outer, entry: Document, limits: Limits) -> Image:
    what = "manifest.json"
    name = clean_path(text_of(entry, "Config", what), limits.name, what)
    data = outer.small(name, limits)
    config = parse_config(data, limits)
    told = _HEX.fullmatch(name)
    if told and config.content != f"sha256:{told[1]}":
        raise ImageRefused("digest", f"the configuration {shown_name(name)} has another digest than its name says")
    tags = texts_of(entry, "RepoTags", what)
    if len(tags) > _TAGS_MOST:
        raise ImageRefused("unbounded", f"an image of the archive has {len(tags)} names")
    names = [clean_path(layer, limits.name, what) for layer in texts_of(entry, "Layers", what)]
    _check_count(len(names), config)
    return Image("docker-archive", config, tuple(_docker_blob(outer, layer) for layer in names), tags)


def _docker_blob(outer: Outer, name: str) -> Blob:
    digest = f"sha256:{name.rpartition('/')[2]}" if name.startswith("blobs/sha256/") else ""
    return Blob(outer.part(name), digest if DIGEST.fullmatch(digest) else "")


def _check_count(count: int, config: ArchiveConfig) -> None:
    if count != len(config.layers):
        raise ImageRefused("manifest", f"the manifest has {count} layers, the configuration {len(config.layers)}")


def _oci_images(outer: Outer, limits: Limits) -> list[Image]:
    layout = members_of(parse_json(outer.small("oci-layout", limits), "oci-layout", limits), "oci-layout")
    if not text_of(layout, "imageLayoutVersion", "oci-layout").startswith("1."):
        raise ImageRefused("format", "the archive has an OCI layout of an unknown version")
    index = members_of(parse_json(outer.small("index.json", limits), "index.json", limits), "index.json")
    return _OciReader(outer, limits).images(index)


@dataclass(frozen=True)
class _Told:
    """A descriptor: what a document says of another one."""

    digest: str
    size: int
    media_type: str
    architecture: str
    annotations: dict[str, Any]

    @property
    def attests(self) -> bool:
        """Whether it tells how an image was built, and is none."""
        return _ATTESTS in self.annotations or self.architecture == "unknown"

    @property
    def name(self) -> str:
        return f"blobs/sha256/{self.digest.removeprefix('sha256:')}"

    @property
    def tags(self) -> tuple[str, ...]:
        names = (self.annotations.get(_CONTAINERD_NAME), self.annotations.get(_OCI_NAME))
        return tuple(name for name in names if isinstance(name, str) and name)[:1]


class _OciReader:
    """Walks from the index to the images. Every document is held against the digest and size that named it."""

    def __init__(self, outer: Outer, limits: Limits) -> None:
        self._outer, self._limits = outer, limits
        self._read = 0
        self._found: list[Image] = []
        self._absent: list[_Told] = []

    def images(self, index: Document) -> list[Image]:
        """:raises ImageRefused: one of them is not whole, or there is none."""
        self._walk(index, (), 0)
        if not self._found and self._absent:
            raise ImageRefused("manifest", f"the archive names {self._absent[0].name}, which is not in it")
        if not self._found:
            raise ImageRefused("manifest", "index.json names no image of a container")
        return self._found

    def _walk(self, index: Document, tags: tuple[str, ...], depth: int) -> None:
        if depth > _INDEX_DEPTH:
            raise ImageRefused("unbounded", "the archive's indexes name each other too deep")
        manifests = index.get("manifests")
        if not isinstance(manifests, list):
            raise ImageRefused("manifest", "an index of the archive has no list of manifests")
        for told in [_told(item, "a manifest of an index") for item in manifests]:
            self._read += 1
            if self._read > _IMAGES_MOST:
                raise ImageRefused("unbounded", f"the archive names more than {_IMAGES_MOST} manifests")
            if told.attests:
                continue
            # An archive of one platform still has the index of all of them.
            if not self._outer.has(told.name):
                self._absent.append(told)
                continue
            document = self._document(told)
            if "manifests" in document:
                self._walk(document, told.tags or tags, depth + 1)
            elif (image := self._image(document, told, told.tags or tags)) is not None:
                self._found.append(image)

    def _document(self, told: _Told) -> Document:
        what = f"the document {told.digest[:19]}…"
        document = members_of(parse_json(self._blob(told), what, self._limits), what)
        media_type = text_of(document, "mediaType", what)
        if media_type and told.media_type and media_type != told.media_type:
            raise ImageRefused("manifest", f"{what} is of another type than the document that names it says")
        if "manifests" in document and ("layers" in document or "config" in document):
            raise ImageRefused("manifest", f"{what} is an index and a manifest at once")
        return document

    def _blob(self, told: _Told) -> bytes:
        data = self._outer.small(told.name, self._limits)
        if len(data) != told.size:
            raise ImageRefused("size", f"{told.name} has {len(data)} bytes, and {told.size} by what names it")
        if digest_of(data) != told.digest:
            raise ImageRefused("digest", f"{told.name} has another digest than its name says")
        return data

    def _image(self, manifest: Document, told: _Told, tags: tuple[str, ...]) -> Image | None:
        """``None`` for what is no image of a container, such as a signature, and for one that is not all there."""
        what = "a manifest"
        about = _told(manifest.get("config"), f"{what}: config")
        if about.media_type not in _CONFIGS:
            return None
        if not self._outer.has(about.name):
            self._absent.append(about)
            return None
        config = parse_config(self._blob(about), self._limits)
        if told.architecture and told.architecture != config.architecture:
            raise ImageRefused(
                "manifest",
                f"an index tells of {shown_name(told.architecture)}, its image of {shown_name(config.architecture)}",
            )
        layers = manifest.get("layers")
        if not isinstance(layers, list):
            raise ImageRefused("manifest", f"{what} has no list of layers")
        _check_count(len(layers), config)
        parts = [_told(layer, f"{what}: a layer") for layer in layers]
        if absent := [part for part in parts if not self._outer.has(part.name)]:
            self._absent += absent  # engines save what they have of a platform, which may be its documents alone
            return None
        return Image("oci-archive", config, tuple(map(self._layer, parts)), tags)

    def _layer(self, told: _Told) -> Blob:
        if "+encrypted" in told.media_type:
            raise ImageRefused("encrypted", "a layer of the image is encrypted")
        if not _LAYER.fullmatch(told.media_type):
            raise ImageRefused("format", f"a layer is of the unknown type {shown_name(told.media_type)}")
        window = self._outer.part(told.name)
        if window.size != told.size:
            raise ImageRefused("size", f"{told.name} has {window.size} bytes, and {told.size} by the manifest")
        return Blob(window, told.digest)


def _told(value: Any, what: str) -> _Told:
    document = members_of(value, what)
    digest, size = text_of(document, "digest", what), document.get("size")
    if not DIGEST.fullmatch(digest):
        raise ImageRefused("digest", f"{what}: {shown_name(digest)} is no digest that is known here")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageRefused("manifest", f"{what} has no size")
    platform = members_of(document.get("platform") or {}, f"{what}: platform")
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise ImageRefused("manifest", f"{what}: its annotations are no texts by name")
    return _Told(
        digest=digest,
        size=size,
        media_type=text_of(document, "mediaType", what),
        architecture=text_of(platform, "architecture", what),
        annotations=annotations,
    )
