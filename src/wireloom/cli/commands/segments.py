"""Segments of a lab: ``wireloom segment ls|add|remove``."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.labs import LabArgument, finish_operation
from wireloom.cli.commands.link_arguments import TimeoutOption
from wireloom.cli.completion import complete_segment
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, YesFlag, confirmed, state_of
from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.link_views import SegmentView
    from wireloom.model.views import OperationView

__all__ = ["register", "show_segments"]

KINDS = ("switch", "external", "nat")
#: Told in columns, or of no interest but to machines.
_IN_COLUMNS = {"mtu", "tagging", "device", "gateway"}
SegmentArgument = Annotated[
    str, typer.Argument(metavar="SEGMENT", help="Name of the segment.", autocompletion=complete_segment)
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        no_args_is_help=True, help="Shared media: switches, ways out by the host's NICs, and by address translation."
    )
    group.command(name="ls")(ls)
    group.command()(add)
    group.command()(remove)
    app.add_typer(group, name="segment", rich_help_panel="Links")


def ls(ctx: typer.Context, lab: LabArgument, json: JsonFlag = False) -> None:
    """List the segments of a lab."""
    state = state_of(ctx)
    view = state.ask(lambda client: client.lab(lab))
    if json:
        state.output.data(as_data(view.segments))
    else:
        show_segments(state, view.segments)


def show_segments(state: CliState, segments: "tuple[SegmentView, ...]") -> None:
    """The table of segments."""
    state.output.table(
        ("segment", "kind", "host", "state", "links", "mtu", "tags", "details", "remark"),
        [
            (
                segment.name,
                segment.kind,
                segment.host,
                segment.state.value,
                segment.links,
                segment.mtu,
                "" if segment.tagging == "none" else segment.tagging,
                ", ".join(f"{name} {value}" for name, value in segment.details.items() if name not in _IN_COLUMNS),
                segment.message,
            )
            for segment in segments
        ],
        empty="no segments; add one with `wireloom segment add LAB NAME`",
    )


def add(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new segment.")],
    kind: Annotated[str, typer.Option("--kind", help="switch, external or nat.")] = "switch",
    mtu: Annotated[int | None, typer.Option("--mtu", min=68, max=65535, help="MTU in bytes.")] = None,
    qinq: Annotated[bool, typer.Option("--qinq", help="switch: its VLANs are 802.1ad tags around others.")] = False,
    interface: Annotated[str, typer.Option("--interface", help="external: NIC or bridge of the host.")] = "",
    vlan: Annotated[int | None, typer.Option("--vlan", min=1, max=4094, help="external: VLAN on the NIC.")] = None,
    move_addresses: Annotated[
        bool, typer.Option("--move-addresses", help="external: the host's addresses on the NIC move meanwhile.")
    ] = False,
    subnet: Annotated[str, typer.Option("--subnet", help="nat: instead of one that is chosen.")] = "",
    dhcp: Annotated[bool, typer.Option("--dhcp/--no-dhcp", help="nat: hand out addresses.")] = True,
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Add a segment; plug nodes into it with `wireloom link add LAB NODE:IF NAME`."""
    from wireloom.model.link_views import SegmentRequest

    if kind not in KINDS:
        raise InvalidInput(f"{kind!r} is not a kind of segment", hint=f"one of {', '.join(KINDS)}")
    request = SegmentRequest.model_validate(
        {
            "verb": "add",
            "name": name,
            "kind": kind,
            "mtu": mtu,
            "qinq": qinq,
            "interface": interface,
            "vlan": vlan,
            "move_addresses": move_addresses,
            "subnet": subnet,
            "dhcp": dhcp,
        }
    )
    _act(ctx, lambda client: client.links.add_segment(lab, request), timeout)


def remove(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    segment: SegmentArgument,
    yes: YesFlag = False,
    timeout: TimeoutOption = 60,
    json: JsonFlag = False,
) -> None:
    """Remove a segment with the links to it."""
    if not confirmed(f"Remove segment {segment} of lab {lab} with the links to it?", yes=yes):
        raise typer.Exit(FAILED)
    _act(ctx, lambda client: client.links.remove_segment(lab, segment), timeout)


def _act(ctx: typer.Context, verb: "Callable[[Client], Awaitable[OperationView]]", timeout_s: float) -> None:
    state = state_of(ctx)

    async def acted(client: "Client") -> None:
        await finish_operation(state, client, await verb(client), timeout_s=timeout_s)

    state.ask(acted)
