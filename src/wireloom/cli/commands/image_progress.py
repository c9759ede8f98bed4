"""Uploads and jobs on a terminal: a bar while bytes move, lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Final

from wireloom.cli.commands.image_names import size
from wireloom.errors import Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wireloom.client import Client
    from wireloom.model.images import JobView

__all__ = ["follow_job", "shown"]

#: Told what is done, bytes of it, and bytes in all; 0: not known.
Tell = Callable[[str, int, int], None]

_TOLD_PERCENT: Final = 10
_TOLD_S: Final = 1.0
#: How long a controller may be away (it restarts) before we stop looking; the job goes on anyway.
_AWAY_S: Final = 30.0
_PAUSE_S: Final = 0.5


@contextmanager
def shown() -> Iterator[Tell]:
    """What is told, shown until the end of the block."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from wireloom.cli.output import rich_console

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=rich_console(stderr=True), transient=False) as progress:
        yield _Bars(progress).tell


class _Bars:
    """A bar for each thing that is done, one after the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._what = ""
        self._bar: TaskID | None = None
        self._total = 0

    def tell(self, what: str, done: int, total: int) -> None:
        if what != self._what or self._bar is None:
            if self._bar is not None and self._total:  # it is over, whatever was told of it last
                self._progress.update(self._bar, completed=self._total)
            self._what, self._bar = what, self._progress.add_task(what, total=None)
        self._total = total
        if total:
            self._progress.update(self._bar, completed=done, total=total)


class _Lines:
    """A line whenever something else begins, and for its tenths, as far as they take their time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._told = ("", -1)
        self._told_at = 0.0

    def tell(self, what: str, done: int, total: int) -> None:
        percent = 100 * done // total // _TOLD_PERCENT * _TOLD_PERCENT if total else 0
        now = time.monotonic()
        too_soon = what == self._told[0] and now - self._told_at < _TOLD_S
        if (what, percent) == self._told or too_soon:
            return
        self._told, self._told_at = (what, percent), now
        far = f" {percent} % of {size(total)}" if total else ""
        print(f"{now - self._began:7.1f}s  {what}{far}", file=sys.stderr, flush=True)


async def follow_job(client: Client, job: JobView, tell: Tell) -> JobView:
    """Wait until ``job`` has ended, or waits for a choice; it as it is then. Restarts of the controller are outlasted.

    :raises Unavailable: the controller is away for long; the job goes on when it is back.
    """
    import asyncio

    from wireloom.client.images import ENDED

    away_since: float | None = None
    while job.state not in ENDED:
        try:
            async with aclosing(_views(client, job.id)) as views:
                async for view in views:
                    job = view
                    away_since = None
                    tell(job.stage.value, job.done, job.total)
                    if job.state in ENDED:
                        return job
        except Unavailable:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > _AWAY_S:
                raise
        await asyncio.sleep(_PAUSE_S)
    return job


async def _views(client: Client, job_id: str) -> AsyncGenerator[JobView, None]:
    """The job as it is now, then whenever it changes."""
    from wireloom.model.images import JobView

    yield await client.images.job(job_id)
    async with aclosing(client.stream()) as messages:
        async for message in messages:
            if message.type == "job" and message.data.get("id") == job_id:
                yield JobView.model_validate(message.data)
