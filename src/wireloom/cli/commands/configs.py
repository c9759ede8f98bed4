"""Configurations of nodes: read, look at, compare, choose, restore, take along."""

import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.config_policies import retention, schedule
from wireloom.cli.commands.labs import LabArgument, NodesArgument, finish_operation
from wireloom.cli.completion import complete_lab, complete_node
from wireloom.cli.failures import CHANGES, FAILED, error_lines
from wireloom.cli.output import as_data, duration
from wireloom.cli.state import CliState, JsonFlag, YesFlag, confirmed, state_of
from wireloom.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.config_views import ConfigDiff, ConfigRevisionView, ConfigText, NodeConfigView
    from wireloom.model.views import OperationView

__all__ = ["register"]

NodeArgument = Annotated[
    str,
    typer.Argument(metavar="NODE", help="Name of the node, also of a deleted one.", autocompletion=complete_node),
]
OptionalNode = Annotated[
    str | None, typer.Argument(metavar="[NODE]", help="One node, with all its revisions.", autocompletion=complete_node)
]
OptionalLab = Annotated[
    str | None, typer.Argument(metavar="[LAB]", help="One lab; all when none is named.", autocompletion=complete_lab)
]
_WHICH = "A number, active, latest, startup (the topology's) or running."
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
NoWaitFlag = Annotated[bool, typer.Option("--no-wait", help="Return as soon as the request is taken.")]
NoteOption = Annotated[str, typer.Option("--note", help="A remark that is kept with the revision.")]
ForceFlag = Annotated[bool, typer.Option("--force", help="Also from nodes that are not ready.")]


def register(app: typer.Typer) -> None:
    """Add the command group, and ``save``, which is what other tools call extracting."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Read, store, compare and restore the configurations of nodes.",
        rich_markup_mode=None,
    )
    for command in (extract, show, diff, activate, restore, upload, download, delete, schedule, retention):
        group.command()(command)
    group.command(name="list")(list_)
    group.command(name="map")(map_)
    app.add_typer(group, name="configs", rich_help_panel="Nodes")
    app.command(name="save", rich_help_panel="Nodes")(extract)


# -------------------------------------------------------------------- reading


def extract(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: NodesArgument = None,
    note: NoteOption = "",
    force: ForceFlag = False,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 600,
    json: JsonFlag = False,
) -> None:
    """Read the running configurations and store what is new.

    A text is stored only when it is a whole configuration: no echo, no prompt, no error, its end included. What was
    stored before stays. `wireloom save` and `wireloom configs extract` are the same.
    """
    state = state_of(ctx)

    async def asked(client: "Client") -> None:
        operation = await client.configs.extract(lab, nodes or (), note=note, force=force)
        if no_wait:
            await finish_operation(state, client, operation, wait=False)
            return
        ended = await client.wait(operation, timeout_s=timeout or None, on_progress=_Progress(state))
        if state.output.json:
            state.output.data(as_data(ended))
        else:
            wanted = set(nodes or ())
            _show_nodes(state, [view for view in await client.configs.of_lab(lab) if _concerns(view, wanted)])
        _end(state, ended)

    state.ask(asked)


class _Progress:
    """Tells on stderr how many nodes have been read."""

    def __init__(self, state: CliState) -> None:
        self._state = state
        self._told = (-1, -1)

    def __call__(self, operation: "OperationView") -> None:
        now = (operation.done, len(operation.errors))
        if now != self._told:
            self._told = now
            failed = f", {now[1]} failed" if now[1] else ""
            self._state.output.remark(f"{operation.verb} {operation.subject}: {now[0]} of {operation.total}{failed}")


def _end(state: CliState, operation: "OperationView") -> None:
    """Tell what failed, and leave with 1 when something did."""
    for error in operation.errors:
        for line in error_lines(error, sources={}):
            state.output.remark(line)
        for channel, reason in ((error.get("details") or {}).get("tried") or {}).items():
            state.output.remark(f"  {channel}: {reason}")
    if operation.state == "failed":
        raise typer.Exit(FAILED)


# -------------------------------------------------------------------- looking


def list_(
    ctx: typer.Context,
    *,
    lab: OptionalLab = None,
    node: OptionalNode = None,
    everything: Annotated[bool, typer.Option("--all", help="Also nodes that are deleted.")] = False,
    json: JsonFlag = False,
) -> None:
    """List what is stored: of all labs, of one, or the revisions of one node."""
    state = state_of(ctx)
    if lab is not None and node is not None:
        _list_revisions(state, lab, node)
        return

    async def asked(client: "Client") -> "list[NodeConfigView]":
        return await (client.configs.everything() if lab is None else client.configs.of_lab(lab))

    found = state.ask(asked)
    views = [view for view in found if everything or view.exists]
    state.show(views, lambda state, views: _show_nodes(state, views, with_lab=lab is None))
    left_out = len(found) - len(views)
    if left_out and not state.output.json:
        state.output.remark(f"left out: {left_out} deleted node{'' if left_out == 1 else 's'}; `--all` lists them too")


def _list_revisions(state: CliState, lab: str, node: str) -> None:
    def shown(state: CliState, revisions: "list[ConfigRevisionView]") -> None:
        state.output.table(
            ("revision", "active", "age", "origin", "who", "channel", "bytes", "sha256", "note"),
            [_revision_cells(revision) for revision in revisions],
            empty=f"nothing is stored of {node}; read it with `wireloom configs extract {lab} {node}`",
        )

    state.show(state.ask(lambda client: client.configs.revisions(lab, node)), shown)


def _revision_cells(revision: "ConfigRevisionView") -> tuple[object, ...]:
    channel = revision.channel + (f" (not {', '.join(revision.tried)})" if revision.tried else "")
    return (
        revision.number,
        "yes" if revision.active else "",
        duration(time.time() - revision.created_at),
        revision.origin,
        revision.who,
        channel,
        revision.size,
        revision.sha256[:12],
        revision.note,
    )


def _show_nodes(state: CliState, views: "list[NodeConfigView]", *, with_lab: bool = False) -> None:
    lab = ("lab",) if with_lab else ()
    state.output.table(
        (*lab, "node", "device", "active", "by", "latest", "revisions", "channel", "age", "remark"),
        [((view.lab,) if with_lab else ()) + _node_cells(view) for view in views],
        empty="no configurations are stored of nodes that are there",
    )


def _node_cells(view: "NodeConfigView") -> tuple[object, ...]:
    latest = view.latest
    return (
        view.node,
        view.device,
        view.active if view.active is not None else "topology" if view.exists else "",
        view.chosen_by,
        latest.number if latest else "",
        view.revisions,
        latest.channel if latest else "",
        duration(time.time() - latest.created_at) if latest else "",
        _remark(view),
    )


def _remark(view: "NodeConfigView") -> str:
    if not view.exists:
        return f"deleted ({view.node_id})" + (f", could go to {view.suggested_for}" if view.suggested_for else "")
    return "" if view.extractable else "cannot be read"


def _concerns(view: "NodeConfigView", wanted: set[str]) -> bool:
    return view.exists and (view.node in wanted if wanted else view.extractable)


def show(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    revision: Annotated[str, typer.Argument(metavar="[REVISION]", help=_WHICH)] = "latest",
    json: JsonFlag = False,
) -> None:
    """Print a configuration."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.configs.text(lab, node, revision)), _write_text)


