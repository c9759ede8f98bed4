"""Nodes that move, through the API: ``client.moves``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from wireloom.client.calls import Calls
from wireloom.model.moves import MoveRequest, MovesView, MoveView

__all__ = ["Moves"]

#: Preflight on other hosts.
_MOVE_S: Final = 120.0


class Moves(Calls):
    """Calls about moves; errors as of :class:`~wireloom.client.client.Client`."""

    async def move(self, lab: str, nodes: Iterable[str], host: str = "", *, dry_run: bool = False) -> MovesView:
        """Move nodes with what they have; ``host`` empty: to the best other host for each.

        :param dry_run: only say what would happen.
        """
        request = MoveRequest(nodes=tuple(nodes), host=host, dry_run=dry_run)
        return await self._one(MovesView, "POST", f"/labs/{quote(lab, safe='')}/moves", request, timeout_s=_MOVE_S)

    async def all(self, lab: str) -> list[MoveView]:
        """Nodes of the lab that move, and moves that were undone, with why."""
        return await self._many(MoveView, "GET", f"/labs/{quote(lab, safe='')}/moves")

    async def abort(self, lab: str, node: str) -> None:
        """Have a node stay where it was. :raises Conflict: it has arrived already."""
        await self._bytes("DELETE", f"/labs/{quote(lab, safe='')}/moves/{quote(node, safe='')}", None, None, None)
