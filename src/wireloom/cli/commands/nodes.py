"""One node: run a command, work on its console, read its boot log."""

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.completion import complete_node
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data
from wireloom.cli.state import JsonFlag, state_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wireloom.client import Client

__all__ = ["register"]

NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name of the node.", autocompletion=complete_node, show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="exec", rich_help_panel="Nodes")(exec_)
    app.command(rich_help_panel="Nodes")(console)
    app.command(rich_help_panel="Nodes")(logs)


def exec_(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    command: Annotated[list[str], typer.Argument(metavar="CMD", help="The command, after two hyphens.")],
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that the command may take.")] = 60,
    json: JsonFlag = False,
) -> None:
    """Run a command in a node.

    Works on containers and virtual machines alike; the command's exit code is passed through.
    """
    state = state_of(ctx)
    answer = state.ask(lambda client: client.exec(lab, node, command, timeout_s=timeout))
    if json:
        state.output.data(as_data(answer))
    else:
        sys.stdout.write(answer.stdout)
        sys.stdout.flush()
        sys.stderr.write(answer.stderr)
        sys.stderr.flush()
    raise typer.Exit(answer.exit_code if 0 <= answer.exit_code <= 255 else FAILED)


def console(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    readonly: Annotated[bool, typer.Option("--readonly", help="Only watch; others may write.")] = False,
    line: Annotated[int | None, typer.Option("--line", min=0, help="Serial line instead of the usual console.")] = None,
    escape: Annotated[str, typer.Option("--escape", help="Escape key, e.g. ^] or ^A; then q leaves.")] = "^]",
) -> None:
    """Work on a node's console. Leave with Ctrl-] then q."""
    from wireloom.cli.terminal import escape_byte, interact

    prefix = escape_byte(escape)
    state = state_of(ctx)

    async def worked(client: "Client") -> None:
        await interact(client, lab, node, read_only=readonly, line=line, escape=prefix)

    state.ask(worked)


def logs(
    ctx: typer.Context,
    lab: LabArgument,
    node: NodeArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes until Ctrl-C.")] = False,
) -> None:
    """Show a node's console output since power-on.

    Works after the node has stopped, too.
    """
    state = state_of(ctx)

    async def copied(client: "Client") -> None:
        pieces = cast("AsyncGenerator[bytes, None]", client.log(lab, node, follow=follow))
        async with aclosing(pieces):
            async for piece in pieces:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    state.ask(copied)
