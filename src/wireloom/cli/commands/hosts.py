"""The installation and its hosts: status, hosts, doctor."""

import time
from typing import TYPE_CHECKING, Any

import typer

from wireloom.cli.commands.host_tables import show_hosts
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data, duration
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.views import LabSummary, StatusView

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Installation")(status)
    app.command(rich_help_panel="Installation")(doctor)
    app.command(rich_help_panel="Installation")(hosts)


def status(ctx: typer.Context, json: JsonFlag = False) -> None:
    """Show the installation: processes, hosts, labs."""
    from wireloom.supervisor import running_record

    state = state_of(ctx)
    processes = running_record(state.settings().paths)

    async def asked(client: "Client") -> "tuple[StatusView, list[LabSummary]]":
        return await client.status(), await client.labs()

    if not state.output.json:
        _show_processes(state, processes)
    view, labs = state.ask(asked)
    if json:
        state.output.data({**as_data(view), "processes": processes, "lab_list": as_data(labs)})
        return
    fabric = "connected" if view.fabric else "not connected"
    state.output.line(f"Wireloom {view.version}, installation {view.installation}, fabric {fabric}")
    state.output.line()
    show_hosts(state, view.hosts)
    state.output.line()
    rows = [(lab.lab, lab.state, f"{lab.running}/{lab.nodes}", f"{lab.ready}/{lab.nodes}", lab.links) for lab in labs]
    state.output.table(("lab", "state", "running", "ready", "links"), rows, empty="no labs")


def _show_processes(state: CliState, record: dict[str, Any] | None) -> None:
    """What runs on this machine; first, because it can be told even when the controller does not answer."""
    if record is None:
        state.output.remark("`wireloom up` does not run on this machine")
        return
    now = time.time()
    state.output.line(f"supervisor: pid {record['pid']}, up {duration(now - record['started_at'])}")
    for name, process in record["children"].items():
        restarts = f", restarted {process['restarts']} times" if process["restarts"] else ""
        up = duration(now - process["started_at"])
        state.output.line(f"{name}: pid {process['pid']}, up {up}{restarts}")


def hosts(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the hosts: capacity and what labs take of it, load, problems."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.hosts()), show_hosts)


def doctor(ctx: typer.Context, json: JsonFlag = False) -> None:
    """Check this machine: engines, kernel, tools, room.

    Needs no running controller. Exit code 1 when a check fails.
    """
    from wireloom.agent.probes import Level
    from wireloom.doctor import examine

    state = state_of(ctx)
    findings = examine(state.settings())
    if json:
        state.output.data(as_data(findings))
    else:
        state.output.table(
            ("check", "result", "finding"), [(item.name, item.level.value, item.finding) for item in findings]
        )
        for item in findings:
            if item.level is not Level.OK:
                state.output.line(f"\n{item.name}: {item.meaning}\n  → {item.advice}")
    if any(item.level is Level.FAIL for item in findings):
        raise typer.Exit(FAILED)
