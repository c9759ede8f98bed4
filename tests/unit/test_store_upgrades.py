"""Databases of every earlier revision are brought up to date, and nothing of what was in them is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wireloom.controller.store import Store
from wireloom.controller.store.backups import backup, restore
from wireloom.controller.store.backups.loading import revisions

RECORDED = sorted((Path(__file__).parent / "golden" / "store").glob("*.sql"))

Rows = dict[str, list[dict[str, Any]]]


def made(folder: Path, recorded: Path) -> Path:
    file = folder / "wireloom.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(recorded.read_text(encoding="utf-8"))
    return file


def content(file: Path) -> Rows:
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        names = [row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]  # noqa: S608
            for name in names
            if name != "alembic_version"
        }


def lost(before: Rows, after: Rows) -> list[str]:
    """Rows and values of columns that both have, and that are no longer what they were."""
    found = []
    for table, rows in before.items():
        there = after.get(table, [])
        if len(there) < len(rows):
            found.append(f"{table}: {len(rows) - len(there)} rows")
            continue
        for old, new in zip(rows, there, strict=False):
            found += [f"{table}.{name}" for name, value in old.items() if name in new and new[name] != value]
    return found


def test_every_revision_is_recorded() -> None:
    assert [file.stem for file in RECORDED] == list(revisions())


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda file: file.stem)
async def test_an_older_database_is_brought_up_to_date_without_loss(tmp_path: Path, recorded: Path) -> None:
    file = made(tmp_path, recorded)
    before = content(file)
    await (await Store.open(f"sqlite+aiosqlite:///{file}")).close()
    assert lost(before, content(file)) == []


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda file: file.stem)
async def test_a_backup_of_an_older_database_is_restored_and_brought_up_to_date(tmp_path: Path, recorded: Path) -> None:
    file = made(tmp_path, recorded)
    before = content(file)
    await backup(f"sqlite+aiosqlite:///{file}", tmp_path / "backup.zip")
    assert content(file) == before
    target = tmp_path / "restored.sqlite"
    done = await restore(tmp_path / "backup.zip", f"sqlite+aiosqlite:///{target}")
    assert (done.manifest.revision, done.revision) == (recorded.stem, revisions()[-1])
    assert lost(before, content(target)) == ["labs.generation"]  # what hosts reported before counts no longer
