"""What a database's failures mean to whoever runs it: by its own codes, never by the text of an error."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.exc import DBAPIError

from wireloom.errors import Unavailable, Unsupported, WireloomError

__all__ = ["refuse_foreign_schema", "server_failures", "server_translated", "translated", "unknown_revision"]

_ANOTHER_VERSION: Final = (
    "it was written by another version of Wireloom: run that one, or move the database away and begin with an empty one"
)
_FILE: Final = "check the data folder's path, rights and free space"
_DAMAGED: Final = "put a backup in its place, or move it away and begin with an empty one"
_SERVER: Final = "see whether the database server runs and can be reached"
_HINTS: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: "make room in the data folder",
    sqlite3.SQLITE_BUSY: "another process is writing to it: try again",
    sqlite3.SQLITE_LOCKED: "another process is writing to it: try again",
}
#: Codes that do not pass by themselves.
_LASTING: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_ERROR: _ANOTHER_VERSION,  # SQL that does not fit the schema
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
#: Classes of PostgreSQL's codes that do not pass by themselves: a login, a database that is not there, SQL, a limit.
_LASTING_CLASSES: Final[Mapping[str, str]] = {
    "28": "check user and password of the database, and its pg_hba.conf",
    "3D": "create the database first: `createdb wireloom`",
    "42": _ANOTHER_VERSION,
    "22": "this is a defect: please report it",
}
#: SQLite's extended codes hold the primary one in their lowest byte.
_PRIMARY: Final = 0xFF


def translated(error: DBAPIError, what: str) -> WireloomError:
    """``error`` as one of ours; ``what`` is the first part of its message: ``the database does not answer``."""
    message = f"{what}: {error.orig}"
    if not isinstance(error.orig, sqlite3.Error):
        return _of_server(getattr(error.orig, "sqlstate", None), message)
    code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & _PRIMARY  # the driver's own have none
    if code in _LASTING:
        return Unsupported(message, hint=_LASTING[code])
    return Unavailable(message, hint=_HINTS.get(code, _FILE))


def server_failures() -> tuple[type[Exception], ...]:
    """What connecting to a server raises, which SQLAlchemy passes on as it is."""
    import asyncpg  # type: ignore[import-untyped]

    return (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


def server_translated(error: Exception, what: str) -> WireloomError:
    """One of :func:`server_failures` as one of ours."""
    return _of_server(getattr(error, "sqlstate", None), f"{what}: {str(error) or 'no answer in time'}")


def _of_server(sqlstate: str | None, message: str) -> WireloomError:
    hint = _LASTING_CLASSES.get((sqlstate or "")[:2])
    return Unavailable(message, hint=_SERVER) if hint is None else Unsupported(message, hint=hint)


def unknown_revision(what: str) -> Unsupported:
    """The database went through migrations that this version does not have."""
    return Unsupported(f"{what}: its schema is of a later version", hint=_ANOTHER_VERSION)


def refuse_foreign_schema(connection: Connection, metadata: MetaData, what: str) -> None:
    """Say at the start what would else fail somewhere in the middle.

    :raises Unsupported: a table or a column of ``metadata`` is not there although all migrations have run.
    """
    there = inspect(connection)
    known = set(there.get_table_names())
    missing = [table for table in metadata.tables if table not in known]
    for name in metadata.tables.keys() & known:
        columns = {column["name"] for column in there.get_columns(name)}
        missing += [f"{name}.{column.name}" for column in metadata.tables[name].columns if column.name not in columns]
    if missing:
        raise Unsupported(f"{what}: its schema lacks {', '.join(sorted(missing))}", hint=_ANOTHER_VERSION)
