"""The image of a node that is to come is here before the node is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from wireloom.agent.hooks.image import Bringer
from wireloom.errors import DeadlineExceeded, Unavailable
from wireloom.library.values import no_progress
from wireloom.model.slice import Arrival, Slice
from wireloom.providers.contract import Provider

__all__ = ["ArrivingImages"]

_PULL_S: Final = 1800.0


class ArrivingImages:
    """Brings what is of the library from there, and has the engine find the rest.

    :param library: ``None``: there is none.
    """

    def __init__(self, providers: Mapping[str, Provider], library: Bringer | None = None) -> None:
        self._providers = providers
        self._library = library

    async def bring(self, lab: Slice, arrival: Arrival) -> None:
        """:raises ImageMissing: it cannot be had. :raises WireloomError: not now."""
        provider = self._providers.get(arrival.provider)
        if provider is None:
            raise Unavailable(f"this host has no provider {arrival.provider}", node=arrival.name)
        pin = lab.pin(arrival.node)
        if pin is not None and self._library is not None:
            await self._library.bring(pin, progress=no_progress, urgent=lambda: True, lab=lab.lab, node=arrival.name)
            return
        if await provider.images.has(arrival.node.image):
            return
        try:
            async with asyncio.timeout(_PULL_S):
                await provider.images.load(arrival.node.image)
        except TimeoutError:
            raise DeadlineExceeded(f"fetching image {arrival.node.image} took more than {_PULL_S:g} s") from None
