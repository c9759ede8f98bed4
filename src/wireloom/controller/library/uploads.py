"""Uploads that can be cut off anywhere and go on: the state behind the tus protocol (1.0.0), not its HTTP.

Of its extensions: creation, deferred length, termination, expiration, checksum (``sha1``, ``sha256``). The length of an
upload's file is its offset, and nothing else says how far it is: neither a lost connection nor a kill can make the two
differ. An upload waits until a job takes it (:meth:`Uploads.commit`), somebody deletes it, or its time is over.

Uploads of hosts have a token of their own, which opens this one upload and nothing else; its hash alone is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final, Literal

import structlog

from wireloom.controller.library.incoming import RESERVE, Incoming, Mark, need_room, plain_name
from wireloom.controller.library.threads import Threads
from wireloom.controller.store.image_work import ImageWork, UploadRecord
from wireloom.controller.tasks import Supervisor
from wireloom.errors import Conflict, InvalidInput, NotFound, WireloomError
from wireloom.library.durable import flush_file, flush_folder
from wireloom.library.values import ImageRefused, Limits, Progress, no_progress

__all__ = ["CHECKSUMS", "Checksum", "ChecksumMismatch", "Committed", "Upload", "Uploads"]

log = structlog.get_logger(__name__)

#: Algorithms of the checksum extension.
CHECKSUMS: Final = ("sha1", "sha256")
#: A sender that is silent for so long has gone, and another one may write.
IDLE_S: Final = 30.0
EXPIRE_EVERY_S: Final = 600.0
_DAY_S: Final = 24 * 3600.0
_MOST_METADATA: Final = 32
_LONGEST_METADATA: Final = 4096
_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_UPLOAD_ID: Final = re.compile(r"[0-9a-f]{32}")


class ChecksumMismatch(InvalidInput):
    """The bytes of one request are not what their sender said; they were dropped."""

    code = "checksum-mismatch"
    retryable = True


@dataclass(frozen=True)
class Checksum:
    """What the bytes of one request have; ``digest`` is binary."""

    algorithm: Literal["sha1", "sha256"]
    digest: bytes


@dataclass(frozen=True)
class Upload:
    """An upload as it is now. Sizes in bytes; ``size`` ``None``: to be said later. Times in UNIX seconds."""

    id: str
    file: str
    size: int | None
    offset: int
    metadata: Mapping[str, str]
    job_id: str | None
    created_at: float
    expires_at: float

    @property
    def complete(self) -> bool:
        return self.size == self.offset


@dataclass(frozen=True)
class Committed:
    """An upload that became a file: ``name`` as the user has it, ``digest`` ``sha256:…``."""

    name: str
    digest: str
    size: int


class Uploads:
    """:param threads: for pieces, which take no time; ``readers``: for whole files (``None``: the same).

    :param keep_days: an upload that nobody goes on with is removed after so long.
    :param reserve: bytes of the disk that uploads leave free.
    """

    def __init__(
        self,
        *,
        store: ImageWork,
        folder: Path,
        threads: Threads,
        readers: Threads | None = None,
        clock: Callable[[], float],
        limits: Limits | None = None,
        keep_days: float = 7,
        reserve: int = RESERVE,
        idle_s: float = IDLE_S,
        new_id: Callable[[], str] = lambda: token_hex(16),
    ) -> None:
        self._store = store
        self._folder = folder
        self._threads = threads
        self._readers = readers or threads
        self._clock = clock
        self._limits = limits or Limits()
        self._keep_s = keep_days * _DAY_S
        self._reserve = reserve
        self._idle_s = idle_s
        self._new_id = new_id
        self._files: dict[str, Incoming] = {}
        self._busy: set[str] = set()
        self._creating = asyncio.Lock()
        self._supervisor = Supervisor()

    async def start(self) -> None:
        """Remove what nobody knows of, then what is over, now and then."""
        known = {record.id for record in await self._store.uploads()}
        await self._threads.run(_remove_strangers, self._folder, known)
        self._supervisor.start("remove uploads that are over", self._expire_for_ever)

    async def stop(self) -> None:
        await self._supervisor.close()

    # ---------------------------------------------------------------- what a sender does

    async def create(
        self, length: int | None, metadata: Mapping[str, str], token: str = "", *, job_id: str | None = None
    ) -> str:
        """A new, empty upload.

        :param length: bytes that will come; ``None``: said later (:meth:`finish_length`).
        :param metadata: of the sender, ``filename`` and ``sha256`` of which are ours to read.
        :param token: to be shown by who writes; empty: it needs none of its own.
        :param job_id: the job that it belongs to, with which it goes.
        :raises InvalidInput: the metadata is wrong, or too much. :raises ImageRefused: it would be too large.
        :raises CapacityExceeded: the disk has no room for it.
        """
        if length is not None:
            self._check_length(length)
        sha256 = _checked_metadata(metadata)
        now = self._clock()
        record = UploadRecord(
            id=self._new_id(),
            file=plain_name(metadata.get("filename", "")),
            size=length,
            sha256=sha256,
            token=_hashed(token),
            options=dict(metadata),
            job_id=job_id,
            created_at=now,
            expires_at=now + self._keep_s,
        )
        async with self._creating:  # two at once must not be promised the same room
            promised = await self._promised()
            await self._threads.run(self._make, record, promised)
            await self._store.add_upload(record)
        return record.id

    async def all(self) -> list[Upload]:
        """Those that are there, oldest first; those of jobs, too."""
        found = []
        for record in await self._store.uploads():
            with suppress(NotFound):  # it went meanwhile
                if record.job_id is not None or record.expires_at > self._clock():
                    found.append(self._as_is(record))
        return found

    async def get(self, upload_id: str) -> Upload:
        """:raises NotFound: no such upload, or its time is over."""
        return self._as_is(await self._existing(upload_id))

    async def offset(self, upload_id: str) -> int:
        """How many bytes are there. :raises NotFound:"""
        return (await self.get(upload_id)).offset

    async def write(
        self, upload_id: str, offset: int, chunks: AsyncIterator[bytes], *, checksum: Checksum | None = None
    ) -> int:
        """Add bytes, and return the offset then. What came is kept when it is cut off.

        With ``checksum`` they are kept all or not at all, but for a kill of the controller in the midst of it.

        :raises NotFound: no such upload. :raises Conflict: it is not there that it ends, or another one writes.
        :raises InvalidInput: more came than was announced. :raises ChecksumMismatch: they are others.
        :raises CapacityExceeded: the disk is full; it can go on once there is room.
        :raises DeadlineExceeded: the sender was silent for long.
        """
        record = await self._existing(upload_id)
        with self._hold(upload_id):
            file = self._file(upload_id)
            if (there := file.length()) != offset:
                raise Conflict(
                    f"the upload has {there} bytes, so byte {offset} is not the next one", details={"offset": there}
                )
            most = self._limits.size if record.size is None else record.size
            if checksum is None:
                length = await file.append(chunks, most=most, idle_s=self._idle_s)
            else:
                length = await self._append_checked(file, chunks, most, checksum)
        try:
            await self._store.prolong_upload(upload_id, self._clock() + self._keep_s)
        except WireloomError as error:  # the bytes are there all the same
            log.warning("time of an upload not prolonged", upload=upload_id, error=str(error))
        return length

    async def finish_length(self, upload_id: str, length: int) -> Upload:
        """Say how long an upload of deferred length is.

        :raises NotFound: :raises Conflict: more is there already, or another length was said.
        :raises ImageRefused: it is too large. :raises CapacityExceeded: the disk has no room for the rest.
        """
        self._check_length(length)
        known = await self.get(upload_id)
        if known.offset > length:
            raise Conflict(f"{known.offset} bytes are there already", details={"offset": known.offset})
        async with self._creating:
            if known.size is None:
                rest = length - known.offset
                promised = await self._promised()
                await self._threads.run(need_room, self._folder, rest, reserve=self._reserve, promised=promised)
            return self._as_is(await self._store.set_upload_size(upload_id, length))

    async def delete(self, upload_id: str) -> None:
        """Drop it, also under the hands of who writes it. :raises NotFound: :raises Conflict: a job has it."""
        record = await self._existing(upload_id)
        if record.job_id is not None:
            raise Conflict("the upload is being imported", hint="cancel the job", details={"job": record.job_id})
        await self._remove(upload_id)

    async def may_write(self, upload_id: str, token: str) -> bool:
        """Whether ``token`` is the one of this upload; false where it has none, and where there is no such upload."""
        record = await self._store.upload(upload_id)
        expected = record.token if record is not None else ""
        return bool(expected) and hmac.compare_digest(expected, _hashed(token))

    # ---------------------------------------------------------------- what the library does

    async def complete(self, upload_id: str) -> Upload:
        """An upload that is all there and that nobody has. :raises NotFound: :raises Conflict: it is not."""
        known = await self.get(upload_id)
        if known.job_id is not None:
            raise Conflict("the upload is being imported already", details={"job": known.job_id})
        if not known.complete:
            raise Conflict("the upload is not complete", hint="send the rest first", details={"offset": known.offset})
        return known

    async def commit(self, upload_id: str, target: Path, progress: Progress = no_progress) -> Committed:
        """Make it the file ``target``, on the disk to stay, and forget the upload.

        :raises NotFound: no such upload. :raises Conflict: it is not complete, or being written.
        :raises ImageRefused: it has not the digest that its sender announced.
        """
        record = await self._existing(upload_id)
        with self._hold(upload_id):
            file = self._file(upload_id)
            if record.size is None or file.length() != record.size:
                raise Conflict("the upload is not complete", details={"offset": file.length()})
            digest = await self._readers.run(file.digest, progress)
            if record.sha256 and digest != f"sha256:{record.sha256}":
                raise ImageRefused("digest", f"{record.file} has {digest}, not the digest that was announced")
            await self._readers.run(_settle, file.path, target)
            self._files.pop(upload_id, None)
            await self._store.forget_upload(upload_id)
        return Committed(name=record.file, digest=digest, size=record.size)

    async def drop_job(self, job_id: str) -> None:
        """Drop the uploads that belong to a job."""
        for upload_id in await self._store.uploads_of_job(job_id):
            await self._remove(upload_id)

    async def expire(self) -> None:
        """Drop uploads whose time is over, and those whose job is."""
        for upload_id in await self._store.stale_uploads():
            if upload_id not in self._busy:
                log.info("upload dropped", upload=upload_id)
                await self._remove(upload_id)

    # ---------------------------------------------------------------- inside

    async def _expire_for_ever(self) -> None:
        while True:
            await self.expire()
            await asyncio.sleep(EXPIRE_EVERY_S)

    async def _append_checked(self, file: Incoming, chunks: AsyncIterator[bytes], most: int, checksum: Checksum) -> int:
        mark = file.mark()
        try:
            length = await file.append(chunks, most=most, idle_s=self._idle_s)
            if not hmac.compare_digest(
                await self._threads.run(_digest_since, file.path, mark, checksum), checksum.digest
            ):
                raise ChecksumMismatch("the bytes have another checksum", hint="send them again")
        except BaseException:
            await self._threads.run(file.back_to, mark)
            raise
        return length

    async def _remove(self, upload_id: str) -> None:
        """The record first: a file without one is found and removed at the next start."""
        await self._store.forget_upload(upload_id)
        self._files.pop(upload_id, None)
        await self._threads.run(_unlink, self._path(upload_id))

    async def _existing(self, upload_id: str) -> UploadRecord:
        record = await self._store.upload(upload_id) if _UPLOAD_ID.fullmatch(upload_id) else None
        if record is None or (record.job_id is None and record.expires_at <= self._clock()):
            raise NotFound("there is no such upload", hint="it was finished, deleted, or its time is over; begin anew")
        return record

    def _as_is(self, record: UploadRecord) -> Upload:
        return Upload(
            id=record.id,
            file=record.file,
            size=record.size,
            offset=self._file(record.id).length(),
            metadata=record.options,
            job_id=record.job_id,
            created_at=record.created_at,
            expires_at=record.expires_at,
        )

    def _check_length(self, length: int) -> None:
        if not 0 <= length <= self._limits.size:
            raise ImageRefused("size", f"{length} bytes are more than the {self._limits.size} that are allowed")

    async def _promised(self) -> int:
        """Bytes that uploads on their way have still to come with."""
        records = await self._store.uploads()
        return sum(max(0, (record.size or 0) - _length(self._path(record.id))) for record in records)

    def _make(self, record: UploadRecord, promised: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        need_room(self._folder, record.size or 0, reserve=self._reserve, promised=promised)
        self._file(record.id).empty()

    @contextmanager
    def _hold(self, upload_id: str) -> Iterator[None]:
        """Be the only one who works on it. :raises Conflict: somebody is."""
        if upload_id in self._busy:
            raise Conflict("somebody writes to the upload already", hint="wait for it, then ask for the offset")
        self._busy.add(upload_id)
        try:
            yield
        finally:
            self._busy.discard(upload_id)

    def _file(self, upload_id: str) -> Incoming:
        if upload_id not in self._files:
            self._files[upload_id] = Incoming(self._path(upload_id), self._threads, reserve=self._reserve)
        return self._files[upload_id]

    def _path(self, upload_id: str) -> Path:
        return self._folder / upload_id


def _checked_metadata(metadata: Mapping[str, str]) -> str:
    """The announced SHA-256, 64 digits or nothing. :raises InvalidInput: the metadata is wrong, or too much."""
    size = sum(len(key) + len(value) for key, value in metadata.items())
    if len(metadata) > _MOST_METADATA or size > _LONGEST_METADATA:
        raise InvalidInput(f"the upload's metadata has more than {_MOST_METADATA} entries or {_LONGEST_METADATA} bytes")
    announced = metadata.get("sha256", "").lower()
    found = _SHA256.fullmatch(announced)
    if announced and found is None:
        raise InvalidInput("the metadata's sha256 is not a digest", hint="it is 64 hexadecimal digits")
    return found[1] if found else ""


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def _digest_since(path: Path, mark: Mark, checksum: Checksum) -> bytes:
    """The binary digest of what came after ``mark``. Blocking."""
    with path.open("rb") as file:
        file.seek(mark.length)
        return hashlib.file_digest(file, checksum.algorithm).digest()


def _settle(file: Path, target: Path) -> None:
    """Rename ``file`` to ``target``, so that both content and name survive a loss of power. Blocking."""
    flush_file(file)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.replace(target)
    flush_folder(target.parent)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_strangers(folder: Path, known: set[str]) -> None:
    """Remove files of uploads that nobody knows of. Blocking."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for entry in folder.iterdir():
        if entry.name not in known:
            entry.unlink()
