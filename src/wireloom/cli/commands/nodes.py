"""One node: run a command, work on its console, read its boot log."""

import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.completion import complete_node
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data, duration
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wireloom.client import Client
    from wireloom.model.console import Attendee, ConsoleLine
    from wireloom.model.runtime import Boot
    from wireloom.model.views import ExecView

__all__ = ["register"]

NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name of the node.", autocompletion=complete_node, show_default=False)
]

NodesArgument = Annotated[
    list[str],
    typer.Argument(metavar="NODE...", help="Names of the nodes.", autocompletion=complete_node, show_default=False),
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
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say which channel answered, and why others did not.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Run a command in a node, over the first of its channels that answers: the engine, SSH, the serial console.

    Works on containers and virtual machines alike; the command's exit code is passed through.
    """
    state = state_of(ctx)
    answer = state.ask(lambda client: client.exec(lab, node, command, timeout_s=timeout))
    if json:
        state.output.data(as_data(answer))
    else:
        if answer.tried or verbose:
            state.output.remark(_channels(answer, verbose=verbose))
        sys.stdout.write(answer.stdout)
        sys.stdout.flush()
        sys.stderr.write(answer.stderr)
        sys.stderr.flush()
    raise typer.Exit(answer.exit_code if 0 <= answer.exit_code <= 255 else FAILED)


def _channels(answer: "ExecView", *, verbose: bool) -> str:
    """Which channel answered, and why those before it did not."""
    reasons = {**(answer.skipped if verbose else {}), **answer.tried}
    text = "; ".join(f"{channel}: {reason}" for channel, reason in reasons.items())
    return f"answered over {answer.channel}" + (f" ({text})" if text else "")


def console(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: NodesArgument,
    readonly: Annotated[bool, typer.Option("--readonly", help="Only watch; others may write.")] = False,
    line: Annotated[int | None, typer.Option("--line", min=0, help="Serial line instead of the usual console.")] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="The terminal of the node's first process, instead of a shell of its own.")
    ] = False,
    escape: Annotated[str, typer.Option("--escape", help="Escape key, e.g. ^] or ^A; then ? for help.")] = "^]",
    who: Annotated[bool, typer.Option("--who", help="Say who is on the serial lines, and leave them alone.")] = False,
    json: JsonFlag = False,
) -> None:
    """Work on a node's console, or on several at once.

    Leave with Ctrl-] then q. Of several consoles one is shown; Ctrl-] then a digit shows another. A serial line is
    shared: everybody reads, one person types; Ctrl-] then a asks for the keyboard, g gives it, t takes it.
    """
    from wireloom.cli.escape import escape_byte
    from wireloom.cli.terminal import interact

    prefix = escape_byte(escape)
    state = state_of(ctx)
    if who or json:
        _show_attendees(state, lab, nodes)
        return
    chosen = 0 if attach and line is None else line

    async def worked(client: "Client") -> None:
        await interact(client, lab, nodes, read_only=readonly, line=chosen, escape=prefix)

    state.ask(worked)


def _show_attendees(state: CliState, lab: str, nodes: list[str]) -> None:
    async def asked(client: "Client") -> "dict[str, list[ConsoleLine]]":
        return {node: await client.console_lines(lab, node) for node in nodes}

    found = state.ask(asked)
    if state.output.json:
        state.output.data({node: as_data(lines) for node, lines in found.items()})
        return
    rows = [
        (node, line.line, attendee.who, _role(line, attendee), duration(time.time() - attendee.since))
        for node, lines in found.items()
        for line in lines
        for attendee in line.attendees
    ]
    state.output.table(("node", "line", "who", "does", "for"), rows, empty="nobody is on a serial line")


def _role(line: "ConsoleLine", attendee: "Attendee") -> str:
    if line.writer is not None and line.writer.id == attendee.id:
        return "types"
    if any(asking.id == attendee.id for asking in line.asking):
        return "asks for the keyboard"
    return "reads"


def logs(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes until Ctrl-C.")] = False,
    boot: Annotated[
        int, typer.Option("--boot", "-b", max=0, help="Which boot: 0 the present or last one, -1 the one before.")
    ] = 0,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="The boot before; the same as --boot -1.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Say of which boots there is a log.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show a node's console output since power-on.

    Works after the node has stopped, too. The logs of the three boots before are kept.
    """
    state = state_of(ctx)
    if listed or json:
        _list_boots(state, lab, node)
        return
    back = 1 if previous else -boot

    async def copied(client: "Client") -> None:
        pieces = cast("AsyncGenerator[bytes, None]", client.log(lab, node, follow=follow, boot=back))
        async with aclosing(pieces):
            async for piece in pieces:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    state.ask(copied)


def _list_boots(state: CliState, lab: str, node: str) -> None:
    # Counted as `--boot` takes it, which is downwards.
    boots = [
        boot.model_copy(update={"number": -boot.number}) for boot in state.ask(lambda client: client.boots(lab, node))
    ]
    state.show(boots, _show_boots)


def _show_boots(state: CliState, boots: "list[Boot]") -> None:
    now = time.time()
    rows = [(boot.number, _moment(boot.started_at), duration(now - boot.started_at)) for boot in boots]
    state.output.table(("boot", "started", "ago"), rows, empty="the node was never started")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
