"""Where built images lie: files named by build key, a link with the plain name, a manifest of it all.

A disk image that changes gets a new file name, because overlays of running nodes still need the old one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["MANIFEST", "Artefact", "ImageStore", "build_key"]

MANIFEST = "manifest.json"
_FORMAT = 1
_KEY_LENGTH = 16
_DISK_GRACE_SECONDS = 24 * 3600
_QCOW2_MAGIC = b"QFI\xfb"


@dataclass(frozen=True)
class Artefact:
    """One built file.

    :ivar kind: ``container`` (docker archive) or ``disk`` (qcow2).
    :ivar version: upstream version of what the image is about.
    :ivar key: build key: the hash of recipe, guest files and package versions.
    :ivar file: file name in the store, made of name and key.
    :ivar link: plain name that points to it.
    :ivar references: names in a container engine; empty for a disk.
    :ivar capabilities: kernel capabilities that a container of it needs; empty for a disk.
    """

    name: str
    kind: str
    version: str
    key: str
    file: str
    link: str
    size: int
    sha256: str
    references: tuple[str, ...]
    capabilities: tuple[str, ...]
    packages: tuple[str, ...]


def build_key(sources: Path, packages: Iterable[str], *parts: str, unrelated: tuple[Path, ...] = ()) -> str:
    """Hash of everything that decides about a build's result, as 16 hexadecimal digits.

    :param sources: folder of build scripts and guest files.
    :param packages: exact package identities.
    :param parts: further strings, such as the image's name and kind.
    :param unrelated: folders that have nothing to do with this build.
    """
    digest = hashlib.sha256()
    files = (path for path in sources.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = (path for path in files if not any(path.is_relative_to(folder) for folder in unrelated))
    for file in sorted(path for path in files if path.suffix != ".md"):
        mode = "x" if os.access(file, os.X_OK) else "-"
        digest.update(f"{file.relative_to(sources)} {mode} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    digest.update("\n".join((*sorted(packages), *parts)).encode())
    return digest.hexdigest()[:_KEY_LENGTH]


class ImageStore:
    """The folder of built images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Virtual machines run as their own user, which must reach the disks.
        folder.chmod(0o755)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other builds into this folder."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def artefacts(self) -> tuple[Artefact, ...]:
        """What the manifest lists; nothing when there is no manifest of this format."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return ()
        if manifest.get("format") != _FORMAT:
            return ()
        return tuple(_artefact(entry) for entry in manifest["images"])

    def current(self, name: str, kind: str, key: str) -> Artefact | None:
        """The artefact of this very build, if its file is still there in full length."""
        for artefact in self.artefacts():
            if (artefact.name, artefact.kind, artefact.key) == (name, kind, key):
                file = self.folder / artefact.file
                if file.is_file() and file.stat().st_size == artefact.size:
                    return artefact
        return None

    def adopt(self, built: Path, artefact: Artefact) -> None:
        """Move a finished file into the store, read-only, and point the plain name and the manifest to it."""
        built.chmod(0o444)
        built.rename(self.folder / artefact.file)
        link = self.folder / f".{artefact.link}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(artefact.file)
        link.rename(self.folder / artefact.link)
        kept = [known for known in self.artefacts() if (known.name, known.kind) != (artefact.name, artefact.kind)]
        self._write_manifest((*kept, artefact))

    def remove_outdated(self, now: float) -> None:
        """Remove files of earlier builds. A disk stays while an overlay under the data folder is based on it, and
        for a day in any case, because overlays may also lie elsewhere.
        """
        listed = {artefact.file for artefact in self.artefacts()}
        bases = {_backing_file(overlay) for overlay in self.folder.parent.rglob("*.qcow2")}
        for file in self.folder.glob("*-" + "[0-9a-f]" * _KEY_LENGTH + ".*"):
            if file.name in listed:
                continue
            is_disk = file.suffix == ".qcow2"
            if is_disk and (str(file) in bases or now - file.stat().st_mtime < _DISK_GRACE_SECONDS):
                continue
            file.unlink()

    def _write_manifest(self, artefacts: Iterable[Artefact]) -> None:
        images = sorted((asdict(artefact) for artefact in artefacts), key=lambda image: (image["name"], image["kind"]))
        temporary = self.folder / f".{MANIFEST}.new"
        temporary.write_text(json.dumps({"format": _FORMAT, "images": images}, indent=2) + "\n")
        temporary.rename(self.folder / MANIFEST)


def _artefact(entry: dict[str, object]) -> Artefact:
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Artefact(**fields)  # type: ignore[arg-type]  # the format number vouches for the fields


def _backing_file(overlay: Path) -> str | None:
    """The file that a qcow2 image is based on, from its header."""
    with overlay.open("rb") as file:
        header = file.read(20)
        if len(header) < 20 or not header.startswith(_QCOW2_MAGIC):
            return None
        offset, size = struct.unpack_from(">QI", header, 8)
        file.seek(offset)
        return file.read(size).decode(errors="replace") if offset else None
