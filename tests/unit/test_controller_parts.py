"""The controller's small parts: readers' mailboxes, locks, supervision, placement, progress, the token."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wireloom.controller.hub import EVENT_LIMIT, Hub, Mailbox
from wireloom.controller.picture import LabPicture
from wireloom.controller.progress import advance
from wireloom.controller.store import (
    LabRecord,
    LabSnapshot,
    NodeRecord,
    OperationRecord,
    OperationTargets,
    RevisionRecord,
)
from wireloom.controller.tasks import KeyedLocks, Supervisor
from wireloom.controller.token import ensure_token
from wireloom.controller.view import lab_view
from wireloom.errors import NotPermitted
from wireloom.model.slice import NodeIntent, PortIntent, PortRef, RemoteEnd, Slice, WireIntent
from wireloom.model.state import LinkState, NodeState, NodeStatus, SliceStatus, WireStatus
from wireloom.model.views import OperationState, StreamMessage


def message(kind: str, **data: Any) -> StreamMessage:
    return StreamMessage.model_validate({"type": kind, "data": data})


# -------------------------------------------------------------------- mailboxes


async def test_a_slow_reader_gets_the_newest_value_of_each_thing_once() -> None:
    hub = Hub()
    with hub.subscribe() as mailbox:
        for generation in range(1000):
            hub.publish(message("lab", lab="x", generation=generation))
            hub.publish(message("operation", id="o", lab="x", done=generation))
        taken = await mailbox.take()
    assert [(item.type, item.data.get("generation", item.data.get("done"))) for item in taken] == [
        ("lab", 999),
        ("operation", 999),
    ]


async def test_a_slow_reader_is_told_how_many_events_it_missed() -> None:
    mailbox = Mailbox()
    for index in range(EVENT_LIMIT + 7):
        mailbox.put(message("event", lab="x", index=index))
    taken = await mailbox.take()
    assert taken[0] == message("resync", dropped=7)
    assert [item.data["index"] for item in taken[1:]] == list(range(7, EVENT_LIMIT + 7))
    mailbox.put(message("event", lab="x", index=0))
    assert [item.type for item in await mailbox.take()] == ["event"]


async def test_a_removed_lab_is_not_seen_after_its_removal() -> None:
    mailbox = Mailbox()
    mailbox.put(message("lab", lab="x"))
    mailbox.put(message("removed", lab="x"))
    assert [item.type for item in await mailbox.take()] == ["removed"]


async def test_a_reader_of_one_lab_sees_hosts_and_that_lab() -> None:
    mailbox = Mailbox("x")
    for item in (
        message("lab", lab="y"),
        message("event", lab="y"),
        message("host", host="h"),
        message("lab", lab="x"),
    ):
        mailbox.put(item)
    assert [item.type for item in await mailbox.take()] == ["host", "lab"]


# -------------------------------------------------------------------- loops and locks


async def test_a_loop_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.controller.tasks.FIRST_PAUSE_S", 0.0)
    runs = asyncio.Queue[int]()

    async def loop() -> None:
        runs.put_nowait(1)
        raise NotPermitted("not now")

    supervisor = Supervisor()
    supervisor.start("test", loop)
    async with asyncio.timeout(60):
        for _ in range(3):
            await runs.get()
    await supervisor.close()


async def test_locks_hold_by_key_and_leave_nothing_behind() -> None:
    locks = KeyedLocks()
    order: list[str] = []

    async def work(key: str, name: str) -> None:
        async with locks.hold(key):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(work("a", "1"), work("a", "2"), work("b", "3"))
    assert order.index("1 out") < order.index("2 in")
    assert order.index("3 in") < order.index("1 out")
    assert locks._locks == {}


# -------------------------------------------------------------------- views and progress


def picture(
    status: SliceStatus | None, *, alive: bool = True, power: str = "on", problem: dict[str, Any] | None = None
) -> LabPicture:
    def intent(name: str, power: str) -> NodeIntent:
        port = PortIntent(index=1, name="eth1", guest_name="eth1", device=f"wl{name}", mac="02:00:00:00:00:01")
        return NodeIntent.model_validate(
            {"id": name, "name": name, "device": "d", "provider": "p", "image": "i", "power": power, "ports": (port,)}
        )

    lab = LabRecord(id="lab", name="lab", created_at=0, generation=2, revision=1)
    return LabPicture(
        snapshot=LabSnapshot(
            lab=lab,
            revision=RevisionRecord(lab_id="lab", number=1, topology="", sha256="", created_at=0),
            nodes=tuple(
                NodeRecord(id=name, lab_id="lab", name=name, device="d", provider="p", host="h", problem=refusal)
                for name, refusal in (("a", problem), ("b", None))
            ),
            hosts=("h",),
        ),
        slices={
            "h": Slice(
                installation="i",
                lab_id="lab",
                lab="lab",
                generation=2,
                nodes=(intent("a", power), intent("b", "on")),
                wires=(WireIntent(id="w", a=PortRef(node_id="a", index=1), b=PortRef(node_id="b", index=1)),),
            )
        },
        statuses={"h": status} if status else {},
        alive=frozenset({"h"} if alive else ()),
    )


def status(a: str, b: str = "running", wire: str = "up", *, generation: int = 2, converged: bool = True) -> SliceStatus:
    return SliceStatus(
        host="h",
        lab_id="lab",
        lab="lab",
        generation=generation,
        observed_at=0,
        converged=converged,
        nodes=tuple(
            NodeStatus(id=name, name=name, provider="p", state=NodeState(state), started_at=1.0)
            for name, state in (("a", a), ("b", b))
        ),
        wires=(WireStatus(id="w", state=LinkState(wire), mtu=1500),),
    )


def operation(goal: str = "running", **targets: Any) -> OperationRecord:
    chosen = OperationTargets(**(targets or {"nodes": ("a", "b"), "wires": ("w",)}))
    return OperationRecord.model_validate(
        {
            "id": "o",
            "lab_id": "lab",
            "lab": "lab",
            "verb": "deploy",
            "goal": goal,
            "generation": 2,
            "created_at": 0,
            "targets": chosen,
        }
    )


@pytest.mark.parametrize(
    ("seen", "done", "state"),
    [
        (picture(None), 0, "running"),
        (picture(status("running"), alive=False), 0, "running"),
        (picture(status("running", generation=1)), 0, "running"),
        (picture(status("running")), 3, "done"),
        (picture(status("creating", wire="pending", converged=False)), 1, "running"),
        (picture(status("failed", wire="pending")), 2, "failed"),
        (picture(status("stopped", wire="pending")), 2, "failed"),  # ended by itself, and nothing starts it again
        (picture(status("running", wire="failed")), 2, "failed"),
        (picture(status("stopped", wire="pending"), power="off"), 2, "done"),  # a later verb switched it off
        (picture(status("running"), problem={"code": "unsupported", "message": "no"}), 2, "failed"),
        (None, 0, "failed"),
    ],
)
def test_progress_towards_running(seen: LabPicture | None, done: int, state: str) -> None:
    after = advance(operation(), seen, now=9.0)
    assert (after.done, after.state) == (done, state)
    assert (after.finished_at is None) == (state == "running")


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (picture(status("running", converged=False), power="off"), "running"),
        (picture(status("stopped"), power="off"), "done"),
        (picture(status("absent"), power="off"), "done"),
        (picture(status("running"), power="on"), "done"),  # started again meanwhile
    ],
)
def test_progress_towards_stopped(seen: LabPicture, state: str) -> None:
    assert advance(operation("stopped", nodes=("a",)), seen, now=1).state == state


@pytest.mark.parametrize(
    ("wire", "seen", "state"),
    [
        ("w", picture(status("running")), "done"),
        ("w", picture(status("running", wire="pending", converged=False)), "running"),
        ("gone", picture(status("running")), "done"),
        ("gone", picture(status("running", generation=1)), "running"),
    ],
)
def test_progress_of_links(wire: str, seen: LabPicture, state: str) -> None:
    assert advance(operation("linked", wires=(wire,)), seen, now=1).state == state


def test_a_removal_ends_with_the_lab_and_no_sooner() -> None:
    going = advance(operation("absent", nodes=("a", "b")), picture(status("running")), now=1)
    assert going.state is OperationState.RUNNING
    assert advance(going, None, now=2).state is OperationState.DONE


def test_an_ended_operation_never_moves_again() -> None:
    ended = advance(operation(), picture(status("running")), now=1)
    assert advance(ended, None, now=2) == ended


@pytest.mark.parametrize(
    ("seen", "state", "link"),
    [
        (picture(None), "unknown", "pending"),
        (picture(status("running"), alive=False), "unknown", "pending"),
        (picture(status("running", generation=1)), "running", "up"),  # old, but seen
        (picture(status("running"), problem={"code": "x", "message": "m"}), "failed", "pending"),
    ],
)
def test_what_users_see(seen: LabPicture, state: str, link: str) -> None:
    view = lab_view(seen)
    assert (view.nodes[0].state, view.links[0].state) == (state, link)
    assert (view.links[0].a, view.links[0].b) == ("a:eth1", "b:eth1")


# -------------------------------------------------------------------- the token


def test_a_wire_to_a_host_that_was_just_removed_hides_no_lab() -> None:
    seen = picture(None)
    (wire,) = seen.slices["h"].wires
    far = wire.model_copy(update={"remote": RemoteEnd(end="b", host="gone")})
    mine = seen.slices["h"].model_copy(update={"wires": (far,), "nodes": seen.slices["h"].nodes[:1]})
    view = lab_view(replace(seen, slices={"h": mine}))
    assert [node.name for node in view.nodes] == ["a"]
    assert view.links == ()


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data" / "token"
    token = ensure_token(file)
    assert ensure_token(file) == token
    assert [item.name for item in file.parent.iterdir()] == ["token"]
    file.chmod(0o644)
    with pytest.raises(NotPermitted, match="read by others"):
        ensure_token(file)
