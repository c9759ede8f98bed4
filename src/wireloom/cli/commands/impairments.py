"""What is wrong with links on purpose: ``wireloom link impair|impairment|clear|presets``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.labs import LabArgument, finish_operation
from wireloom.cli.commands.link_arguments import EndA, EndB, TimeoutOption
from wireloom.cli.completion import complete_end, complete_far_end, complete_preset
from wireloom.cli.intervals import seconds
from wireloom.cli.link_words import directions, impairment_words, is_impaired, times_left
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, state_of
from wireloom.errors import InvalidInput
from wireloom.model.quantities import DELAY, RATE, SHARE, Quantity

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.link_views import Direction, LinkView, Parts
    from wireloom.model.presets import Preset

__all__ = ["register"]

DIRECTIONS: "tuple[Direction, ...]" = ("forward", "backward", "both")


def _quantity(kind: Quantity) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parse


def _option(name: str, kind: Quantity, help_text: str) -> object:
    return typer.Option(name, parser=_quantity(kind), metavar=kind.example, help=help_text)


OptionalA = Annotated[
    str | None, typer.Argument(metavar="[A:IF", help="One end of a link.", autocompletion=complete_end)
]
OptionalB = Annotated[
    str | None, typer.Argument(metavar="B:IF|SEGMENT]", help="The other end.", autocompletion=complete_far_end)
]


def register(group: typer.Typer) -> None:
    """Add the commands to ``wireloom link``."""
    for command in (impair, impairment, clear, presets):
        group.command()(command)


def impair(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    a: EndA,
    b: EndB,
    preset: Annotated[
        str,
        typer.Option("--preset", help="A kind of line; other options change it.", autocompletion=complete_preset),
    ] = "",
    delay: Annotated[float | None, _option("--delay", DELAY, "Added to each frame.")] = None,
    jitter: Annotated[float | None, _option("--jitter", DELAY, "More or less delay, at random.")] = None,
    loss: Annotated[float | None, _option("--loss", SHARE, "Frames that get lost.")] = None,
    duplicate: Annotated[float | None, _option("--duplicate", SHARE, "Frames that come twice.")] = None,
    corrupt: Annotated[float | None, _option("--corrupt", SHARE, "Frames with a wrong bit.")] = None,
    reorder: Annotated[float | None, _option("--reorder", SHARE, "Frames that overtake others.")] = None,
    rate: Annotated[float | None, _option("--rate", RATE, "Bits per second at most.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Frames that may wait.")] = None,
    direction: Annotated[str, typer.Option("--direction", help="forward (from A to B), backward, or both.")] = "both",
    for_: Annotated[str, typer.Option("--for", metavar="10m", help="Clear it by itself after this time.")] = "",
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Make a link worse: delay, loss, a limited rate and their kin, each direction on its own.

    What was set of a direction before is replaced, the other direction stays. It holds until it is cleared, also over
    a restart of nodes, and is not written into the topology.
    """
    from wireloom.model.link_views import Parts

    parts = Parts(
        delay_ms=delay,
        jitter_ms=jitter,
        loss=loss,
        duplicate=duplicate,
        corrupt=corrupt,
        reorder=reorder,
        rate_kbit=None if rate is None else round(rate),
        limit=limit,
    )
    if not preset and not parts.model_dump(exclude_none=True):
        raise InvalidInput(
            "say what is to be wrong with the link", hint="for example `--delay 50ms`, or `--preset lte`"
        )
    for_s = seconds(for_) if for_ else None
    _impair(ctx, (lab, a, b), parts, preset=preset, direction=_direction(direction), for_s=for_s, timeout_s=timeout)


def _impair(
    ctx: typer.Context,
    link: tuple[str, str, str],
    parts: "Parts",
    *,
    preset: str,
    direction: "Direction",
    for_s: float | None,
    timeout_s: float,
) -> None:
    state = state_of(ctx)

    async def acted(client: "Client") -> None:
        operation = await client.links.impair(*link, parts, preset=preset, direction=direction, for_s=for_s)
        await finish_operation(state, client, operation, timeout_s=timeout_s)

    state.ask(acted)


def _direction(text: str) -> "Direction":
    found = next((direction for direction in DIRECTIONS if direction == text), None)
    if found is None:
        raise InvalidInput(f"{text!r} is not a direction", hint="forward, backward or both")
    return found


def impairment(
    ctx: typer.Context, *, lab: LabArgument, a: OptionalA = None, b: OptionalB = None, json: JsonFlag = False
) -> None:
    """Show what is wrong with links: as configured, and as read back from the host."""
    state = state_of(ctx)
    found = state.ask(lambda client: client.links.find(lab, a, b))
    if a is None:
        found = [link for link in found if is_impaired(link.impairment)]
    state.show(found, _show_impairments)


def _show_impairments(state: CliState, links: "list[LinkView]") -> None:
    rows = []
    for link in links:
        view = link.impairment
        origins = (view.forward_origin, view.backward_origin)
        for (source, target, wanted, seen), origin, left in zip(
            directions(link), origins, times_left(view), strict=True
        ):
            known = link.impairment.operational is not None
            operational = impairment_words(seen) or "-" if known else "unknown"
            rows.append((source, target, impairment_words(wanted), operational, origin, left))
    state.output.table(
        ("from", "to", "configured", "operational", "set by", "ends in"), rows, empty="no link is impaired"
    )


def clear(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    a: OptionalA = None,
    b: OptionalB = None,
    all_: Annotated[bool, typer.Option("--all", help="All links of the lab.")] = False,
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Take away what is wrong with a link, whether it was set by a command or by the topology."""
    if all_ == (a is not None) or (a is None) != (b is None):
        raise InvalidInput("name both ends of a link, or say `--all`")
    state = state_of(ctx)

    async def acted(client: "Client") -> None:
        operation = await client.links.clear(lab, a or "", b or "")
        await finish_operation(state, client, operation, timeout_s=timeout)

    state.ask(acted)


def presets(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the presets: kinds of lines that people know."""
    from wireloom.model.presets import PRESETS

    state = state_of(ctx)
    if json:
        state.output.data(as_data(PRESETS.values()))
        return
    rows = [(name, *_both_ways(found), found.description) for name, found in PRESETS.items()]
    state.output.table(("preset", "forward", "backward", "what it is like"), rows)


def _both_ways(preset: "Preset") -> tuple[str, str]:
    forward, backward = impairment_words(preset.forward), impairment_words(preset.backward)
    return forward, "the same" if backward == forward else backward
