"""The JSON documents of an archive, bounded before they are parsed and strict about what they say.

The engine reads them with Go's decoder, which takes keys whatever their case and the last of two that are equal. A
document that has such keys could say one thing to us and another to the engine, so it is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from wireloom.library.archives.paths import shown_name
from wireloom.library.archives.values import ArchiveConfig
from wireloom.library.values import ImageRefused, Limits
from wireloom.model.images import DIGEST

__all__ = ["Document", "digest_of", "members_of", "parse_config", "parse_json", "text_of", "texts_of"]

Document = dict[str, Any]

_DEPTH_MOST: Final = 48
_VALUES_MOST: Final = 250_000
#: A string, or what opens, closes and separates. A string without an end counts too, so the search stays linear.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_TEXT_MOST: Final = 64 << 10
_TEXTS_MOST: Final = 4096


def digest_of(data: bytes) -> str:
    """``sha256:…`` of bytes in hand."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_json(data: bytes, what: str, limits: Limits) -> Any:
    """The value in ``data``.

    :raises ImageRefused: ``unbounded`` for one that would cost too much to parse, ``duplicate`` for equal keys in an
        object, ``manifest`` for what is no JSON.
    """
    if len(data) > limits.json:
        raise ImageRefused("unbounded", f"{what} has {len(data)} bytes, at most {limits.json} are read")
    _check_shape(data, what)

    def pairs(items: list[tuple[str, Any]]) -> Document:
        found = dict(items)
        if len(found) != len(items):
            raise ImageRefused("duplicate", f"{what} has a key twice in one object")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(data.decode(), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ImageRefused("manifest", f"{what} is no JSON: {error}") from error


def _check_shape(data: bytes, what: str) -> None:
    depth = 0
    for values, token in enumerate(_TOKENS.finditer(data)):
        mark = data[token.start()]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if depth > _DEPTH_MOST or values > _VALUES_MOST:
            raise ImageRefused("unbounded", f"{what} is nested too deep, or has too many values")


def members_of(value: Any, what: str) -> Document:
    """``value`` as an object whose keys differ by more than case. :raises ImageRefused: it is none."""
    if not isinstance(value, dict):
        raise ImageRefused("manifest", f"{what} is no object")
    if len({key.casefold() for key in value}) != len(value):
        raise ImageRefused("duplicate", f"{what} has keys that differ in case only")
    return value


def text_of(document: Document, key: str, what: str) -> str:
    """The string under ``key``, empty where there is none. :raises ImageRefused: it is something else, or too long."""
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _TEXT_MOST:
        raise ImageRefused("manifest", f"{what}: {key} is no text")
    return value


def texts_of(document: Document, key: str, what: str) -> tuple[str, ...]:
    """The list of strings under ``key``, empty where there is none. :raises ImageRefused: it is something else."""
    value = document.get(key)
    if value is None:
        return ()
    if (
        not isinstance(value, list)
        or len(value) > _TEXTS_MOST
        or not all(isinstance(item, str) and len(item) <= _TEXT_MOST for item in value)
    ):
        raise ImageRefused("manifest", f"{what}: {key} is no list of texts")
    return tuple(value)


def parse_config(data: bytes, limits: Limits, what: str = "the configuration") -> ArchiveConfig:
    """An image's configuration, whose bytes make the engine's id of it.

    :raises ImageRefused: ``architecture`` where it is for no Linux, ``unbounded`` for too many layers, else
        ``manifest`` or what :func:`parse_json` says. Which architecture it is stays for the caller to judge.
    """
    document = members_of(parse_json(data, what, limits), what)
    run = members_of(document.get("config") or {}, f"{what}: config")
    system = text_of(document, "os", what)
    if system != "linux":
        raise ImageRefused("architecture", f"the image is for the system {shown_name(system)}, hosts run linux")
    return ArchiveConfig(
        content=digest_of(data),
        raw=data,
        architecture=text_of(document, "architecture", what),
        layers=_layers(document, limits, what),
        entrypoint=texts_of(run, "Entrypoint", what),
        command=texts_of(run, "Cmd", what),
        env=texts_of(run, "Env", what),
        labels=_labels(run.get("Labels"), what),
        user=text_of(run, "User", what),
        working_dir=text_of(run, "WorkingDir", what),
        document=document,
    )


def _layers(document: Document, limits: Limits, what: str) -> tuple[str, ...]:
    root = members_of(document.get("rootfs"), f"{what}: rootfs")
    if root.get("type") != "layers":
        raise ImageRefused("manifest", f"{what}: its root file system is not made of layers")
    layers = texts_of(root, "diff_ids", what)
    if not layers or not all(DIGEST.fullmatch(layer) for layer in layers):
        raise ImageRefused("manifest", f"{what}: its layers are not told by their digests")
    if len(layers) > limits.layers:
        raise ImageRefused("unbounded", f"the image has {len(layers)} layers, at most {limits.layers} are allowed")
    return layers


def _labels(value: Mapping[str, Any] | None, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ImageRefused("manifest", f"{what}: its labels are no texts by name")
    return dict(value)
