"""Captures: what a user names is found, and its host is asked for it."""

from __future__ import annotations

from wireloom.controller.board import Board
from wireloom.controller.link_ends import LinkFinder
from wireloom.controller.live import LiveState
from wireloom.controller.picture import LabPicture
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.topologies import Topologies
from wireloom.errors import NotFound, Unavailable
from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.methods import CAPTURE
from wireloom.model.capture import CaptureOptions
from wireloom.model.slice import PlugIntent
from wireloom.providers.contract import ByteStream

__all__ = ["CaptureQuestions"]

#: Between the ends of a link, as views write it.
_JOINT = "--"


class CaptureQuestions:
    """Finds the host, refuses early when it is away, and passes the question on."""

    def __init__(self, *, fabric: ControllerFabric, board: Board, live: LiveState, topologies: Topologies) -> None:
        self._fabric = fabric
        self._board = board
        self._live = live
        self._topologies = topologies

    async def open(self, lab: str, of: str, options: CaptureOptions, *, decode: bool = False) -> ByteStream:
        """Frames of a port (``r1:eth1``), a link (``r1:eth1 -- r2:eth1``) or a segment. The caller closes the stream.

        :raises NotFound: :raises InvalidInput: the filter is none. :raises CapacityExceeded: too many on its host.
        :raises Unavailable: its host does not answer. :raises Unsupported: it cannot decode.
        """
        options.check()
        picture = self._board.named(lab)
        host, found = self._find(picture, of)
        if host not in self._live.alive:
            raise Unavailable(f"host {host} does not answer", hint="look at `wireloom status`")
        return await self._fabric.open_stream(
            host, CAPTURE, found.model_copy(update={"options": options, "decode": decode})
        )

    def _find(self, picture: LabPicture, of: str) -> tuple[str, CaptureOpen]:
        """The host, and what to capture there."""
        finder = LinkFinder(picture, self._topologies.devices)
        lab_id = picture.snapshot.lab.id
        first, joint, second = (part.strip() for part in of.partition(_JOINT))
        if joint:
            link = finder.find(first, second).intent
            kind = "plug" if isinstance(link, PlugIntent) else "wire"
            # Both ways are seen at either end of a link between hosts.
            hosts = picture.links[link.id].hosts
            host = next((host for host in hosts if host in self._live.alive), hosts[0])
            return host, CaptureOpen(lab_id=lab_id, kind=kind, id=link.id)
        end = finder.end(of)
        if isinstance(end, str):
            return picture.segments[end].host, CaptureOpen(lab_id=lab_id, kind="segment", id=end)
        node_id, index = end
        if picture.nodes[node_id].intent.port(index) is None:
            raise NotFound(
                f"{of} was not made with its node", hint="ports with a link, and spare ones, can be captured"
            )
        return picture.nodes[node_id].host, CaptureOpen(lab_id=lab_id, kind="port", node_id=node_id, index=index)
