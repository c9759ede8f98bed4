"""Record databases of every revision of the schema, with a row in each table, as SQL.

    python scripts/record_store.py tests/unit/golden/store

Run once for a new revision, before a release; what is there already is never written anew.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Connection, Float, Integer, Table

from wireloom.controller.store.backups.connections import parse, writing
from wireloom.controller.store.backups.loading import bring_to, revisions
from wireloom.controller.store.backups.reading import VERSION_TABLE, reflected


def _value(table: Table, column: Column[Any]) -> Any:
    for key in column.foreign_keys:
        return _value(key.column.table, key.column)
    if isinstance(column.type, JSON):
        return {"of": f"{table.name}.{column.name}"}
    if isinstance(column.type, Boolean):
        return True
    if isinstance(column.type, Integer):
        return 7
    if isinstance(column.type, Float):
        return 1.5
    return f"{table.name}.{column.name}"[: getattr(column.type, "length", None) or 64]


def _fill(connection: Connection, revision: str) -> None:
    bring_to(connection, revision)
    for table in reflected(connection).sorted_tables:
        if table.name != VERSION_TABLE:
            connection.execute(table.insert(), {column.name: _value(table, column) for column in table.columns})


async def _make(file: Path, revision: str) -> None:
    async with writing(parse(f"sqlite+aiosqlite:///{file}")) as connection:
        await connection.run_sync(_fill, revision)


def record(folder: Path) -> None:
    """Write a file for each revision that has none."""
    folder.mkdir(parents=True, exist_ok=True)
    for revision in revisions():
        target = folder / f"{revision}.sql"
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "wireloom.sqlite"
            asyncio.run(_make(file, revision))
            with closing(sqlite3.connect(file)) as connection:
                target.write_text("\n".join(connection.iterdump()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
