"""What the database keeps of links and of deployed nodes, and what it gives out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from wireloom.controller.store import (
    Definitions,
    LabEdit,
    LabRecord,
    NodeRecord,
    OperationRecord,
    RevisionRecord,
    Store,
    tables,
)
from wireloom.errors import CapacityExceeded, Conflict
from wireloom.model.dialogue import Cli
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.slice import NodeIntent

LOSSY = LinkImpairment(forward=Impairment(loss=5))
CLI = Cli(name="vtysh", prompts=())
NODE = NodeIntent(id="n1", name="a", device="linux", provider="docker", image="i")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'wireloom.sqlite'}")
    yield opened
    await opened.close()


def edit(lab: str, generation: int = 1, **more: Any) -> LabEdit:
    operation = {"id": f"{lab}{generation}", "lab_id": lab, "lab": lab, "verb": "deploy", "goal": "running"}
    revision = {"lab_id": lab, "number": 1, "topology": "", "sha256": "", "created_at": 0}
    return LabEdit(
        lab=LabRecord(id=lab, name=lab, created_at=0, generation=generation, revision=1),
        expected_generation=generation - 1 or None,
        revision=RevisionRecord.model_validate(revision) if generation == 1 else None,
        nodes=(NodeRecord(id=f"{lab}-n", lab_id=lab, name="a", device="linux", provider="docker"),),
        operation=OperationRecord.model_validate({**operation, "generation": generation, "created_at": 0}),
        **more,
    )


async def test_impairments_are_those_of_the_last_edit(store: Store) -> None:
    timed = LOSSY.model_copy(update={"forward_until": 7.0})
    assert (await store.apply(edit("one", impairments={"x": LOSSY, "y": timed}))).impairments == {
        "x": LOSSY,
        "y": timed,
    }
    assert (await store.apply(edit("one", 2, impairments={"x": LOSSY}))).impairments == {"x": LOSSY}
    assert (await store.apply(edit("one", 3))).impairments == {}


async def test_impairments_end_in_their_order(store: Store) -> None:
    at = {name: LOSSY.model_copy(update={"forward_until": moment}) for name, moment in {"x": 5.0, "y": 9.0}.items()}
    await store.apply(edit("one", impairments={**at, "z": LOSSY}))
    assert await store.next_end() == 5.0
    assert await store.end_impairments(4.9) == []
    assert await store.end_impairments(5.0) == ["one"]
    assert await store.next_end() == 9.0
    assert await store.end_impairments(99.0) == ["one"]
    assert await store.next_end() is None
    assert (await store.snapshots())[0].impairments == {"z": LOSSY}


async def test_each_direction_ends_at_its_own_time(store: Store) -> None:
    both = LinkImpairment(
        forward=Impairment(loss=5), backward=Impairment(loss=6), forward_until=9.0, backward_until=5.0
    )
    await store.apply(edit("one", impairments={"x": both}))
    assert await store.next_end() == 5.0
    assert await store.end_impairments(5.0) == ["one"]
    assert (await store.snapshots())[0].impairments == {"x": LOSSY.model_copy(update={"forward_until": 9.0})}
    assert await store.next_end() == 9.0
    assert await store.end_impairments(9.0) == ["one"]
    assert (await store.snapshots())[0].impairments == {}


async def test_what_was_stored_with_one_end_for_both_directions_is_still_read(store: Store) -> None:
    await store.apply(edit("one", impairments={"x": LOSSY}))
    older = {"forward": {"loss": 5.0}, "backward": None, "until": 7.0}
    async with store._database.write() as connection:
        await connection.execute(update(tables.link_impairments).values(impairment=older, until=7.0))
    found = (await store.snapshots())[0].impairments["x"]
    assert (found.forward, found.forward_until, found.backward_until) == (LOSSY.forward, 7.0, 7.0)
    assert found.backward == Impairment()  # it took the topology's place in both directions
    assert await store.end_impairments(7.0) == ["one"]
    assert (await store.snapshots())[0].impairments == {}


async def test_a_lease_stays_with_its_segment_and_goes_with_it(store: Store) -> None:
    first = (await store.apply(edit("one", nat_segments={"s1": "", "s2": ""}))).nat_subnets
    assert len(set(first.values())) == 2
    assert (await store.apply(edit("one", 2, nat_segments={"s1": "", "s2": ""}))).nat_subnets == first
    assert (await store.apply(edit("one", 3, nat_segments={"s2": ""}))).nat_subnets == {"s2": first["s2"]}
    moved = (await store.apply(edit("one", 4, nat_segments={"s2": "10.5.0.0/24"}))).nat_subnets
    assert moved == {"s2": "10.5.0.0/24"}


async def test_a_lease_gives_way_to_what_a_user_names_in_the_same_lab(store: Store) -> None:
    leased = (await store.apply(edit("one", nat_segments={"s1": ""}))).nat_subnets["s1"]
    both = (await store.apply(edit("one", 2, nat_segments={"s1": "", "s2": leased}))).nat_subnets
    assert both["s2"] == leased
    assert both["s1"] != leased


async def test_no_two_segments_share_an_address_whoever_asks(store: Store) -> None:
    await store.apply(edit("one", nat_segments={"s1": "10.99.0.0/17"}))
    with pytest.raises(Conflict, match="that of lab one"):
        await store.apply(edit("two", nat_segments={"s2": "10.99.5.0/24"}))
    with pytest.raises(Conflict, match="another segment of lab two"):
        await store.apply(edit("two", nat_segments={"s2": "10.5.0.0/24", "s3": "10.5.0.0/16"}))
    with pytest.raises(Conflict, match="management network of host h1"):
        await store.apply(edit("two", nat_segments={"s2": "10.6.0.0/24"}, subnets={"h1": "10.6.0.0/16"}))
    found = (await store.apply(edit("two", nat_segments={f"t{number}": "" for number in range(128)}))).nat_subnets
    assert all(int(subnet.split(".")[2]) >= 128 for subnet in found.values())
    with pytest.raises(CapacityExceeded, match="no subnet"):
        await store.apply(edit("three", nat_segments={"s4": ""}))
    assert [snapshot.lab.name for snapshot in await store.snapshots()] == ["one", "two"]


async def test_definitions_are_those_of_the_last_edit_that_had_any(store: Store) -> None:
    nodes = {f"n{number}": NODE.model_copy(update={"id": f"n{number}"}) for number in range(3)}
    clis = {"vtysh": CLI}
    await store.apply(edit("one", definitions=Definitions(nodes=nodes, clis=clis)))
    await store.apply(edit("two"))
    assert await store.definitions() == {"one": Definitions(nodes=nodes, clis=clis)}
    changed = {"n0": nodes["n0"], "n1": NODE.model_copy(update={"id": "n1", "memory_mb": 512})}
    await store.apply(edit("one", 2, definitions=Definitions(nodes=changed)))
    assert await store.definitions() == {"one": Definitions(nodes=changed)}
    await store.apply(edit("one", 3))
    assert await store.definitions() == {"one": Definitions(nodes=changed)}


async def test_a_definition_of_another_version_is_left_out_and_the_others_are_read(store: Store) -> None:
    nodes = {name: NODE.model_copy(update={"id": name}) for name in ("n1", "n2")}
    await store.apply(edit("one", definitions=Definitions(nodes=nodes)))
    table = tables.node_definitions
    async with store._database.write() as connection:
        await connection.execute(update(table).where(table.c.node_id == "n1").values(definition={"id": 3}))
    assert (await store.definitions())["one"].nodes == {"n2": nodes["n2"]}


async def test_everything_goes_with_its_lab(store: Store) -> None:
    more: dict[str, Any] = {
        "impairments": {"x": LOSSY},
        "nat_segments": {"s1": ""},
        "definitions": Definitions(nodes={"n1": NODE}),
    }
    await store.apply(edit("one", **more))
    gone = edit("one", 2, **more)
    await store.apply(gone.model_copy(update={"lab": gone.lab.model_copy(update={"removing": True})}))
    assert await store.delete_lab("one")
    assert await store.definitions() == {}
    again = await store.apply(edit("other", nat_segments={"s1": ""}))
    assert (again.impairments, len(again.nat_subnets)) == ({}, 1)