def _write_text(_: CliState, config: "ConfigText") -> None:
    sys.stdout.write(config.text)
    sys.stdout.flush()


def diff(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    before: Annotated[str, typer.Argument(metavar="[BEFORE]", help=_WHICH)] = "active",
    after: Annotated[str, typer.Argument(metavar="[AFTER]", help=_WHICH)] = "running",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Leave with 2 when they differ.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show how one configuration of a node differs from another."""
    state = state_of(ctx)
    found = state.ask(lambda client: client.configs.diff(lab, node, before, after))
    state.show(found, _write_diff)
    if found.diff and exit_code:
        raise typer.Exit(CHANGES)


def _write_diff(state: CliState, found: "ConfigDiff") -> None:
    if found.diff:
        sys.stdout.write(found.diff)
        sys.stdout.flush()
    else:
        state.output.remark(f"no difference between {found.before} and {found.after}")


def download(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; `-` is stdout.", dir_okay=False)
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="Active revisions instead of the newest.")] = False,
    json: JsonFlag = False,
) -> None:
    """Download a lab's configurations as a zip file."""
    state = state_of(ctx)
    content = state.ask(lambda client: client.configs.archive(lab, "active" if active else "latest"))
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    path = output or Path(f"{lab}-configs.zip")
    try:
        _write_secret(path, content)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {error.strerror}", hint="name another with `--output`"
        ) from error
    if json:
        state.output.data({"file": str(path), "bytes": len(content)})
    else:
        state.output.line(f"{path}: {len(content)} bytes")


def _write_secret(path: Path, content: bytes) -> None:
    """Configurations hold secrets: at no time can others read the file. :raises OSError:"""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)  # it may have been there before
            file.truncate()
        file.write(content)


# -------------------------------------------------------------------- choosing


def activate(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    revision: Annotated[int | None, typer.Argument(metavar="[REVISION]", help="Number of the revision.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Go back to the topology's startup-config.")] = False,
    json: JsonFlag = False,
) -> None:
    """Choose what the node begins with when it is next made; a running node stays as it is."""
    if (revision is None) != none:
        raise InvalidInput("name one revision, or `--none`", hint=f"`wireloom configs list {lab} {node}`")

    def told(state: CliState, view: "NodeConfigView") -> None:
        what = "the topology's startup-config" if view.active is None else f"revision {view.active}"
        state.output.line(f"{node}: {what} is used when it is next made (`wireloom wipe {lab} {node}`)")

    state = state_of(ctx)
    state.show(state.ask(lambda client: client.configs.activate(lab, node, revision)), told)


