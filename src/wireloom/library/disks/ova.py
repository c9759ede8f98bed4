"""OVA files: a tar of a description, a disk, and digests of both. The one disk is taken out."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from wireloom.library.disks.ovf import Description, read_description
from wireloom.library.durable import copy_range, digest_of, no_space_is_refused
from wireloom.library.names import check_file_name, shown
from wireloom.library.tarheads import TarMember, tar_members
from wireloom.library.values import ImageRefused, Limits, Progress, Reason

__all__ = ["Ova", "extract", "read_ova"]

#: A machine has a handful of files; more is no machine.
_MOST_MEMBERS: Final = 1000
_LONGEST_NAME: Final = 255
#: ``SHA256(name)= digits``, a line each.
_DIGEST: Final = re.compile(r"^(SHA1|SHA256|SHA512)\s?\((.+)\)\s?=\s?([0-9A-Fa-f]+)\s*$", re.MULTILINE)
_ODD: Final[dict[str, Reason]] = {
    "hard-link": "link",
    "link": "link",
    "device": "device-node",
    "fifo": "device-node",
    "sparse": "sparse",
}


@dataclass(frozen=True)
class Ova:
    """:ivar disk: the one that has data. :ivar digest: what it must have, as (algorithm, digits), or nothing.

    :ivar text: what the machine says it is. :ivar paths: names of all its files. :ivar warnings: what is left out.
    """

    disk: TarMember
    digest: tuple[str, str] | None
    text: tuple[str, ...]
    paths: tuple[str, ...]
    warnings: tuple[str, ...]


def read_ova(file: FileIO, limits: Limits) -> Ova:
    """What is in it; all members are looked at, and nothing is taken out yet.

    :raises ImageRefused: ``path``, ``name``, ``link``, ``device-node``, ``sparse``, ``duplicate``, ``manifest``,
        ``digest``, ``truncated``, ``corrupt``, ``size``, or ``format``: it has not one disk.
    """
    members = _members(file, limits)
    descriptions = [each for each in members.values() if each.name.lower().endswith(".ovf")]
    if len(descriptions) != 1:
        raise ImageRefused("manifest", f"the archive has {len(descriptions)} descriptions of a machine")
    text = _small(file, descriptions[0], limits)
    digests = _digests(file, members, limits)
    _check_description(text, digests.get(descriptions[0].name))
    description = read_description(text)
    disk = _the_disk(description, members)
    return Ova(
        disk=members[disk],
        digest=digests.get(disk),
        text=tuple(description.text),
        paths=tuple(members),
        warnings=tuple(_left_out(description, members, disk)),
    )


def _members(file: FileIO, limits: Limits) -> dict[str, TarMember]:
    found: dict[str, TarMember] = {}
    for member in tar_members(file, entries=_MOST_MEMBERS, name=_LONGEST_NAME):
        if member.kind == "folder" and member.name in {".", "./"}:
            continue
        name = member.name.removeprefix("./")
        if member.kind != "file":
            reason = _ODD.get(member.kind, "format")
            raise ImageRefused(reason, f"{shown(name)} in the archive is a {member.kind}, where only files belong")
        check_file_name(name)
        if name in found:
            raise ImageRefused("duplicate", f"the archive has {shown(name)} twice")
        if member.size > limits.size:
            raise ImageRefused("size", f"{shown(name)} has {member.size} bytes; {limits.size} may come in")
        found[name] = TarMember(name, member.kind, member.size, member.offset)
    return found


def _the_disk(description: Description, members: Mapping[str, TarMember]) -> str:
    names = description.disk_files()
    for name in names:
        check_file_name(name)  # a reference may be a URL or a path, which is followed nowhere
        if name in description.chunked:
            raise ImageRefused("format", "the disk is cut into several files", hint="export the machine in one file")
        if name not in members:
            raise ImageRefused("manifest", f"the description names {shown(name)}, which the archive lacks")
    if len(names) != 1:
        raise ImageRefused(
            "format",
            f"the machine has {len(names)} disks, and an image is one disk",
            hint="unpack the file with tar, and bring in the disks that you need, one by one",
        )
    return names[0]


def _left_out(description: Description, members: Mapping[str, TarMember], disk: str) -> list[str]:
    found = [f"{description.empty} empty disks of the machine were left out"] if description.empty else []
    media = [name for name in members if name.lower().endswith((".iso", ".img", ".nvram")) and name != disk]
    return found + [f"{shown(name)} beside the disk was left out" for name in media]


def _small(file: FileIO, member: TarMember, limits: Limits) -> bytes:
    if member.size > limits.json:
        raise ImageRefused("size", f"{shown(member.name)} has {member.size} bytes; {limits.json} are read")
    return os.pread(file.fileno(), member.size, member.offset)


def _digests(file: FileIO, members: Mapping[str, TarMember], limits: Limits) -> dict[str, tuple[str, str]]:
    """What the archive says of its files: name → (algorithm, digits)."""
    lists = [each for each in members.values() if each.name.lower().endswith(".mf")]
    if len(lists) > 1:
        raise ImageRefused("manifest", "the archive has several lists of digests")
    text = _small(file, lists[0], limits).decode(errors="replace") if lists else ""
    return {name: (algorithm.lower(), digits.lower()) for algorithm, name, digits in _DIGEST.findall(text)}


def _check_description(text: bytes, told: tuple[str, str] | None) -> None:
    if told and hashlib.new(told[0], text, usedforsecurity=False).hexdigest() != told[1]:
        raise ImageRefused("digest", "the description is not what the archive's list of digests says")


def extract(file: FileIO, ova: Ova, target: Path, progress: Progress) -> None:
    """Write the disk to the new file ``target``; the caller removes that when this fails.

    :raises ImageRefused: ``digest`` or ``truncated``. :raises CapacityExceeded: no space left.
    """
    with no_space_is_refused(target.parent), target.open("xb", buffering=0) as out:
        if copy_range(file, out, ova.disk.offset, ova.disk.size, progress) < ova.disk.size:
            raise ImageRefused("truncated", "the archive ends within its disk")
    if ova.digest is None:
        return
    algorithm, digits = ova.digest
    with target.open("rb", buffering=0) as written:
        if digest_of(written, algorithm=algorithm).hexdigest() != digits:
            raise ImageRefused("digest", "the disk is not what the archive's list of digests says")
