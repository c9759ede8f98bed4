"""Labs: list, look, start, stop, restart, wipe, destroy."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.node_details import show_node
from wireloom.cli.completion import complete_lab, complete_node
from wireloom.cli.failures import FAILED, error_lines
from wireloom.cli.link_words import link_remark
from wireloom.cli.output import as_data, duration
from wireloom.cli.progress import following
from wireloom.cli.state import CliState, JsonFlag, YesFlag, confirmed, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.views import LabSummary, LabView, NodeView, OperationView

__all__ = ["LabArgument", "NoWaitFlag", "NodesArgument", "TimeoutOption", "finish_operation", "register"]

LabArgument = Annotated[str, typer.Argument(metavar="LAB", help="Name of the lab.", autocompletion=complete_lab)]
NodesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE...]", help="Nodes; all of the lab when none is named.", autocompletion=complete_node),
]
NoWaitFlag = Annotated[bool, typer.Option("--no-wait", help="Return as soon as the request is taken.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Labs")(labs)
    app.command(rich_help_panel="Labs")(inspect)
    app.command(rich_help_panel="Nodes")(start)
    app.command(rich_help_panel="Nodes")(stop)
    app.command(rich_help_panel="Nodes")(restart)
    app.command(rich_help_panel="Nodes")(wipe)
    app.command(rich_help_panel="Labs")(destroy)


def labs(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the labs."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.labs()), _show_labs)


def _show_labs(state: CliState, found: "list[LabSummary]") -> None:
    state.output.table(
        ("lab", "state", "nodes", "running", "ready", "failed", "links", "revision", "age"),
        [
            (
                lab.lab,
                lab.state,
                lab.nodes,
                lab.running,
                lab.ready,
                lab.failed,
                lab.links,
                lab.revision,
                duration(time.time() - lab.created_at),
            )
            for lab in found
        ],
        empty="no labs; deploy one with `wireloom deploy FILE`",
    )


def inspect(
    ctx: typer.Context,
    lab: LabArgument,
    node: Annotated[
        str | None,
        typer.Argument(
            help="Show this node: how it is, what it is made of and from where, what its post-boot commands did.",
            metavar="[NODE]",
            autocompletion=complete_node,
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show a lab's nodes and links as they are now, or all that is known of one node."""
    state = state_of(ctx)
    if node is not None:
        show_node(state, lab, node, json=json)
        return
    state.show(state.ask(lambda client: client.lab(lab)), _show_lab)


def _show_lab(state: CliState, view: "LabView") -> None:
    state.output.table(
        ("node", "device", "provider", "host", "image", "state", "ready", "address"),
        [
            (n.name, n.device, n.provider, n.host, n.image, n.state.value, n.ready.value, n.mgmt_ipv4)
            for n in view.nodes
        ],
        empty=f"lab {view.lab} has no nodes",
    )
    if view.links:
        state.output.line()
        rows = [(link.a, link.b, link.state.value, link.mtu, link_remark(link)) for link in view.links]
        state.output.table(("a", "b", "state", "mtu", "remark"), rows)
    if view.segments:
        from wireloom.cli.commands.segments import show_segments  # which takes this module's arguments

        state.output.line()
        show_segments(state, view.segments)
    for node in view.nodes:
        for line in _node_remarks(node):
            state.output.remark(line)


def _node_remarks(node: "NodeView") -> list[str]:
    if node.error is not None:
        return error_lines({**node.error, "node": node.name}, sources={})
    return [f"{node.name}: {node.message}"] if node.message and node.ready != "yes" else []


def start(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: NodesArgument = None,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 300,
    json: JsonFlag = False,
) -> None:
    """Power nodes on."""
    _act(ctx, lambda client: client.start(lab, nodes or ()), wait=not no_wait, timeout_s=timeout)


def stop(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: NodesArgument = None,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 300,
    json: JsonFlag = False,
) -> None:
    """Power nodes off; disks and configurations stay."""
    _act(ctx, lambda client: client.stop(lab, nodes or ()), wait=not no_wait, timeout_s=timeout)


def restart(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: NodesArgument = None,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 300,
    json: JsonFlag = False,
) -> None:
    """Power nodes off and on again."""
    _act(ctx, lambda client: client.restart(lab, nodes or ()), wait=not no_wait, timeout_s=timeout)


def wipe(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: Annotated[
        list[str], typer.Argument(metavar="NODE...", help="Nodes to make anew.", autocompletion=complete_node)
    ],
    yes: YesFlag = False,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 300,
    json: JsonFlag = False,
) -> None:
    """Make nodes anew with empty disks.

    What was saved on them is lost.
    """
    if not confirmed(f"Delete the disks of {', '.join(nodes)} in lab {lab}?", yes=yes):
        raise typer.Exit(FAILED)
    _act(ctx, lambda client: client.wipe(lab, nodes), wait=not no_wait, timeout_s=timeout)


def destroy(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    yes: YesFlag = False,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 300,
    json: JsonFlag = False,
) -> None:
    """Remove a lab with everything it has, disks included."""
    if not confirmed(f"Destroy lab {lab} with all its disks?", yes=yes):
        raise typer.Exit(FAILED)
    _act(ctx, lambda client: client.destroy(lab), wait=not no_wait, timeout_s=timeout)


def _act(
    ctx: typer.Context,
    verb: "Callable[[Client], Awaitable[OperationView]]",
    *,
    wait: bool,
    timeout_s: float,
) -> None:
    """Ask for ``verb``, and unless told otherwise follow it to its end."""
    state = state_of(ctx)

    async def acted(client: "Client") -> None:
        operation = await verb(client)
        await finish_operation(state, client, operation, wait=wait, timeout_s=timeout_s)

    state.ask(acted)


async def finish_operation(
    state: CliState,
    client: "Client",
    operation: "OperationView",
    *,
    wait: bool = True,
    timeout_s: float | None = None,
) -> None:
    """Follow ``operation`` with progress on stderr, print its outcome, and leave with 1 when it failed."""
    if not wait:
        state.output.data(as_data(operation)) if state.output.json else state.output.remark(
            f"{operation.verb} {operation.subject}: taken as operation {operation.id}"
        )
        return
    watch = await following(client, operation, timeout_s=timeout_s)
    failures = watch.failures()
    if state.output.json:
        state.output.data(as_data(watch.operation))
    elif not failures:
        state.output.line(f"{operation.verb} {operation.subject}: done")
    for failure in failures:
        for line in error_lines(failure, sources={}):
            state.output.remark(line)
    if failures or watch.operation.state == "failed":
        raise typer.Exit(FAILED)
