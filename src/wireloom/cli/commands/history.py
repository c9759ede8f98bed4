"""``wireloom events``: what happened, and with ``--follow`` what happens."""

import json as jsonlib
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.completion import complete_lab
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.fabric.documents import Event

__all__ = ["event_line", "register"]

OptionalLab = Annotated[
    str | None, typer.Argument(metavar="[LAB]", help="Only this lab's events.", autocompletion=complete_lab)
]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel="Labs")(events)


def events(
    ctx: typer.Context,
    lab: OptionalLab = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show history, oldest first.

    With --json and --follow together: one JSON document a line.
    """
    state = state_of(ctx)
    state.ask(lambda client: _follow(state, client, lab) if follow else _history(state, client, lab))


async def _history(state: CliState, client: "Client", lab: str | None) -> None:
    found = await client.events(lab)
    if state.output.json:
        state.output.data(as_data(found))
        return
    for event in found:
        state.output.line(event_line(event))
    if not found:
        state.output.remark("no events")


async def _follow(state: CliState, client: "Client", lab: str | None) -> None:
    """The stream is opened before history is read, so that nothing falls between the two."""
    from wireloom.fabric.documents import Event

    async with aclosing(client.stream(lab)) as messages:
        first = await anext(messages, None)
        told: set[str] = set()
        for event in await client.events(lab):
            told.add(event.model_dump_json())
            _print(state, event)
        while first is not None:
            if first.type == "event":
                event = Event.model_validate(first.data)
                if event.model_dump_json() not in told:
                    _print(state, event)
            first = await anext(messages, None)


def _print(state: CliState, event: "Event") -> None:
    if state.output.json:
        sys.stdout.write(jsonlib.dumps(as_data(event), ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        state.output.line(event_line(event))


def event_line(event: "Event") -> str:
    """One event for people: time, level where it is not ordinary, what it is about, and what happened."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
    subject = "/".join(part for part in (event.lab, event.node) if part) or event.host
    level = "" if event.level == "info" else f"{event.level.value.upper()} "
    return f"{moment}  {subject:<24}  {event.kind:<20}  {level}{event.message}"
