"""What belongs to no lab, through the API: ``client.orphans``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wireloom.client.calls import Calls
from wireloom.model.orphans import AdoptRequest, AdoptView, DiscoverView, Orphan, PruneRequest

__all__ = ["Orphans"]

#: Engines remove many gigabytes, and every host is asked.
_HOSTS_S: Final = 300.0


class Orphans(Calls):
    """Calls about what lies on hosts and is in no lab; errors as of :class:`~wireloom.client.client.Client`."""

    async def discover(self) -> DiscoverView:
        """Everything of that kind, by host; what could not be looked at hides nothing else, and is told."""
        return await self._one(DiscoverView, "GET", "/discover", timeout_s=_HOSTS_S)

    async def prune(self, *, dry_run: bool = True, images: bool = False, hosts: Iterable[str] = ()) -> list[Orphan]:
        """Find, and unless ``dry_run`` remove, what no lab wants and what interrupted steps left.

        :param images: also images and files that nothing uses, and that can be had again.
        :raises Unavailable: no host is there to be asked.
        """
        from pydantic import TypeAdapter

        request = PruneRequest(dry_run=dry_run, images=images, hosts=tuple(hosts))
        return TypeAdapter(list[Orphan]).validate_json(await self._bytes("POST", "/prune", request, None, _HOSTS_S))

    async def adopt(self, request: AdoptRequest) -> AdoptView:
        """Make a lab again of what hosts have of it. :raises NotFound: they have nothing. :raises Conflict:"""
        return await self._one(AdoptView, "POST", "/adopt", request, timeout_s=_HOSTS_S)
