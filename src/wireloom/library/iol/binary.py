"""Whether a file is an IOL binary, and which. Nothing of it is run.

An IOL says of itself what every IOS does: ``Linux Software (X86_64BI_LINUX_L2-ADVENTERPRISEK9-M), Version 17.12.1``, in
the text of ``show version``, or between the marks ``CW_IMAGE$…$`` and ``CW_VERSION$…$``. A switch has L2 in its name.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wireloom.library.iol.elf import Elf, ElfWrong, read_elf
from wireloom.library.values import ImageRefused, Limits

__all__ = ["IolBinary", "inspect_binary", "is_program"]

#: Machines (of elf.h) whose programs an x86 host runs, and the name that container images give them.
_MACHINES: Final = {(32, 3): "386", (64, 62): "amd64"}
_SMALLEST: Final = 512
_SHEBANG: Final = b"#!"

_TEXT: Final = re.compile(
    rb"Linux Software \(([A-Za-z0-9_.+-]{4,80})\),\s{1,4}(?:Experimental )?Version ([\w.()]{2,40})"
)
_MARKS: Final = (
    re.compile(rb"CW_IMAGE\$([A-Za-z0-9_.+-]{4,80})\$"),
    re.compile(rb"CW_VERSION\$([\w.()]{2,40})\$"),
)
_STARTS: Final = (b"Linux Software (", b"CW_IMAGE$", b"CW_VERSION$")
#: Of such texts; a real binary has a handful.
_MOST_TEXTS: Final = 64
_TEXT_LENGTH: Final = 256
_LINUX_IMAGE: Final = re.compile(r"(?i)linux")
_L2_IMAGE: Final = re.compile(r"(?i)linux_?l2")


@dataclass(frozen=True)
class IolBinary:
    """What it says of itself.

    :ivar device: ``iol-xe`` or ``iol-l2``. :ivar image: its own name, such as ``X86_64BI_LINUX-ADVENTERPRISEK9-M``.
    :ivar version: ``17.12.1`` or ``15.4(1)T``; empty: it says none.
    :ivar architecture: as container images name it. :ivar needed: libraries that it is linked with.
    """

    device: Literal["iol-xe", "iol-l2"]
    image: str
    version: str
    architecture: str
    needed: tuple[str, ...]
    size: int

    @property
    def text(self) -> tuple[str, ...]:
        """What identification may match."""
        version = f", Version {self.version}" if self.version else ""
        return (f"Linux Software ({self.image}){version}",)


def is_program(head: bytes) -> bool:
    """Whether a file that begins like this may be an IOL binary at all."""
    return head.startswith(b"\x7fELF")


def inspect_binary(path: Path, limits: Limits = Limits()) -> IolBinary:  # noqa: B008 - a constant
    """Read the file, and say what it is.

    :raises ImageRefused: it is no IOL binary for this kind of host; ``details["reason"]`` says why.
    """
    size = path.stat().st_size
    if size > limits.size:
        raise ImageRefused("size", f"it has {size} bytes, and {limits.size} are allowed")
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith(_SHEBANG):
            raise ImageRefused("format", "it is a script, and IOL is a program", hint=_HINT)
        if not is_program(head):
            raise ImageRefused("format", "it is no Linux program (ELF), and IOL is one", hint=_HINT)
        if size < _SMALLEST:
            raise ImageRefused("truncated", f"it ends after {size} bytes")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _inspect(mapped, size)


_HINT: Final = "give the file itself, such as x86_64_crb_linux-adventerprisek9-ms.bin"


def _inspect(mapped: mmap.mmap, size: int) -> IolBinary:
    elf = _program(mapped)
    architecture = _MACHINES.get((elf.bits, elf.machine))
    if architecture is None:
        raise ImageRefused(
            "architecture",
            f"it is a program for another kind of machine (ELF machine {elf.machine}, {elf.bits} bits)",
            hint="hosts of labs run programs for x86, of 64 or 32 bits",
        )
    image, version = _own_name(mapped)
    if not image:
        raise ImageRefused(
            "format",
            "it is a program for Linux, but nowhere in it does it say that it is IOL",
            hint="IOL names itself, such as X86_64BI_LINUX-ADVENTERPRISEK9-M; is the file encrypted or compressed?",
        )
    return IolBinary(
        device="iol-l2" if _L2_IMAGE.search(image) else "iol-xe",
        image=image,
        version=version,
        architecture=architecture,
        needed=elf.needed,
        size=size,
    )


def _program(mapped: mmap.mmap) -> Elf:
    try:
        with memoryview(mapped) as view:
            return read_elf(view)
    except ElfWrong as error:
        raise ImageRefused(error.kind, str(error)) from None


def _own_name(mapped: mmap.mmap) -> tuple[str, str]:
    """Name and version; empty where it does not say them."""
    texts = [text for start in _STARTS for text in _texts(mapped, start)]
    for text in texts:
        found = _TEXT.match(text)
        if found and _LINUX_IMAGE.search(found[1].decode()):
            return found[1].decode(), found[2].decode().rstrip(".")
    marks = [next((found[1].decode() for text in texts if (found := mark.match(text))), "") for mark in _MARKS]
    image, version = marks
    return (image, version) if _LINUX_IMAGE.search(image) else ("", "")


def _texts(mapped: mmap.mmap, start: bytes) -> Iterator[bytes]:
    """What follows ``start``, where that occurs."""
    at = mapped.find(start)
    for _ in range(_MOST_TEXTS):
        if at < 0:
            return
        yield mapped[at : at + _TEXT_LENGTH]
        at = mapped.find(start, at + 1)
