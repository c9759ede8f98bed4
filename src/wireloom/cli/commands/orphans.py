"""What lies on hosts and is in no lab: discover, prune, adopt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wireloom.cli.commands.labs import NoWaitFlag, TimeoutOption, finish_operation
from wireloom.cli.completion import complete_host
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.orphans import AdoptView, DiscoverView, Orphan

__all__ = ["register"]

_COLUMNS: Final = ("host", "kind", "provider", "name", "lab", "node", "size", "what")
_WHY: Final = {
    "no-lab": "in no lab",
    "other-installation": "of another installation",
    "leftover": "left over",
    "unused": "not used",
}
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")

HostsOption = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", help="Only this host; may be repeated.", autocompletion=complete_host),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Installation")(discover)
    app.command(rich_help_panel="Installation")(prune)
    app.command(rich_help_panel="Installation")(adopt)


def discover(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List what hosts have that is in no lab.

    Runtimes, folders with disks, ports and segments of labs that do not exist; what interrupted steps left; images and
    files that nothing uses; and, to be looked at only, what other installations have on the same engines.
    """
    state = state_of(ctx)
    view = state.ask(lambda client: client.orphans.discover())
    state.show(view, _show_discovery)
    if any(find.error or find.troubles for find in view.hosts):
        raise typer.Exit(FAILED)


def _show_discovery(state: CliState, view: "DiscoverView") -> None:
    found = [orphan for find in view.hosts for orphan in find.found]
    state.output.table(_COLUMNS, [_row(orphan) for orphan in found], empty="nothing: all that is there is in a lab")
    for find in view.hosts:
        if find.error:
            state.output.remark(f"{find.host}: {find.error['message']}")
        for trouble in find.troubles:
            state.output.remark(f"{find.host}: {trouble.source} could not be looked at: {trouble.error['message']}")


def prune(
    ctx: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it; so it is without --yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Also images and files that nothing uses.")] = False,
    host: HostsOption = None,
    json: JsonFlag = False,
) -> None:
    """Show, and with --yes remove, what no lab owns any more, on both technologies.

    Only what carries this installation's labels counts: runtimes, folders with disks, ports, segments, and what
    interrupted steps left in engines and folders. Images that came from the library and that nothing uses go with
    --images; they can be had again.
    """
    state = state_of(ctx)
    remove = yes and not dry_run
    found = state.ask(lambda client: client.orphans.prune(dry_run=not remove, images=images, hosts=host or ()))
    state.show(found, _show_orphans)
    if not json and found and not remove:
        state.output.remark("nothing was removed; `wireloom prune --yes` removes it")
    if any(orphan.error and orphan.kind != "trouble" for orphan in found):
        raise typer.Exit(FAILED)


def _show_orphans(state: CliState, found: "list[Orphan]") -> None:
    things = [orphan for orphan in found if orphan.kind not in {"host", "trouble"}]
    state.output.table(_COLUMNS, [_row(orphan) for orphan in things], empty="no orphans")
    total = sum(orphan.size for orphan in things)
    if things:
        removed = sum(orphan.removed for orphan in things)
        state.output.line(f"{len(things)} objects, {_size(total)}" + (f"; {removed} removed" if removed else ""))
    for orphan in found:
        if orphan.kind == "host" and orphan.error:
            state.output.remark(f"{orphan.host}: {orphan.error['message']}")
        elif orphan.kind == "trouble" and orphan.error:
            state.output.remark(f"{orphan.host}: {orphan.name} could not be looked at: {orphan.error['message']}")


def adopt(
    ctx: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Topology file of the lost lab.", show_default=False)],
    lab_id: Annotated[str, typer.Option("--id", help="Id of the lost lab, where there are several.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would become of each node.")] = False,
    allow_privileged: Annotated[
        bool, typer.Option("--allow-privileged", help="Consent to nodes whose device asks for privileged mode.")
    ] = False,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 600,
    json: JsonFlag = False,
) -> None:
    """Make a lab again of what hosts have of it.

    For a lab that the database has lost while its nodes went on. Nodes that are as FILE says go on untouched; those
    that differ are made anew and keep their disks.
    """
    from wireloom.cli.topology_files import read_request
    from wireloom.model.orphans import AdoptRequest

    state = state_of(ctx)
    deploy = read_request(file, allow_privileged=allow_privileged)
    request = AdoptRequest(**deploy.model_dump(), lab_id=lab_id, dry_run=dry_run)

    async def adopted(client: "Client") -> "AdoptView":
        view = await client.orphans.adopt(request)
        if not state.output.json:
            _show_adopted(state, view)
        if view.operation is not None:
            await finish_operation(state, client, view.operation, wait=not no_wait, timeout_s=timeout)
        return view

    view = state.ask(adopted)
    if json and view.operation is None:
        state.output.data(as_data(view))


def _show_adopted(state: CliState, view: "AdoptView") -> None:
    state.output.table(
        ("node", "host", "becomes", "because"),
        [(node.name, node.host, node.outcome, node.detail) for node in view.nodes],
        empty="no nodes",
    )


def _row(orphan: "Orphan") -> tuple[Any, ...]:
    return (
        orphan.host,
        orphan.kind,
        orphan.provider,
        orphan.name,
        orphan.lab,
        orphan.node,
        _size(orphan.size) if orphan.size else "",
        _what(orphan),
    )


def _what(orphan: "Orphan") -> str:
    if orphan.error:
        return str(orphan.error.get("message", "failed"))
    if orphan.removed:
        return "removed"
    why = _WHY[orphan.why] + (f" {orphan.installation}" if orphan.why == "other-installation" else "")
    running = "running" if orphan.running else ""
    return ", ".join(filter(None, (why, running, orphan.detail)))


def _size(count: float) -> str:
    """Bytes in the largest unit of which there is at least one."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
