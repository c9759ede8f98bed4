"""Engine, transactions and migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from wireloom.controller.store.failures import refuse_foreign_schema, translated, unknown_revision
from wireloom.controller.store.tables import metadata
from wireloom.errors import Unavailable

__all__ = ["Database", "migrate"]

BUSY_TIMEOUT_MS: Final = 5000
MIGRATIONS: Final = Path(__file__).parent / "migrations"

#: Execution option of a transaction that will write: it takes SQLite's write lock at once instead of failing later.
_WRITES: Final = "wireloom_writes"
_FILE_MODE: Final = 0o600
_IN_MEMORY: Final = ":memory:"


class Database:
    """An open database whose schema is current."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, url: str) -> Database:
        """Bring the schema up to date and connect.

        :raises Unavailable: it cannot be opened now.
        :raises Unsupported: it is damaged, or another version's.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != _IN_MEMORY:
            await asyncio.to_thread(_make_private, Path(parsed.database))
        await asyncio.to_thread(_bring_up_to_date, parsed)
        engine = create_async_engine(parsed)
        _prepare_sqlite(engine.sync_engine)
        return cls(engine)

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent snapshot."""
        async with _translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block and rolls back on an error."""
        async with _translated(), self._engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """A database that does not answer, as an error of ours; constraint violations pass for the repository to name."""
    try:
        yield
    except OperationalError as error:
        raise translated(error, "the database does not answer") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the database connection was lost", hint="try again") from error
        raise


def _bring_up_to_date(url: URL) -> None:
    """Blocking. Errors as of :meth:`Database.open`."""
    from alembic.util import CommandError

    what = f"the database {url.render_as_string()} cannot be opened"
    try:
        migrate(url)
        with _connected(url) as connection:
            refuse_foreign_schema(connection, metadata, what)
    except CommandError as error:
        raise unknown_revision(what) from error
    except DBAPIError as error:
        raise translated(error, what) from error


@contextmanager
def _connected(url: URL, **options: Any) -> Iterator[Connection]:
    """One connection of a blocking driver, and one transaction on it."""
    driver = "sqlite" if url.get_backend_name() == "sqlite" else url.drivername
    engine = create_engine(url.set(drivername=driver))
    _prepare_sqlite(engine)
    try:
        with engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection
    finally:
        engine.dispose()


def migrate(url: URL) -> None:
    """Run all migrations; blocking. The schema is locked while it runs."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with _connected(url, **{_WRITES: True}) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
