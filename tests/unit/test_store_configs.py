"""The tables of configurations: each text once, numbers never again, nothing lost with a node or an upgrade."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from wireloom.configs import digest
from wireloom.controller.store import Store
from wireloom.controller.store.config_records import NewConfig, NodeKey
from wireloom.controller.store.configs import ConfigStore
from wireloom.controller.store.database import MIGRATIONS
from wireloom.errors import Conflict, NotFound

R1 = NodeKey(node_id="n1", lab_id="l1", lab="lab", node="r1", device="frr")
R2 = NodeKey(node_id="n2", lab_id="l1", lab="lab", node="r2", device="frr")


@pytest.fixture
async def configs(tmp_path: Path) -> AsyncIterator[ConfigStore]:
    store = await Store.open(url(tmp_path))
    yield store.configs
    await store.close()


def url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'wireloom.sqlite'}"


def texts(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "wireloom.sqlite") as connection:
        return {row[0] for row in connection.execute("SELECT content FROM config_texts")}


def reading(text: str, taken_at: float = 0, **changes: object) -> NewConfig:
    fields = {"text": text, "origin": "extract", "who": "user", "channel": "exec", "taken_at": taken_at}
    return NewConfig.model_validate({**fields, **changes})


async def test_each_text_is_stored_once_and_goes_with_its_last_revision(configs: ConfigStore, tmp_path: Path) -> None:
    await configs.add(R1, reading("same\n", 1), by_user=True)
    await configs.add(R2, reading("same\n", 2), by_user=True)
    await configs.add(R1, reading("other\n", 3), by_user=True)
    assert texts(tmp_path) == {"same\n", "other\n"}
    await configs.delete("n1", [1])
    assert texts(tmp_path) == {"same\n", "other\n"}
    await configs.forget("n2")
    assert texts(tmp_path) == {"other\n"}
    assert await configs.node("n2") is None


async def test_numbers_are_never_used_again(configs: ConfigStore) -> None:
    for number in range(1, 4):
        await configs.add(R1, reading(f"{number}\n", number), by_user=True)
    await configs.choose(R1, 1)
    await configs.delete("n1", [2, 3])
    added = await configs.add(R1, reading("4\n", 4), by_user=True)
    assert added.revision.number == 4


async def test_of_simultaneous_readings_none_is_lost(configs: ConfigStore) -> None:
    results = await asyncio.gather(
        *(configs.add(R1, reading(f"{index}\n", index), by_user=False) for index in range(8)), return_exceptions=True
    )
    stored = [item for item in results if not isinstance(item, BaseException)]
    assert len(stored) == 8
    assert sorted(item.number for item in await configs.revisions("n1")) == list(range(1, 9))


async def test_a_text_can_be_read_by_number_only(configs: ConfigStore) -> None:
    await configs.add(R1, reading("a\n"), by_user=True)
    revision, text = await configs.text("n1", 1)
    assert (text, revision.sha256, revision.size) == ("a\n", digest("a\n"), 2)
    for node_id, number in (("n1", 2), ("n9", 1)):
        with pytest.raises(NotFound):
            await configs.text(node_id, number)
    with pytest.raises(Conflict):
        await configs.delete("n1", [1])


async def test_a_database_of_the_first_schema_is_brought_up_to_date_with_its_labs(tmp_path: Path) -> None:
    path = tmp_path / "wireloom.sqlite"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO labs VALUES ('l1', 'lab', 1.0, 1, 1, 0, 0)")
        connection.exec_driver_sql("INSERT INTO revisions VALUES ('l1', 1, 'name: lab', '{}', 't.yml', 'x', 1.0)")
    engine.dispose()

    store = await Store.open(url(tmp_path))
    snapshot = await store.snapshot("lab")
    assert snapshot is not None
    assert snapshot.configs == {}
    await store.configs.add(R1, reading("a\n"), by_user=True)
    snapshot = await store.snapshot("lab")
    assert snapshot is not None
    assert snapshot.configs["n1"].stored is not None
    await store.close()

    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        tables = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}
    engine.dispose()
    assert not [name for name in tables if name.startswith("config_")]
    assert "labs" in tables
