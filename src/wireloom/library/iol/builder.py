"""Makes a container's image of an IOL binary: the layers of ``iol-base``, and one of our own on top.

::

    iol-base.tar (images/, built of Debian packages) ── layers ──┐
    guest/*.py ── /usr/local/lib/wireloom/iol/                   ├── docker archive
    the binary ── /iol/iol.bin ──────────────────────────────────┘

The same binary on the same base always makes the same image. Licences are never part of it: each node is given its own.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any, Final

from wireloom.errors import InternalError, Unavailable
from wireloom.library.archives import extract_layers, read_config, write_archive
from wireloom.library.iol.binary import IolBinary, inspect_binary
from wireloom.library.values import Accepted, Facts, ImageRefused, Limits, Progress, no_progress
from wireloom.model.images import check_image_name

__all__ = ["BASE_ARCHIVE", "LABEL_DEVICE", "LABEL_IMAGE", "LABEL_VERSION", "build", "find_base"]

BASE_ARCHIVE: Final = "iol-base.tar"
LABEL_DEVICE: Final = "wireloom.iol.device"
LABEL_IMAGE: Final = "wireloom.iol.image"
LABEL_VERSION: Final = "wireloom.iol.version"

_PROGRAM: Final = "iol/iol.bin"
_MODULES: Final = "usr/local/lib/wireloom"
_CONFIG: Final[dict[str, Any]] = {
    "Entrypoint": ["/usr/bin/python3", "-S", "-m", "iol.start"],
    "Cmd": None,
    "WorkingDir": "/iol/data",
    "StopSignal": "SIGTERM",
    "ExposedPorts": None,
}
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": f"/{_MODULES}",
    "HOME": "/iol",
}
_FOLDERS: Final = ("iol", "iol/data", "iol/lib", "usr/local/lib", _MODULES, f"{_MODULES}/iol")
_CREATED: Final = "1970-01-01T00:00:00Z"
_COPY: Final = 1 << 20
_LIBRARY: Final = re.compile(r"[^/]+\.so(\.[0-9.]+)?")
_LOADER: Final = re.compile(r"ld-linux.*\.so\..*")

Say = Callable[[str], None]


def find_base(images: Path) -> Path:
    """The archive that nodes are built on, in the folder of reference images.

    :raises Unavailable: it was not built.
    """
    base = images / BASE_ARCHIVE
    if not base.is_file():
        raise Unavailable(
            f"there is no {BASE_ARCHIVE} in {images}, and images for IOL are built on it",
            hint="`sudo ./bootstrap setup` builds it of the distribution's packages",
        )
    return base


def build(
    binary: Path,
    base: Path,
    folder: Path,
    *,
    name: str = "",
    file_name: str = "",
    limits: Limits = Limits(),  # noqa: B008 - a constant
    progress: Progress = no_progress,
    say: Say | None = None,
) -> Accepted:
    """Make the image in ``folder``; nothing else is left there. Blocking.

    :param base: as of :func:`find_base`. :param name: of the image; empty: made of what the binary says of itself.
    :param file_name: of the binary as it came. :param say: gets the log of the build, line by line.
    :raises ImageRefused: it is no IOL binary. :raises InvalidInput: ``name`` is none.
    :raises Unavailable: the base cannot be read.
    """
    tell = say or _silent
    found = inspect_binary(binary, limits)
    tell(f"{found.image} {found.version or '(no version)'} for {found.architecture}: device {found.device}")
    name = check_image_name(name or proposed_name(found), "docker-archive")
    work = folder / "iol-build"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        archive = _Build(work, found, limits, progress, tell).make(binary, base)
        file = folder / "image.tar"
        archive.file.replace(file)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tell(f"made {name}, {file.stat().st_size} bytes, {archive.content}")
    return Accepted(
        file=file,
        format="docker-archive",
        kind="iol",
        name=name,
        content=archive.content,
        virtual_size=archive.unpacked,
        architecture="amd64",
        facts=_facts(found, file_name or binary.name),
        notes=(f"built of the IOL binary {found.image} {found.version}".rstrip(), f"on {archive.base}"),
        warnings=archive.warnings,
    )


def proposed_name(found: IolBinary) -> str:
    """``iol-xe:17.12.1``."""
    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", found.version).strip(".-") or "latest"
    return f"{found.device}:{tag}"


def _facts(found: IolBinary, file_name: str) -> Facts:
    labels = {LABEL_DEVICE: found.device, LABEL_IMAGE: found.image, LABEL_VERSION: found.version}
    return Facts(file=file_name, kind="iol", labels=labels, text=found.text, size=found.size)


def _silent(line: str) -> None:
    """Nobody reads the log."""


@dataclass(frozen=True)
class _Built:
    file: Path
    content: str
    unpacked: int
    base: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Base:
    """``title``: what it says of itself. :ivar libraries: names by width in bits. :ivar unpacked: bytes."""

    config: dict[str, Any]
    layers: tuple[Path, ...]
    title: str
    libraries: dict[int, frozenset[str]]
    unpacked: int


class _Build:
    """One build; ``work`` is its own."""

    def __init__(self, work: Path, found: IolBinary, limits: Limits, progress: Progress, tell: Say) -> None:
        self._work = work
        self._found = found
        self._limits = limits
        self._progress = progress
        self._tell = tell

    def make(self, binary: Path, base: Path) -> _Built:
        total = base.stat().st_size + 2 * self._found.size
        below = self._read_base(base, total)
        self._tell(f"base: {below.title}")
        warnings = tuple(self._warnings(below))
        for warning in warnings:
            self._tell(f"warning: {warning}")
        layer = self._work / "own.tar"
        self._write_layer(binary, layer, base.stat().st_size, total)
        file = self._work / "archive.tar"
        content = write_archive(file, config=self._config(below), layers=(*below.layers, layer))
        self._progress(total, total)
        return _Built(file, content, below.unpacked + layer.stat().st_size, below.title, warnings)

    # -- the base --------------------------------------------------------------------------------------------

    def _read_base(self, base: Path, total: int) -> _Base:
        folder = self._work / "base"
        folder.mkdir()
        try:
            config = read_config(base)
            layers = extract_layers(base, folder, self._limits, lambda done, _: self._progress(done, total))
            found = [library for layer in layers for library in _libraries(layer)]
        except (OSError, ImageRefused, tarfile.TarError) as error:
            raise Unavailable(
                f"{base} cannot be read as the base of images for IOL: {error}",
                hint="`sudo ./bootstrap setup` builds it anew",
            ) from error
        title = config.labels.get("org.opencontainers.image.title", base.name)
        version = config.labels.get("org.opencontainers.image.version", "")
        return _Base(
            config=config.document,
            layers=layers,
            title=f"{title} {version}".rstrip(),
            libraries={bits: frozenset(name for width, name in found if width == bits) for bits in (32, 64)},
            unpacked=sum(layer.stat().st_size for layer in layers),
        )

    def _warnings(self, base: _Base) -> Iterator[str]:
        bits = 32 if self._found.architecture == "386" else 64
        there = base.libraries[bits]
        if missing := [name for name in self._found.needed if name not in there and not _LOADER.fullmatch(name)]:
            yield (
                f"it is linked with {', '.join(missing)}, which the distribution has not; IOL will not start"
                " before they are shown in the node's folder /iol/lib (`binds`)"
            )
        if not self._found.version:
            yield "it does not say its version"

    # -- what is ours ----------------------------------------------------------------------------------------

    def _write_layer(self, binary: Path, layer: Path, before: int, total: int) -> None:
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
            for folder in _FOLDERS:
                archive.addfile(_member(folder, kind=tarfile.DIRTYPE, mode=0o755))
            for name, content in _modules():
                archive.addfile(_member(f"{_MODULES}/iol/{name}", size=len(content)), io.BytesIO(content))
            with binary.open("rb") as stream:
                told = _Told(stream, lambda done: self._progress(before + done, total))
                archive.addfile(_member(_PROGRAM, size=self._found.size, mode=0o755), told)

    def _config(self, base: _Base) -> dict[str, Any]:
        """The base's configuration with our program, labels and history."""
        own = dict(base.config.get("config") or {})
        environment = dict(item.partition("=")[::2] for item in own.get("Env") or ()) | _ENVIRONMENT
        labels = {
            "org.opencontainers.image.title": f"{self._found.device} for Wireloom",
            "org.opencontainers.image.version": self._found.version,
            LABEL_DEVICE: self._found.device,
            LABEL_IMAGE: self._found.image,
            LABEL_VERSION: self._found.version,
        }
        own |= {**_CONFIG, "Env": [f"{name}={value}" for name, value in environment.items()], "Labels": labels}
        history = [*(base.config.get("history") or ()), {"created": _CREATED, "created_by": "wireloom iol build"}]
        kept = {key: value for key, value in base.config.items() if key != "rootfs"}
        return {**kept, "architecture": "amd64", "os": "linux", "created": _CREATED, "config": own, "history": history}


class _Told(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, stream: IO[bytes], tell: Callable[[int], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._done = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self._done += len(block)
        self._tell(self._done)
        return block


def _libraries(layer: Path) -> Iterator[tuple[int, str]]:
    """Width in bits and name of each library in a layer."""
    with tarfile.open(layer, "r:") as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            if _LIBRARY.fullmatch(name):
                yield (32 if "lib32" in folder.split("/") else 64), name


def _modules() -> Sequence[tuple[str, bytes]]:
    """What runs in the node, by file name."""
    folder = resources.files("wireloom.library.iol") / "guest"
    found = [(item.name, item.read_bytes()) for item in folder.iterdir() if item.name.endswith(".py")]
    if not any(name == "start.py" for name, _ in found):
        raise InternalError("the programs of IOL nodes are missing from this installation")
    return sorted(found)


def _member(name: str, *, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, size, mode
    return member
