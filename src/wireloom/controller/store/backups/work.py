"""The verbs: upgrade, back up, restore, copy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from sqlalchemy import Connection

from wireloom.controller.store.backups.archive import BackupFile, write_backup
from wireloom.controller.store.backups.connections import parse, reading, refuse_in_use, same, shown, writing
from wireloom.controller.store.backups.loading import load, outdate, revisions
from wireloom.controller.store.backups.reading import DatabaseRows, revision_of
from wireloom.controller.store.backups.values import BackupManifest, Progress, no_progress
from wireloom.controller.store.database import Database
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable
from wireloom.model.base import Value

__all__ = ["Carried", "Upgraded", "backup", "copy", "restore", "upgrade"]

_WRITTEN_BESIDE: Final = "what is written meanwhile would be lost"
_NOT_NOW: Final = "it cannot be filled now"


class Upgraded(Value):
    """Revisions of a schema before and after; ``before`` is empty for a database that was empty."""

    database: str
    before: str
    after: str


class Carried(Value):
    """What was carried. ``revision``: of the schema afterwards; ``files``: written beside the database."""

    source: str
    target: str
    manifest: BackupManifest
    revision: str
    files: tuple[str, ...] = ()


async def upgrade(url: str) -> Upgraded:
    """Bring a database's schema up to date.

    :raises WireloomError: as of :meth:`~wireloom.controller.store.database.Database.open`.
    """
    parsed = parse(url)
    try:
        async with reading(parsed) as connection:
            before = await connection.run_sync(revision_of)
    except NotFound:
        before = ""
    await (await Database.open(parsed.render_as_string(hide_password=False))).close()
    return Upgraded(database=shown(parsed), before=before, after=revisions()[-1])


async def backup(
    url: str, target: Path, files: Mapping[str, Path] | None = None, tell: Progress = no_progress
) -> Carried:
    """Write a backup while controllers run.

    :param files: further files to take along, by their paths within the data folder.
    :raises Conflict: ``target`` is there already.
    :raises NotFound: there is no installation in the database.
    """
    parsed = parse(url)

    def work(connection: Connection) -> BackupManifest:
        return write_backup(target, DatabaseRows(connection, shown(parsed)), files or {}, tell)

    async with reading(parsed) as connection:
        manifest = await connection.run_sync(work)
    return Carried(
        source=shown(parsed),
        target=str(target),
        manifest=manifest,
        revision=manifest.revision,
        files=tuple(manifest.files),
    )


async def restore(
    source: Path, url: str, *, force: bool = False, files_to: Path | None = None, tell: Progress = no_progress
) -> Carried:
    """Fill an empty database from a backup, and bring it up to date.

    :param force: empty the database first.
    :param files_to: the data folder that gets the files of the backup; without it they are left out.
    :raises Conflict: the database is in use or not empty, or a file is there already.
    :raises InvalidInput: the file is no whole backup.
    :raises Unsupported: a later version wrote it.
    """
    parsed = parse(url)
    with BackupFile.open(source) as rows:
        places = _places(rows.manifest, files_to)
        taken = [str(path) for name, path in places.items() if path.exists() and path.read_bytes() != rows.file(name)]
        if taken and not force:
            raise Conflict(f"{', '.join(taken)} is there already", hint="move it away, or take --force")
        await refuse_in_use(parsed, _NOT_NOW)
        async with writing(parsed) as connection:
            revision = await connection.run_sync(load, rows, shown(parsed), force=force, tell=tell)
            await connection.run_sync(outdate)
            # Before the database's own end: with the files missing it is as if nothing had happened.
            for name, path in places.items():
                _put(path, rows.file(name))
        return Carried(
            source=str(source),
            target=shown(parsed),
            manifest=rows.manifest,
            revision=revision,
            files=tuple(str(path) for path in places.values()),
        )


async def copy(
    url: str, target_url: str, *, force: bool = False, running: bool = False, tell: Progress = no_progress
) -> Carried:
    """Copy a database into another one, of the same or of another kind.

    :param force: empty the target first.
    :param running: copy although controllers have the source open: it is the picture of one moment.
    :raises Conflict: source or target is in use, or the target is not empty.
    """
    source, target = parse(url), parse(target_url)
    if same(source, target):
        raise InvalidInput("source and target are the same database")
    if not running:
        await refuse_in_use(source, _WRITTEN_BESIDE)
    await refuse_in_use(target, _NOT_NOW)
    async with reading(source) as from_, writing(target) as to:
        into = to.sync_connection
        assert into is not None  # noqa: S101 - it is open

        def work(connection: Connection) -> tuple[BackupManifest, str]:
            rows = DatabaseRows(connection, shown(source))
            return rows.manifest, load(into, rows, shown(target), force=force, tell=tell)

        manifest, revision = await from_.run_sync(work)
    return Carried(source=shown(source), target=shown(target), manifest=manifest, revision=revision)


def _places(manifest: BackupManifest, folder: Path | None) -> dict[str, Path]:
    """Where the files of a backup go. :raises InvalidInput: one would leave the folder."""
    if folder is None:
        return {}
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InvalidInput(f"the backup has a file outside the data folder: {name}")
    return {name: folder / name for name in manifest.files}


def _put(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", hint="check the data folder") from error
