"""Nodes move with what they have, whoever dies meanwhile; they never run twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from moves_rig import MovesRig

from wireloom.errors import Conflict, NotFound
from wireloom.model.moves import MovePhase, MoveRequest
from wireloom.model.state import NodeState
from wireloom.model.views import OperationState

PAIR = """\
name: pair
defaults: {device: linux, provider: simulated}
nodes:
  a: {host: h1}
  b:
links:
  - [a:eth1, b:eth1]
"""
#: Hosts that dial out only; otherwise they fetch from each other.
RELAYED = "relayed"
ON_ITS_WAY = (MovePhase.LEAVING, MovePhase.CARRYING, MovePhase.ARRIVING)
BOTH_WAYS = pytest.mark.parametrize("rig", ["direct", RELAYED], indirect=True)
DISK = bytes(range(256)) * 40_000


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MovesRig]:
    made = MovesRig(tmp_path)
    await made.up()
    try:
        for name in ("h1", "h2"):
            host = made.add(name, "" if getattr(request, "param", "") == RELAYED else "127.0.0.1:0")
            host.world.add_image("simulated")
        await made.until(lambda: made.controller.live.alive >= {"h1", "h2"}, "hosts")
        yield made
    finally:
        await made.close()


def write(rig: MovesRig, host: str, node: str) -> None:
    """The guest writes something, and so does its agent's folder hold something."""
    runtime = next(item for item in rig.hosts[host].world.runtimes.values() if item.spec.identity.node == node)
    runtime.storage["/var/lib/data"] = b"precious"
    disk = rig.hosts[host].folder / "nodes" / runtime.spec.identity.node_id / "storage" / "disk.qcow2"
    with disk.open("wb") as file:
        file.write(DISK)
        file.seek(64 << 20, 1)
        file.write(b"after the hole")


def check(rig: MovesRig, host: str, node: str) -> None:
    assert rig.hosts[host].files(node)["/var/lib/data"] == b"precious"
    disk = rig.hosts[host].folder / "nodes" / rig.node(node).id / "storage" / "disk.qcow2"
    content = disk.read_bytes()
    assert content[: len(DISK)] == DISK
    assert content.endswith(b"after the hole")
    assert len(content) == len(DISK) + (64 << 20) + 14
    assert disk.stat().st_blocks * 512 < 32 << 20, "holes stay holes"


@BOTH_WAYS
async def test_a_node_moves_with_what_it_has(rig: MovesRig) -> None:
    await rig.deploy(PAIR)
    home = rig.node("b").host
    other = "h2" if home == "h1" else "h1"
    write(rig, home, "b")
    before = rig.node("b")
    shown = await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host=other, dry_run=True))
    assert [(item.source, item.target, item.error) for item in shown.moves] == [(home, other, None)]
    assert not shown.operation
    assert not rig.controller.moves.views("pair")
    assert "10 MiB" in shown.moves[0].message
    moved = await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host=other))
    ended = await rig.ended(moved.operation)
    assert ended.state is OperationState.DONE, ended
    after = rig.node("b")
    assert (after.host, after.state, after.id) == (other, NodeState.RUNNING, before.id)
    assert after.mgmt_ipv4
    assert after.mgmt_ipv4 != before.mgmt_ipv4
    check(rig, other, "b")
    await rig.clean("b")
    # and back, where it was before
    back = await rig.controller.moves.move("pair", MoveRequest(nodes=("b",)))
    assert (await rig.ended(back.operation)).state is OperationState.DONE
    check(rig, home, "b")
    await rig.clean("b")
    await rig.ended((await rig.controller.labs.destroy("pair")).id)
    await rig.until(lambda: not rig.controller.board.views(), "lab gone")
    for host in rig.hosts.values():
        assert not host.world.runtimes
        assert not list((host.folder / "nodes").iterdir())


