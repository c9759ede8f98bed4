"""The description of a virtual machine in an OVA: which files are its disks, and what it says it is.

Layout: DMTF, DSP0243. The text is XML from outside: nothing that declares a document type is read, so there are no
entities to grow or to fetch.
"""

from __future__ import annotations

import xml.parsers.expat
from dataclasses import dataclass, field
from typing import Final

from wireloom.library.values import ImageRefused

__all__ = ["Description", "read_description"]

_DEEPEST: Final = 64
_LONGEST_TEXT: Final = 200
#: Elements whose text says what the machine is.
_TELLING: Final = frozenset({"Product", "Vendor", "Version", "FullVersion", "Name"})


@dataclass
class Description:
    """:ivar files: id → name, as the description has them. :ivar disks: ids of files that are disks, in order.

    :ivar empty: disks without a file. :ivar chunked: files that are cut into several. :ivar text: what it says it is.
    """

    files: dict[str, str] = field(default_factory=dict)
    disks: list[str] = field(default_factory=list)
    empty: int = 0
    chunked: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)

    def disk_files(self) -> tuple[str, ...]:
        """Names of the files that are disks, each once. :raises ImageRefused: ``manifest``: a disk has no file."""
        missing = [each for each in self.disks if each not in self.files]
        if missing:
            raise ImageRefused("manifest", "the description has a disk whose file it does not name")
        return tuple(dict.fromkeys(self.files[each] for each in self.disks))


def read_description(text: bytes) -> Description:
    """:raises ImageRefused: ``manifest``: it is no description, or not a harmless one."""
    reader = _Reader()
    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(text, True)
    except xml.parsers.expat.ExpatError as error:
        raise ImageRefused("manifest", f"the description of the machine is damaged: {error}") from error
    if not reader.is_envelope:
        raise ImageRefused("manifest", "the description of the machine is none")
    return reader.found


class _Reader:
    """Names without their namespaces: tools differ in those."""

    def __init__(self) -> None:
        self.found = Description()
        self.is_envelope = False
        self._open: list[str] = []
        self._text = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = _local(name)
        if not self._open:
            self.is_envelope = local == "Envelope"
        self._open.append(local)
        self._text = ""
        if len(self._open) > _DEEPEST:
            raise ImageRefused("manifest", "the description of the machine is nested too deeply")
        known = {_local(key): value for key, value in attributes.items()}
        parent = self._open[-2] if len(self._open) > 1 else ""
        if (parent, local) == ("References", "File"):
            identity = known.get("id", "")
            if identity in self.found.files:
                raise ImageRefused("manifest", "the description of the machine names two files alike")
            self.found.files[identity] = known.get("href", "")
            if known.get("chunkSize"):
                self.found.chunked.add(known.get("href", ""))
        elif (parent, local) == ("DiskSection", "Disk"):
            self._disk(known)

    def _disk(self, known: dict[str, str]) -> None:
        if known.get("parentRef"):
            raise ImageRefused("backing-file", "the description has a disk that lies on another one")
        if known.get("fileRef"):
            self.found.disks.append(known["fileRef"])
        else:
            self.found.empty += 1

    def end(self, name: str) -> None:
        self._open.pop()
        text = " ".join(self._text.split())
        if _local(name) in _TELLING and text and text not in self.found.text and len(self.found.text) < 16:
            self.found.text.append(text[:_LONGEST_TEXT])
        self._text = ""

    def text(self, text: str) -> None:
        if len(self._text) < _LONGEST_TEXT:
            self._text += text

    def doctype(self, *_declaration: object) -> None:
        raise ImageRefused("manifest", "the description of the machine declares a document type, which none does")


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
