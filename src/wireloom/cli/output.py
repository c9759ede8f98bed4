"""Printing: data on stdout (JSON, or a table), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from wireloom.model.base import Value

__all__ = ["STATE_STYLES", "Output", "as_data", "duration"]

#: Colour of every word that a state column can hold.
STATE_STYLES = {
    "running": "green",
    "ready": "green",
    "yes": "green",
    "up": "green",
    "ok": "green",
    "done": "green",
    "alive": "green",
    "add": "green",
    "creating": "cyan",
    "pending": "cyan",
    "change": "cyan",
    "stopped": "dim",
    "absent": "dim",
    "down": "yellow",
    "no": "yellow",
    "partial": "yellow",
    "timeout": "yellow",
    "warn": "yellow",
    "warning": "yellow",
    "stale": "yellow",
    "restart": "yellow",
    "recreate": "yellow",
    "unknown": "magenta",
    "removing": "magenta",
    "failed": "red",
    "fail": "red",
    "error": "red",
    "dead": "red",
    "remove": "red",
    "refuse": "red",
}


@dataclass
class Output:
    """Where a command's results go.

    :ivar json: print data as JSON; tables and remarks are then kept off stdout.
    """

    json: bool = False

    def data(self, document: object) -> None:
        """Print ``document`` as JSON on stdout."""
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def line(self, text: str = "") -> None:
        """A line of the result for people; nothing when the result is JSON."""
        if not self.json:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def remark(self, text: str) -> None:
        """Progress or advice, on stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "nothing there") -> None:
        """A table on stdout: Rich on a terminal, aligned columns elsewhere; ``empty`` goes to stderr for no rows."""
        cells = [[_cell(value) for value in row] for row in rows]
        if not cells:
            self.remark(empty)
        elif sys.stdout.isatty():
            self._rich_table(columns, cells)
        else:
            _plain_table(sys.stdout, columns, cells)

    def _rich_table(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*(Text(text, style=STATE_STYLES.get(text, "")) for text in row))
        rich_console().print(table)


def rich_console(*, stderr: bool = False) -> Console:
    """A Rich console on stdout or stderr that never interprets markup in names."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def as_data(value: Value | Iterable[Value]) -> Any:
    """The JSON form of one value or of many."""
    from wireloom.model.base import Value

    if isinstance(value, Value):
        return value.model_dump(mode="json")
    return [item.model_dump(mode="json") for item in value]


def duration(seconds: float | None) -> str:
    """A short reading of a time span: ``0.4s``, ``12s``, ``3m05s``, ``2h10m``, ``4d03h``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _plain_table(stream: TextIO, columns: Sequence[str], cells: list[list[str]]) -> None:
    header = [column.upper() for column in columns]
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(columns))]
    for row in [header, *cells]:
        stream.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")
    stream.flush()
