"""Databases opened to be carried as a whole: one transaction each, and whether somebody else has them open."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from wireloom.controller.store.failures import translated
from wireloom.errors import Conflict, InvalidInput, NotFound, Unavailable

__all__ = ["parse", "reading", "refuse_in_use", "same", "shown", "writing"]

_BUSY_TIMEOUT_MS: Final = 5000
_CONNECT_S: Final = 15.0
_STOP: Final = "stop every controller of it first (`wireloom down`, or `systemctl stop wireloom-controller`)"
_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


def parse(url: str) -> URL:
    """``url`` with the driver that we use.

    :raises InvalidInput: it is no URL of a database that can hold an installation.
    """
    hint = "for example sqlite+aiosqlite:////var/lib/wireloom/wireloom.sqlite or postgresql+asyncpg://user@host/name"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput("that is no URL of a database", hint=hint) from error
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None or not parsed.database or parsed.database == ":memory:":
        raise InvalidInput(f"{shown(parsed)} cannot hold an installation", hint=hint)
    return parsed.set(drivername=driver)


def shown(url: URL) -> str:
    """``url`` without its password."""
    return url.render_as_string(hide_password=True)


def same(one: URL, other: URL) -> bool:
    """Whether both name the same database, as far as their words tell."""
    if one.get_backend_name() == other.get_backend_name() == "sqlite":
        return Path(one.database or "").resolve() == Path(other.database or "").resolve()
    return (one.host, one.port, one.database, one.query) == (other.host, other.port, other.database, other.query)


@asynccontextmanager
async def reading(url: URL) -> AsyncIterator[AsyncConnection]:
    """One consistent picture of a database, whatever is written to it meanwhile.

    :raises NotFound: there is no such file.
    :raises Unavailable: it does not answer.
    """
    if _is_sqlite(url) and not _file(url).is_file():
        raise NotFound(f"there is no database {url.database}", hint="see database_url and data_dir, or give --database")
    options = {} if _is_sqlite(url) else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    async with _connected(url, "BEGIN", options) as connection:
        yield connection


@asynccontextmanager
async def writing(url: URL) -> AsyncIterator[AsyncConnection]:
    """One transaction that nobody else writes beside; it commits at the end of the block, or nothing has happened.

    :raises Unavailable: it does not answer.
    """
    if _is_sqlite(url):
        _make_private(_file(url))
    async with _connected(url, "BEGIN IMMEDIATE", {}) as connection:
        yield connection


@asynccontextmanager
async def _connected(url: URL, begin: str, options: dict[str, Any]) -> AsyncIterator[AsyncConnection]:
    arguments = {} if _is_sqlite(url) else {"timeout": _CONNECT_S}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=arguments)
    if _is_sqlite(url):

        @event.listens_for(engine.sync_engine, "connect")
        def _on_connect(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # else the driver begins transactions of its own
            cursor = connection.cursor()
            for pragma in (f"busy_timeout = {_BUSY_TIMEOUT_MS}", "journal_mode = WAL", "foreign_keys = ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def _on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    try:
        async with engine.connect() as connection:
            await connection.execution_options(**options)
            async with connection.begin():
                yield connection
    except DBAPIError as error:
        raise translated(error, f"the database {shown(url)} does not answer") from error
    except (OSError, TimeoutError) as error:
        raise Unavailable(
            f"the database {shown(url)} does not answer: {error}",
            hint="see whether the database server runs and can be reached",
        ) from error
    finally:
        await engine.dispose()


async def refuse_in_use(url: URL, what: str) -> None:
    """Refuse to go on where somebody else has the database open; ``what`` is what would be wrong about it.

    :raises Conflict: a controller, or anybody else, has it open.
    """
    others = _sqlite_others(_file(url)) if _is_sqlite(url) else await _postgresql_others(url)
    if others:
        raise Conflict(f"the database {shown(url)} is in use: {what}", hint=_STOP)


def _sqlite_others(file: Path) -> bool:
    """A connection in WAL mode holds a lock for as long as it is open, even when it does nothing."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                return True
            raise Unavailable(f"the database {file} does not answer: {error}") from error
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{file} is no database: {error}", hint="name another file, or move it away") from error
    return False


async def _postgresql_others(url: URL) -> bool:
    question = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    async with reading(url) as connection:
        return bool((await connection.execute(question)).scalar_one())


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _file(url: URL) -> Path:
    return Path(url.database or "")


def _make_private(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.chmod(0o600)
    except OSError as error:
        raise Unavailable(f"the database {file} cannot be made: {error.strerror}", hint="check its folder") from error
