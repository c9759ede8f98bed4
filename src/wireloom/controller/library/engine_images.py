"""What hosts have in their engines and image folders, whoever brought it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from wireloom.controller.library.records import ImageCatalogue
from wireloom.controller.ports import ControllerFabric
from wireloom.errors import WireloomError, from_wire
from wireloom.fabric.image_documents import HostImagesQuestion
from wireloom.fabric.methods import HOST_IMAGES
from wireloom.model.images import EngineImageView

__all__ = ["engine_images"]

log = structlog.get_logger(__name__)


async def engine_images(
    fabric: ControllerFabric, catalogue: ImageCatalogue, hosts: Iterable[str]
) -> list[EngineImageView]:
    """Of all of ``hosts`` that answer, by host and name. :raises WireloomError: there is but one, and it cannot say."""
    asked = sorted(hosts)
    answers = await asyncio.gather(*(_of_host(fabric, catalogue, host) for host in asked), return_exceptions=True)
    found: list[EngineImageView] = []
    for host, answer in zip(asked, answers, strict=True):
        if isinstance(answer, list):
            found += answer
        elif isinstance(answer, WireloomError) and len(asked) > 1:
            log.info("images of a host not known", host=host, error=str(answer))
        else:
            raise answer
    return found


async def _of_host(fabric: ControllerFabric, catalogue: ImageCatalogue, host: str) -> list[EngineImageView]:
    answer = await fabric.call(host, HOST_IMAGES, HostImagesQuestion())
    for provider, problem in sorted(answer.problems.items()):
        log.info("images of an engine not known", host=host, provider=provider, error=problem)
        if not answer.images:
            raise from_wire(problem)
    views = []
    for image in sorted(answer.images, key=lambda item: (item.name, item.provider)):
        ours = catalogue.pin(image.provider, image.name)
        known = catalogue.named(image.name) if ours is not None and ours.content == image.content else None
        views.append(
            EngineImageView(
                host=host,
                provider=image.provider,
                name=image.name,
                content=image.content,
                size=image.size,
                library=known.id if known is not None else "",
            )
        )
    return views
