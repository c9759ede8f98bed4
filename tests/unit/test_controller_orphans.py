"""Orphans over all hosts: each for itself; a grace time; a lost lab that is adopted by what is left of it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from controller_rig import TWO_NODES, Host, Rig, make_rig, until

from wireloom.controller.orphans import Orphans
from wireloom.errors import Conflict, NotFound, Unavailable
from wireloom.fabric.documents import PruneAnswer, PruneQuestion
from wireloom.fabric.methods import PRUNE
from wireloom.model.orphans import AdoptRequest, Orphan, PruneRequest
from wireloom.model.state import NodeState

GONE = Orphan(kind="runtime", id="r", name="wl-old", lab="old", lab_id="l1", node="x", node_id="n1")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as rig:
        yield rig


async def having(rig: Rig, host: str, *found: Orphan) -> list[PruneQuestion]:
    """Let ``host`` have that, and remember what it was asked."""
    asked: list[PruneQuestion] = []

    async def answer(question: PruneQuestion) -> PruneAnswer:
        asked.append(question)
        left = [item for item in found if item.lab_id not in question.labs]
        gone = not question.dry_run
        return PruneAnswer(orphans=tuple(item.model_copy(update={"removed": gone}) for item in left))

    await rig.fabric.serve(host, PRUNE, answer)
    return asked


async def test_a_host_that_cannot_answer_hides_nothing_of_the_others(rig: Rig) -> None:
    await rig.add_host("h1")
    await rig.add_host("h2", management_subnet="172.30.1.0/24")
    await having(rig, "h1", GONE)
    view = await rig.controller.orphans.discover()
    assert [(find.host, len(find.found), find.error is not None) for find in view.hosts] == [
        ("h1", 1, False),
        ("h2", 0, True),
    ]
    assert view.hosts[0].found[0].host == "h1"
    found = await rig.controller.orphans.prune(PruneRequest(dry_run=False))
    assert [(item.kind, item.host, item.removed) for item in found] == [("runtime", "h1", True), ("host", "h2", False)]


async def test_a_host_that_is_lost_is_listed_with_the_reason(rig: Rig) -> None:
    await rig.add_host("h1")
    rig.fabric.expire_host("h1")
    await until(lambda: not rig.controller.live.alive)
    (find,) = (await rig.controller.orphans.discover()).hosts
    assert find.error is not None
    assert "does not answer" in find.error["message"]
    with pytest.raises(Unavailable):
        await rig.controller.orphans.prune(PruneRequest())


async def test_a_prune_is_about_named_hosts_where_some_are_named(rig: Rig) -> None:
    await rig.add_host("h1")
    await rig.add_host("h2", management_subnet="172.30.1.0/24")
    asked, others = await having(rig, "h1"), await having(rig, "h2")
    await rig.controller.orphans.prune(PruneRequest(hosts=("h1",)))
    assert (len(asked), len(others)) == (1, 0)
    with pytest.raises(NotFound):
        await rig.controller.orphans.prune(PruneRequest(hosts=("h9",)))


async def test_a_prune_leaves_out_what_can_be_had_again_and_what_is_not_ours(rig: Rig) -> None:
    await rig.add_host("h1")
    spare = GONE.model_copy(update={"why": "unused", "id": "i"})
    theirs = GONE.model_copy(update={"why": "other-installation", "id": "o"})
    await having(rig, "h1", GONE, spare, theirs)
    assert [item.id for item in await rig.controller.orphans.prune(PruneRequest())] == ["r"]
    assert [item.id for item in await rig.controller.orphans.prune(PruneRequest(images=True))] == ["r", "i"]
    (find,) = (await rig.controller.orphans.discover()).hosts
    assert [item.id for item in find.found] == ["r", "i", "o"]


async def test_after_the_grace_time_orphans_go_by_themselves_and_nothing_else(rig: Rig) -> None:
    await rig.add_host("h1")
    asked = await having(rig, "h1", GONE, GONE.model_copy(update={"why": "leftover", "id": "i"}))
    patient = Orphans(
        fabric=rig.fabric,
        board=rig.controller.board,
        live=rig.controller.live,
        registry=rig.controller.registry,
        journal=rig.controller.journal,
        grace_s=60,
        clock=lambda: rig.seconds,
    )
    await patient.look()
    await until(lambda: any(event.kind == "orphan.found" for event in rig.fabric.published))
    rig.seconds += 59
    await patient.look()
    assert all(question.dry_run for question in asked)
    rig.seconds += 1
    await patient.look()
    assert [question.only for question in asked if not question.dry_run] == [("runtime  r",)]


# ---------------------------------------------------------------------- adopt


async def remains_of(rig: Rig, host: Host) -> Sequence[Orphan]:
    """What a host has of its labs, as its agent would tell it."""
    return [
        Orphan(
            kind="runtime",
            provider=node.provider,
            id=f"rt-{node.name}",
            name=node.name,
            lab=lab.lab,
            node=node.name,
            lab_id=lab.lab_id,
            node_id=node.id,
            incarnation=node.incarnation,
            spec_hash=node.spec_hash(),
            running=True,
        )
        for lab in host.slices.values()
        for node in lab.nodes
    ]


def forget_labs(database: Path) -> None:
    """As after the restoration of a backup from before there was any."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            if table == "labs" or "lab_id" in columns:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own schema


