"""Lets an archive in: reads it whole, once, holds every part against what names it, and writes the canonical form.

Nothing is extracted. A layer runs through as a stream (file → digest of the blob → unpacking → digest of the layer →
the new archive → its members, checked one by one), so memory stays flat and no hostile name is ever a name on our disk.
"""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from wireloom.library.archives.documents import digest_of, parse_config
from wireloom.library.archives.findings import Findings
from wireloom.library.archives.layout import Blob, Image, choose
from wireloom.library.archives.naming import check_tags, propose_name
from wireloom.library.archives.outer import Outer, read_outer
from wireloom.library.archives.rules import LayerRules
from wireloom.library.archives.streams import Stream, Window, compression_of, shown, unpacked
from wireloom.library.archives.tars import TarReader
from wireloom.library.archives.values import RUNNABLE, ArchiveConfig
from wireloom.library.archives.vrnetlab import NEEDS, is_vrnetlab
from wireloom.library.archives.writer import ArchiveWriter, unchanging_json
from wireloom.library.names import check_file_name
from wireloom.library.tar_format import BLOCK, is_header
from wireloom.library.values import Accepted, Facts, ImageRefused, Limits, Progress, no_progress
from wireloom.model.images import SourceKind

__all__ = ["ACCEPTED", "accept"]

#: The file that is made, in the folder that is given.
ACCEPTED: Final = "accepted.tar"

_ARCHIVE_MARKS: Final = frozenset({"manifest.json", "index.json", "oci-layout", "repositories"})
#: Images that are made of trees are as old as one another.
_NO_TIME: Final = "1970-01-01T00:00:00Z"
_LABELS_MOST: Final = 200
_TEXTS_MOST: Final = 200
_TEXT_MOST: Final = 1000


def accept(path: Path, file_name: str, folder: Path, limits: Limits, progress: Progress = no_progress) -> Accepted:
    """Make the canonical archive of what ``path`` is: an archive of Docker's or OCI's, or a file tree in a tar file.

    Blocking, for worker threads: takes the time of reading the file, hashing it and writing it again. ``path`` is not
    changed. An image keeps its configuration, and so the engine's id, unless it does not say what to start.

    :param path: not compressed. :param file_name: as it came, for its name. :param folder: where ``accepted.tar`` is
        written, in the place of one that is there.
    :raises ImageRefused: with the reason; nothing is left in ``folder``. :raises CapacityExceeded: no space left.
    """
    check_file_name(file_name)
    size = path.stat().st_size
    if size > limits.size:
        raise ImageRefused("size", f"the archive has {size} bytes, at most {limits.size} are allowed")
    with path.open("rb", buffering=0) as file:
        _check_beginning(os.pread(file.fileno(), BLOCK, 0))
        outer = read_outer(file.fileno(), limits)
        if outer.tops & _ARCHIVE_MARKS:
            return _Reception(file_name, folder / ACCEPTED, limits, progress).image(choose(outer, limits))
        if outer.tree_like():
            return _Reception(file_name, folder / ACCEPTED, limits, progress).tree(outer)
    raise ImageRefused(
        "format",
        "the tar file is neither an image nor the file tree of a system",
        hint="give what docker save, an OCI tool or docker export made, or the tar file of a root file system",
    )


def _check_beginning(head: bytes) -> None:
    if is_header(head):
        return
    if compression := compression_of(head):
        raise ImageRefused("compressed-twice", f"what was unpacked is packed again, with {compression}")
    if len(head) < BLOCK:
        raise ImageRefused("truncated", f"the file has {len(head)} bytes, which is no archive")
    raise ImageRefused("format", "the file is no tar archive")


