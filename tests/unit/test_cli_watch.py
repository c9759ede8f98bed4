"""Following an operation: when it counts as settled, what counts as failed, and controllers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from wireloom.cli.progress import StepLog, Stopwatch, node_cells
from wireloom.cli.watch import Watch, follow
from wireloom.errors import DeadlineExceeded, NotFound, Unavailable
from wireloom.model.state import NodeState, NodeStep, Readiness
from wireloom.model.views import LabView, NodeView, OperationState, OperationView, StreamMessage


def operation(**changes: Any) -> OperationView:
    fixed = {"id": "op", "lab": "demo", "verb": "deploy", "state": "running", "goal": "running", "created_at": 1.0}
    return OperationView.model_validate(fixed | changes)


def node(name: str = "r1", **changes: Any) -> NodeView:
    fixed = {"name": name, "device": "frr", "provider": "docker", "host": "h", "image": "i"}
    return NodeView.model_validate(fixed | {"state": "running", "ready": "yes"} | changes)


def lab(*nodes: NodeView, **changes: Any) -> LabView:
    return LabView(lab="demo", nodes=nodes, **changes)


def message(kind: str, data: Any) -> StreamMessage:
    document = data if isinstance(data, dict) else data.model_dump(mode="json")
    return StreamMessage.model_validate({"type": kind, "data": document})


DONE = operation(state=OperationState.DONE)


class ScriptedClient:
    """Answers of a controller in a script: one entry of ``streams`` per connection."""

    def __init__(self, *streams: list[StreamMessage | Exception], view: LabView | None = None) -> None:
        self.streams = list(streams)
        self.view = view
        self.known = True
        self.answer = operation()

    async def operation(self, operation_id: str) -> OperationView:
        if not self.known:
            raise NotFound("no such operation")
        return self.answer

    async def lab(self, name: str) -> LabView:
        if self.view is None:
            raise NotFound(f"no lab {name}")
        return self.view

    async def stream(self, lab: str | None = None) -> AsyncGenerator[StreamMessage, None]:
        for entry in self.streams.pop(0) if self.streams else []:
            if isinstance(entry, Exception):
                raise entry
            yield entry
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.cli.watch.RECONNECT_PAUSE_S", 0)


async def test_it_ends_when_the_operation_is_done() -> None:
    client = ScriptedClient([message("lab", lab(node())), message("operation", DONE)], view=lab())
    watch = await follow(client, operation())  # type: ignore[arg-type]
    assert watch.operation.state == "done"
    assert not watch.failures()


async def test_of_an_operation_that_was_done_at_once_the_lab_is_known_too() -> None:
    client = ScriptedClient(view=lab(node()))
    client.answer = DONE
    watch = await follow(client, DONE)  # type: ignore[arg-type]
    assert watch.lab is not None
    assert [node.name for node in watch.lab.nodes] == ["r1"]


async def test_other_operations_and_labs_do_not_count() -> None:
    other = operation(id="other", state=OperationState.FAILED)
    client = ScriptedClient([message("operation", other), message("operation", DONE)], view=lab())
    assert (await follow(client, operation())).operation.state == "done"  # type: ignore[arg-type]


async def test_waiting_for_readiness_goes_on_after_the_goal() -> None:
    slow, quick = lab(node(ready=Readiness.NO)), lab(node())
    seen: list[int] = []
    client = ScriptedClient(
        [message("operation", DONE), message("lab", slow), message("lab", quick)], view=lab(node(ready=Readiness.NO))
    )
    watch = await follow(client, operation(), ready=True, on_change=lambda _: seen.append(1))  # type: ignore[arg-type]
    assert watch.lab == quick
    assert len(seen) == 4


async def test_a_lost_stream_is_opened_again() -> None:
    client = ScriptedClient([Unavailable("cut")], [message("operation", DONE)], view=lab())
    assert (await follow(client, operation())).operation.state == "done"  # type: ignore[arg-type]


async def test_the_lab_judges_when_the_controller_forgot_the_operation() -> None:
    client = ScriptedClient([message("lab", lab(node(), converged=True, generation=3))], view=lab(generation=3))
    client.known = False
    watch = await follow(client, operation(generation=3))  # type: ignore[arg-type]
    assert watch.forgotten
    assert watch.lab is not None


async def test_a_removed_lab_ends_a_destruction() -> None:
    client = ScriptedClient([message("removed", {"lab": "demo"})], view=lab())
    client.answer = operation(verb="destroy", goal="absent")
    watch = await follow(client, client.answer)  # type: ignore[arg-type]
    assert (watch.removed, watch.operation.state) == (True, "done")


async def test_the_deadline_names_what_is_waited_for() -> None:
    client = ScriptedClient([message("operation", DONE)], view=lab(node("slow", ready=Readiness.NO)))
    with pytest.raises(DeadlineExceeded, match="not ready after 0 s: slow") as caught:
        await follow(client, operation(), ready=True, timeout_s=0)  # type: ignore[arg-type]
    assert "wireloom inspect demo" in caught.value.hint


def failed_watch(*nodes: NodeView, ready: bool = True) -> Watch:
    return Watch(DONE, ready=ready, lab=lab(*nodes))


def test_a_failed_node_is_a_failure_with_its_own_error() -> None:
    error = {"code": "image-missing", "message": "no image frr", "hint": "build it"}
    watch = failed_watch(node(state=NodeState.FAILED, error=error))
    assert watch.failures() == [{**error, "node": "r1"}]


def test_a_readiness_timeout_fails_only_who_waited_for_it() -> None:
    nodes = (node(ready=Readiness.TIMEOUT),)
    assert failed_watch(*nodes, ready=False).failures() == []
    assert failed_watch(*nodes).failures()[0]["node"] == "r1"


def test_commands_after_boot_are_waited_for_and_fail_only_who_waited_for_them() -> None:
    assert not Watch(DONE, configured=True, lab=lab(node(configuring=True))).settled()
    assert Watch(DONE, ready=True, lab=lab(node(configuring=True))).settled()
    wrong = lab(node(error={"code": "guest-failed", "message": "post-boot command failed"}))
    assert Watch(DONE, configured=True, lab=wrong).settled()
    assert Watch(DONE, configured=True, lab=wrong).failures()[0]["node"] == "r1"
    assert Watch(DONE, ready=True, lab=wrong).failures() == []


def test_the_operations_own_errors_come_first() -> None:
    error = {"code": "conflict", "message": "first cause", "node": "r1"}
    done = operation(state="failed", errors=[error])
    watch = Watch(done, lab=lab(node(state=NodeState.FAILED)))
    assert watch.failures() == [error]


def test_the_table_shows_what_is_done_under_way_and_to_come() -> None:
    booting = node(step=NodeStep.BOOT, ready="no", timings={"image": 0.1, "create": 1.2})
    assert node_cells(booting) == ["0.1s", "1.2s", "ok", "…", ""]


def test_a_failed_step_is_marked_where_it_failed() -> None:
    assert node_cells(node(step=NodeStep.CREATE, state="failed", ready="unknown"))[:3] == ["ok", "failed", ""]


def test_a_step_in_which_bytes_come_says_how_many_of_a_hundred_there_are() -> None:
    fetching = node(step=NodeStep.IMAGE, ready="no", state="creating", done=3 << 20, total=7 << 20)
    assert node_cells(fetching) == ["42 %", "", "", "", ""]


def test_a_ready_node_has_every_column_done() -> None:
    assert node_cells(node(step=NodeStep.READY, timings={"boot": 4.0})) == ["ok", "ok", "ok", "4.0s", "ok"]


def test_the_stopwatch_of_a_node_stops_when_it_is_ready_and_runs_on_when_it_starts_again() -> None:
    moments = iter([0.0, 1.0, 2.0, 5.0, 6.0])
    stopwatch = Stopwatch(now=lambda: next(moments))
    way = [node(ready="no"), node(), node(), node(ready="no")]
    assert [stopwatch.seconds(view) for view in way] == [1.0, 2.0, 2.0, 6.0]


def lines_of(*labs: LabView, **changes: Any) -> list[str]:
    written: list[str] = []
    log = StepLog(written.append, now=lambda: 0.0)
    watch = Watch(operation(**changes))
    for view in labs:
        watch.lab = view
        log.take(watch)
    return [line.split("s  ", 1)[1] for line in written]


def test_without_a_terminal_each_step_is_one_line() -> None:
    create = lab(node(step=NodeStep.CREATE, ready="no", state="creating"), node("r2"))
    assert lines_of(create, create, lab(node(), node("r2"))) == ["r1: create", "r1: ready"]


def test_without_a_terminal_bytes_that_come_are_told_in_steps() -> None:
    def fetching(percent: int) -> LabView:
        sizes = {"done": percent << 20, "total": 100 << 20}
        return lab(node(step=NodeStep.IMAGE, ready="no", state="creating", **sizes))

    assert lines_of(fetching(0), fetching(9), fetching(42), fetching(49), lab(node())) == [
        "r1: image 0 % (0 of 100 MiB)",
        "r1: image 40 % (42 of 100 MiB)",
        "r1: ready",
    ]


def test_lines_are_of_the_nodes_that_the_operation_was_given_for() -> None:
    create = lab(node(step=NodeStep.CREATE, ready="no"), node("r2", step=NodeStep.BOOT, ready="no"))
    assert lines_of(create, lab(node(), node("r2")), nodes=["r2"]) == ["r2: boot", "r2: ready"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"state": "failed", "message": "no image"}, "r1: failed (no image)"),
        ({"ready": "timeout"}, "r1: not ready in time"),
        ({"state": "stopped", "ready": "no", "power": "off"}, "r1: stopped"),
    ],
)
def test_lines_say_how_a_node_ended(changes: dict[str, Any], word: str) -> None:
    booting = lab(node(step=NodeStep.BOOT, ready="no"))
    assert lines_of(booting, lab(node(**changes))) == ["r1: boot", word]
