"""All that is known of one node: how it is, what it is made of, and what its post-boot commands did."""

import time
from typing import TYPE_CHECKING

from wireloom.cli.output import as_data, duration
from wireloom.errors import Unavailable

if TYPE_CHECKING:
    from wireloom.cli.state import CliState
    from wireloom.client import Client
    from wireloom.model.device_views import NodeProfile
    from wireloom.model.post_boot import BootRecord, CommandRecord
    from wireloom.model.views import NodeView

__all__ = ["show_node"]


def show_node(state: "CliState", lab: str, name: str, *, json: bool) -> None:
    """Print it. :raises NotFound: the lab has no such node."""

    async def asked(client: "Client") -> "tuple[NodeProfile, NodeView | None, list[BootRecord], str]":
        profile = await client.node_profile(lab, name)
        view = next((node for node in (await client.lab(lab)).nodes if node.name == name), None)
        try:
            return profile, view, await client.post_boot(lab, name), ""
        except Unavailable as error:  # its host is away: what the controller knows is shown nevertheless
            return profile, view, [], str(error)

    profile, view, boots, missing = state.ask(asked)
    if json:
        status = None if view is None else as_data(view)
        state.output.data({**as_data(profile), "status": status, "post_boot": [as_data(boot) for boot in boots]})
        return
    host = f" on {profile.host}" if profile.host else ""
    state.output.line(f"{profile.node}: {profile.device}, {profile.provider}{host}")
    if view is not None:
        _show_state(state, view)
    _show_profile(state, profile)
    for boot in boots:
        _show_boot(state, boot)
    for change in profile.pending:
        state.output.remark(f"not yet so, `wireloom deploy` changes it: {change}")
    if missing:
        state.output.remark(f"no record of post-boot commands: {missing}")


def _show_state(state: "CliState", node: "NodeView") -> None:
    up = f" for {duration(time.time() - node.started_at)}" if node.started_at and node.state == "running" else ""
    state.output.line(f"state: {node.state.value}{up}, ready: {node.ready.value}")
    if node.message:
        state.output.line(node.message)
    if node.error is not None:
        hint = f" ({node.error['hint']})" if node.error.get("hint") else ""
        state.output.line(f"error: {node.error['message']}{hint}")


def _show_profile(state: "CliState", profile: "NodeProfile") -> None:
    from wireloom.cli.commands.devices import value_rows

    state.output.line()
    state.output.table(("value", "is", "from"), value_rows(profile.values))
    state.output.line()
    ports = [(port.index, port.name, port.guest_name, port.role, port.mac) for port in profile.ports]
    state.output.table(("port", "name", "in the guest", "role", "mac"), ports, empty="it has no ports")
    state.output.line()
    state.output.table(("purpose", "how"), list(profile.purposes.items()), empty="nothing is known of its guest")


def _show_boot(state: "CliState", boot: "BootRecord") -> None:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(boot.boot))
    state.output.line()
    state.output.line(f"post-boot commands of the boot of {began}{'' if boot.finished_at else ', not finished'}")
    state.output.table(
        ("command", "over", "exit", "tries", "s"),
        [(run.command, run.channel, run.exit_code, run.attempts, f"{run.took_s:.1f}") for run in boot.commands],
        empty="no command has ended yet",
    )
    for run in boot.commands:
        for line in _outcome(run):
            state.output.line(f"  {line}")


def _outcome(run: "CommandRecord") -> list[str]:
    """The output of a command, and what went wrong on the way."""
    lines = [f"{channel}: {reason}" for channel, reason in run.tried.items()]
    if run.error is not None:
        lines.append(f"failed: {run.error['message']}")
    return [*lines, *run.output.splitlines()]
