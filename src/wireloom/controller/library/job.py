"""One job of the library: what its work sees of it, and how it stands."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from wireloom.controller.library.job_log import Bell, JobLog, plain_line
from wireloom.controller.library.places import Lane, Places
from wireloom.controller.library.records import JobCancelled
from wireloom.controller.store.image_work import JobRecord
from wireloom.model.images import JobChoices, JobStage, JobState, JobView

__all__ = ["CHOSEN", "Job", "JobPaused"]

#: Key of a job's memory: what a user chose.
CHOSEN: Final = "chosen"
#: Lines of a view's report; the log has them all.
_REPORT_LINES: Final = 200
#: Shorter ones are words that stand in messages anyway.
_SHORTEST_SECRET: Final = 4


class JobPaused(Exception):
    """The job cannot go on before a user has chosen; it begins anew then."""

    def __init__(self, choices: JobChoices) -> None:
        super().__init__("a choice is to be made")
        self.choices = choices


class Job:
    """A :class:`~wireloom.controller.library.records.JobContext`, and what its manager needs.

    Fields change in the event loop only, except by :meth:`progress` and :meth:`report`.

    :param home: its folder: the log, and ``files`` for what its work has there.
    :param save: stores the record as it is then. :param places: shared by all jobs.
    :ivar working: its work, while it runs. :ivar unsaved: the database does not have its last state.
    """

    def __init__(
        self,
        record: JobRecord,
        home: Path,
        *,
        save: Callable[[Job], Awaitable[None]],
        places: Places,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.id = record.view.id
        self.request: Mapping[str, Any] = record.request
        self.secrets: Mapping[str, str] = dict(secrets or {})
        self.home = home
        self.folder = home / "files"
        self.log = JobLog(home / "log")
        self.bell = Bell()
        self.working: asyncio.Task[None] | None = None
        self.cancelled = False
        self.stopping = False
        self.unsaved = False
        self._memory = dict(record.memory)
        self._view = record.view
        self._at = (record.view.stage, record.view.done, record.view.total)
        self._report = list(record.view.report)
        self._lines = threading.Lock()
        self._save = save
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._ringing = False

    # ---------------------------------------------------------------- what its work calls

    @property
    def memory(self) -> Mapping[str, Any]:
        return dict(self._memory)

    async def remember(self, **facts: Any) -> None:
        self._memory |= facts
        await self._save(self)

    def progress(self, stage: JobStage, done: int = 0, total: int = 0) -> None:
        if self.cancelled or self.stopping:
            raise JobCancelled
        self._at = (stage, done, total)
        self._ring()

    async def turn(self, lane: Lane | None) -> None:
        if lane is None:
            self._places.leave(self.id)
        elif not self._places.take(self.id, lane):
            self.progress(JobStage.QUEUED)
            await self._places.wait(self.id, lane)

    def report(self, line: str) -> None:
        text = plain_line(self.without_secrets(line))
        self.log.add(text)
        with self._lines:
            self._report.append(text)
            del self._report[:-_REPORT_LINES]
        self._ring()

    async def choose(self, choices: JobChoices) -> Sequence[str]:
        chosen = self._memory.get(CHOSEN)
        if chosen is None:
            raise JobPaused(choices)
        return tuple(chosen)

    async def made(self, *, images: Sequence[str] = (), devices: Sequence[str] = ()) -> None:
        view = self._view
        self.set(
            images=tuple(dict.fromkeys((*view.images, *images))),
            devices=tuple(dict.fromkeys((*view.devices, *devices))),
        )
        await self._save(self)

    # ---------------------------------------------------------------- what its manager calls

    @property
    def view(self) -> JobView:
        """How it stands now."""
        stage, done, total = self._at
        with self._lines:
            report = tuple(self._report)
        return self._view.model_copy(update={"stage": stage, "done": done, "total": total, "report": report})

    @property
    def state(self) -> JobState:
        return self._view.state

    def record(self) -> JobRecord:
        """It, as it is to be found after a kill: one that is being cancelled does not run again."""
        view = self.view
        if self.cancelled and view.finished_at is None:
            view = view.model_copy(update={"state": JobState.CANCELLED})
        return JobRecord(view=view, request=dict(self.request), memory=dict(self._memory))

    def set(self, **changes: Any) -> None:
        """Change fields of its view, other than how far it is."""
        self._view = self._view.model_copy(update=changes)
        self.bell.ring()

    def at(self, stage: JobStage) -> None:
        """Set how far it is, whatever its state."""
        self._at = (stage, 0, 0)

    def recall(self, **facts: Any) -> None:
        """Add to its memory; the caller saves."""
        self._memory |= facts

    def forget(self) -> None:
        """Nothing of what it did is left: its memory goes, as its files do."""
        self._memory = {}

    def without_secrets(self, value: Any) -> Any:
        """``value`` (JSON) with what must not be shown taken out of its texts."""
        if isinstance(value, str):
            for name, secret in self.secrets.items():
                if name != "username" and len(secret) >= _SHORTEST_SECRET:
                    value = value.replace(secret, "…")
            return value
        if isinstance(value, dict):
            return {key: self.without_secrets(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.without_secrets(item) for item in value]
        return value

    def make_folder(self) -> None:
        """Have its folder, readable by us alone. Blocking."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def drop_files(self) -> None:
        """Remove what its work has in its folder; the log stays. Blocking."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def drop_home(self) -> None:
        """Remove everything of it. Blocking."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _ring(self) -> None:
        """Wake the loop from any thread, once for as many calls as come until it looks."""
        if not self._ringing:
            self._ringing = True
            self._loop.call_soon_threadsafe(self._rung)

    def _rung(self) -> None:
        self._ringing = False
        self.bell.ring()
