"""Names of files that come from outside, and names of disk images made of them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from wireloom.library.values import ImageRefused

__all__ = ["check_file_name", "disk_name", "inner_name", "lies_beside", "shown"]

_MOST: Final = 255

#: Endings of what a disk is packed in, and of disks.
_PACKED: Final = (".gz", ".xz", ".zst", ".bz2", ".zip")
_DISKS: Final = (
    ".qcow2", ".qcow", ".qcow2c", ".img", ".raw", ".bin", ".vmdk", ".vhd", ".vhdx", ".ova", ".hda", ".disk",
)  # fmt: skip

#: What vendors and computers put beside an image, and is none.
_BESIDE: Final = (
    ".asc", ".cer", ".cert", ".crt", ".htm", ".html", ".license", ".md", ".md5", ".mf", ".pdf", ".pem", ".py", ".py3",
    ".rtf", ".sha1", ".sha256", ".sha512", ".sig", ".sign", ".signature", ".txt", ".url",
)  # fmt: skip
_BESIDE_FOLDERS: Final = ("__MACOSX/",)
_BESIDE_NAMES: Final = (".ds_store", "thumbs.db", "desktop.ini", "license", "readme")

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._+-]+")
_LONGEST_STEM: Final = 115


def check_file_name(name: str) -> str:
    """``name``, where it is one of a single file, in text that shows what it is.

    :raises ImageRefused: ``path``: it leads to another folder; ``name``: it is empty or too long, or has control
        characters, line breaks or characters that turn the direction of writing.
    """
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise ImageRefused("path", f"{shown(name)} is not the name of a file in a folder")
    if not name or len(name.encode(errors="surrogateescape")) > _MOST:
        raise ImageRefused("name", f"{shown(name)} is empty or longer than {_MOST} bytes")
    if any(unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in name):
        raise ImageRefused(
            "name", f"{shown(name)} has characters that are not shown", hint="give the file another name"
        )
    return name


def shown(name: str, most: int = 80) -> str:
    """A name from outside as it can be printed: quoted, escaped and short."""
    text = ascii(name)
    return text if len(text) <= most else f"{text[:most]}…'"


def lies_beside(path: str) -> bool:
    """Whether a file in an archive is, by its name, no image but something that comes with one."""
    last = path.rpartition("/")[2].lower()
    return path.startswith(_BESIDE_FOLDERS) or last.startswith(_BESIDE_NAMES) or last.endswith(_BESIDE)


def inner_name(file_name: str) -> str:
    """Name of what is in a compressed file of that name."""
    lower = file_name.lower()
    if lower.endswith((".tgz", ".txz", ".tzst", ".tbz2", ".tbz")):
        return f"{file_name.rpartition('.')[0]}.tar"
    return _without(file_name, _PACKED)


def disk_name(file_name: str) -> str:
    """A name for the disk image that was in a file of that name; fits ``model.images.check_image_name``."""
    stem = _without(inner_name(file_name), _DISKS)
    stem = _UNFIT.sub("-", stem).strip("._+-")[:_LONGEST_STEM].rstrip("._+-")
    return f"{stem or 'disk'}.qcow2"


def _without(name: str, endings: tuple[str, ...]) -> str:
    lower = name.lower()
    for ending in endings:
        if lower.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name
