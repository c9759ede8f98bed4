"""Rows into an empty database: the schema of their revision, the rows, then all later migrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from sqlalchemy import Connection, Integer, MetaData, Table, func, select, text

from wireloom.controller.store.backups.reading import VERSION_TABLE, reflected
from wireloom.controller.store.backups.values import Progress, Row, Rows, TableRows, no_progress
from wireloom.controller.store.database import MIGRATIONS
from wireloom.controller.store.tables import metadata
from wireloom.errors import Conflict, InvalidInput, Unsupported

__all__ = ["bring_to", "load", "outdate", "revisions"]

_AT_ONCE: Final = 500
#: More than a lab's generation grows between two restores.
_BEYOND: Final = 1_000_000


def revisions() -> tuple[str, ...]:
    """The revisions of the schema that this version knows, the oldest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    return tuple(reversed([script.revision for script in scripts]))


def load(connection: Connection, rows: Rows, name: str, *, force: bool, tell: Progress = no_progress) -> str:
    """Fill the database of ``connection`` with ``rows``; returns the revision that it then has.

    All of it is one transaction: on an error the database is what it was.

    :param name: of the database, for messages.
    :param force: drop what Wireloom has in it.
    :raises Conflict: there are rows, and not ``force``.
    :raises Unsupported: the rows are of a later version.
    :raises InvalidInput: rows do not fit the schema of their revision.
    """
    known = revisions()
    manifest = rows.manifest
    if manifest.revision not in known:
        raise Unsupported(
            f"revision {manifest.revision} of the schema, by Wireloom {manifest.version}, is not known to this version",
            hint="use that version or a later one",
        )
    _empty(connection, name, force=force)
    bring_to(connection, manifest.revision)
    tables = reflected(connection)
    for table in manifest.tables:
        _load_table(connection, _fitting(tables, table, manifest.revision), table, rows.of(table), tell)
    _set_sequences(connection, tables)
    bring_to(connection, "head")
    return known[-1]


def outdate(connection: Connection) -> None:
    """Have what hosts reported before count no longer: it is of generations that these labs have yet to come to."""
    labs = metadata.tables["labs"]
    connection.execute(labs.update().values(generation=labs.c.generation + _BEYOND))


def bring_to(connection: Connection, revision: str) -> None:
    """Run the migrations up to ``revision``, within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _empty(connection: Connection, name: str, *, force: bool) -> None:
    """Drop the tables of ours; what else is in the database stays."""
    there = reflected(connection)
    ours = [table for table in there.sorted_tables if table.name in metadata.tables]
    if not force:
        filled = [table.name for table in ours if connection.execute(select(table).limit(1)).first() is not None]
        if filled:
            raise Conflict(
                f"the database {name} is not empty: there are rows in {', '.join(filled)}",
                hint="name an empty one, or take --force, which deletes all that Wireloom has in it",
            )
    for table in reversed(ours):
        table.drop(connection)
    if VERSION_TABLE in there.tables:
        connection.execute(there.tables[VERSION_TABLE].delete())


def _fitting(tables: MetaData, table: TableRows, revision: str) -> Table:
    target = tables.tables.get(table.name)
    columns = {column.name for column in target.columns} if target is not None else set()
    if target is None or set(table.columns) - columns:
        missing = ", ".join(sorted(set(table.columns) - columns))
        raise InvalidInput(f"the schema of revision {revision} has no {table.name} with {missing}")
    return target


def _load_table(connection: Connection, target: Table, table: TableRows, rows: Iterable[Row], tell: Progress) -> None:
    done = 0
    tell(table.name, done, table.rows)
    for some in _batches(rows):
        if any(len(row) != len(table.columns) for row in some):
            raise InvalidInput(f"a row of {table.name} has not as many values as there are columns")
        connection.execute(target.insert(), [dict(zip(table.columns, row, strict=True)) for row in some])
        done += len(some)
        tell(table.name, done, table.rows)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while some := list(islice(source, _AT_ONCE)):
        yield some


def _set_sequences(connection: Connection, tables: MetaData) -> None:
    """PostgreSQL counts apart from the rows: the next number follows the highest."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables.sorted_tables:
        for column in table.primary_key.columns:
            if not isinstance(column.type, Integer):
                continue
            names = {"table": f'"{table.name}"', "column": column.name}
            sequence = connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), names).scalar()
            highest = connection.execute(select(func.max(column))).scalar()
            if sequence and highest is not None:
                connection.execute(
                    text("SELECT setval(CAST(:name AS regclass), :value)"), {"name": sequence, "value": highest}
                )
