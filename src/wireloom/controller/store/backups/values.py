"""What a backup says about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from wireloom.model.base import Value

__all__ = ["FORMAT", "BackupManifest", "Progress", "Row", "Rows", "TableRows", "no_progress"]

#: Raised when a reader of before could no longer understand a backup.
FORMAT: Final = 1

Row = list[Any]
#: Called with the table, rows done and rows in all.
Progress = Callable[[str, int, int], None]


def no_progress(table: str, done: int, total: int) -> None:
    """Tell nobody."""


class TableRows(Value):
    """One table. ``columns``: in the order of the values of each row; ``sha256``: of its member's bytes, in hex."""

    name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str = ""


class BackupManifest(Value):
    """``manifest.json`` of a backup.

    ``revision`` is that of the schema; ``tables`` stand in the order in which they can be loaded; ``files`` are paths
    within the data folder, with the SHA-256 of each; ``created_at`` is UNIX time. ``product`` tells our archives from
    others.
    """

    product: str = ""
    format: int = 0
    version: str = ""
    revision: str = ""
    installation: str = ""
    database: str = ""
    created_at: float = 0
    tables: tuple[TableRows, ...] = ()
    files: dict[str, str] = {}

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


class Rows(Protocol):
    """Where rows come from: an open database, or a backup."""

    @property
    def manifest(self) -> BackupManifest:
        """What is there."""

    def of(self, table: TableRows) -> Iterator[Row]:
        """The rows of one table; values are what JSON can hold."""
