"""Links and segments through the API: ``client.links``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import quote

from wireloom.client.calls import Calls
from wireloom.fabric.link_documents import MtuAnswer, SelfTestAnswer
from wireloom.model.counters import CountersSample
from wireloom.model.link_views import (
    ClearRequest,
    Direction,
    ImpairRequest,
    LinkEnds,
    LinkRequest,
    LinkView,
    Parts,
    SegmentRequest,
)
from wireloom.model.presets import Preset

if TYPE_CHECKING:
    from wireloom.model.views import OperationView

__all__ = ["Links"]

#: A host sends frames of many sizes, and makes ports for it.
CHECK_TIMEOUT_S = 90.0


class Links(Calls):
    """Calls on links; errors as of :class:`~wireloom.client.client.Client`.

    Ends are ``node:interface``; the second one may be the name of a segment.
    """

    async def find(self, lab: str, a: str | None = None, b: str | None = None) -> list[LinkView]:
        """Links of a lab as they are now, or the one between two ends. :raises NotFound:"""
        return await self._many(LinkView, "GET", f"{_lab(lab)}/links", query={"a": a, "b": b})

    async def add(
        self,
        lab: str,
        a: str,
        b: str,
        *,
        mtu: int | None = None,
        vlan: int | None = None,
        trunk: tuple[str, ...] = (),
        native: int | None = None,
        restart: bool = False,
    ) -> OperationView:
        """Join two ports, or plug one into a segment.

        :param vlan: makes it an access port of this VLAN; ``trunk``: one of these VLANs (``10``, ``20-29``), with
            frames of ``native`` untagged.
        :raises Conflict: a port is in use, or a machine that runs has no NIC left and ``restart`` is not given.
        """
        request = LinkRequest(verb="add", a=a, b=b, mtu=mtu, vlan=vlan, trunk=trunk, native=native, restart=restart)
        return await self._link(lab, request)

    async def remove(self, lab: str, a: str, b: str) -> OperationView:
        """Remove the link between two ends."""
        return await self._link(lab, LinkRequest(verb="remove", a=a, b=b))

    async def move(self, lab: str, a: str, b: str, to: str, *, restart: bool = False) -> OperationView:
        """Take the end ``b`` of a link to another port or segment, in one revision; ``restart`` as of :meth:`add`."""
        return await self._link(lab, LinkRequest(verb="move", a=a, b=b, to=to, restart=restart))

    async def up(self, lab: str, a: str, b: str) -> OperationView:
        """Give the link its carrier back."""
        return await self._link(lab, LinkRequest(verb="up", a=a, b=b))

    async def down(self, lab: str, a: str, b: str) -> OperationView:
        """Drop the link's carrier at both ends."""
        return await self._link(lab, LinkRequest(verb="down", a=a, b=b))

    async def impair(
        self,
        lab: str,
        a: str,
        b: str,
        parts: Parts | None = None,
        *,
        preset: str = "",
        direction: Direction = "both",
        for_s: float | None = None,
    ) -> OperationView:
        """Impair a link. What was set of the direction before is replaced; forward is from ``a`` to ``b``.

        :param parts: in the place of those of the ``preset``, if one is named. :param for_s: seconds until it ends.
        :raises Unsupported: the host's kernel lacks what it takes; the message names it.
        """
        request = ImpairRequest(a=a, b=b, parts=parts or Parts(), preset=preset, direction=direction, for_s=for_s)
        return await self._operation(f"{_lab(lab)}/impairments", request)

    async def clear(self, lab: str, a: str = "", b: str = "") -> OperationView:
        """Take away what impairs a link; without ends, of all links of the lab."""
        return await self._operation(f"{_lab(lab)}/impairments/clear", ClearRequest(a=a, b=b))

    async def presets(self) -> list[Preset]:
        """Kinds of lines that people know."""
        return await self._many(Preset, "GET", "/impairment-presets")

    async def check(self, lab: str, a: str, b: str) -> MtuAnswer:
        """How large a frame passes over a link, each way; forward is from ``a`` to ``b``."""
        path = f"{_lab(lab)}/link-checks"
        return await self._one(MtuAnswer, "POST", path, LinkEnds(a=a, b=b), timeout_s=CHECK_TIMEOUT_S)

    async def counters(self, lab: str, *, interval_s: float = 1) -> AsyncGenerator[CountersSample, None]:
        """Counters and rates of all ports of a lab, one sample per host and interval, until the iterator is closed."""
        rest = b""
        pieces = self._transport().read_stream(f"{_lab(lab)}/counters", query={"interval": str(interval_s)})
        async with aclosing(pieces) as stream:
            async for piece in stream:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield CountersSample.model_validate_json(line)

    async def self_test(self, host: str) -> SelfTestAnswer:
        """Have a host send a real frame over each kind of path."""
        path = f"/hosts/{quote(host, safe='')}/self-test"
        return await self._one(SelfTestAnswer, "POST", path, timeout_s=CHECK_TIMEOUT_S)

    async def add_segment(self, lab: str, request: SegmentRequest) -> OperationView:
        """Add a segment. :raises Conflict: the name is taken. :raises Unsupported: its host cannot have it."""
        return await self._operation(f"{_lab(lab)}/segments", request)

    async def remove_segment(self, lab: str, name: str) -> OperationView:
        """Remove a segment with the links to it. :raises NotFound:"""
        return await self._operation(f"{_lab(lab)}/segments", SegmentRequest(verb="remove", name=name))

    async def _link(self, lab: str, request: LinkRequest) -> OperationView:
        return await self._operation(f"{_lab(lab)}/links", request)


def _lab(lab: str) -> str:
    return f"/labs/{quote(lab, safe='')}"
