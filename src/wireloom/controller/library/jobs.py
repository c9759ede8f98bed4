"""Jobs of the image library: durable, a bounded number at once of each kind of work, told to everybody who looks.

A job is its row in the database and its folder. A controller that is killed finds both again and begins the job's work
anew; what that work remembered and what it has in its folder is still there. Work therefore must be able to begin at
any point, and leave nothing outside of its folder that is half.

======================  ==========================================================================================
state                   what is kept
======================  ==========================================================================================
waiting, running        memory and files
choice                  memory and files; no place is taken while a user thinks
failed                  memory and files, so that it can be tried again; neither where the image itself was refused
done, cancelled         neither
======================  ==========================================================================================

The log is kept until the job is forgotten, some days after its end.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import structlog

from wireloom.controller.hub import Hub
from wireloom.controller.journal import Journal
from wireloom.controller.library.choices import chosen_keys
from wireloom.controller.library.job import CHOSEN, Job, JobPaused
from wireloom.controller.library.places import AT_ONCE, Lane, Places
from wireloom.controller.library.records import JobCancelled, JobContext
from wireloom.controller.store.image_work import ImageWork, JobRecord
from wireloom.controller.tasks import Supervisor
from wireloom.errors import CapacityExceeded, Conflict, InternalError, NotFound, RuntimeFailed, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.library.values import ImageRefused
from wireloom.model.base import Value
from wireloom.model.images import Choice, JobKind, JobStage, JobState, JobView
from wireloom.model.views import StreamMessage

__all__ = ["ImageJobs", "Work"]

log = structlog.get_logger(__name__)

#: What a job of one kind does. It may be called again for the same job after having been cut off anywhere.
Work = Callable[[JobContext], Awaitable[None]]
#: Where a job begins, as far as it is by now.
FirstLane = Callable[[JobContext], Lane]

#: Between two messages of one job, and between two times that its progress is stored.
TELL_S: Final = 0.1
SAVE_S: Final = 3.0
#: How long a verb waits for a job to take notice.
NOTICE_S: Final = 5.0
STOP_S: Final = 20.0
TEND_S: Final = 600.0
#: Beginnings without an end, after which a job is taken for what kills the controller.
MOST_ATTEMPTS: Final = 5
_DAY_S: Final = 24 * 3600.0
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def _on_disk(_job: JobContext) -> Lane:
    return "disk"


class ImageJobs:
    """All jobs that are remembered. Say what does them with :meth:`serve`, then :meth:`start`.

    :param folder: a folder a job below it. :param at_once: jobs at work at the same time, by what they are at.
    :param keep_days: after its end a job is forgotten, with what it kept for another attempt.
    """

    def __init__(
        self,
        *,
        store: ImageWork,
        folder: Path,
        hub: Hub,
        journal: Journal,
        clock: Callable[[], float],
        at_once: Mapping[Lane, int] = AT_ONCE,
        keep_days: float = 7,
        new_id: Callable[[], str] = lambda: token_hex(6),
    ) -> None:
        self._store = store
        self._folder = folder
        self._hub = hub
        self._journal = journal
        self._clock = clock
        self._places = Places(at_once, self._pump)
        self._keep_s = keep_days * _DAY_S
        self._new_id = new_id
        self._jobs: dict[str, Job] = {}
        self._works: dict[str, Work] = {}
        self._first_lanes: dict[str, FirstLane] = {}
        self._on_dropped: Callable[[str], Awaitable[None]] | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._saving: dict[str, asyncio.Lock] = {}
        self._supervisor = Supervisor()
        self._started = False

    # ---------------------------------------------------------------- life

    def serve(self, kind: JobKind, work: Work, first_lane: FirstLane = _on_disk) -> None:
        """``work`` does jobs of ``kind``, which begin when there is a place in ``first_lane``."""
        self._works[kind] = work
        self._first_lanes[kind] = first_lane

    def on_dropped(self, callback: Callable[[str], Awaitable[None]]) -> None:
        """Have ``callback`` called with the id of each job whose files went."""
        self._on_dropped = callback

    async def start(self, *, resume: bool = True) -> None:
        """Read what there is, and carry on what was not finished.

        :param resume: false: another controller is at work, and what was not finished is its.
        """
        for record in await self._store.jobs() if resume else ():
            job = self._jobs[record.view.id] = self._job(record)
            if job.state is JobState.RUNNING:
                job.set(state=JobState.WAITING)
            elif not _keeps_files(job.view):  # the controller ended before they were gone
                job.set(finished_at=job.view.finished_at or self._clock())
                await self._drop(job)
        if resume:
            await asyncio.to_thread(_remove_strangers, self._folder, set(self._jobs))
        self._started = True
        self._supervisor.start("tend jobs of the library", self._tend_for_ever)
        self._pump()

    async def stop(self) -> None:
        """Cut off what runs, to be carried on at the next start. Idempotent."""
        self._started = False
        await self._supervisor.close()
        for job in self._jobs.values():
            job.stopping = True
            if job.working is not None:
                job.working.cancel()
        if self._runs:
            await asyncio.wait(set(self._runs), timeout=STOP_S)

    # ---------------------------------------------------------------- verbs

    def all(self) -> list[JobView]:
        """Newest first."""
        return [job.view for job in reversed(self._jobs.values())]

    def get(self, job_id: str) -> JobView:
        """:raises NotFound: no such job."""
        return self._named(job_id).view

    def unfinished(self) -> list[tuple[JobView, Mapping[str, Any]]]:
        """Jobs that have not ended, with what was asked of each."""
        return [(job.view, job.request) for job in self._jobs.values() if not _is_over(job.state)]

    async def submit(
        self, kind: JobKind, title: str, request: Value, *, secrets: Mapping[str, str] | None = None, upload: str = ""
    ) -> JobView:
        """Have it done, as soon as there is a place.

        :param request: what the work needs to know, without secrets: it is stored.
        :param secrets: held in memory alone, and shown in no text of the job.
        :param upload: the upload that belongs to the job from now on.
        :raises NotFound: no such upload. :raises Conflict: another job has it.
        """
        view = JobView(id=self._new_id(), kind=kind, title=title, created_at=self._clock())
        job = self._job(JobRecord(view=view, request=request.model_dump(mode="json")), secrets)
        view = view.model_copy(update={"title": job.without_secrets(title)})
        job.set(title=view.title)
        await self._store.add_job(job.record(), upload=upload)
        self._jobs[job.id] = job
        self._publish(job)
        self._pump()
        return job.view

    async def cancel(self, job_id: str) -> JobView:
        """End it and drop its files; of a job that failed, give up what was kept for another attempt.

        :raises NotFound: no such job. :raises Conflict: it is done.
        """
        job = self._named(job_id)
        if job.state is JobState.DONE:
            raise Conflict("the job is done", hint="delete what it made, if it is not wanted")
        if job.state is JobState.CANCELLED:
            return job.view
        job.cancelled = True
        if job.working is None:
            await self._end(job, JobState.CANCELLED)
            return job.view
        await self._save(job)
        job.working.cancel()
        await self._noticed(job, lambda: job.working is None)
        return job.view

    async def retry(self, job_id: str) -> JobView:
        """Begin it again, with what it still has. :raises NotFound: :raises Conflict: it has not failed."""
        job = self._named(job_id)
        if job.state not in {JobState.FAILED, JobState.CANCELLED} or job.working is not None:
            raise Conflict(f"the job is {job.state.value}, there is nothing to try again")
        job.cancelled = False
        job.at(JobStage.QUEUED)
        job.set(state=JobState.WAITING, error=None, attempts=0, started_at=None, finished_at=None)
        job.report("tried again")
        await self._save(job)
        self._publish(job)
        self._pump()
        return job.view

    async def choose(self, job_id: str, choice: Choice) -> JobView:
        """Say which of what a job offers it is to import.

        :raises NotFound: no such job. :raises Conflict: it does not wait for that.
        :raises InvalidInput: an offer is not there, or cannot be imported.
        """
        job = self._named(job_id)
        choices = job.view.choices
        if job.state is not JobState.CHOICE or choices is None or job.working is not None:
            raise Conflict("the job waits for no choice", hint="`wireloom images jobs` shows what it is at")
        keys = chosen_keys(choices, choice)
        job.recall(**{CHOSEN: list(keys)})
        job.set(state=JobState.WAITING, attempts=0)
        await self._save(job)
        self._publish(job)
        self._pump()
        return job.view

    def log(self, job_id: str, *, follow: bool = False) -> AsyncIterator[str]:
        """Its log, a line each; with ``follow`` until the job ends. :raises NotFound: no such job."""
        return self._lines(self._named(job_id), follow)

    async def _lines(self, job: Job, follow: bool) -> AsyncIterator[str]:
        offset = 0
        while True:
            rung = job.bell.next()
            ended = _is_over(job.state)
            lines, offset = await asyncio.to_thread(job.log.read, offset)
            for line in lines:
                yield line
            if not lines and (ended or not follow):
                return
            if not lines:
                await rung.wait()

    # ---------------------------------------------------------------- running

    def _pump(self) -> None:
        """Begin what waits, as far as there are places."""
        for job in list(self._jobs.values()):
            if not self._started:
                return
            if job.state is JobState.WAITING and job.working is None and self._has_place(job):
                # Working from here on, so that nobody takes it for one that waits.
                job.working = asyncio.create_task(self._work(job), name=f"job {job.id}")
                run = asyncio.create_task(self._run(job, job.working), name=f"run of job {job.id}")
                self._runs.add(run)
                run.add_done_callback(self._over)

    def _has_place(self, job: Job) -> bool:
        first_lane = self._first_lanes.get(job.view.kind, _on_disk)
        return self._places.take(job.id, first_lane(job))

    def _over(self, run: asyncio.Task[None]) -> None:
        self._runs.discard(run)
        if not run.cancelled() and (error := run.exception()) is not None:
            log.error("defect in the running of jobs", error=repr(error))
        self._pump()

    async def _run(self, job: Job, working: asyncio.Task[None]) -> None:
        """Follow a job's work to its end; never cancelled itself."""
        telling = asyncio.create_task(self._tell(job))
        try:
            await asyncio.wait([working])
            await self._conclude(job, working)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            job.working = None
            self._places.leave(job.id)
            job.bell.ring()

    async def _work(self, job: Job) -> None:
        attempts = job.view.attempts + 1
        job.set(state=JobState.RUNNING, attempts=attempts, started_at=self._clock(), finished_at=None)
        await self._save(job)
        if attempts > MOST_ATTEMPTS:
            raise RuntimeFailed(
                f"the controller ended {MOST_ATTEMPTS} times while at it", hint="look at its log, then retry the job"
            )
        await asyncio.to_thread(job.make_folder)
        await self._works[job.view.kind](job)

    async def _conclude(self, job: Job, working: asyncio.Task[None]) -> None:
        """The job's state, from how its work ended."""
        try:
            working.result()
        except JobPaused as pause:
            if job.cancelled:
                await self._end(job, JobState.CANCELLED)
                return
            job.set(state=JobState.CHOICE, choices=pause.choices)
            await self._save_surely(job)
            self._publish(job)
        except (JobCancelled, asyncio.CancelledError):
            if job.cancelled:
                await self._end(job, JobState.CANCELLED)
            else:  # the controller goes; this attempt does not count
                job.set(state=JobState.WAITING, attempts=job.view.attempts - 1)
                await self._save_surely(job)
        except WireloomError as error:
            await self._end(job, JobState.FAILED, error)
        except OSError as error:
            await self._end(job, JobState.FAILED, _of_system(error))
        except Exception as error:  # nobody awaits it: the edge of one job's work is here
            log.exception("defect in a job of the library", job=job.id, kind=job.view.kind)
            await self._end(job, JobState.FAILED, InternalError(f"defect: {error!r}"))
        else:
            await self._end(job, JobState.DONE)

    async def _end(self, job: Job, state: JobState, error: WireloomError | None = None) -> None:
        """Write how it ended, then drop what is not needed any more."""
        wire = None if error is None else job.without_secrets(error.to_wire())
        job.log.add(state.value if wire is None else f"{state.value}: {wire['message']}")
        job.set(state=state, error=wire, choices=None, finished_at=self._clock())
        if not _keeps_files(job.view):
            job.forget()
        await self._save_surely(job)
        if not _keeps_files(job.view):
            await self._drop(job)
        self._publish(job)
        level = EventLevel.ERROR if state is JobState.FAILED else EventLevel.INFO
        text = f"{job.view.title}: {state.value if wire is None else wire['message']}"
        self._journal.tell(f"image.job-{state.value}", text, level=level)

    async def _drop(self, job: Job) -> None:
        """Remove its files, and what others keep for it."""
        await asyncio.to_thread(job.drop_files)
        if self._on_dropped is not None:
            try:
                await self._on_dropped(job.id)
            except WireloomError as error:  # what is left is found again as nobody's
                log.warning("what belonged to a job is not removed yet", job=job.id, error=str(error))

    # ---------------------------------------------------------------- telling and storing

    async def _tell(self, job: Job) -> None:
        """Tell how far the job is: at once, then at a pace; the database at a slower one."""
        told: JobView | None = None
        saved = asyncio.get_running_loop().time()
        while True:
            rung, view = job.bell.next(), job.view
            if view == told:
                await rung.wait()
                continue
            told = view
            self._publish(job)
            if asyncio.get_running_loop().time() - saved > SAVE_S:
                saved = asyncio.get_running_loop().time()
                await self._save_surely(job)
            await asyncio.sleep(TELL_S)

    def _publish(self, job: Job) -> None:
        self._hub.publish(StreamMessage(type="job", data=job.view.model_dump(mode="json")))

    async def _save(self, job: Job) -> None:
        """Store it as it is when its turn has come: what is stored last is what it was last."""
        async with self._saving.setdefault(job.id, asyncio.Lock()):
            await self._store.save_job(job.record())
            job.unsaved = False

    async def _save_surely(self, job: Job) -> None:
        """Store it; where the database does not answer, later."""
        try:
            await self._save(job)
        except WireloomError as error:
            job.unsaved = True
            log.warning("state of a job not stored yet", job=job.id, error=str(error))

    async def _tend_for_ever(self) -> None:
        while True:
            await self.tend()
            await asyncio.sleep(TEND_S)

    async def tend(self) -> None:
        """Store what could not be stored before, and forget what is long over."""
        for job in list(self._jobs.values()):
            ended, began = job.view.finished_at, job.view.started_at or job.view.created_at
            if job.unsaved:
                await self._save_surely(job)
            elif job.state is JobState.CHOICE and began + self._keep_s <= self._clock():
                job.report("nobody has chosen")
                await self._end(job, JobState.CANCELLED)
            elif job.working is None and ended is not None and ended + self._keep_s <= self._clock():
                await self._store.forget_job(job.id)
                self._jobs.pop(job.id, None)
                self._saving.pop(job.id, None)
                await self._drop(job)
                await asyncio.to_thread(job.drop_home)

    # ---------------------------------------------------------------- inside

    def _job(self, record: JobRecord, secrets: Mapping[str, str] | None = None) -> Job:
        return Job(record, self._folder / record.view.id, save=self._save, places=self._places, secrets=secrets)

    def _named(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound("there is no such job", hint="it may have been forgotten since; `wireloom images jobs`")
        return job

    async def _noticed(self, job: Job, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds of the job, for a moment."""
        try:
            async with asyncio.timeout(NOTICE_S):
                while not condition():
                    rung = job.bell.next()
                    if not condition():
                        await rung.wait()
        except TimeoutError:
            log.info("a job takes its time to end", job=job.id)


def _is_over(state: JobState) -> bool:
    return state in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}


def _keeps_files(view: JobView) -> bool:
    """Whether another attempt could end otherwise, and needs what there is."""
    error: dict[str, Any] = view.error or {}
    return not _is_over(view.state) or (view.state is JobState.FAILED and error.get("code") != ImageRefused.code)


def _of_system(error: OSError) -> WireloomError:
    """What the operating system refused, as an error of ours."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return CapacityExceeded("the disk of the image library is full", hint="make room, then retry the job")
    return RuntimeFailed(f"the operating system refused: {reason}", hint="look at the controller's data folder")


def _remove_strangers(folder: Path, known: set[str]) -> None:
    """Remove folders of jobs that nobody remembers. Blocking."""
    import shutil

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for entry in folder.iterdir():
        if entry.name not in known:
            shutil.rmtree(entry, ignore_errors=True)
