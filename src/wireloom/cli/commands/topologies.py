"""Topology files: validate, plan, deploy."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.failures import CHANGES, FAILED, diagnostic_lines, error_lines, report
from wireloom.cli.output import as_data
from wireloom.cli.progress import following
from wireloom.cli.state import CliState, JsonFlag, state_of
from wireloom.errors import DeadlineExceeded, TopologyInvalid

if TYPE_CHECKING:
    from wireloom.cli.watch import Watch
    from wireloom.client import Client
    from wireloom.model.views import DeployRequest, NodeView, PlanView

__all__ = ["register"]

T = TypeVar("T")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Topology file (YAML).", show_default=False)]
PrivilegedFlag = Annotated[
    bool, typer.Option("--allow-privileged", help="Consent to nodes whose device asks for privileged mode.")
]

_SIGNS = {"add": "+", "remove": "-", "refuse": "!"}


class WaitFor(StrEnum):
    """What ``deploy`` waits for."""

    RUNNING = "running"
    READY = "ready"
    CONFIGURED = "configured"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Topologies")(deploy)
    app.command(rich_help_panel="Topologies")(plan)
    app.command(rich_help_panel="Topologies")(validate)
    app.command(rich_help_panel="Topologies")(topology)


def deploy(
    ctx: typer.Context,
    *,
    file: FileArgument,
    wait: Annotated[
        WaitFor, typer.Option("--wait", help="What to wait for; configured: ready, and commands after boot have run.")
    ] = WaitFor.RUNNING,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")] = 600,
    allow_privileged: PrivilegedFlag = False,
    json: JsonFlag = False,
) -> None:
    """Create a lab from FILE, or bring it to what FILE says.

    What is right already is not touched. Ctrl-C stops the waiting, not the deployment.
    """
    state = state_of(ctx)

    async def deployed(client: "Client", request: "DeployRequest") -> "Watch":
        operation = await client.deploy(request)
        try:
            return await following(
                client,
                operation,
                ready=wait is WaitFor.READY,
                configured=wait is WaitFor.CONFIGURED,
                timeout_s=timeout,
            )
        except DeadlineExceeded:
            raise
        except BaseException:
            state.output.remark(f"the deployment of {operation.lab} goes on; see `wireloom inspect {operation.lab}`")
            raise

    _finish(state, _with_request(state, file, allow_privileged, deployed))


def _finish(state: CliState, watch: "Watch") -> None:
    failures = watch.failures()
    if state.output.json:
        lab = as_data(watch.lab) if watch.lab is not None else {"lab": watch.operation.lab}
        state.output.data({**lab, "operation": as_data(watch.operation)})
    for failure in failures:
        for line in error_lines(failure, sources={}):
            state.output.remark(line)
    troubled = watch.troubled()
    _tell_of_troubled(state, watch.operation.lab, troubled, told={failure.get("node") for failure in failures})
    if failures or watch.operation.state == "failed":
        raise typer.Exit(FAILED)
    ready = sum(node.ready == "yes" for node in watch.concerned)
    remark = f", {len(troubled)} with an error" if troubled else ""
    state.output.line(f"lab {watch.operation.lab}: {len(watch.concerned)} nodes, {ready} ready{remark}")


def _tell_of_troubled(state: CliState, lab: str, nodes: "list[NodeView]", *, told: set[str | None]) -> None:
    """What went wrong on nodes that run, after their boot say, as far as it is not ``told`` yet; and where more is."""
    for node in nodes:
        if node.name not in told and node.error is not None:
            for line in error_lines({**node.error, "node": node.name}, sources={}):
                state.output.remark(line)
        state.output.remark(f"more: `wireloom inspect {lab} {node.name}`")


def plan(
    ctx: typer.Context, file: FileArgument, allow_privileged: PrivilegedFlag = False, json: JsonFlag = False
) -> None:
    """Show what deploying FILE would change, with reasons.

    Exit code 0: nothing to change, 2: changes, 1: it cannot be deployed as it is.
    """
    state = state_of(ctx)
    view = _with_request(state, file, allow_privileged, lambda client, request: client.plan(request))
    state.show(view, _show_plan)
    if any(change.action == "refuse" for change in view.changes) or view.problems:
        raise typer.Exit(FAILED)
    if view.changes:
        raise typer.Exit(CHANGES)


def _show_plan(state: CliState, view: "PlanView") -> None:
    for change in view.changes:
        host = f" on {change.host}" if change.host else ""
        state.output.line(f"{_SIGNS.get(change.action, '~')} {change.action} {change.kind} {change.name}{host}")
        for reason in change.reasons:
            state.output.line(f"    because {reason}")
    _show_placement(state, view)
    for problem in view.problems:
        for line in error_lines(problem, sources={}):
            state.output.remark(line)
    for warning in view.warnings:
        state.output.remark(f"warning: {warning}")
    counts: dict[str, int] = {}
    for change in view.changes:
        counts[change.action] = counts.get(change.action, 0) + 1
    summary = ", ".join(f"{number} to {action}" for action, number in counts.items()) or "nothing to change"
    state.output.line(f"lab {view.lab}: {summary}")


def _show_placement(state: CliState, view: "PlanView") -> None:
    """Where nodes go that are not simply left where they are; nothing, where there is one host alone."""
    comes = {change.name for change in view.changes if change.kind == "node" and change.action != "remove"}
    told = {name: view.placement[name] for name in sorted(comes & view.placement.keys())}
    if len({choice.host for choice in view.placement.values()}) < 2 and not any(one.rejected for one in told.values()):
        return
    for name, choice in told.items():
        state.output.line(f"@ {name} on {choice.host or 'no host'}: {'; '.join(choice.reasons) or 'none can take it'}")
        for host, reason in choice.rejected.items():
            state.output.line(f"    not {host}: {reason}")


def validate(ctx: typer.Context, file: FileArgument, json: JsonFlag = False) -> None:
    """Check FILE and show every mistake in it.

    Needs no running controller.
    """
    from wireloom.cli.topology_files import read_request
    from wireloom.cli.validation import check

    state = state_of(ctx)
    request = read_request(file)
    try:
        summary = check(request, state.settings().paths)
    except TopologyInvalid as error:
        _refuse(state, error, request)
    if json:
        state.output.data(summary)
    else:
        for warning in summary["warnings"]:
            for line in diagnostic_lines(warning, {request.source: request.topology}):
                state.output.remark(line)
        segments = f"; segments: {', '.join(summary['segments'])}" if summary["segments"] else ""
        state.output.line(
            f"{file}: lab {summary['lab']} with {summary['nodes']} nodes and {summary['links']} links{segments}"
        )


def topology(ctx: typer.Context, lab: LabArgument, json: JsonFlag = False) -> None:
    """Print a lab's topology as it is now, live changes included.

    Comments of the file that was deployed are kept.
    """
    state = state_of(ctx)
    text = state.ask(lambda client: client.topology(lab))
    if json:
        state.output.data({"lab": lab, "topology": text})
    else:
        state.output.line(text.rstrip("\n"))


def _with_request(
    state: CliState, file: Path, allow_privileged: bool, verb: "Callable[[Client, DeployRequest], Awaitable[T]]"
) -> T:
    """Run ``verb`` with the request for ``file``; mistakes in the topology are shown with their source lines."""
    from wireloom.cli.topology_files import read_request

    request = read_request(file, allow_privileged=allow_privileged)
    try:
        return state.ask(lambda client: verb(client, request))
    except TopologyInvalid as error:
        _refuse(state, error, request)


def _refuse(state: CliState, error: TopologyInvalid, request: "DeployRequest") -> NoReturn:
    report(error, state.output, sources={request.source: request.topology, **request.files})
    raise typer.Exit(FAILED) from error
