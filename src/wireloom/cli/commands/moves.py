"""Nodes that move from host to host."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from wireloom.cli.commands.labs import LabArgument, NoWaitFlag, finish_operation
from wireloom.cli.commands.nodes import NodeArgument
from wireloom.cli.completion import complete_host
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wireloom.client import Client
    from wireloom.model.moves import MovesView, MoveView

__all__ = ["register"]

_COLUMNS: Final = ("node", "from", "to", "why", "phase", "carried", "what")

HostArgument = Annotated[
    str,
    typer.Argument(metavar="[HOST]", help="Where to; otherwise the best other host.", autocompletion=complete_host),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Nodes")(move)
    app.command(rich_help_panel="Nodes")(moves)


def move(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    host: HostArgument = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Have a node that moves stay where it was.")] = False,
    no_wait: NoWaitFlag = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")] = 3600,
    json: JsonFlag = False,
) -> None:
    """Move a node to another host with what it keeps: disks, volumes, its configuration.

    It is stopped while that is carried, and started where it has arrived. Serial numbers and hardware addresses stay;
    its management address is one of the other host's network.
    """
    state = state_of(ctx)

    async def moved(client: "Client") -> None:
        if abort:
            await client.moves.abort(lab, node)
            return
        view = await client.moves.move(lab, [node], host, dry_run=dry_run)
        if dry_run:
            _preview(state, view)
            return
        operation = await client.operation(view.operation)
        await finish_operation(state, client, operation, wait=not no_wait, timeout_s=timeout)

    state.ask(moved)


def _preview(state: CliState, view: "MovesView") -> None:
    refused = [item for item in view.moves if item.error]
    if state.output.json:
        state.output.data(as_data(view))
    else:
        for item in view.moves:
            text = item.error["message"] if item.error else item.message
            state.output.line(f"{item.node}: {text}")
            if item.error and item.error.get("hint"):
                state.output.remark(str(item.error["hint"]))
    if refused:
        raise typer.Exit(FAILED)


def moves(ctx: typer.Context, *, lab: LabArgument, json: JsonFlag = False) -> None:
    """List the nodes of a lab that move, and moves that were undone."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.moves.all(lab)), _show)


def _show(state: CliState, found: "Sequence[MoveView]") -> None:
    state.output.table(_COLUMNS, [_row(item) for item in found], empty="no node of it moves")


def _row(item: "MoveView") -> tuple[str, ...]:
    mib = 1 << 20
    carried = f"{item.done / mib:.0f} of {item.total / mib:.0f} MiB" if item.total else ""
    what = f"{item.message}: {item.error['message']}" if item.error and item.phase == "undone" else item.message
    return (item.node, item.source, item.target, item.reason, str(item.phase), carried, what)
