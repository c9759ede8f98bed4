"""``wireloom host``: one host: how it joins, whether it takes nodes, how it leaves."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.host_tables import host_state, show_details, show_removal
from wireloom.cli.completion import complete_host
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data, duration
from wireloom.cli.state import CliState, JsonFlag, YesFlag, confirmed, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wireloom.client import Client
    from wireloom.model.host_views import HostDetails, JoinTokenView, MadeJoinToken, RemovalPreview
    from wireloom.model.views import HostView

__all__ = ["register"]

_LOOK_S = 1.0

HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="Its name.", autocompletion=complete_host)]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Hosts: let one join, see what it can do, close it, remove it.")
    for command in (token, tokens, show, label, cordon, uncordon, drain, remove, rotate, ca):
        group.command()(command)
    group.command(name="revoke-token")(revoke_token)
    app.add_typer(group, name="host", rich_help_panel="Installation")


# -------------------------------------------------------------------- tokens


def token(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Argument(metavar="[HOST]", help="The only name that may join by it; also one that comes back.")
    ] = "",
    *,
    life: Annotated[str, typer.Option("--for", help="How long it is good for, such as 30m, 6h or 1d.")] = "1h",
    uses: Annotated[int, typer.Option("--uses", min=1, help="How many hosts may join by it.")] = 1,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label that the host gets.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What it is for, in your words.")] = "",
    json: JsonFlag = False,
) -> None:
    """Make a token by which a host joins.

    It is shown this once.
    """
    from wireloom.cli.intervals import seconds
    from wireloom.model.host_views import JoinTokenRequest

    request = JoinTokenRequest(host=host, labels=_labels(labels or ()), note=note, uses=uses, life_s=seconds(life))
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.host.make_token(request)), _show_token)


def _show_token(state: CliState, made: "MadeJoinToken") -> None:
    name = f" as {made.details.host}" if made.details.host else ""
    left = duration(made.details.expires_at - time.time())
    state.output.remark(f"On the host, which joins{name} (good for {left}):\n")
    state.output.line(f"sudo ./bootstrap agent --join {made.token} {made.url}")
    if _is_here_only(made.url):
        state.output.remark("\nOther machines do not reach that address: see `listen_host` and `fabric_listen`.")


def _is_here_only(url: str) -> bool:
    import ipaddress
    from urllib.parse import urlsplit

    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
    except ValueError:
        return False


def tokens(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the tokens by which somebody can join still."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.host.tokens()), _show_tokens)


def _show_tokens(state: CliState, found: "Iterable[JoinTokenView]") -> None:
    now = time.time()
    rows = [
        (item.id, item.host or "any", item.uses_left, duration(item.expires_at - now), _joined(item.labels), item.note)
        for item in found
    ]
    state.output.table(("token", "host", "uses", "good for", "labels", "note"), rows, empty="no tokens")


def revoke_token(
    ctx: typer.Context, token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as listed.")]
) -> None:
    """Take a token back; hosts that joined by it stay."""
    state = state_of(ctx)
    state.ask(lambda client: client.host.revoke_token(token_id))
    state.output.remark(f"nobody joins by {token_id} any more")


def ca(ctx: typer.Context) -> None:
    """Print the certificate by which the controller is known, for --ca elsewhere."""
    state = state_of(ctx)
    pem = state.ask(lambda client: client.host.authority())
    if not pem:
        state.output.remark("the controller has no certificate of its own authority")
        raise typer.Exit(FAILED)
    state.output.line(pem.rstrip())


# -------------------------------------------------------------------- a host


def show(ctx: typer.Context, host: HostArgument, json: JsonFlag = False) -> None:
    """Show what a host can do and what is on it."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.host.get(host)), show_details)


def label(
    ctx: typer.Context,
    host: HostArgument,
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE | NAME-]...", help="To set, or with a hyphen to take away."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Set or take away labels of a host, for placement; none given: show them."""
    state = state_of(ctx)
    wanted = labels or []
    gone = {text[:-1]: None for text in wanted if text.endswith("-") and "=" not in text}
    kept = _labels(text for text in wanted if "=" in text or not text.endswith("-"))

    async def asked(client: "Client") -> "HostView":
        if not wanted:
            return (await client.host.get(host)).host
        return await client.host.label(host, {**kept, **gone})

    state.show(state.ask(asked), _show_labels)


