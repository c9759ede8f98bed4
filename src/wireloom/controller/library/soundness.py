"""Verification that a user asks for: the stored file, and what each host has of the image, read again whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from wireloom.controller.library.records import ImageCatalogue, JobContext
from wireloom.controller.ports import ControllerFabric
from wireloom.errors import RuntimeFailed, WireloomError
from wireloom.fabric.image_documents import VerifyQuestion
from wireloom.fabric.methods import VERIFY_IMAGES
from wireloom.library.values import Progress
from wireloom.model.images import ImageView, JobStage, PresenceState

__all__ = ["CheckFile", "Soundness"]

_THERE: Final = frozenset({PresenceState.PRESENT, PresenceState.DAMAGED})


class CheckFile(Protocol):
    """:meth:`wireloom.controller.library.verify.Verifier.check`."""

    def __call__(self, image_id: str, progress: Progress) -> Awaitable[bool]: ...


class Soundness:
    """:param check: reads an image's stored file; what it finds is written in the catalogue."""

    def __init__(
        self,
        *,
        catalogue: ImageCatalogue,
        fabric: ControllerFabric,
        check: CheckFile,
        alive: Callable[[], frozenset[str]],
    ) -> None:
        self._catalogue = catalogue
        self._fabric = fabric
        self._check = check
        self._alive = alive

    async def verify(self, job: JobContext, image_id: str) -> None:
        """:raises NotFound: no such image. :raises RuntimeFailed: something of it is damaged, or could not be read."""
        image = self._catalogue.get(image_id)
        problems = []
        if await self._check(image_id, partial(job.progress, JobStage.DIGEST)):
            job.report("the library's file is what it was")
        else:
            problems.append(f"the library: {self._reason(image_id)}")
        await job.turn("network")
        hosts = sorted({there.host for there in image.presence if there.state in _THERE} & self._alive())
        for host in hosts:
            job.progress(JobStage.INSPECT, 0, 0)
            problem = await self._ask(host, image)
            if problem:
                problems.append(f"host {host}: {problem}")
            else:
                job.report(f"{host} has what it should have")
        for host in (there.host for there in image.presence if there.state is PresenceState.AWAY):
            job.report(f"{host} is away, and was not asked")
        if problems:
            raise RuntimeFailed(
                f"image {image.name} is damaged: {'; '.join(problems)}",
                hint="hosts mend theirs by themselves; the library's is fetched from a host, or imported again",
                details={"problems": problems},
            )

    def _reason(self, image_id: str) -> str:
        problem = self._catalogue.get(image_id).problem or {}
        return str(problem.get("message") or "its file is not what it was")

    async def _ask(self, host: str, image: ImageView) -> str:
        """What is wrong with the image on ``host``, in words; empty: nothing."""
        try:
            answer = await self._fabric.call(host, VERIFY_IMAGES, VerifyQuestion(images=(image.pin,)))
        except WireloomError as error:
            return f"not read: {error.message}"
        return str(answer.damaged.get(image.name, {}).get("message", ""))
