"""Progress of an operation: a live table on a terminal, one line per step elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from wireloom.cli.output import duration, rich_console
from wireloom.cli.watch import Watch, follow

if TYPE_CHECKING:
    from rich.spinner import Spinner
    from rich.table import Table

    from wireloom.client import Client
    from wireloom.model.views import NodeView, OperationView

__all__ = ["COLUMNS", "StepLog", "Stopwatch", "following", "node_cells"]

#: Column title and the node's step that it stands for, in order.
COLUMNS: Final = (("image", "image"), ("create", "create"), ("wired", "wire"), ("booting", "boot"), ("ready", "ready"))
_STEPS: Final = ("waiting", *(step for _, step in COLUMNS))
_REFRESH_PER_S: Final = 8
_MIB: Final = 1 << 20
#: Lines about something that comes, one for each so many percent.
_TOLD_PERCENT: Final = 10


class Stopwatch:
    """How long each node has been on its way since we began to look; it stops when the node is ready or has failed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._stopped: dict[str, float] = {}

    def seconds(self, node: NodeView) -> float:
        """Seconds of ``node`` so far; a node that starts again runs on."""
        elapsed = self._now() - self._began
        if node.state != "failed" and node.ready not in {"yes", "timeout"}:
            self._stopped.pop(node.name, None)
            return elapsed
        return self._stopped.setdefault(node.name, elapsed)


def node_cells(node: NodeView) -> list[str]:
    """One word per column: seconds (or ``ok``) when it is done, ``…`` or a percentage under way, ``failed``, or nothing
    yet."""
    reached = _STEPS.index(node.step.value) if node.step.value in _STEPS else 0
    finished = node.ready == "yes"
    cells = []
    for position, (_, step) in enumerate(COLUMNS, start=1):
        seconds = node.timings.get(step)
        if finished or position < reached:
            cells.append(duration(seconds) if seconds is not None else "ok")
        elif position == reached:
            cells.append(_current(node))
        else:
            cells.append("")
    return cells


def _current(node: NodeView) -> str:
    if node.state == "failed":
        return "failed"
    if node.ready == "timeout":
        return "timeout"
    return f"{_percent(node)} %" if node.total else "…"


def _percent(node: NodeView) -> int:
    """How much has come of what comes in the node's step."""
    return min(100 * node.done // node.total, 100)


def _remark(node: NodeView) -> str:
    """What is to be said of the node; of one that waits for bytes, how many."""
    if node.message or not node.total:
        return node.message
    return f"{node.done / _MIB:.0f} of {node.total / _MIB:.0f} MiB"


async def following(
    client: Client,
    operation: OperationView,
    *,
    ready: bool = False,
    configured: bool = False,
    timeout_s: float | None = None,
) -> Watch:
    """Follow ``operation`` as :func:`~wireloom.cli.watch.follow` does, and show how it goes."""
    with _shown(operation) as on_change:
        return await follow(
            client, operation, ready=ready, configured=configured, timeout_s=timeout_s, on_change=on_change
        )


@contextmanager
def _shown(operation: OperationView) -> Iterator[Callable[[Watch], None]]:
    if operation.goal == "linked":  # over before anyone could read it, and not about nodes
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield StepLog(lambda line: print(line, file=sys.stderr, flush=True)).take
        return
    from rich.live import Live
    from rich.spinner import Spinner

    shown: list[Watch] = []
    spinner = Spinner("dots", style="cyan")  # one for all cells: a spinner turns by its own age
    stopwatch = Stopwatch()

    def render() -> Table | str:
        return _table(shown[-1], spinner, stopwatch) if shown else ""

    # Asked for anew at every refresh, so that spinners turn and seconds run between two changes.
    with Live(get_renderable=render, console=rich_console(stderr=True), refresh_per_second=_REFRESH_PER_S):
        yield shown.append


def _table(watch: Watch, spinner: Spinner, stopwatch: Stopwatch) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    operation = watch.operation
    title = f"{operation.verb} {operation.subject}: {operation.done} of {operation.total}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", header_style="bold")
    for column in ("node", *(title for title, _ in COLUMNS), "seconds", ""):
        table.add_column(column, overflow="fold")
    for node in watch.concerned:
        cells = [spinner if text == "…" else Text(text, style=_style(text)) for text in node_cells(node)]
        seconds = Text(duration(stopwatch.seconds(node)))
        table.add_row(Text(node.name), *cells, seconds, Text(_remark(node), style="dim"))
    return table


def _style(cell: str) -> str:
    return {"failed": "red", "timeout": "yellow"}.get(cell, "cyan" if cell.endswith("%") else "green")


class StepLog:
    """Progress as lines: one whenever a node takes a step, becomes ready or fails.

    What a node was at first sight is told only if it is on its way.
    """

    def __init__(self, write: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._now = now
        self._told: dict[str, str] = {}
        self._began = now()

    def take(self, watch: Watch) -> None:
        """Write what is new in ``watch``."""
        for node in watch.concerned:
            word, known = _word(node), self._told.get(node.name)
            self._told[node.name] = word
            if word != known and (known is not None or word.split()[0] in _STEPS[:-1]):
                remark = f" ({_remark(node)})" if _remark(node) else ""
                self._write(f"{self._now() - self._began:7.1f}s  {node.name}: {word}{remark}")


def _word(node: NodeView) -> str:
    if node.state == "failed":
        return "failed"
    if node.ready in {"yes", "timeout"}:
        return "ready" if node.ready == "yes" else "not ready in time"
    if node.power == "off" or node.state in {"stopped", "absent"}:
        return node.state.value
    if node.total:
        return f"{node.step.value} {_percent(node) // _TOLD_PERCENT * _TOLD_PERCENT} %"
    return node.step.value
