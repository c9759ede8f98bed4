"""The store on a real PostgreSQL: everything that it does on SQLite, and what only a server can do to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import test_controller_store
import test_store_configs
import test_store_links
import test_store_tunnels
from postgres_rig import PostgresServer, postgres_server

from wireloom.controller.store import Store
from wireloom.controller.store.configs import ConfigStore
from wireloom.controller.store.database import Database
from wireloom.errors import Unavailable

#: About files and locks of SQLite itself.
_OF_SQLITE = (
    "test_each_text_is_stored_once_and_goes_with_its_last_revision",
    "test_a_database_of_the_first_schema_is_brought_up_to_date_with_its_labs",
    "test_a_database_that_is_busy_for_long_is_unavailable",
    "test_a_file_that_is_no_database_is_said_so",
    "test_only_the_owner_reads_a_database_and_its_journals",
)

for _module in (test_controller_store, test_store_configs, test_store_links, test_store_tunnels):
    globals().update(
        {f"{name}": item for name, item in vars(_module).items() if name.startswith("test_") and callable(item)}
    )
for _name in _OF_SQLITE:
    globals().pop(_name)


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresServer]:
    with postgres_server() as made:
        yield made


@pytest.fixture(autouse=True)
def on_postgres(cluster: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a database gets one on the server, and the same one for the same address."""
    urls: dict[str, str] = {}
    opened = Database.open

    async def open_there(url: str) -> Database:
        if url.startswith("sqlite"):
            if url not in urls:
                urls[url] = await asyncio.to_thread(cluster.database, f"t{secrets.token_hex(4)}")
            url = urls[url]
        return await opened(url)

    monkeypatch.setattr(Database, "open", open_there)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'wireloom.sqlite'}")
    yield opened
    await opened.close()


@pytest.fixture
async def configs(store: Store) -> ConfigStore:
    return store.configs


async def test_a_server_that_went_is_unavailable_and_found_again_when_it_is_back(
    cluster: PostgresServer, store: Store
) -> None:
    installation = await store.installation()
    await asyncio.to_thread(cluster.stop)
    with pytest.raises(Unavailable):
        await store.installation()
    await asyncio.to_thread(cluster.start_again)
    assert await store.installation() == installation


async def test_two_controllers_that_begin_at_once_make_one_installation(cluster: PostgresServer) -> None:
    url = await asyncio.to_thread(cluster.database, "together")
    stores = await asyncio.gather(*(Store.open(url) for _ in range(4)))
    assert len(set(await asyncio.gather(*(store.installation() for store in stores)))) == 1
    for store in stores:
        await store.close()