async def lost_lab(rig: Rig) -> tuple[Host, Sequence[Orphan]]:
    """A lab that runs on h1, and that the database knows nothing of any more."""
    host = await rig.add_host("h1")
    await rig.deploy(TWO_NODES.replace("  b:\n", "  b: {spare-ports: 9}\n"))
    remains = await remains_of(rig, host)
    await rig.down()
    forget_labs(rig.folder / "wireloom.sqlite")
    rig.fabric.lose_store()
    await rig.up()
    await rig.fabric.put_host(host.facts)
    await until(lambda: "h1" in rig.controller.live.alive)
    await having(rig, "h1", *remains)
    return host, remains


LOST = TWO_NODES.replace("  b:\n", "  b: {spare-ports: 9}\n")


async def test_a_lost_lab_goes_on_as_it_is(rig: Rig) -> None:
    host, remains = await lost_lab(rig)
    host.slices.clear()
    view = await rig.controller.adoption.adopt(AdoptRequest(topology=LOST))
    assert [(node.name, node.host, node.outcome) for node in view.nodes] == [("a", "h1", "kept"), ("b", "h1", "kept")]
    assert view.operation is not None
    await rig.ended(view.operation)
    lab = rig.controller.lab("pair")
    assert (lab.id, {node.id for node in lab.nodes}) == (remains[0].lab_id, {item.node_id for item in remains})
    assert {node.state for node in lab.nodes} == {NodeState.RUNNING}
    hashes = {node.id: node.spec_hash() for part in host.slices.values() for node in part.nodes}
    assert hashes == {item.node_id: item.spec_hash for item in remains}


async def test_a_dry_run_says_what_would_be_made_anew(rig: Rig) -> None:
    await lost_lab(rig)
    other = LOST.replace("  a:\n", "  a: {memory: 999}\n").replace("links:", "  c:\nlinks:")
    view = await rig.controller.adoption.adopt(AdoptRequest(topology=other, dry_run=True))
    assert {node.name: node.outcome for node in view.nodes} == {"a": "remade", "b": "kept", "c": "new"}
    assert view.operation is None
    with pytest.raises(NotFound):
        rig.controller.lab("pair")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node": "z"}, "the topology does not have"),
        ({"provider": "docker"}, "was made by docker"),
        ({"lab_id": "other"}, "2 labs of that name"),
    ],
)
async def test_what_would_have_to_go_is_refused(rig: Rig, change: dict[str, str], words: str) -> None:
    _, remains = await lost_lab(rig)
    await having(rig, "h1", remains[0].model_copy(update=change), remains[1])
    with pytest.raises(Conflict, match=words):
        await rig.controller.adoption.adopt(AdoptRequest(topology=LOST))


async def test_a_node_that_is_on_two_hosts_is_refused(rig: Rig) -> None:
    _, remains = await lost_lab(rig)
    await rig.add_host("h2", management_subnet="172.30.1.0/24")
    await having(rig, "h2", remains[0])
    with pytest.raises(Conflict, match="on h1 and on h2"):
        await rig.controller.adoption.adopt(AdoptRequest(topology=LOST))


async def test_a_lab_that_exists_or_left_nothing_is_refused(rig: Rig) -> None:
    await rig.add_host("h1")
    await having(rig, "h1")
    with pytest.raises(NotFound):
        await rig.controller.adoption.adopt(AdoptRequest(topology=TWO_NODES))
    await rig.deploy()
    with pytest.raises(Conflict):
        await rig.controller.adoption.adopt(AdoptRequest(topology=TWO_NODES))
