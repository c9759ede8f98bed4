"""Databases carried whole, between SQLite and PostgreSQL and through files: everything arrives, or nothing happens."""

from __future__ import annotations

import itertools
import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_rig import PostgresServer, postgres_server
from sqlalchemy import make_url

from wireloom.controller.store import LabEdit, LabRecord, NodeRecord, OperationRecord, OperationTargets, Store
from wireloom.controller.store.backups import backup, copy, restore, upgrade
from wireloom.controller.store.backups.connections import reading
from wireloom.controller.store.backups.reading import DatabaseRows
from wireloom.controller.store.records import RevisionRecord, revision_digest
from wireloom.controller.store.tables import labs
from wireloom.errors import Conflict, InvalidInput, NotFound, Unsupported

NewDatabase = Callable[[], str]
NUMBERS = itertools.count(1)
UNTIDY = "name: größe\n# tab\there, \u2028 and \U0001f310\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def databases(kind: str, tmp_path: Path, server: PostgresServer) -> NewDatabase:
    def make() -> str:
        if kind == "sqlite":
            return f"sqlite+aiosqlite:///{tmp_path / f'{next(NUMBERS)}.sqlite'}"
        return server.database(f"backups{next(NUMBERS)}")

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path, server: PostgresServer) -> NewDatabase:
    return databases(request.param, tmp_path, server)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_elsewhere(request: pytest.FixtureRequest, tmp_path: Path, server: PostgresServer) -> NewDatabase:
    return databases(request.param, tmp_path / "else", server)


def edit(lab_id: str) -> LabEdit:
    nodes = tuple(
        NodeRecord(
            id=f"{lab_id}-{number}", lab_id=lab_id, name=f"n{number}", device="frr", provider="docker", host="h1"
        )
        for number in range(3)
    )
    return LabEdit(
        lab=LabRecord(id=lab_id, name=f"lab-{lab_id}", created_at=1.25, generation=1, revision=1),
        expected_generation=None,
        revision=RevisionRecord(
            lab_id=lab_id, number=1, topology=UNTIDY, sha256=revision_digest(UNTIDY, {}), created_at=1.1
        ),
        nodes=nodes,
        subnets={"h1": "10.9.0.0/24"},
        operation=OperationRecord(
            id=f"op-{lab_id}",
            lab_id=lab_id,
            lab=f"lab-{lab_id}",
            verb="deploy",
            goal="running",
            generation=1,
            targets=OperationTargets(),
            created_at=1,
        ),
    )


async def filled(url: str) -> Store:
    store = await Store.open(url)
    await store.installation()
    await store.apply(edit("l1"))
    return store


def restored(before: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
    """``before`` as a restore makes it: labs are of generations that no host has reported."""
    number = list(labs.columns.keys()).index("generation")
    rows = [[*row[:number], row[number] + 1_000_000, *row[number + 1 :]] for row in before["labs"]]
    return before | {"labs": rows}


async def content(url: str) -> dict[str, list[list[Any]]]:
    async with reading(make_url(url)) as connection:

        def read(raw: Any) -> dict[str, list[list[Any]]]:
            rows = DatabaseRows(raw, url)
            return {table.name: list(rows.of(table)) for table in rows.manifest.tables}

        return await connection.run_sync(read)


@pytest.fixture
async def source(new: NewDatabase) -> str:
    url = new()
    await (await filled(url)).close()
    return url


async def test_a_backup_of_a_running_database_holds_all_of_one_moment(new: NewDatabase, tmp_path: Path) -> None:
    url, target = new(), new()
    store = await filled(url)
    before = await content(url)
    file = tmp_path / "backup.zip"

    def writes_meanwhile(_table: str, _done: int, _total: int) -> None:
        assert stat.S_IMODE(next(tmp_path.glob(".backup.zip*.part")).stat().st_mode) == 0o600
        assert not file.exists()

    done = await backup(url, file, tell=writes_meanwhile)
    await store.apply(edit("l2"))
    await store.close()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".*.part"))
    assert done.manifest.installation == before["installation"][0][0]
    await restore(file, target)
    assert await content(target) == restored(before)
    opened = await Store.open(target)
    assert [there.lab.name for there in await opened.snapshots()] == ["lab-l1"]
    await opened.close()


async def test_every_kind_of_database_becomes_every_other(source: str, new_elsewhere: NewDatabase) -> None:
    target = new_elsewhere()
    await copy(source, target)
    assert await content(target) == await content(source)
    opened = await Store.open(target)
    await opened.apply(edit("l2"))
    assert {there.lab.name for there in await opened.snapshots()} == {"lab-l1", "lab-l2"}
    await opened.close()


