"""What others may ask of a host's images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wireloom.agent.library.stock import Stock
from wireloom.agent.library.waiting import deadline
from wireloom.errors import ImageMissing, WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.image_documents import (
    HostImage,
    HostImagesAnswer,
    HostImagesQuestion,
    VerifyAnswer,
    VerifyQuestion,
)
from wireloom.fabric.methods import HOST_IMAGES, VERIFY_IMAGES
from wireloom.providers.contract import Provider

__all__ = ["LibraryQuestions"]

_LIST_S: Final = 25.0


class LibraryQuestions:
    """Handlers of :data:`HOST_IMAGES` and :data:`VERIFY_IMAGES`."""

    def __init__(self, providers: Mapping[str, Provider], stock: Stock) -> None:
        self._providers = providers
        self._stock = stock

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve(host, HOST_IMAGES, self.images)
        await fabric.serve(host, VERIFY_IMAGES, self.verify)

    async def images(self, _: HostImagesQuestion) -> HostImagesAnswer:
        """Of all providers, whoever brought them."""
        images: list[HostImage] = []
        problems: dict[str, dict[str, Any]] = {}
        for name, provider in self._providers.items():
            try:
                async with deadline(f"listing the images of {name}", _LIST_S):
                    found = await provider.images.list()
            except WireloomError as error:
                problems[name] = error.to_wire()
                continue
            images += [HostImage(provider=name, name=info.name, content=info.digest, size=info.size) for info in found]
        return HostImagesAnswer(images=tuple(images), problems=problems)

    async def verify(self, question: VerifyQuestion) -> VerifyAnswer:
        """Read them, one after the other. :raises WireloomError: a provider does not answer."""
        damaged: dict[str, dict[str, Any]] = {}
        for pin in question.images:
            try:
                await self._stock.verify(pin)
            except ImageMissing as error:
                damaged[pin.name] = error.to_wire()
        return VerifyAnswer(damaged=damaged)