async def test_a_changed_place_in_the_topology_moves_and_a_pinned_node_is_not_moved_by_hand(rig: MovesRig) -> None:
    await rig.deploy(PAIR)
    write(rig, "h1", "a")
    with pytest.raises(Conflict, match="the topology says that a is on h1"):
        await rig.controller.moves.move("pair", MoveRequest(nodes=("a",), host="h2"))
    with pytest.raises(NotFound, match="no host h9"):
        await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host="h9"))
    ended = await rig.deploy(PAIR.replace("host: h1", "host: h2"))
    assert ended.state is OperationState.DONE, ended
    assert rig.node("a").host == "h2"
    check(rig, "h2", "a")
    await rig.clean("a")


@pytest.mark.parametrize(
    ("rig", "phase", "who"),
    [
        *(("direct", phase, who) for phase in ON_ITS_WAY for who in ("source", "target", "controller")),
        (RELAYED, MovePhase.CARRYING, "source"),
        (RELAYED, MovePhase.CARRYING, "controller"),
    ],
    indirect=["rig"],
)
async def test_whoever_dies_nothing_is_lost(rig: MovesRig, phase: MovePhase, who: str) -> None:
    await rig.deploy(PAIR)
    home = rig.node("b").host
    other = "h2" if home == "h1" else "h1"
    write(rig, home, "b")
    died = asyncio.Event()

    async def die() -> None:
        if who == "controller":
            await rig.restart()
        else:
            host = rig.hosts[home if who == "source" else other]
            await host.kill()
            await asyncio.sleep(0.3)
            host.start()
        died.set()

    rig.at[phase] = die
    await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host=other))
    await asyncio.wait_for(died.wait(), 30)
    await rig.until(lambda: rig.node("b").host == other and not rig.controller.moves.views("pair"), "moved")
    await rig.until(lambda: rig.node("b").state is NodeState.RUNNING, "running")
    check(rig, other, "b")
    await rig.clean("b")


async def test_a_drained_host_is_emptied_but_for_what_is_pinned(rig: MovesRig) -> None:
    await rig.deploy(PAIR)
    if rig.node("b").host != "h1":
        moved = await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host="h1"))
        await rig.ended(moved.operation)
    write(rig, "h1", "b")
    await rig.controller.registry.set_draining("h1", True)
    await rig.until(lambda: rig.node("b").host == "h2" and rig.node("b").state is NodeState.RUNNING, "drained")
    check(rig, "h2", "b")
    assert rig.node("a").host == "h1"
    told = [event for event in rig.controller.journal.recent("pair") if event.kind == "node.stays"]
    assert [event.node for event in told] == ["a"]


async def test_a_move_that_cannot_be_is_undone(rig: MovesRig) -> None:
    await rig.deploy(PAIR)
    home = rig.node("b").host
    other = "h2" if home == "h1" else "h1"
    write(rig, home, "b")

    async def lose_image() -> None:
        rig.hosts[other].world.images.clear()
        rig.hosts[other].world.pullable.clear()

    rig.at[MovePhase.LEAVING] = lose_image
    moved = await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host=other))
    ended = await rig.ended(moved.operation)
    assert ended.state is OperationState.FAILED
    assert "image" in ended.errors[0]["message"]
    await rig.until(lambda: rig.node("b").state is NodeState.RUNNING, "runs where it was")
    assert rig.node("b").host == home
    check(rig, home, "b")
    await rig.clean("b")


async def test_a_move_is_aborted_while_it_can_be(rig: MovesRig) -> None:
    await rig.deploy(PAIR)
    home = rig.node("b").host
    other = "h2" if home == "h1" else "h1"
    write(rig, home, "b")
    await rig.hosts[other].kill()
    moved = await rig.controller.moves.move("pair", MoveRequest(nodes=("b",), host=other))
    await rig.until(lambda: rig.controller.moves.views("pair")[0].phase is MovePhase.CARRYING, "carried")
    assert rig.node("b").state is NodeState.STOPPED
    await rig.controller.moves.abort("pair", "b")
    assert (await rig.ended(moved.operation)).state is OperationState.FAILED
    await rig.until(lambda: rig.node("b").state is NodeState.RUNNING, "runs where it was")
    rig.hosts[other].start()
    check(rig, home, "b")
    await rig.clean("b")
