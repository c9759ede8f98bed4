"""Which images a host has, asked before the first change. Nothing is fetched by asking."""

from __future__ import annotations

from collections.abc import Mapping

from wireloom.errors import WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import ImagesAnswer, ImagesQuestion
from wireloom.fabric.methods import IMAGES
from wireloom.providers.contract import Provider

__all__ = ["ImageQuestions"]


class ImageQuestions:
    """Answers for the providers of one host."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve(host, IMAGES, self.images)

    async def images(self, question: ImagesQuestion) -> ImagesAnswer:
        missing: dict[str, dict[str, dict[str, object]]] = {}
        absent: dict[str, list[str]] = {}
        for name, wanted in question.wanted.items():
            provider = self._providers.get(name)
            if provider is None:
                continue
            pulls = (await provider.capabilities()).pulls
            for image in wanted:
                try:
                    if not pulls:
                        await provider.images.load(image)  # verifies it; there is nowhere to fetch it from
                    elif not await provider.images.has(image):
                        absent.setdefault(name, []).append(image)
                except WireloomError as error:
                    # An engine that is away says nothing of its images; that it is away is found elsewhere.
                    if not error.retryable:
                        missing.setdefault(name, {})[image] = error.to_wire()
        return ImagesAnswer(missing=missing, absent={name: tuple(images) for name, images in absent.items()})
