"""A backup: a zip archive with ``manifest.json``, a ``rows/<table>.jsonl`` for each table, and ``files/<path>``.

Each line of a table is a JSON array of its values in the order of the manifest's columns. A backup holds secrets, so
only its owner may read it. It comes into being whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from wireloom.controller.store.backups.reading import PRODUCT
from wireloom.controller.store.backups.values import (
    FORMAT,
    BackupManifest,
    Progress,
    Row,
    Rows,
    TableRows,
    no_progress,
)
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported

__all__ = ["BackupFile", "write_backup"]

_MANIFEST: Final = "manifest.json"
_TELL_EVERY: Final = 500
_CHUNK: Final = 1 << 20
_LARGEST_MANIFEST: Final = 4 << 20
_DAMAGED: Final = "take another backup: this one was damaged or changed"


def write_backup(target: Path, rows: Rows, files: Mapping[str, Path], tell: Progress = no_progress) -> BackupManifest:
    """Write ``rows``, and ``files`` by their paths within the data folder.

    :raises Conflict: ``target`` is there already.
    :raises Unavailable: it cannot be written.
    """
    if target.exists():
        raise Conflict(f"{target} is there already", hint="name another file")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with _private(part) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            tables = tuple(_write_table(archive, rows, table, tell) for table in rows.manifest.tables)
            sums = {name: _write_file(archive, name, path) for name, path in sorted(files.items())}
            manifest = rows.manifest.model_copy(update={"tables": tables, "files": sums})
            archive.writestr(_MANIFEST, manifest.model_dump_json(indent=2))
        os.link(part, target)  # unlike a rename, this never takes the place of a file that came meanwhile
        _sync_folder(target.parent)
    except FileExistsError as error:
        raise Conflict(f"{target} is there already", hint="name another file") from error
    except OSError as error:
        raise Unavailable(
            f"the backup {target} cannot be written: {error.strerror or error}",
            hint="check the folder's rights and free space",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
    return manifest


@contextmanager
def _private(part: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _write_table(archive: zipfile.ZipFile, rows: Rows, table: TableRows, tell: Progress) -> TableRows:
    digest, count = hashlib.sha256(), 0
    tell(table.name, 0, table.rows)
    with archive.open(_member(table), "w", force_zip64=True) as member:
        for row in rows.of(table):
            line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
            digest.update(line)
            member.write(line)
            count += 1
            if not count % _TELL_EVERY:
                tell(table.name, count, table.rows)
    tell(table.name, count, table.rows)
    return table.model_copy(update={"rows": count, "sha256": digest.hexdigest()})


def _write_file(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    content = path.read_bytes()
    archive.writestr(f"files/{name}", content)
    return hashlib.sha256(content).hexdigest()


def _member(table: TableRows) -> str:
    return f"rows/{table.name}.jsonl"


class BackupFile:
    """A backup that is open for reading, as :class:`~wireloom.controller.store.backups.values.Rows`."""

    def __init__(self, archive: zipfile.ZipFile, manifest: BackupManifest, name: str) -> None:
        self._archive = archive
        self._manifest = manifest
        self._name = name

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[BackupFile]:
        """Open a backup and see that it is whole: every checksum and every count.

        :raises NotFound: there is no such file.
        :raises InvalidInput: it is no backup, or damaged.
        :raises Unsupported: a later version wrote it.
        """
        try:
            archive = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {path}") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"{path} is no backup of Wireloom: {error}") from error
        with archive:
            backup = cls(archive, _manifest(archive, path), str(path))
            backup._verify()
            yield backup

    @property
    def manifest(self) -> BackupManifest:
        """What it says about itself."""
        return self._manifest

    def of(self, table: TableRows) -> Iterator[Row]:
        """The rows of one table."""
        with self._archive.open(_member(table)) as member:
            for line in member:
                yield json.loads(line)

    def file(self, name: str) -> bytes:
        """The content of one of the manifest's ``files``."""
        return self._archive.read(f"files/{name}")

    def _verify(self) -> None:
        expected = {_member(table): table.sha256 for table in self._manifest.tables}
        expected |= {f"files/{name}": digest for name, digest in self._manifest.files.items()}
        for member, digest in expected.items():
            try:
                found, lines = self._digest(member)
            except (KeyError, zipfile.BadZipFile, EOFError, OSError) as error:
                raise InvalidInput(f"{self._name} is damaged: {member}: {error}", hint=_DAMAGED) from error
            if found != digest:
                raise InvalidInput(f"{self._name} is damaged: the checksum of {member} is wrong", hint=_DAMAGED)
            counted = {_member(table): table.rows for table in self._manifest.tables}.get(member, lines)
            if counted != lines:
                raise InvalidInput(f"{self._name} is damaged: {member} has {lines} rows, not {counted}", hint=_DAMAGED)

    def _digest(self, member: str) -> tuple[str, int]:
        digest, lines = hashlib.sha256(), 0
        with self._archive.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                lines += chunk.count(b"\n")
        return digest.hexdigest(), lines


def _manifest(archive: zipfile.ZipFile, path: Path) -> BackupManifest:
    try:
        if archive.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
            raise InvalidInput(f"{path} is no backup of Wireloom: its manifest is too large")
        manifest = BackupManifest.model_validate_json(archive.read(_MANIFEST))
    except (KeyError, ValidationError, zipfile.BadZipFile, OSError) as error:
        raise InvalidInput(f"{path} is no backup of Wireloom") from error
    if manifest.product != PRODUCT:
        raise InvalidInput(f"{path} is no backup of Wireloom")
    if manifest.format > FORMAT:
        raise Unsupported(
            f"{path} was written by Wireloom {manifest.version}, in a format that this version does not know",
            hint="restore it by that version or a later one",
        )
    return manifest
