"""Whether hosts have, or can get, the images that nodes are to be made of; found out while a change is checked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from wireloom.controller.ports import ControllerFabric
from wireloom.controller.preflight import ImageRef
from wireloom.errors import WireloomError, from_wire
from wireloom.fabric.documents import ImagesQuestion
from wireloom.fabric.methods import IMAGES

__all__ = ["ImageCheck", "ImageFindings", "LibraryImageCheck"]

log = structlog.get_logger(__name__)

#: A host that takes longer is busy; its images are then found, or not, when nodes are made.
ANSWER_WITHIN_S: Final = 5.0


@dataclass
class ImageFindings:
    """``missing``: neither there nor to be fetched; ``absent``: the host will fetch it first."""

    missing: dict[ImageRef, WireloomError] = field(default_factory=dict)
    absent: list[ImageRef] = field(default_factory=list)


class LibraryImageCheck(Protocol):
    """What the image library knows of images on hosts."""

    def judge(self, wanted: Iterable[ImageRef], findings: ImageFindings) -> list[ImageRef]:
        """Add what is to be said of those of ``wanted`` that are of the library; the others are returned."""
        ...


class ImageCheck:
    """Asks the hosts concerned, all at once, each for all of its images that are not of the library."""

    def __init__(self, fabric: ControllerFabric, library: LibraryImageCheck) -> None:
        self._fabric = fabric
        self._library = library

    async def look(self, wanted: Iterable[ImageRef]) -> ImageFindings:
        """What is known of ``wanted``; a host that does not answer leaves its images unknown."""
        findings = ImageFindings()
        by_host: dict[str, dict[str, set[str]]] = {}
        for ref in self._library.judge(wanted, findings):
            by_host.setdefault(ref.host, {}).setdefault(ref.provider, set()).add(ref.image)
        await asyncio.gather(*(self._ask(host, images, findings) for host, images in by_host.items()))
        return findings

    async def _ask(self, host: str, images: dict[str, set[str]], findings: ImageFindings) -> None:
        question = ImagesQuestion(wanted={provider: tuple(sorted(names)) for provider, names in images.items()})
        try:
            answer = await self._fabric.call(host, IMAGES, question, timeout_s=ANSWER_WITHIN_S)
        except WireloomError as error:
            log.info("images not known", host=host, error=str(error))
            return
        for provider, problems in answer.missing.items():
            for image, wire in problems.items():
                findings.missing[ImageRef(host, provider, image)] = from_wire(wire)
        for provider, names in answer.absent.items():
            findings.absent += [ImageRef(host, provider, image) for image in names]
