"""Links of a running lab: ``wireloom link add|remove|move|up|down|check``. No node restarts unless it is told to."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands import impairments
from wireloom.cli.commands.labs import LabArgument, finish_operation
from wireloom.cli.commands.link_arguments import EndA, EndB, TimeoutOption
from wireloom.cli.completion import complete_far_end
from wireloom.cli.failures import FAILED
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.fabric.link_documents import MtuAnswer
    from wireloom.model.views import OperationView

__all__ = ["register"]

RestartFlag = Annotated[
    bool, typer.Option("--restart", help="Restart a virtual machine that has no NIC left, with more of them.")
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Change, impair and check links while the nodes run.")
    for command in (add, remove, move, up, down, check):
        group.command()(command)
    impairments.register(group)
    app.add_typer(group, name="link", rich_help_panel="Links")


def add(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    a: EndA,
    b: EndB,
    mtu: Annotated[int | None, typer.Option("--mtu", min=68, max=65535, help="MTU in bytes.")] = None,
    vlan: Annotated[int | None, typer.Option("--vlan", min=1, max=4094, help="Access port of this VLAN.")] = None,
    trunk: Annotated[str, typer.Option("--trunk", help="Trunk of these VLANs, e.g. 10,20-29.")] = "",
    native: Annotated[
        int | None, typer.Option("--native", min=1, max=4094, help="VLAN of a trunk's frames without a tag.")
    ] = None,
    restart: RestartFlag = False,
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Join two interfaces, or plug one into a segment."""
    ranges = tuple(part.strip() for part in trunk.split(",") if part.strip())
    _act(
        ctx,
        lambda client: client.links.add(lab, a, b, mtu=mtu, vlan=vlan, trunk=ranges, native=native, restart=restart),
        timeout,
    )


def remove(
    ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, timeout: TimeoutOption = 60, json: JsonFlag = False
) -> None:
    """Remove the link between two ends."""
    _act(ctx, lambda client: client.links.remove(lab, a, b), timeout)


def move(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    a: EndA,
    b: EndB,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="C:IF",
            help="Where the second end goes: an interface, or a segment.",
            autocompletion=complete_far_end,
            show_default=False,
        ),
    ],
    restart: RestartFlag = False,
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Take the second end of a link elsewhere, like a cable: the first one stays.

    What impairs the link goes with it.
    """
    _act(ctx, lambda client: client.links.move(lab, a, b, to, restart=restart), timeout)


def up(
    ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, timeout: TimeoutOption = 60, json: JsonFlag = False
) -> None:
    """Give a link its carrier back."""
    _act(ctx, lambda client: client.links.up(lab, a, b), timeout)


def down(
    ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, timeout: TimeoutOption = 60, json: JsonFlag = False
) -> None:
    """Drop a link's carrier at both ends, like pulling the cable."""
    _act(ctx, lambda client: client.links.down(lab, a, b), timeout)


def check(ctx: typer.Context, *, lab: LabArgument, a: EndA, b: EndB, json: JsonFlag = False) -> None:
    """Find out how large a frame passes over a link, each way.

    Frames are really sent where the host can send for the guests. Exit code 1 when less passes than is configured.
    """
    state = state_of(ctx)
    answer = state.ask(lambda client: client.links.check(lab, a, b))
    state.show(answer, _show_check)
    if answer.forward.problem or answer.backward.problem:
        raise typer.Exit(FAILED)


def _show_check(state: CliState, answer: "MtuAnswer") -> None:
    ways = (answer.forward, answer.backward)
    state.output.table(
        ("from", "to", "mtu", "passed", "by", "remark"),
        [(way.source, way.target, way.configured, way.largest, way.method, way.problem or way.reason) for way in ways],
    )


def _act(ctx: typer.Context, verb: "Callable[[Client], Awaitable[OperationView]]", timeout_s: float) -> None:
    state = state_of(ctx)

    async def acted(client: "Client") -> None:
        await finish_operation(state, client, await verb(client), timeout_s=timeout_s)

    state.ask(acted)
