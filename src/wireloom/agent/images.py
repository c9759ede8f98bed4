"""Which images a host has, asked before the first change. Nothing is fetched by asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wireloom.errors import WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import ImagesAnswer, ImagesQuestion
from wireloom.fabric.methods import IMAGES
from wireloom.model.images import ImagePin
from wireloom.providers.contract import Provider

__all__ = ["ImageQuestions"]

#: The library's image of that provider and name, where it can be brought to the host.
Obtainable = Callable[[str, str], ImagePin | None]


def _no_library(_provider: str, _image: str) -> ImagePin | None:
    return None


class ImageQuestions:
    """Answers for the providers of one host.

    :param obtainable: what the library has.
    """

    def __init__(self, providers: Mapping[str, Provider], obtainable: Obtainable = _no_library) -> None:
        self._providers = providers
        self._obtainable = obtainable

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
                pin = self._obtainable(name, image)
                try:
                    if not await (_has_exactly(provider, pin) if pin else _has(provider, image, pulls=pulls)):
                        absent.setdefault(name, []).append(image)
                except WireloomError as error:
                    # An engine that is away says nothing of its images; that it is away is found elsewhere.
                    if not error.retryable:
                        missing.setdefault(name, {})[image] = error.to_wire()
        return ImagesAnswer(missing=missing, absent={name: tuple(images) for name, images in absent.items()})


async def _has(provider: Provider, image: str, *, pulls: bool) -> bool:
    """:raises ImageMissing: it is not there, and there is nowhere to fetch it from."""
    if pulls:
        return await provider.images.has(image)
    await provider.images.load(image)  # verifies it
    return True


async def _has_exactly(provider: Provider, pin: ImagePin) -> bool:
    info = await provider.images.info(pin.name)
    return info is not None and info.digest == pin.content
