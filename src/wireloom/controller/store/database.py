"""Engine, transactions and migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from wireloom.controller.store.failures import (
    refuse_foreign_schema,
    server_failures,
    server_translated,
    translated,
    unknown_revision,
)
from wireloom.controller.store.tables import metadata
from wireloom.errors import Unavailable

__all__ = ["Database", "migrate"]

BUSY_TIMEOUT_MS: Final = 5000
MIGRATIONS: Final = Path(__file__).parent / "migrations"

#: Execution option of a transaction that will write: it takes SQLite's write lock at once instead of failing later.
_WRITES: Final = "wireloom_writes"
_FILE_MODE: Final = 0o600
_IN_MEMORY: Final = ":memory:"
_POSTGRESQL: Final = "postgresql"

#: Advisory lock of PostgreSQL: writers are one after the other, as they are with SQLite, so that what one chose (an
#: address, a subnet, a name) the next one sees.
_WRITE_LOCK: Final = 0x776C0001
#: Deadlines of PostgreSQL, in seconds: to connect, of a statement, of waiting for other writers.
_CONNECT_S: Final = 5.0
_STATEMENT_S: Final = 30.0
_LOCK_S: Final = 15.0
#: Of the statements that keep a controller's lead, which is over by then.
_URGENT_S: Final = 1.0


class Database:
    """An open database whose schema is current.

    :ivar shared: whether several controllers may use it at a time.
    """

    def __init__(self, engine: AsyncEngine, urgent: AsyncEngine | None = None) -> None:
        self._engine = engine
        self._urgent = urgent or engine
        self.shared = engine.dialect.name == _POSTGRESQL

    @classmethod
    async def open(cls, url: str) -> Database:
        """Bring the schema up to date and connect.

        :raises Unavailable: it cannot be opened now.
        :raises Unsupported: it is damaged, or another version's.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == _POSTGRESQL:
            await asyncio.to_thread(_bring_up_to_date, parsed)
            return cls(_server_engine(parsed), _server_engine(parsed, _URGENT_S))
        if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != _IN_MEMORY:
            await asyncio.to_thread(_make_private, Path(parsed.database))
        await asyncio.to_thread(_bring_up_to_date, parsed)
        engine = create_async_engine(parsed)
        _prepare_sqlite(engine.sync_engine)
        return cls(engine)

    async def close(self) -> None:
        await self._engine.dispose()
        await self._urgent.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent snapshot."""
        async with _translated(), self._engine.connect() as connection:
            if self.shared:
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block and rolls back on an error."""
        async with _translated(), self._engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                if self.shared:
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"))
                yield connection

    @asynccontextmanager
    async def write_urgently(self) -> AsyncIterator[AsyncConnection]:
        """As :meth:`write`, but waits for no other writer: the caller locks the rows that it needs."""
        async with _translated(), self._urgent.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection


@asynccontextmanager
async def _translated(what: str = "the database does not answer") -> AsyncIterator[None]:
    """A database that does not answer, as an error of ours; constraint violations pass for the repository to name."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise translated(error, what) from error
    except NoConnectionLeft as error:
        raise Unavailable(f"{what}: all connections are in use", hint="try again") from error
    except server_failures() as error:
        raise server_translated(error, what) from error


def _server_engine(url: URL, statement_s: float = _STATEMENT_S) -> AsyncEngine:
    """Connections to PostgreSQL. Each is tried before it is used: the server may have been restarted."""
    limits = {
        "application_name": "wireloom",
        "statement_timeout": str(int(statement_s * 1000)),
        "lock_timeout": str(int(min(statement_s, _LOCK_S) * 1000)),
        "idle_in_transaction_session_timeout": str(int(2 * _STATEMENT_S * 1000)),
    }
    connect = min(statement_s, _CONNECT_S)
    arguments = {"timeout": connect, "command_timeout": statement_s, "server_settings": limits}
    return create_async_engine(url, pool_pre_ping=True, pool_timeout=_LOCK_S, connect_args=arguments)


def _bring_up_to_date(url: URL) -> None:
    """Blocking. Errors as of :meth:`Database.open`."""
    from alembic.util import CommandError

    what = f"the database {url.render_as_string()} cannot be opened"
    try:
        migrate(url)
        _connected(url, lambda connection: refuse_foreign_schema(connection, metadata, what))
    except CommandError as error:
        raise unknown_revision(what) from error
    except DBAPIError as error:
        raise translated(error, what) from error
    except server_failures() as error:
        raise server_translated(error, what) from error


def _connected(url: URL, work: Callable[[Connection], None], **options: Any) -> None:
    """Do ``work`` on a connection of its own, in one transaction. Blocking, and not for a thread with a loop."""
    if url.get_backend_name() != "sqlite":
        asyncio.run(_connected_apart(url, work))
        return
    engine = create_engine(url.set(drivername="sqlite"))
    _prepare_sqlite(engine)
    try:
        with engine.connect().execution_options(**options) as connection, connection.begin():
            work(connection)
    finally:
        engine.dispose()


async def _connected_apart(url: URL, work: Callable[[Connection], None]) -> None:
    engine = _server_engine(url, 10 * _STATEMENT_S)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def migrate(url: URL, revision: str = "head") -> None:
    """Run all migrations up to ``revision``; blocking. Nobody else writes while they run."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    _connected(url, upgrade, **{_WRITES: True})


def _make_private(file: Path) -> None:
    """See to it that only the owner reads the file: configurations hold secrets. SQLite gives new journals its mode.

    :raises Unavailable: the file system refuses.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(_FILE_MODE)
        for part in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
            if part.is_file():
                part.chmod(_FILE_MODE)
    except OSError as error:
        raise Unavailable(
            f"the database {file} cannot be opened: {error.strerror}",
            hint="check the data folder's path, rights and free space",
        ) from error


def _prepare_sqlite(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: it would begin them without the write lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
