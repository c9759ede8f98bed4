"""What the controller asks of its database about jobs of the image library, and about uploads to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import RowMapping, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.database import Database
from wireloom.errors import Conflict, NotFound
from wireloom.model.images import JobState, JobView

__all__ = ["LIVE", "ImageWork", "JobRecord", "UploadRecord"]

#: States of jobs whose uploads are kept: they run, will run, or can be tried again.
LIVE: Final = frozenset({JobState.WAITING, JobState.RUNNING, JobState.CHOICE, JobState.FAILED})


@dataclass(frozen=True)
class JobRecord:
    """A job as it is stored. ``memory`` is what its work remembers for the next attempt."""

    view: JobView
    request: dict[str, Any]
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UploadRecord:
    """An upload as it is stored; how much of it is there is told by its file alone.

    :ivar file: its name as the user has it. :ivar size: bytes in all; ``None``: not known yet.
    :ivar sha256: what it must have, 64 digits; empty: anything. :ivar token: SHA-256 of what its writer shows; empty:
        it needs no token of its own. :ivar options: what else was said of it when it was made.
    :ivar job_id: the job that it belongs to.
    """

    id: str
    file: str
    size: int | None
    sha256: str
    token: str
    options: dict[str, str]
    job_id: str | None
    created_at: float
    expires_at: float


class ImageWork:
    """Jobs and uploads. Each method is one transaction; safe for concurrent use."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # ---------------------------------------------------------------- jobs

    async def jobs(self) -> list[JobRecord]:
        """All jobs, oldest first."""
        table = tables.image_jobs
        async with self._database.read() as connection:
            rows = await connection.execute(select(table).order_by(table.c.created_at, table.c.id))
            return [_job(row) for row in rows.mappings()]

    async def add_job(self, record: JobRecord, *, upload: str = "") -> None:
        """Store a new job, and have it own ``upload`` where one is named; both or nothing.

        :raises NotFound: no such upload. :raises Conflict: another job has it.
        """
        async with self._database.write() as connection:
            await connection.execute(insert(tables.image_jobs).values(_job_row(record)))
            if upload:
                await _claim(connection, upload, record.view.id)

    async def save_job(self, record: JobRecord) -> None:
        """Store how a job is now; one that was forgotten meanwhile stays so."""
        table = tables.image_jobs
        async with self._database.write() as connection:
            await connection.execute(update(table).where(table.c.id == record.view.id).values(_job_row(record)))

    async def forget_job(self, job_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(tables.image_jobs).where(tables.image_jobs.c.id == job_id))

    # ---------------------------------------------------------------- uploads

    async def uploads(self) -> list[UploadRecord]:
        """All uploads, oldest first."""
        table = tables.image_uploads
        async with self._database.read() as connection:
            rows = await connection.execute(select(table).order_by(table.c.created_at, table.c.id))
            return [_upload(row) for row in rows.mappings()]

    async def upload(self, upload_id: str) -> UploadRecord | None:
        async with self._database.read() as connection:
            return await _find(connection, upload_id)

    async def add_upload(self, record: UploadRecord) -> None:
        async with self._database.write() as connection:
            await connection.execute(insert(tables.image_uploads).values(_upload_row(record)))

    async def set_upload_size(self, upload_id: str, size: int) -> UploadRecord:
        """Say how large it will be, once. :raises NotFound: :raises Conflict: another size was said before."""
        table = tables.image_uploads
        async with self._database.write() as connection:
            known = await _existing(connection, upload_id)
            if known.size not in {None, size}:
                raise Conflict(f"the upload has {known.size} bytes, which was said before")
            await connection.execute(update(table).where(table.c.id == upload_id).values(size=size))
            return await _existing(connection, upload_id)

    async def prolong_upload(self, upload_id: str, until: float) -> None:
        table = tables.image_uploads
        async with self._database.write() as connection:
            await connection.execute(update(table).where(table.c.id == upload_id).values(expires_at=until))

    async def forget_upload(self, upload_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(tables.image_uploads).where(tables.image_uploads.c.id == upload_id))

    async def uploads_of_job(self, job_id: str) -> list[str]:
        """Ids of the uploads that belong to a job."""
        table = tables.image_uploads
        async with self._database.read() as connection:
            return [
                str(found) for found in await connection.scalars(select(table.c.id).where(table.c.job_id == job_id))
            ]

    async def stale_uploads(self) -> list[str]:
        """Ids of uploads whose time is over, and of those whose job has ended or is forgotten."""
        uploads, jobs = tables.image_uploads, tables.image_jobs
        live = select(jobs.c.id).where(jobs.c.state.in_([str(state) for state in LIVE]))
        expired = and_(uploads.c.job_id.is_(None), uploads.c.expires_at <= self._clock())
        left = and_(uploads.c.job_id.is_not(None), uploads.c.job_id.not_in(live))
        async with self._database.read() as connection:
            found = await connection.scalars(select(uploads.c.id).where(or_(expired, left)))
            return [str(upload_id) for upload_id in found]


# -------------------------------------------------------------------- inside


def _job(row: RowMapping) -> JobRecord:
    return JobRecord(view=JobView.model_validate(row["view"]), request=dict(row["request"]), memory=dict(row["memory"]))


def _job_row(record: JobRecord) -> dict[str, Any]:
    view = record.view
    return {
        "id": view.id,
        "kind": view.kind,
        "state": str(view.state),
        "request": record.request,
        "memory": record.memory,
        "view": view.model_dump(mode="json"),
        "created_at": view.created_at,
        "finished_at": view.finished_at,
    }


def _upload(row: RowMapping) -> UploadRecord:
    return UploadRecord(**row)


def _upload_row(record: UploadRecord) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in tables.image_uploads.columns}


async def _find(connection: AsyncConnection, upload_id: str) -> UploadRecord | None:
    table = tables.image_uploads
    row = (await connection.execute(select(table).where(table.c.id == upload_id))).mappings().one_or_none()
    return None if row is None else _upload(row)


async def _existing(connection: AsyncConnection, upload_id: str) -> UploadRecord:
    found = await _find(connection, upload_id)
    if found is None:
        raise NotFound("there is no such upload", hint="it was finished, deleted, or its time is over; begin anew")
    return found


async def _claim(connection: AsyncConnection, upload_id: str, job_id: str) -> None:
    table = tables.image_uploads
    known = await _existing(connection, upload_id)
    if known.job_id not in {None, job_id}:
        raise Conflict("the upload is being imported already", details={"job": known.job_id})
    await connection.execute(update(table).where(table.c.id == upload_id).values(job_id=job_id))
