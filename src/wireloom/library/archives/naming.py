"""A name for an image, made from the names that it came with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from wireloom.errors import InvalidInput
from wireloom.library.archives.paths import shown_name
from wireloom.library.values import ImageRefused
from wireloom.model.images import check_image_name

__all__ = ["check_tags", "propose_name"]

_ENDINGS: Final = re.compile(r"(?i)(\.(tar|tgz|txz|tbz2?|gz|xz|zst|bz2|zip|oci|docker|img))+$")
#: What is before the first number with a dot or a long one, and the rest.
_VERSION: Final = re.compile(r"^(?P<name>.*?[A-Za-z][^.]*?)[-_. ](?P<version>[vV]?\d[\w.+-]*)$")
#: What engines leave out of names, and newer ones write in archives.
_HUB: Final = re.compile(r"^(index\.)?docker\.io/(library/)?")
#: A reference by digest, which some engines write among the names, and which is none.
_BY_DIGEST: Final = re.compile(r"(?P<name>[^@]+)@sha256:[0-9a-f]{64}")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")
_NOT_IN_TAGS: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_MOST: Final = 100
_TAG_MOST: Final = 128


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Those of ``tags`` that are names. :raises ImageRefused: one is neither that nor a reference by digest."""
    names: list[str] = []
    for tag in tags:
        by_digest = _BY_DIGEST.fullmatch(tag)
        if not _fits(f"{by_digest['name']}:latest" if by_digest else tag):
            raise ImageRefused("name", f"the archive calls its image {shown_name(tag)}, which is no name of an image")
        if not by_digest:
            names.append(tag)
    return tuple(names)


def propose_name(tags: Sequence[str], file_name: str) -> str:
    """The first of ``tags`` that is a whole reference, or one made of the file's name; fits ``check_image_name``.

    >>> propose_name((), "cEOS64-lab-4.32.0F.tar.xz")
    'ceos64-lab:4.32.0F'
    """
    for tag in tags:
        if _fits(name := _HUB.sub("", tag)):
            return name
    stem = _ENDINGS.sub("", re.split(r"[/\\]", file_name)[-1])
    told = _VERSION.match(stem)
    name, version = (told["name"], told["version"]) if told else (stem, "latest")
    name = _NOT_IN_NAMES.sub("-", name.lower())[:_NAME_MOST].strip("-") or "image"
    version = _NOT_IN_TAGS.sub("-", version).lstrip(".-")[:_TAG_MOST] or "latest"
    return f"{name}:{version}"


def _fits(tag: str) -> bool:
    try:
        check_image_name(tag, "docker-archive")
    except InvalidInput:
        return False
    return True
