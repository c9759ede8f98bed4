"""Databases that cannot be used: each is told apart, with what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from wireloom.controller.store import Store
from wireloom.controller.store.failures import translated
from wireloom.errors import Unavailable, Unsupported

FREE_SPACE = "free space"
ANOTHER_VERSION = "another version"


async def opened(folder: Path) -> Store:
    return await Store.open(f"sqlite+aiosqlite:///{folder / 'wireloom.sqlite'}")


async def change(folder: Path, *statements: str) -> None:
    """A database of this version, changed behind its back."""
    await (await opened(folder)).close()
    with sqlite3.connect(folder / "wireloom.sqlite") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE labs RENAME COLUMN generation TO era", "its schema lacks labs.generation"),
        ("DROP TABLE operations", "its schema lacks operations"),
        ("UPDATE alembic_version SET version_num = '9999'", "its schema is of a later version"),
        ("DELETE FROM alembic_version", "already exists"),
    ],
)
async def test_a_database_of_another_version_is_refused_at_the_start(tmp_path: Path, statement: str, told: str) -> None:
    await change(tmp_path, statement)
    with pytest.raises(Unsupported, match=told) as caught:
        await opened(tmp_path)
    assert ANOTHER_VERSION in caught.value.hint
    assert FREE_SPACE not in str(caught.value)


async def test_a_schema_that_changes_under_the_controller_is_no_question_of_space(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with sqlite3.connect(tmp_path / "wireloom.sqlite") as connection:
        connection.execute("DROP TABLE hosts")
    connection.close()
    with pytest.raises(Unsupported, match="no such table") as caught:
        await store.subnets()
    assert ANOTHER_VERSION in caught.value.hint
    await store.close()


async def test_a_file_of_something_else_is_told_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "wireloom.sqlite").write_text("the lab's diary, day 1: " * 100)
    with pytest.raises(Unsupported, match="not a database") as caught:
        await opened(tmp_path)
    assert "backup" in caught.value.hint


def of_sqlite(code: int) -> OperationalError:
    cause = sqlite3.OperationalError("it failed")
    cause.sqlite_errorcode = code
    return OperationalError("SELECT 1", {}, cause)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (sqlite3.SQLITE_FULL, "make room"),
        (sqlite3.SQLITE_BUSY, "another process"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "another process"),
        (sqlite3.SQLITE_CANTOPEN, FREE_SPACE),
        (sqlite3.SQLITE_IOERR_WRITE, FREE_SPACE),
    ],
)
def test_what_may_pass_says_what_to_do(code: int, hint: str) -> None:
    error = translated(of_sqlite(code), "the database does not answer")
    assert isinstance(error, Unavailable)
    assert hint in error.hint


def test_a_server_that_is_away_is_no_question_of_files() -> None:
    error = translated(OperationalError("SELECT 1", {}, ConnectionRefusedError()), "the database does not answer")
    assert isinstance(error, Unavailable)
    assert "server" in error.hint
