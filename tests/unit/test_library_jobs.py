"""Jobs of the image library: they end once, survive kills, take turns, are told, and leave nothing behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from library_rig import Ask, Rig, make_library, told_jobs, until_quietly

from wireloom.controller.library.choices import chosen_keys
from wireloom.controller.library.job_log import JobLog
from wireloom.controller.library.records import JobContext
from wireloom.controller.library.threads import Threads
from wireloom.errors import CapacityExceeded, Conflict, InvalidInput, NotFound, Unavailable
from wireloom.library.values import ImageRefused
from wireloom.model.images import Choice, JobChoices, JobStage, JobState, Offer

CHOICES = JobChoices(
    title="a medium",
    offers=(
        Offer(key="node", kind="device", title="IOSv"),
        Offer(key="image", kind="image", title="IOSv 15.9", needs=("node",)),
        Offer(key="broken", kind="image", title="Broken", problem="its file is not there"),
    ),
)


class Work:
    """Work of a job that a test holds in its hand."""

    def __init__(self) -> None:
        self.begun: list[JobContext] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.hold_files = True

    async def __call__(self, job: JobContext) -> None:
        self.begun.append(job)
        job.progress(JobStage.FETCH, 1, 10)
        (job.folder / "half").write_text("half")
        await self.go.wait()
        if self.error is not None:
            raise self.error
        await job.made(images=["image1"])


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def rig(tmp_path: Path, work: Work) -> AsyncIterator[Rig]:
    async with make_library(tmp_path, extract=work) as made:
        yield made


async def test_a_job_ends_with_what_it_made_and_leaves_its_log_alone(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "a job", Ask(what="x"))
    assert job.state is JobState.WAITING
    await until_quietly(lambda: work.begun)
    assert work.begun[0].request == {"what": "x"}
    work.begun[0].report("half way")
    work.go.set()
    ended = await rig.ended(job)
    assert (ended.state, ended.images, ended.report, ended.attempts) == (JobState.DONE, ("image1",), ("half way",), 1)
    assert rig.debris() == []
    lines = [line async for line in rig.jobs.log(job.id)]
    assert [line.partition(" ")[2] for line in lines] == ["half way", "done"]


async def test_so_many_at_once_and_the_others_wait_their_turn(rig: Rig, work: Work) -> None:
    jobs = [await rig.jobs.submit("extract", f"job {number}", Ask()) for number in range(4)]
    await until_quietly(lambda: len(work.begun) == 2)
    assert [view.state.value for view in reversed(rig.jobs.all())] == ["running", "running", "waiting", "waiting"]
    work.go.set()
    assert [(await rig.ended(job)).state.value for job in jobs] == ["done"] * 4


async def test_progress_is_told_at_once_and_at_a_pace(rig: Rig, work: Work) -> None:
    with rig.hub.subscribe() as mailbox, rig.hub.subscribe("a lab") as of_a_lab:
        take = told_jobs(mailbox)
        await rig.jobs.submit("extract", "a job", Ask())
        await until_quietly(lambda: work.begun)
        assert (await take())[-1].id == rig.jobs.all()[0].id
        for done in range(1000):
            work.begun[0].progress(JobStage.STORE, done, 1000)
        told = [view async for view in _until_done(take, 999)]
        assert told[-1].stage is JobStage.STORE
        assert len(told) < 10
        assert not of_a_lab._filled.is_set()
    work.go.set()


async def _until_done(take: object, done: int) -> AsyncIterator[object]:
    async with asyncio.timeout(60):
        while True:
            for view in await take():  # type: ignore[operator]
                yield view
                if view.done == done:
                    return


async def test_a_restart_carries_on_and_a_kill_does(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "a job", Ask())
    await until_quietly(lambda: work.begun)
    await work.begun[0].remember(fetched=17)
    await rig.restart()
    await until_quietly(lambda: len(work.begun) == 2)
    assert work.begun[1].memory == {"fetched": 17}
    assert (work.begun[1].folder / "half").exists()
    assert rig.jobs.get(job.id).attempts == 1
    await rig.kill()
    await until_quietly(lambda: len(work.begun) == 3)
    assert rig.jobs.get(job.id).attempts == 2
    work.go.set()
    assert (await rig.ended(job)).state is JobState.DONE


async def test_a_job_that_kills_the_controller_is_not_begun_for_ever(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "a job", Ask())
    for begun in range(1, 6):
        await until_quietly(lambda begun=begun: len(work.begun) == begun)
        await rig.kill()
    ended = await rig.ended(job)
    assert ended.state is JobState.FAILED
    assert "5 times" in (ended.error or {})["message"]
    work.go.set()
    await rig.jobs.retry(job.id)
    assert (await rig.ended(job)).state is JobState.DONE


async def test_secrets_are_in_memory_alone_and_in_no_text(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "get it with hunter22", Ask(), secrets={"password": "hunter22"})
    await until_quietly(lambda: work.begun)
    assert work.begun[0].secrets == {"password": "hunter22"}
    work.begun[0].report("asking with hunter22")
    work.error = Unavailable("nobody knows hunter22", details={"tried": ["hunter22"]})
    work.go.set()
    ended = await rig.ended(job)
    await rig.jobs.stop()
    stored = "".join(str(record) for record in await rig.store.image_work.jobs())
    log = [line async for line in rig.jobs.log(job.id)]
    assert "hunter22" not in stored + str(ended) + "".join(log) + (rig.folder / "wireloom.sqlite").read_text("latin-1")


async def test_cancelling_ends_work_and_its_files_go(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "a job", Ask())
    await until_quietly(lambda: work.begun)
    cancelled = await rig.jobs.cancel(job.id)
    assert cancelled.state is JobState.CANCELLED
    assert rig.debris() == []
    assert (await rig.jobs.cancel(job.id)).state is JobState.CANCELLED


async def test_cancelling_waits_for_the_thread_that_writes(tmp_path: Path) -> None:
    ended: list[str] = []

    def slow(job: JobContext) -> None:
        while True:
            time.sleep(0.01)
            (job.folder / "written").write_text("x")
            try:
                job.progress(JobStage.CONVERT, 1, 2)
            except BaseException:
                ended.append("thread")
                raise

    async def work(job: JobContext) -> None:
        try:
            await Threads(1).run(slow, job)
        finally:
            ended.append("work")

    async with make_library(tmp_path, extract=work) as rig:
        job = await rig.jobs.submit("extract", "a job", Ask())
        await until_quietly(lambda: rig.jobs.get(job.id).stage is JobStage.CONVERT)
        await rig.jobs.cancel(job.id)
        assert ended == ["thread", "work"]
        assert rig.debris() == []


async def test_a_cancelled_job_stays_so_when_the_controller_is_killed_before_it_ends(tmp_path: Path) -> None:
    begun: list[str] = []

    async def stubborn(job: JobContext) -> None:
        begun.append(job.id)
        if len(begun) > 1:
            return
        (job.folder / "half").write_text("half")
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)

    async with make_library(tmp_path, extract=stubborn) as rig:
        job = await rig.jobs.submit("extract", "a job", Ask())
        await until_quietly(lambda: begun)
        cancelling = asyncio.create_task(rig.jobs.cancel(job.id))
        await until_quietly(lambda: rig.jobs._jobs[job.id].cancelled)
        await asyncio.sleep(0.01)
        await rig.kill()
        await cancelling
        assert rig.jobs.get(job.id).state is JobState.CANCELLED
        assert begun == [job.id]
        assert rig.debris() == []


async def test_what_waits_or_failed_is_cancelled_and_what_is_done_is_not(rig: Rig, work: Work) -> None:
    jobs = [await rig.jobs.submit("extract", f"job {number}", Ask()) for number in range(3)]
    assert (await rig.jobs.cancel(jobs[2].id)).state is JobState.CANCELLED
    work.error = Unavailable("nobody is there")
    work.go.set()
    assert (await rig.ended(jobs[0])).state is JobState.FAILED
    await rig.ended(jobs[1])
    assert len(rig.debris()) == 2
    assert (await rig.jobs.cancel(jobs[0].id)).state is JobState.CANCELLED
    assert len(rig.debris()) == 1
    work.error = None
    await rig.jobs.retry(jobs[1].id)
    assert (await rig.ended(jobs[1])).state is JobState.DONE
    with pytest.raises(Conflict):
        await rig.jobs.cancel(jobs[1].id)
    with pytest.raises(Conflict):
        await rig.jobs.retry(jobs[1].id)
    with pytest.raises(NotFound):
        await rig.jobs.cancel("000000000000")


@pytest.mark.parametrize(
    ("error", "code", "keeps"),
    [
        (ImageRefused("bomb", "it is too much"), "image-refused", False),
        (Conflict("the name is taken"), "conflict", True),
        (CapacityExceeded("the disk is full"), "capacity-exceeded", True),
        (OSError(28, "No space left on device"), "capacity-exceeded", True),
        (OSError(5, "Input/output error"), "runtime-failed", True),
        (ZeroDivisionError("a defect"), "internal", True),
    ],
)
async def test_failures_have_their_reason_and_keep_files_for_another_attempt(
    rig: Rig, work: Work, error: Exception, code: str, keeps: bool
) -> None:
    work.error = error
    work.go.set()
    ended = await rig.ended(await rig.jobs.submit("extract", "a job", Ask()))
    assert ended.state is JobState.FAILED
    assert (ended.error or {})["code"] == code
    assert bool(rig.debris()) is keeps
    await rig.restart()
    assert bool(rig.debris()) is keeps
    assert rig.jobs.get(ended.id).error == ended.error


async def test_a_choice_is_waited_for_without_a_place_and_over_restarts(tmp_path: Path) -> None:
    chosen: list[Sequence[str]] = []

    async def work(job: JobContext) -> None:
        chosen.append(await job.choose(CHOICES))

    async with make_library(tmp_path, extract=work) as rig:
        jobs = [await rig.ended(await rig.jobs.submit("extract", "a job", Ask())) for _ in range(3)]
        assert [job.state for job in jobs] == [JobState.CHOICE] * 3
        assert jobs[0].choices == CHOICES
        await rig.kill()
        with pytest.raises(InvalidInput):
            await rig.jobs.choose(jobs[0].id, Choice(keys=("broken",)))
        await rig.jobs.choose(jobs[0].id, Choice(keys=("image",)))
        ended = await rig.ended(jobs[0])
        assert (ended.state, ended.choices, chosen) == (JobState.DONE, None, [("node", "image")])
        with pytest.raises(Conflict):
            await rig.jobs.choose(jobs[0].id, Choice(everything=True))


def test_what_is_chosen_takes_along_what_it_needs() -> None:
    assert chosen_keys(CHOICES, Choice(everything=True)) == ["node", "image"]
    assert chosen_keys(CHOICES, Choice(keys=("node",))) == ["node"]
    for wrong in (Choice(), Choice(keys=("else",)), Choice(keys=("broken",))):
        with pytest.raises(InvalidInput):
            chosen_keys(CHOICES, wrong)


async def test_a_choice_that_nobody_makes_is_given_up_in_the_end(tmp_path: Path) -> None:
    async def work(job: JobContext) -> None:
        (job.folder / "medium").write_text("large")
        await job.choose(CHOICES)

    async with make_library(tmp_path, extract=work) as rig:
        job = await rig.ended(await rig.jobs.submit("extract", "a job", Ask()))
        rig.now += 8 * 24 * 3600
        await rig.jobs.tend()
        assert rig.jobs.get(job.id).state is JobState.CANCELLED
        assert rig.debris() == []


async def test_old_jobs_are_forgotten_with_all_they_had(rig: Rig, work: Work) -> None:
    work.error = Unavailable("nobody is there")
    work.go.set()
    job = await rig.ended(await rig.jobs.submit("extract", "a job", Ask()))
    await rig.jobs.tend()
    assert rig.jobs.get(job.id)
    rig.now += 8 * 24 * 3600
    await rig.jobs.tend()
    with pytest.raises(NotFound):
        rig.jobs.get(job.id)
    assert await rig.store.image_work.jobs() == []
    assert list((rig.folder / "jobs").iterdir()) == []


async def test_folders_of_unknown_jobs_go_at_the_start(rig: Rig) -> None:
    stranger = rig.folder / "jobs" / "stranger" / "files"
    stranger.mkdir(parents=True)
    (stranger / "huge").write_text("x")
    await rig.restart()
    assert not stranger.exists()


async def test_a_log_is_followed_to_the_end_of_the_job(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "a job", Ask())
    await until_quietly(lambda: work.begun)
    seen: list[str] = []

    async def follow() -> None:
        seen.extend([line.partition(" ")[2] async for line in rig.jobs.log(job.id, follow=True)])

    following = asyncio.create_task(follow())
    work.begun[0].report("one\n\x1b[31mtwo")
    await asyncio.sleep(0.01)
    work.begun[0].report("three")
    work.go.set()
    async with asyncio.timeout(60):
        await following
    assert seen == ["one\ufffd\ufffd[31mtwo", "three", "done"]
    with pytest.raises(NotFound):
        rig.jobs.log("000000000000")


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.controller.library.job_log.MOST_BYTES", 400)
    log = JobLog(tmp_path / "log")
    for number in range(100):
        log.add(f"line {number}")
    assert 400 <= (tmp_path / "log").stat().st_size < 500
    lines, _ = log.read(0)
    assert lines[0].endswith("line 0")
    assert lines[-1].endswith("left out")


async def test_a_database_that_does_not_answer_is_told_later(rig: Rig, work: Work) -> None:
    job = await rig.jobs.submit("extract", "a job", Ask())
    await until_quietly(lambda: work.begun)
    store, real = rig.store.image_work, rig.store.image_work.save_job

    async def fails(record: object) -> None:
        raise Unavailable("the database does not answer")

    store.save_job = fails  # type: ignore[method-assign, assignment]
    work.error = Unavailable("nobody is there")
    work.go.set()
    await rig.ended(job)
    store.save_job = real  # type: ignore[method-assign]
    assert (await store.jobs())[0].view.state is JobState.RUNNING
    await rig.jobs.tend()
    assert (await store.jobs())[0].view.state is JobState.FAILED