class _Reception:
    """One archive on its way in."""

    def __init__(self, file_name: str, target: Path, limits: Limits, progress: Progress) -> None:
        self._file_name, self._target = file_name, target
        self._limits, self._progress = limits, progress
        self._findings = Findings()
        self._entries = 0
        self._done = self._total = 0
        self._room = limits.size
        self._bytes_of: dict[str, int] = {}
        self._notes: list[str] = []
        self._warnings: list[str] = []

    def image(self, image: Image) -> Accepted:
        """An archive's image: layers as its configuration has them."""
        tags = check_tags(image.tags) if image.kind == "docker-archive" else image.tags
        self._total = sum(blob.size for blob in image.blobs)
        with ArchiveWriter(self._target, layers=len(image.blobs)) as writer:
            for number, (blob, digest) in enumerate(zip(image.blobs, image.config.layers, strict=True)):
                self._check_repeated(number, digest)
                if self._layer(writer, number, blob) != digest:
                    raise ImageRefused("digest", f"layer {number + 1} is not the one that the configuration names")
                self._bytes_of[digest] = self._findings.data
            self._check_machines()
            config = self._startable(image.config)
            writer.finish(config.raw)
        if image.kind == "oci-archive":
            self._notes.append("rewritten from an OCI archive, layers unpacked")
        return self._accepted(image.kind, config, tags)

    def tree(self, outer: Outer) -> Accepted:
        """A file tree: one layer, and a configuration of our own."""
        self._total = outer.size
        with ArchiveWriter(self._target, layers=1) as writer:
            digest = self._layer(writer, 0, Blob(Window(outer.file, 0, outer.size)), open_end=False)
            self._check_machines()
            document = _tree_config(digest, self._tree_architecture(), self._tree_command())
            config = parse_config(unchanging_json(document), self._limits)
            writer.finish(config.raw)
        self._notes.append(f"made of a file tree, starts {' '.join(config.command)}")
        return self._accepted("rootfs", config, ())

    # ------------------------------------------------------------------ layers

    def _layer(self, writer: ArchiveWriter, number: int, blob: Blob, *, open_end: bool = True) -> str:
        """Read a layer, all of it, into ``writer``; the digest of what it is unpacked."""
        packed = hashlib.sha256()
        chunks = blob.window.chunks(self._advance)
        head = blob.window.take(BLOCK)
        compression = "" if is_header(head) else compression_of(head)
        if compression and blob.digest:
            chunks = shown(chunks, packed.update)
        writer.begin_layer()
        with unpacked(chunks, compression, blob.size, self._limits, self._room) as plain:
            stream = Stream(shown(plain, writer.write, self._count))
            inner = stream.peek(BLOCK)
            if compression and compression_of(inner) and not is_header(inner):
                raise ImageRefused("compressed-twice", f"layer {number + 1} is packed twice")
            self._members(stream, f"layer {number + 1}", open_end=open_end)
        digest = writer.end_layer()
        if blob.digest and blob.digest != (f"sha256:{packed.hexdigest()}" if compression else digest):
            raise ImageRefused("digest", f"layer {number + 1} has another digest than its name says")
        return digest

    def _members(self, stream: Stream, what: str, *, open_end: bool) -> None:
        reader = TarReader(stream, self._limits, what, open_end=open_end)
        rules = LayerRules(self._limits, what)
        self._findings.begin_layer()
        for member in reader:
            rules.check(member)
            self._findings.see(member, reader)
        self._entries += reader.count
        if self._entries > self._limits.entries:
            raise ImageRefused("unbounded", f"its layers have more than {self._limits.entries} members")

    def _check_repeated(self, number: int, digest: str) -> None:
        """Layers without content may come again, as builders make them; others multiply what a host must store."""
        if self._bytes_of.get(digest, 0):
            raise ImageRefused("duplicate", f"layer {number + 1} is the same as one before it")

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)

    def _count(self, chunk: bytes) -> None:
        self._room -= len(chunk)
        self._progress(self._done, self._total)  # of a few packed bytes much may come, and somebody may watch that

    # ------------------------------------------------------------------ what it is

    def _check_machines(self) -> None:
        """What programs are for, whatever the configuration says."""
        machines = self._findings.machines
        if machines and not machines.keys() & set(RUNNABLE):
            told = machines.most_common(1)[0][0]
            raise ImageRefused("architecture", f"its programs are for {told}; hosts run {' and '.join(RUNNABLE)}")

    def _startable(self, config: ArchiveConfig) -> ArchiveConfig:
        """``config``, or one that starts the tree's own init: engines import trees without any command."""
        if config.entrypoint or config.command:
            return config
        init = self._findings.init()
        if not init:
            raise ImageRefused(
                "entrypoint",
                "the image says neither an entrypoint nor a command, and has no init",
                hint="build it with an ENTRYPOINT or CMD",
            )
        document: dict[str, Any] = copy.deepcopy(config.document)
        document["config"] = {**(document.get("config") or {}), "Cmd": [init]}
        self._notes.append(f"starts {init}, since it said nothing; its id is another one for that")
        return parse_config(unchanging_json(document), self._limits)

    def _tree_command(self) -> str:
        init, shell = self._findings.init(), self._findings.shell()
        if not init and not shell:
            raise ImageRefused("entrypoint", "the file tree has neither an init nor a shell that could be started")
        if not init:
            self._warnings.append(f"the file tree has no init, so it starts {shell}")
        return init or shell

    def _tree_architecture(self) -> str:
        found = next((name for name in RUNNABLE if self._findings.machines[name]), "")
        if not found:
            self._warnings.append(f"no program in it tells an architecture; it is taken for {RUNNABLE[0]}")
        return found or RUNNABLE[0]

    def _accepted(self, kind: SourceKind, config: ArchiveConfig, tags: tuple[str, ...]) -> Accepted:
        disks = self._findings.disks()
        facts = Facts(
            file=self._file_name,
            kind=kind,
            tags=tags,
            labels={name: text for name, text in _few(config.labels) if _plain(name) and _plain(text)},
            env=tuple(filter(_plain, config.env[:_TEXTS_MOST])),
            entrypoint=tuple(filter(_plain, (config.entrypoint + config.command)[:_TEXTS_MOST])),
            paths=self._findings.paths(),
            text=self._findings.text(),
            size=self._target.stat().st_size,
        )
        vrnetlab = is_vrnetlab(config, facts.paths, tuple(disks))
        if vrnetlab:
            self._warnings.append(
                "a machine inside of a container (vrnetlab), which needs a privileged container and KVM; "
                "its disk can be taken out and run as a machine"
            )
        return Accepted(
            file=self._target,
            format="docker-archive",
            kind=kind,
            name=propose_name(tags, self._file_name),
            content=digest_of(config.raw),
            virtual_size=self._findings.unpacked,
            architecture=config.architecture,
            needs=NEEDS if vrnetlab else (),
            facts=facts,
            notes=tuple(self._notes),
            warnings=tuple(self._warnings),
        )


def _tree_config(layer: str, architecture: str, command: str) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "config": {"Cmd": [command]},
        "created": _NO_TIME,
        "history": [{"created": _NO_TIME, "comment": "made of a file tree"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }


def _few(labels: dict[str, str]) -> list[tuple[str, str]]:
    return list(labels.items())[:_LABELS_MOST]


def _plain(text: str) -> bool:
    """Whether a text is fit to be matched and shown."""
    return len(text) <= _TEXT_MOST and text.isprintable()
