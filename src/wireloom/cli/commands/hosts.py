"""The installation and its hosts: status, hosts, doctor."""

import time
from typing import TYPE_CHECKING, Any

import typer

from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data, duration
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wireloom.client import Client
    from wireloom.model.views import HostView, LabSummary, StatusView

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
    _show_hosts(state, view.hosts)
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
    """List the hosts with what they can do."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.hosts()), _show_hosts)


def _show_hosts(state: CliState, hosts: "Sequence[HostView]") -> None:
    now = time.time()
    rows = []
    for host in hosts:
        facts = host.facts or {}
        seen = duration(now - host.last_seen) if host.last_seen else None
        rows.append(
            (
                host.host,
                "alive" if host.alive else "dead",
                seen,
                facts.get("cpus"),
                facts.get("memory_mb"),
                ", ".join(_provider(item) for item in facts.get("providers") or ()),
                (facts.get("dataplane") or {}).get("name"),
                facts.get("nodes"),
                _stale_loops(facts, now) or "ok",
            )
        )
    columns = ("host", "state", "seen", "cpus", "memory MiB", "providers", "data plane", "nodes", "loops")
    state.output.table(columns, rows, empty="no host has reported yet")
    for host in hosts:
        for problem in (host.facts or {}).get("problems") or ():
            state.output.remark(f"{host.host}: {problem}")
        for lack in _lacks((host.facts or {}).get("dataplane") or {}):
            state.output.remark(f"{host.host}: {lack}")


def _lacks(dataplane: dict[str, Any]) -> list[str]:
    """What the host cannot do with links, each reason once."""
    whats = {"vlans": "VLANs", "qinq": "qinq", "vlan_devices": "VLANs of its NICs"}
    reasons = {what: dataplane.get(field) for field, what in whats.items()}
    reasons |= dataplane.get("impairments") or {}
    reasons["impairments towards segments"] = dataplane.get("impair_from_guest")
    by_reason: dict[str, list[str]] = {}
    for what, reason in reasons.items():
        if reason:
            by_reason.setdefault(reason, []).append(what)
    return [f"links without {', '.join(whats)}: {reason}" for reason, whats in by_reason.items()]


def _provider(facts: dict[str, Any]) -> str:
    if not facts.get("available", True):
        return f"{facts['name']} (away)"
    kind = facts.get("acceleration", "native")
    return str(facts["name"]) if kind == "native" else f"{facts['name']} ({kind})"


def _stale_loops(facts: dict[str, Any], now: float) -> str:
    """Names and ages of the loops that have not succeeded for too long."""
    return ", ".join(
        f"{loop['name']} stale {duration(now - loop['last_success'])}"
        if loop["last_success"]
        else f"{loop['name']} begins"
        for loop in facts.get("loops") or ()
        if now - loop["last_success"] > loop["stale_after_s"]
    )


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