def _show_labels(state: CliState, view: "HostView") -> None:
    state.output.line(f"{view.host}: {_joined(view.labels) or 'no labels'}")


def cordon(
    ctx: typer.Context,
    host: HostArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, for others to see.")] = "",
    json: JsonFlag = False,
) -> None:
    """Place no new nodes on a host; those that are there stay."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.host.cordon(host, reason)), _show_standing)


def uncordon(ctx: typer.Context, host: HostArgument, json: JsonFlag = False) -> None:
    """Place nodes on a host again; a drain ends with it."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.host.uncordon(host)), _show_standing)


def _show_standing(state: CliState, view: "HostView") -> None:
    state.output.line(f"{view.host}: {host_state(view)}")


def drain(
    ctx: typer.Context,
    host: HostArgument,
    *,
    stop: Annotated[bool, typer.Option("--stop", help="End a drain; the host stays cordoned.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when no node is there any more.")] = False,
    timeout: Timeout = 3600,
    json: JsonFlag = False,
) -> None:
    """Move all nodes off a host, to others that have room for them."""
    state = state_of(ctx)

    async def asked(client: "Client") -> "HostView":
        await client.host.drain(host, draining=not stop)
        return await _emptied(state, client, host, timeout) if wait and not stop else (await client.host.get(host)).host

    state.show(state.ask(asked), _show_drain)


async def _emptied(state: CliState, client: "Client", host: str, timeout_s: float) -> "HostView":
    """:raises DeadlineExceeded: nodes are still there."""
    import asyncio

    from wireloom.errors import DeadlineExceeded

    left = -1
    until = time.monotonic() + timeout_s
    while True:
        details = await client.host.get(host)
        nodes = sum(lab.nodes for lab in details.labs)
        if not nodes:
            return details.host
        if nodes != left:
            left = nodes
            state.output.remark(f"{nodes} nodes are there still: {', '.join(lab.lab for lab in details.labs)}")
        if time.monotonic() > until:
            raise DeadlineExceeded(f"{nodes} nodes are on {host} still", hint="they go on moving; look again later")
        await asyncio.sleep(_LOOK_S)


def _show_drain(state: CliState, view: "HostView") -> None:
    left = view.use.nodes if view.use else 0
    state.output.line(f"{view.host}: {host_state(view)}, {left} nodes there")


def remove(
    ctx: typer.Context,
    host: HostArgument,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would mean.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while labs have nodes there, which they lose.")] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Remove a host; its agent is cut off at once, and refused when it comes back."""
    state = state_of(ctx)
    preview = state.ask(lambda client: client.host.removal(host))
    if dry_run:
        state.show(preview, show_removal)
        return
    if not json:
        show_removal(state, preview)
    if preview.refusals and not force:
        _refuse(state, preview)
    if not confirmed(f"Remove {host}?", yes=yes):
        raise typer.Exit(FAILED)
    gone = state.ask(lambda client: client.host.remove(host, force=force))
    if json:
        state.output.data(as_data(gone))
    else:
        state.output.remark(f"{host} is removed")


def _refuse(state: CliState, preview: "RemovalPreview") -> None:
    from wireloom.errors import Conflict

    raise Conflict(
        f"host {preview.host} is needed: {'; '.join(preview.refusals)}",
        hint=f"move its nodes away with `wireloom host drain {preview.host}`, or give them up with --force",
        details={"preview": preview.model_dump(mode="json")} if state.output.json else None,
    )


def rotate(ctx: typer.Context, host: HostArgument, json: JsonFlag = False) -> None:
    """Have a host's agent log in by a new key; the old one is refused from then on."""
    state = state_of(ctx)

    def told(state: CliState, details: "HostDetails") -> None:
        newest = max(details.keys, key=lambda key: key.issued_at)  # the one before it goes within seconds
        state.output.line(f"{host} has a new key: {newest.public_key}")

    state.show(state.ask(lambda client: client.host.rotate(host)), told)


def _labels(texts: "Iterable[str]") -> dict[str, str]:
    """``name=value`` as labels; a bare name has an empty value."""
    pairs = (text.partition("=") for text in texts)
    return {name: value for name, _, value in pairs}


def _joined(labels: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" if value else name for name, value in sorted(labels.items()))
