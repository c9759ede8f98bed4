"""Rows of a database in one consistent picture; the schema is read from the database, not from this version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from sqlalchemy import JSON, Connection, MetaData, Table, column, func, inspect, select, table

from wireloom import __version__
from wireloom.controller.store.backups.values import FORMAT, BackupManifest, Row, TableRows
from wireloom.errors import NotFound

__all__ = ["PRODUCT", "VERSION_TABLE", "DatabaseRows", "reflected", "revision_of"]

PRODUCT: Final = "wireloom"
VERSION_TABLE: Final = "alembic_version"
_AT_ONCE: Final = 500


def reflected(connection: Connection) -> MetaData:
    """The tables that are there. JSON of a column that may be empty has no ``null`` beside SQL's own."""
    metadata = MetaData()
    metadata.reflect(connection)
    for there in metadata.tables.values():
        for each in there.columns:
            if isinstance(each.type, JSON):
                each.type = JSON(none_as_null=bool(each.nullable))
    return metadata


def revision_of(connection: Connection) -> str:
    """The revision of the schema; empty where there is none of ours."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return ""
    return str(connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar() or "")


class DatabaseRows:
    """A database as :class:`~wireloom.controller.store.backups.values.Rows`, within the connection's transaction.

    :raises NotFound: there is nothing of Wireloom in it.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        revision = revision_of(connection)
        tables = reflected(connection)
        if not revision or "installation" not in tables.tables:
            raise NotFound(f"there is no installation in {name}", hint="see database_url, or give --database")
        self._tables = {each.name: each for each in tables.sorted_tables if each.name != VERSION_TABLE}
        ids = connection.execute(select(self._tables["installation"].c.id)).scalars().all()
        self._manifest = BackupManifest(
            product=PRODUCT,
            format=FORMAT,
            version=__version__,
            revision=revision,
            installation=str(ids[0]) if ids else "",
            database=connection.dialect.name,
            created_at=time.time(),
            tables=tuple(self._summary(each) for each in self._tables.values()),
        )

    def _summary(self, there: Table) -> TableRows:
        rows = self._connection.execute(select(func.count()).select_from(there)).scalar_one()
        return TableRows(name=there.name, columns=tuple(there.columns.keys()), rows=rows)

    @property
    def manifest(self) -> BackupManifest:
        """What is there; SHA-256 of tables are empty."""
        return self._manifest

    def of(self, table: TableRows) -> Iterator[Row]:
        """The rows of one table, by its primary key, a few at a time."""
        there = self._tables[table.name]
        query = select(there).order_by(*there.primary_key.columns)
        with self._connection.execution_options(yield_per=_AT_ONCE).execute(query) as result:
            for row in result:
                yield list(row)
