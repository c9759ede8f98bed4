"""A tar file around one image, as vendors send them: the image, its signature, a certificate, something to read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wireloom.library.durable import copy_range, no_space_is_refused
from wireloom.library.names import check_file_name, lies_beside
from wireloom.library.tarheads import TarMember, tar_members
from wireloom.library.values import ImageRefused, Limits, Progress, no_progress

__all__ = ["take_out"]

_MOST_MEMBERS: Final = 1000
_LONGEST_NAME: Final = 1000
#: What begins the names in images of containers and in file trees, which are no bundles.
_OTHERS: Final = frozenset({"blobs", "manifest.json", "index.json", "bin", "sbin", "usr", "etc", "lib", "var"})


def take_out(path: Path, folder: Path, limits: Limits, progress: Progress = no_progress) -> Path | None:
    """Copy the one file that matters into ``folder``, under its own name; ``None``: ``path`` is no such tar file.

    Blocking. Whatever is unusual about the tar file makes it none: who reads it as an archive says what is wrong.

    :raises ImageRefused: ``format``: there are several. :raises CapacityExceeded: no space left.
    """
    with path.open("rb", buffering=0) as file:
        try:
            members = list(tar_members(file, entries=_MOST_MEMBERS, name=_LONGEST_NAME))
            useful = _useful(members)
        except ImageRefused:
            return None
        if not useful:
            return None
        names = [_last(member) for member in useful]
        if len(useful) > 1:
            raise ImageRefused(
                "format",
                f"the archive has {len(useful)} files that may be images: {', '.join(names[:4])}",
                hint="unpack it, and bring in what you need",
            )
        if useful[0].size > limits.size:
            raise ImageRefused("size", f"{names[0]} has {useful[0].size} bytes; {limits.size} may come in")
        target = folder / names[0]
        with no_space_is_refused(folder), target.open("xb") as out:
            copy_range(file, out, useful[0].offset, useful[0].size, progress)
    return target


def _useful(members: list[TarMember]) -> list[TarMember]:
    """:raises ImageRefused: it is no bundle."""
    for member in members:
        parts = member.name.removeprefix("./").rstrip("/").split("/")
        if member.kind not in {"file", "folder"} or parts[0] in _OTHERS:
            raise ImageRefused("format", "this is no bundle")
        for part in parts if parts not in ([""], ["."]) else ():
            check_file_name(part)
    return [member for member in members if member.kind == "file" and not lies_beside(member.name)]


def _last(member: TarMember) -> str:
    return member.name.rpartition("/")[2]