async def test_what_is_not_empty_is_filled_only_by_force(source: str, new: NewDatabase, tmp_path: Path) -> None:
    target, file = new(), tmp_path / "backup.zip"
    store = await Store.open(target)
    await store.apply(edit("l2"))
    await store.close()
    before = await content(target)
    await backup(source, file)
    with pytest.raises(Conflict, match="not empty"):
        await restore(file, target)
    with pytest.raises(Conflict, match="not empty"):
        await copy(source, target)
    assert await content(target) == before
    await restore(file, target, force=True)
    assert await content(target) == restored(await content(source))


async def test_a_database_that_a_controller_has_open_is_neither_filled_nor_left(
    new: NewDatabase, tmp_path: Path
) -> None:
    url, other, file = new(), new(), tmp_path / "backup.zip"
    store = await filled(url)
    await backup(url, file)
    with pytest.raises(Conflict, match="is in use"):
        await restore(file, url, force=True)
    with pytest.raises(Conflict, match="is in use"):
        await copy(url, other)
    await copy(url, other, running=True)
    assert [there.lab.name for there in await store.snapshots()] == ["lab-l1"]
    await store.close()


def rewritten(file: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    target = file.with_name(f"changed-{file.name}")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == member else content)
    return target


def manifest_with(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | changes).encode()


@pytest.mark.parametrize(
    ("member", "change", "error", "told"),
    [
        (
            "rows/labs.jsonl",
            lambda text: text.replace(b"lab-l1", b"lab-l9"),
            InvalidInput,
            "checksum of rows/labs.jsonl",
        ),
        ("manifest.json", manifest_with(format=99), Unsupported, "format that this version does not know"),
        ("manifest.json", manifest_with(revision="9999"), Unsupported, "9999"),
        ("manifest.json", manifest_with(product="other"), InvalidInput, "no backup of Wireloom"),
        ("manifest.json", manifest_with(revision="0001"), InvalidInput, "the schema of revision 0001 has no"),
    ],
)
async def test_a_file_that_is_not_right_changes_nothing(
    tmp_path: Path, member: str, change: Callable[[bytes], bytes], error: type[Exception], told: str
) -> None:
    source, target = (f"sqlite+aiosqlite:///{tmp_path / name}.sqlite" for name in ("source", "target"))
    for url in (source, target):
        await (await filled(url)).close()
    before = await content(target)
    await backup(source, tmp_path / "backup.zip")
    with pytest.raises(error, match=told):
        await restore(rewritten(tmp_path / "backup.zip", member, change), target, force=True)
    assert await content(target) == before


async def test_half_a_file_is_no_backup(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'source.sqlite'}"
    await (await filled(url)).close()
    await backup(url, tmp_path / "backup.zip")
    (tmp_path / "half.zip").write_bytes((tmp_path / "backup.zip").read_bytes()[:-200])
    with pytest.raises(InvalidInput, match="no backup"):
        await restore(tmp_path / "half.zip", f"sqlite+aiosqlite:///{tmp_path / 'target.sqlite'}")
    assert not (tmp_path / "target.sqlite").exists()


async def test_a_backup_takes_the_place_of_no_file(source: str, tmp_path: Path) -> None:
    (tmp_path / "there.zip").write_text("mine")
    with pytest.raises(Conflict, match="there already"):
        await backup(source, tmp_path / "there.zip")
    assert (tmp_path / "there.zip").read_text() == "mine"


async def test_keys_come_along_with_modes_of_their_own(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'source.sqlite'}"
    await (await filled(url)).close()
    (tmp_path / "keys.json").write_text("secret")
    await backup(url, tmp_path / "backup.zip", {"fabric/keys.json": tmp_path / "keys.json"})
    await restore(tmp_path / "backup.zip", f"sqlite+aiosqlite:///{tmp_path / 'a.sqlite'}", files_to=tmp_path / "data")
    key = tmp_path / "data" / "fabric" / "keys.json"
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("secret", 0o600)
    key.write_text("another")
    with pytest.raises(Conflict, match="there already"):
        await restore(
            tmp_path / "backup.zip", f"sqlite+aiosqlite:///{tmp_path / 'b.sqlite'}", files_to=tmp_path / "data"
        )


async def test_a_database_that_is_not_there_is_not_made_by_a_backup(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no database"):
        await backup(f"sqlite+aiosqlite:///{tmp_path / 'none.sqlite'}", tmp_path / "backup.zip")
    assert not list(tmp_path.iterdir())


async def test_an_empty_database_is_brought_up_to_date(new: NewDatabase) -> None:
    url = new()
    first, second = await upgrade(url), await upgrade(url)
    assert (first.before, second.before, second.after) == ("", first.after, first.after)
