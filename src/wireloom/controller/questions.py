"""Questions and byte streams to a node, carried to the agent of its host."""

from __future__ import annotations

from typing import Final

from wireloom.controller.board import Board
from wireloom.controller.live import LiveState
from wireloom.controller.picture import NodePicture
from wireloom.controller.ports import ControllerFabric
from wireloom.errors import InvalidInput, NotFound, Unavailable
from wireloom.fabric.consoles import SharedConsole
from wireloom.fabric.documents import (
    BootsQuestion,
    ConsoleOpen,
    ExecQuestion,
    LinesQuestion,
    LogOpen,
    PostBootQuestion,
)
from wireloom.fabric.methods import BOOTS, CONSOLE, EXEC, LINES, LOG, POST_BOOT
from wireloom.model.console import ConsoleLine
from wireloom.model.post_boot import BootRecord
from wireloom.model.runtime import Boot
from wireloom.model.views import ExecRequest, ExecView
from wireloom.providers.contract import ByteStream

__all__ = ["Questions"]

LONGEST_EXEC_S: Final = 3600.0
#: What fabric and agent may take beyond the command itself.
EXEC_MARGIN_S: Final = 10.0


class Questions:
    """Finds the node, refuses early when its host is away, and passes the question on."""

    def __init__(self, *, fabric: ControllerFabric, board: Board, live: LiveState) -> None:
        self._fabric = fabric
        self._board = board
        self._live = live

    async def exec(self, lab: str, node: str, request: ExecRequest) -> ExecView:
        """Run a command in a node. :raises NotFound: :raises InvalidInput: :raises Unavailable:"""
        if not request.command:
            raise InvalidInput("no command given", hint="`wireloom exec LAB NODE -- COMMAND`", node=node)
        if not 0 < request.timeout_s <= LONGEST_EXEC_S:
            raise InvalidInput(f"a timeout must be over 0 and at most {LONGEST_EXEC_S:g} s", node=node)
        lab_id, place = self._find(lab, node)
        question = ExecQuestion(
            lab_id=lab_id, node_id=place.intent.id, command=request.command, timeout_s=request.timeout_s
        )
        answer = await self._fabric.call(place.host, EXEC, question, timeout_s=request.timeout_s + EXEC_MARGIN_S)
        return ExecView(
            exit_code=answer.exit_code,
            stdout=answer.stdout.decode(errors="replace"),
            stderr=answer.stderr.decode(errors="replace"),
            channel=answer.channel,
            tried=answer.tried,
            skipped=answer.skipped,
        )

    async def post_boot(self, lab: str, node: str) -> tuple[BootRecord, ...]:
        """What post-boot commands did in the node's newest boots, the newest first."""
        lab_id, place = self._find(lab, node)
        question = PostBootQuestion(lab_id=lab_id, node_id=place.intent.id)
        return (await self._fabric.call(place.host, POST_BOOT, question)).boots

    async def boots(self, lab: str, node: str) -> list[Boot]:
        """The boots of the node of which a log is kept, newest first."""
        lab_id, place = self._find(lab, node)
        question = BootsQuestion(lab_id=lab_id, node_id=place.intent.id)
        return list((await self._fabric.call(place.host, BOOTS, question)).boots)

    async def log(self, lab: str, node: str, *, follow: bool, boot: int = 0) -> ByteStream:
        """The log of the node's present or last boot, or of ``boot`` boots before. The caller closes the stream."""
        lab_id, place = self._find(lab, node)
        question = LogOpen(lab_id=lab_id, node_id=place.intent.id, follow=follow, boot=boot)
        return await self._fabric.open_stream(place.host, LOG, question)

    async def console(
        self,
        lab: str,
        node: str,
        *,
        columns: int,
        rows: int,
        read_only: bool,
        line: int | None,
        who: str = "",
        notices: bool = False,
    ) -> SharedConsole:
        """The node's console, with notices if they are wanted. The caller closes it."""
        lab_id, place = self._find(lab, node)
        question = ConsoleOpen(
            lab_id=lab_id,
            node_id=place.intent.id,
            columns=columns,
            rows=rows,
            read_only=read_only,
            line=line,
            who=who,
            notices=notices,
        )
        return await self._fabric.open_console(place.host, CONSOLE, question)

    async def lines(self, lab: str, node: str) -> tuple[ConsoleLine, ...]:
        """The node's serial lines that are open, with who is there."""
        lab_id, place = self._find(lab, node)
        question = LinesQuestion(lab_id=lab_id, node_id=place.intent.id)
        return (await self._fabric.call(place.host, LINES, question)).lines

    def _find(self, lab: str, name: str) -> tuple[str, NodePicture]:
        picture = self._board.named(lab)
        found = next((node for node in picture.nodes.values() if node.intent.name == name), None)
        if found is None:
            raise NotFound(f"lab {lab} has no node {name}", hint=f"`wireloom inspect {lab}` lists them")
        if not found.alive:
            raise Unavailable(f"host {found.host} does not answer", hint="look at `wireloom status`", node=name)
        return picture.snapshot.lab.id, found
