"""What a lab does with configurations by itself: the schedule of extraction, and which revisions are kept."""

from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.intervals import seconds
from wireloom.cli.output import as_data, duration
from wireloom.cli.state import JsonFlag, state_of
from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.config_views import ConfigPolicy

__all__ = ["retention", "schedule"]


def schedule(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    every: Annotated[str | None, typer.Option("--every", help="Interval, e.g. 30m, 6h, 1d.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Read nothing by schedule.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show, or set with `--every` or `--off`, how often a lab's configurations are read by themselves."""
    if every is not None and off:
        raise InvalidInput("`--every` and `--off` exclude each other")
    interval = 0.0 if off else None if every is None else seconds(every)
    _set_policy(ctx, lab, {} if interval is None else {"extract_every_s": interval})


def retention(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    keep: Annotated[
        int | None, typer.Option("--keep", min=0, help="Revisions of each node that stay whatever their age; 0: all.")
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Days after which further ones go; 0: at once.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show, or set, which revisions a lab keeps; the active and the newest one always stay."""
    given = {"keep": keep, "keep_days": days}
    _set_policy(ctx, lab, {name: value for name, value in given.items() if value is not None})


def _set_policy(ctx: typer.Context, lab: str, changes: dict[str, object]) -> None:
    state = state_of(ctx)

    async def asked(client: "Client") -> "ConfigPolicy":
        policy = await client.configs.policy(lab)
        return await client.configs.set_policy(lab, policy.model_copy(update=changes)) if changes else policy

    policy = state.ask(asked)
    if state.output.json:
        state.output.data(as_data(policy))
        return
    every = policy.extract_every_s
    state.output.line(f"read by schedule: {f'every {duration(every)}' if every else 'never'}")
    keep = "as the settings say" if policy.keep is None else "all" if policy.keep == 0 else f"the newest {policy.keep}"
    days = (
        "as the settings say"
        if policy.keep_days is None
        else f"{policy.keep_days:g} day{'' if policy.keep_days == 1 else 's'}"
    )
    state.output.line(f"revisions kept: {keep}; others for: {days}")
