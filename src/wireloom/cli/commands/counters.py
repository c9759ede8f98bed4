"""``wireloom top``: what passes through the ports of a lab, as a live table or as lines of JSON."""

import json as jsonlib
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.completion import complete_node
from wireloom.cli.link_words import bits
from wireloom.cli.output import as_data, rich_console
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from rich.table import Table

    from wireloom.client import Client
    from wireloom.model.counters import CountersSample, PortSample

__all__ = ["register"]

COLUMNS = ("port", "rx bit/s", "tx bit/s", "rx frames/s", "tx frames/s", "dropped", "rx frames", "tx frames")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel="Links")(top)


def top(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    nodes: Annotated[
        list[str] | None, typer.Argument(metavar="[NODE...]", help="Only these.", autocompletion=complete_node)
    ] = None,
    interval: Annotated[float, typer.Option("--interval", min=0.2, max=60, help="Seconds between two looks.")] = 1,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Leave after so many looks.")] = None,
    busy: Annotated[bool, typer.Option("--busy", help="The busiest ports first.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show what passes through the ports of a lab, as their guests count, until Ctrl-C.

    With --json: one JSON document a line. Rates need two looks; the first one has none.
    """
    state = state_of(ctx)
    wanted = frozenset(nodes or ())

    async def watched(client: "Client") -> None:
        async with aclosing(_samples(client, lab, wanted, interval_s=interval, count=count)) as samples:
            if json:
                await _print_lines(samples)
            elif sys.stdout.isatty():
                await _show_live(samples, busy=busy)
            else:
                await _print_tables(state, samples, busy=busy)

    state.ask(watched)


async def _samples(
    client: "Client", lab: str, nodes: frozenset[str], *, interval_s: float, count: int | None
) -> "AsyncGenerator[CountersSample, None]":
    """``count`` samples, of all ports or of those of ``nodes``."""
    left = count
    async with aclosing(client.links.counters(lab, interval_s=interval_s)) as samples:
        async for sample in samples:
            ports = tuple(port for port in sample.ports if not nodes or port.node in nodes)
            yield sample.model_copy(update={"ports": ports})
            left = None if left is None else left - 1
            if left == 0:
                return


async def _print_lines(samples: "AsyncGenerator[CountersSample, None]") -> None:
    async for sample in samples:
        sys.stdout.write(jsonlib.dumps(as_data(sample), ensure_ascii=False) + "\n")
        sys.stdout.flush()


async def _print_tables(state: CliState, samples: "AsyncGenerator[CountersSample, None]", *, busy: bool) -> None:
    first = True
    async for sample in samples:
        if not first:
            state.output.line()
        first = False
        state.output.table(COLUMNS, [_row(port) for port in _sorted(sample.ports, busy=busy)], empty="no ports")


async def _show_live(samples: "AsyncGenerator[CountersSample, None]", *, busy: bool) -> None:
    """One table on the whole terminal. Hosts of a lab tell one by one, so each port's newest sample stands."""
    from rich.live import Live

    newest: dict[tuple[str, int], PortSample] = {}
    with Live(console=rich_console(), auto_refresh=False, transient=False) as live:
        async for sample in samples:
            newest |= {(port.node_id, port.index): port for port in sample.ports}
            live.update(_table(_sorted(newest.values(), busy=busy)), refresh=True)


def _table(ports: "Iterable[PortSample]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for port in ports:
        row = _row(port)
        moves = port.rates.rx_packets or port.rates.tx_packets
        table.add_row(*(str(cell) for cell in row), style="red" if port.rates.rx_dropped else "" if moves else "dim")
    return table


def _sorted(ports: "Iterable[PortSample]", *, busy: bool) -> "list[PortSample]":
    by_name = sorted(ports, key=lambda port: (port.node, port.index))
    return sorted(by_name, key=lambda port: -(port.rates.rx_bits + port.rates.tx_bits)) if busy else by_name


def _row(port: "PortSample") -> tuple[object, ...]:
    counters, rates = port.counters, port.rates
    return (
        f"{port.node}:{port.port}",
        bits(rates.rx_bits),
        bits(rates.tx_bits),
        f"{rates.rx_packets:.0f}",
        f"{rates.tx_packets:.0f}",
        counters.rx_dropped + counters.tx_dropped,
        counters.rx_packets,
        counters.tx_packets,
    )