def restore(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    revision: Annotated[str, typer.Argument(metavar="[REVISION]", help="A number, active or latest.")] = "active",
    reboot: Annotated[
        bool, typer.Option("--reboot", help="Make the node anew, with an empty disk and this configuration.")
    ] = False,
    yes: YesFlag = False,
    no_wait: NoWaitFlag = False,
    timeout: TimeoutOption = 600,
    json: JsonFlag = False,
) -> None:
    """Give a node a stored configuration back.

    It is loaded into the running node, where its device can do that; what this means for lines that are not in it is
    the device's business. With `--reboot` the node is made anew, and has this configuration and nothing else.
    """
    if reboot and not confirmed(f"Make {node} of lab {lab} anew, with an empty disk?", yes=yes):
        raise typer.Exit(FAILED)
    state = state_of(ctx)

    async def asked(client: "Client") -> None:
        operation = await client.configs.restore(lab, node, revision, reboot=reboot)
        if reboot or no_wait:
            await finish_operation(state, client, operation, wait=not no_wait, timeout_s=timeout or None)
            return
        ended = await client.wait(operation, timeout_s=timeout or None)
        if state.output.json:
            state.output.data(as_data(ended))
        elif not ended.errors:
            state.output.line(f"{ended.verb} {ended.subject}: done")
        _end(state, ended)

    state.ask(asked)


def upload(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Text of the configuration; `-` is stdin.")],
    note: NoteOption = "",
    no_activate: Annotated[bool, typer.Option("--no-activate", help="Only store it.")] = False,
    json: JsonFlag = False,
) -> None:
    """Store a file as the newest revision, and make it the active one."""
    state = state_of(ctx)
    text = _read(file)
    revision = state.ask(lambda client: client.configs.upload(lab, node, text, note=note, activate=not no_activate))
    state.show(revision, _tell_of_upload)


def _tell_of_upload(state: CliState, revision: "ConfigRevisionView") -> None:
    active = ", active" if revision.active else ""
    state.output.line(f"{revision.node}: revision {revision.number}{active}, {revision.size} bytes")


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not text in UTF-8") from error


def map_(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Where from: NODE, LAB/NODE, or the id of a deleted node.")
    ],
    revision: Annotated[int | None, typer.Option("--revision", min=1, help="Only this one.")] = None,
    activate: Annotated[bool, typer.Option("--activate", help="Make the newest of them active.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also from another device.")] = False,
    json: JsonFlag = False,
) -> None:
    """Give a node what another one has, for instance a deleted one; the other keeps it."""
    from wireloom.model.config_views import MapConfigs

    source_lab, _, source_node = source.rpartition("/")
    request = MapConfigs(
        source_lab=source_lab, source_node=source_node, revision=revision, activate=activate, force=force
    )

    def told(state: CliState, taken: "list[ConfigRevisionView]") -> None:
        numbers = ", ".join(str(item.number) for item in taken)
        revisions = "1 revision" if len(taken) == 1 else f"{len(taken)} revisions"
        state.output.line(f"{node}: {revisions} taken over from {source} as {numbers}")

    state = state_of(ctx)
    state.show(state.ask(lambda client: client.configs.take_over(lab, node, request)), told)


def delete(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: NodeArgument,
    revisions: Annotated[list[int] | None, typer.Argument(metavar="[REVISION...]", help="Numbers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of a node that is deleted.")] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete revisions; the active one cannot be deleted."""
    if bool(revisions) == everything:
        raise InvalidInput("name the revisions to delete, or `--all`", hint=f"`wireloom configs list {lab} {node}`")
    what = "everything" if everything else f"revision {', '.join(str(number) for number in revisions or ())}"
    if not confirmed(f"Delete {what} that is stored of {lab}/{node}?", yes=yes):
        raise typer.Exit(FAILED)
    state = state_of(ctx)
    wanted = set(revisions or ())

    async def asked(client: "Client") -> None:
        if everything:
            await client.configs.forget(lab, node)
        elif missing := wanted - {revision.number for revision in await client.configs.revisions(lab, node)}:
            raise NotFound(
                f"{node} has no revision {', '.join(map(str, sorted(missing)))}; nothing is deleted",
                hint=f"`wireloom configs list {lab} {node}` shows which there are",
            )
        for number in sorted(wanted):
            await client.configs.delete(lab, node, number)

    state.ask(asked)
    if json:
        state.output.data({"deleted": revisions or "all"})
    else:
        state.output.line(f"{node}: {what} deleted")
