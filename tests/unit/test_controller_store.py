"""The store: one edit at a time, all of it or nothing; addresses and names are unique; nothing else is remembered."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url

from wireloom.controller.addresses import free_addresses, holds, management
from wireloom.controller.store import (
    LabEdit,
    LabRecord,
    NodeRecord,
    OperationRecord,
    OperationTargets,
    RevisionRecord,
    Store,
)
from wireloom.controller.store.database import migrate
from wireloom.controller.store.records import revision_digest
from wireloom.controller.store.tables import metadata
from wireloom.errors import CapacityExceeded, Conflict, Unavailable
from wireloom.model.views import OperationState

SUBNET = "10.9.0.0/29"  # room for .2 to .6


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(url(tmp_path))
    yield opened
    await opened.close()


def url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'wireloom.sqlite'}"


def node(lab_id: str, name: str, **changes: object) -> NodeRecord:
    fields = {"id": f"{lab_id}-{name}", "lab_id": lab_id, "name": name, "device": "frr", "provider": "docker"}
    return NodeRecord.model_validate({**fields, "host": "h1", **changes})


def creation(lab_id: str, *nodes: NodeRecord, name: str = "") -> LabEdit:
    lab = LabRecord(id=lab_id, name=name or f"lab-{lab_id}", created_at=1, generation=1, revision=1)
    return LabEdit(
        lab=lab,
        expected_generation=None,
        revision=RevisionRecord(lab_id=lab_id, number=1, topology="t", sha256=revision_digest("t", {}), created_at=1),
        nodes=nodes,
        subnets={"h1": SUBNET},
        operation=operation(lab_id, 1),
    )


def operation(lab_id: str, generation: int) -> OperationRecord:
    return OperationRecord(
        id=f"{lab_id}-op{generation}",
        lab_id=lab_id,
        lab=f"lab-{lab_id}",
        verb="deploy",
        goal="running",
        generation=generation,
        targets=OperationTargets(nodes=("x",), started={"x": None}),
        created_at=float(generation),
    )


def change(edit: LabEdit, *nodes: NodeRecord, **lab: object) -> LabEdit:
    """The next edit of the same lab."""
    generation = edit.lab.generation + 1
    return edit.model_copy(
        update={
            "lab": edit.lab.model_copy(update={"generation": generation, **lab}),
            "expected_generation": edit.lab.generation,
            "revision": None,
            "nodes": nodes,
            "operation": operation(edit.lab.id, generation),
        }
    )


async def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "fresh.sqlite"
    await asyncio.to_thread(migrate, make_url(f"sqlite+aiosqlite:///{path}"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


async def test_a_database_opens_again_with_everything_in_it(tmp_path: Path) -> None:
    store = await Store.open(url(tmp_path))
    installation = await store.installation()
    await store.apply(creation("a", node("a", "r1")))
    await store.remember_subnet("h1", SUBNET)
    await store.close()

    again = await Store.open(url(tmp_path))
    assert await again.installation() == installation
    assert [snapshot.lab.name for snapshot in await again.snapshots()] == ["lab-a"]
    assert await again.subnets() == {"h1": SUBNET}
    assert [record.targets.started for record in await again.running_operations()] == [{"x": None}]
    await again.close()


async def test_only_the_owner_reads_a_database_and_its_journals(tmp_path: Path) -> None:
    path = tmp_path / "wireloom.sqlite"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0o644)  # of an earlier version
    store = await Store.open(url(tmp_path))
    await store.apply(creation("a", node("a", "r1")))
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    await store.close()
    assert modes.keys() >= {"wireloom.sqlite", "wireloom.sqlite-wal"}
    assert set(modes.values()) == {0o600}


async def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "wireloom.sqlite").mkdir()
    with pytest.raises(Unavailable, match="cannot be opened"):
        await Store.open(url(tmp_path))


async def test_an_edit_from_an_old_generation_is_refused_and_changes_nothing(store: Store) -> None:
    first = creation("a", node("a", "r1"))
    await store.apply(first)
    await store.apply(change(first, node("a", "r1", power="off")))
    with pytest.raises(Conflict):
        await store.apply(change(first, node("a", "r9")))
    snapshot = await store.snapshot("lab-a")
    assert snapshot is not None
    assert [(item.name, item.power) for item in snapshot.nodes] == [("r1", "off")]


async def test_two_labs_cannot_have_one_name(store: Store) -> None:
    await store.apply(creation("a", name="same"))
    with pytest.raises(Conflict):
        await store.apply(creation("b", name="same"))


async def test_of_concurrent_edits_one_wins(store: Store) -> None:
    first = creation("a", node("a", "r1"))
    await store.apply(first)
    edits = (
        change(first, node("a", "r1", power=power)).model_copy(update={"operation": operation("a", 10 + index)})
        for index, power in enumerate(("on", "off", "on"))
    )
    results = await asyncio.gather(*(store.apply(edit) for edit in edits), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 2


async def test_addresses_are_unique_on_a_host_and_stay_with_the_node(store: Store) -> None:
    first = await store.apply(creation("a", node("a", "r1"), node("a", "r2")))
    other = await store.apply(creation("b", node("b", "r1")))
    assert [item.mgmt_ipv4 for item in (*first.nodes, *other.nodes)] == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]

    without_r1 = await store.apply(change(creation("a"), first.nodes[1], node("a", "r3")))
    assert {item.name: item.mgmt_ipv4 for item in without_r1.nodes} == {"r2": "10.9.0.3", "r3": "10.9.0.2"}


async def test_a_node_gets_a_new_address_when_the_hosts_subnet_changed(store: Store) -> None:
    first = creation("a", node("a", "r1"))
    before = await store.apply(first)
    moved = change(first, *before.nodes).model_copy(update={"subnets": {"h1": "10.77.0.0/24"}})
    assert (await store.apply(moved)).nodes[0].mgmt_ipv4 == "10.77.0.2"


async def test_a_full_subnet_is_a_refusal_that_stores_nothing(store: Store) -> None:
    nodes = [node("a", f"r{index}") for index in range(6)]
    with pytest.raises(CapacityExceeded, match="no free address"):
        await store.apply(creation("a", *nodes))
    assert await store.snapshots() == []


async def test_refused_nodes_hold_no_host(store: Store) -> None:
    refused = node("a", "r2", host="h2", problem={"code": "unavailable", "message": "away"})
    snapshot = await store.apply(creation("a", node("a", "r1"), refused))
    assert snapshot.hosts == ("h1",)
    assert snapshot.nodes[1].problem == {"code": "unavailable", "message": "away"}


async def test_a_lab_is_forgotten_only_when_it_is_being_removed_and_no_host_holds_it(store: Store) -> None:
    first = creation("a", node("a", "r1"))
    before = await store.apply(first)
    assert not await store.delete_lab("a")
    await store.apply(change(first, *before.nodes, removing=True))
    assert not await store.delete_lab("a")
    await store.host_is_empty("a", "h1")
    assert await store.delete_lab("a")
    assert not await store.delete_lab("a")
    assert await store.snapshots() == []
    assert await store.operation("a-op2") is not None  # how it ended can still be asked


async def test_operations_are_found_until_they_are_saved_as_ended(store: Store) -> None:
    await store.apply(creation("a"))
    record = (await store.running_operations())[0]
    ended = record.model_copy(update={"state": OperationState.DONE, "done": 1, "finished_at": 5.0})
    await store.save_operation(ended)
    assert await store.running_operations() == []
    assert await store.operation(record.id) == ended


async def test_a_database_that_is_busy_for_long_is_unavailable(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wireloom.controller.store.database.BUSY_TIMEOUT_MS", 1)
    blocker = sqlite3.connect(tmp_path / "wireloom.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="does not answer"):
        await store.remember_subnet("h1", SUBNET)
    blocker.execute("ROLLBACK")
    blocker.close()
    await store.remember_subnet("h1", SUBNET)


@pytest.mark.parametrize(
    ("address", "fits"),
    [("10.9.0.0", False), ("10.9.0.1", False), ("10.9.0.2", True), ("10.9.0.6", True), ("10.9.0.7", False)],
)
def test_nodes_get_neither_the_networks_nor_the_hosts_own_address(address: str, fits: bool) -> None:
    assert holds(SUBNET, address) is fits


def test_free_addresses_fill_gaps_and_end_with_a_refusal() -> None:
    free = free_addresses(SUBNET, {"10.9.0.2", "10.9.0.4"})
    assert [next(free), next(free), next(free)] == ["10.9.0.3", "10.9.0.5", "10.9.0.6"]
    with pytest.raises(CapacityExceeded):
        next(free)
    assert management(SUBNET, "wl").gateway == "10.9.0.1"
