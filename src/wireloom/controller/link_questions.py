"""Questions about links, carried to the agents that have them."""

from __future__ import annotations

import asyncio

from wireloom.controller.board import Board
from wireloom.controller.link_ends import LinkFinder
from wireloom.controller.live import LiveState
from wireloom.controller.merged_lines import MergedLines
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.topologies import Topologies
from wireloom.errors import InvalidInput, NotFound, Unavailable
from wireloom.fabric.link_documents import (
    CountersOpen,
    MtuAnswer,
    MtuQuestion,
    SelfTestAnswer,
    SelfTestQuestion,
)
from wireloom.fabric.methods import CHECK_MTU, COUNTERS, SELF_TEST
from wireloom.model.link_views import LinkEnds, LinkView
from wireloom.providers.contract import ByteStream

__all__ = ["LinkQuestions"]


class LinkQuestions:
    """Finds the host, refuses early when it is away, and passes the question on."""

    def __init__(self, *, fabric: ControllerFabric, board: Board, live: LiveState, topologies: Topologies) -> None:
        self._fabric = fabric
        self._board = board
        self._live = live
        self._topologies = topologies

    def links(self, lab: str, a: str = "", b: str = "") -> list[LinkView]:
        """Links of a lab as they are now, or the one between two ends. :raises NotFound: :raises InvalidInput:"""
        if bool(a) != bool(b):
            raise InvalidInput("a link has two ends", hint="name both, or none for all links")
        picture = self._board.named(lab)
        found = self._board.view(picture.snapshot.lab.id).links
        if not a:
            return list(found)
        wanted = LinkFinder(picture, self._topologies.devices).find(a, b).intent.id
        return [link for link in found if link.id == wanted]

    async def check_mtu(self, lab: str, ends: LinkEnds) -> MtuAnswer:
        """How large a frame passes over a link, forward being from ``ends.a`` to ``ends.b``.

        :raises NotFound: :raises Unavailable: its host does not answer.
        """
        picture = self._board.named(lab)
        found = LinkFinder(picture, self._topologies.devices).find(ends.a, ends.b)
        link = picture.links[found.intent.id]
        self._need(link.host)
        question = MtuQuestion(lab_id=picture.snapshot.lab.id, link_id=found.intent.id)
        answer = await self._fabric.call(link.host, CHECK_MTU, question)
        return MtuAnswer(forward=answer.backward, backward=answer.forward) if found.turned else answer

    async def counters(self, lab: str, interval_s: float) -> ByteStream:
        """Lines of counters of all hosts of a lab that live. The caller closes the stream.

        :raises NotFound: :raises Unavailable: none of its hosts answers.
        """
        picture = self._board.named(lab)
        hosts = [host for host in picture.slices if host in self._live.alive]
        if not hosts:
            raise Unavailable(f"no host of lab {lab} answers", hint="look at `wireloom status`")
        question = CountersOpen(lab_id=picture.snapshot.lab.id, interval_s=interval_s)
        opened: list[ByteStream] = []
        try:
            for host in hosts:
                opened.append(await self._fabric.open_stream(host, COUNTERS, question))
        except BaseException:
            await asyncio.gather(*(stream.close() for stream in opened))
            raise
        return opened[0] if len(opened) == 1 else MergedLines(opened)

    async def self_test(self, host: str) -> SelfTestAnswer:
        """Have a host send frames over each kind of path. :raises NotFound: :raises Unavailable:"""
        if host not in self._live.hosts:
            raise NotFound(f"no host is called {host}", hint="`wireloom hosts` lists them")
        self._need(host)
        return await self._fabric.call(host, SELF_TEST, SelfTestQuestion())

    def _need(self, host: str) -> None:
        if host not in self._live.alive:
            raise Unavailable(f"host {host} does not answer", hint="look at `wireloom status`")
