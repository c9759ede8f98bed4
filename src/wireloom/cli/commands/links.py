"""Links of a running lab: ``wireloom link add|remove|up|down``. No node restarts."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.labs import LabArgument, finish_operation
from wireloom.cli.completion import complete_end
from wireloom.cli.state import JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.views import OperationView

__all__ = ["register"]

EndA = Annotated[
    str,
    typer.Argument(metavar="A:IF", help="One end, node:interface.", autocompletion=complete_end, show_default=False),
]
EndB = Annotated[str, typer.Argument(metavar="B:IF", help="The other end.", autocompletion=complete_end)]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Add, remove, raise or drop links while the nodes run.")
    group.command()(add)
    group.command()(remove)
    group.command()(up)
    group.command()(down)
    app.add_typer(group, name="link", rich_help_panel="Links")


def add(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    a: EndA,
    b: EndB,
    mtu: Annotated[int | None, typer.Option("--mtu", min=68, max=65535, help="MTU in bytes.")] = None,
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Add a link between two interfaces."""
    _act(ctx, lambda client: client.link_add(lab, a, b, mtu=mtu), timeout)


def remove(
    ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, timeout: TimeoutOption = 60, json: JsonFlag = False
) -> None:
    """Remove the link between two interfaces."""
    _act(ctx, lambda client: client.link_remove(lab, a, b), timeout)


def up(
    ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, timeout: TimeoutOption = 60, json: JsonFlag = False
) -> None:
    """Give a link its carrier back."""
    _act(ctx, lambda client: client.link_up(lab, a, b), timeout)


def down(
    ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, timeout: TimeoutOption = 60, json: JsonFlag = False
) -> None:
    """Drop a link's carrier at both ends, like pulling the cable."""
    _act(ctx, lambda client: client.link_down(lab, a, b), timeout)


def _act(ctx: typer.Context, verb: "Callable[[Client], Awaitable[OperationView]]", timeout_s: float) -> None:
    state = state_of(ctx)

    async def acted(client: "Client") -> None:
        await finish_operation(state, client, await verb(client), timeout_s=timeout_s)

    state.ask(acted)
