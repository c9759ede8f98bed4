"""The agent's loop when things go wrong again and again: pauses, budgets, engines that are away, order of restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_rig import IMAGE, Agent, Host, make_lab, make_node, settled

from wireloom.agent import runner
from wireloom.agent.folder import FolderStore
from wireloom.errors import ImageMissing, RuntimeFailed, Unavailable
from wireloom.model.device import Day0
from wireloom.model.identity import Identity
from wireloom.model.slice import Condition, RestartPolicy
from wireloom.model.state import NodeState


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


LAB = make_lab(make_node("a"), make_node("b", "beta"))
OFF = make_lab(*(node.model_copy(update={"power": "off"}) for node in LAB.nodes), generation=2)
REMOVED = make_lab(*LAB.nodes, generation=2, removed=True)


async def reached(check: Callable[[], bool], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not check():  # noqa: ASYNC110 - simulated worlds tell nobody of their counters
            await asyncio.sleep(0.01)


async def deployed(agent: Agent) -> None:
    agent.reconciler.set_slice("lab-1", LAB)
    await agent.until(settled())


async def test_a_stop_that_fails_is_tried_again_after_a_pause_and_its_error_is_shown(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].fail("stop", RuntimeFailed("stuck"), node="a", times=99)
        agent.reconciler.set_slice("lab-1", OFF)
        status = await agent.until(lambda status: status.nodes[0].failures > 0)
        assert status.nodes[0].error is not None
        assert "stuck" in status.nodes[0].error["message"]
        await asyncio.sleep(0.5)
        assert host.worlds["alpha"].calls["stop"] == 1


async def test_a_stop_that_succeeds_at_last_clears_its_own_error(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].fail("stop", RuntimeFailed("stuck"), node="a")
        agent.reconciler.set_slice("lab-1", OFF)
        status = await agent.until(
            lambda status: status.converged and all(node.state is NodeState.STOPPED for node in status.nodes)
        )
        assert status.nodes[0].error is None


async def test_a_removal_that_fails_is_tried_again_after_a_pause(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        host.worlds["alpha"].fail("destroy", RuntimeFailed("stuck"), node="a", times=2)
        agent.reconciler.set_slice("lab-1", REMOVED)
        await asyncio.sleep(0.5)
        assert host.worlds["alpha"].calls["destroy"] == 1
        await agent.until(lambda status: status.generation == 2 and status.converged)
    assert not host.worlds["alpha"].runtimes


async def test_a_removal_waits_for_an_engine_that_is_away_and_claims_nothing(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
    host.worlds["alpha"].stop_engine()
    async with Agent(host).alive() as again:  # it has never seen the runtime of that engine
        again.reconciler.set_slice("lab-1", REMOVED)
        await reached(lambda: not host.worlds["beta"].runtimes)
        await asyncio.sleep(0.2)
        assert not again.reports.statuses["lab-1"].converged
        assert host.worlds["alpha"].calls["destroy"] == 0
        host.worlds["alpha"].start_engine()
        await again.until(lambda status: status.generation == 2 and status.converged)
    assert not host.worlds["alpha"].runtimes
    assert list((host.folder / "nodes").iterdir()) == []


async def test_a_restart_of_all_nodes_respects_their_dependencies(host: Host) -> None:
    first = make_node("first", "beta", settings={"boot_s": 0.3})
    second = make_node("second", depends_on={first.id: Condition.READY})
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(first, second))
        await agent.until(settled())
        again = [node.model_copy(update={"restarts": 1, "attention": 1}) for node in (first, second)]
        agent.reconciler.set_slice("lab-1", make_lab(*again, generation=2))
        await reached(lambda: host.worlds["beta"].by_node("first").boots == 2)
        assert host.worlds["alpha"].by_node("second").boots == 1
        await agent.until(settled(2))
        ready = [event.node for event in agent.reports.events if event.kind == "node.ready"]
    assert ready == ["first", "second", "first", "second"]
    assert host.worlds["alpha"].by_node("second").boots == 2


async def test_waiting_for_a_turn_to_start_is_no_failure(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "ACTION_DEADLINE_S", 0.4)
    world = host.worlds["alpha"]
    world.capabilities = world.capabilities.model_copy(update={"parallel_starts": 1})
    world.delay("start", 0.2)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(*(make_node(f"n{i}") for i in range(4))))
        status = await agent.until(settled())
        assert all(node.failures == 0 for node in status.nodes)


async def test_a_removed_runtime_counts_as_a_failure_whatever_the_restart_policy(host: Host) -> None:
    node = make_node("a", restart_policy=RestartPolicy.NEVER)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(settled())
        world = host.worlds["alpha"]
        world.remove(world.by_node("a"))
        await agent.until(lambda status: status.nodes[0].failures == 1)
        await agent.until(settled())


async def test_a_full_disk_is_a_failure_with_a_budget_and_no_storm(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab())
        await agent.until(lambda status: status.converged)
        monkeypatch.setattr(Path, "write_text", full)
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a"), generation=2))
        status = await agent.until(lambda status: bool(status.nodes) and status.nodes[0].failures == 1)
        assert status.nodes[0].error is not None
        assert "No space left" in status.nodes[0].error["message"]
        await asyncio.sleep(0.3)
        assert agent.node("a").failures == 1
        monkeypatch.undo()
        await agent.until(settled(2))
    assert FolderStore(host.folder / "nodes", "test").root.joinpath("id-a", "record.json").is_file()


async def test_an_old_look_does_not_hide_what_an_action_did_meanwhile(host: Host) -> None:
    async with Agent(host).alive() as agent:
        await deployed(agent)
        release = asyncio.Event()
        observe = agent.providers["alpha"].observe

        async def slow(runtime_id: str | None = None):  # type: ignore[no-untyped-def]
            found = await observe(runtime_id)
            if runtime_id is None:
                await release.wait()
            return found

        agent.providers["alpha"].observe = slow  # type: ignore[method-assign]
        resync = asyncio.create_task(agent.world.resync())
        await asyncio.sleep(0.05)
        more = make_lab(*LAB.nodes, make_node("late"), generation=2)
        agent.reconciler.set_slice("lab-1", more)
        await agent.until(lambda status: status.generation == 2 and status.nodes[2].state is NodeState.RUNNING)
        release.set()
        await resync
        await agent.until(settled(2))
        assert agent.node("late").failures == 0


async def test_an_engine_that_never_answers_is_unavailable(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.agent.world._OBSERVE_DEADLINE_S", 0.05)
    agent = Agent(host)

    async def hang():  # type: ignore[no-untyped-def]
        await asyncio.Event().wait()

    agent.providers["alpha"].capabilities = hang  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        await agent.world.resync()
    assert not agent.world.capabilities["alpha"].available
    assert "no answer" in agent.world.capabilities["alpha"].problem
    assert agent.world.capabilities["beta"].available


def folder_identity(installation: str, node_id: str) -> Identity:
    return Identity(installation=installation, lab_id="lab-1", lab="lab", node_id=node_id, node="n")


def test_folders_of_another_installation_are_not_debris(tmp_path: Path) -> None:
    FolderStore(tmp_path, "theirs").ensure(folder_identity("theirs", "id-1"))
    (tmp_path / "half-made").mkdir()
    ours = FolderStore(tmp_path, "ours")
    ours.load()
    assert [path.name for path in ours.unknown()] == ["half-made"]


def test_a_folder_is_known_until_the_last_of_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path, "ours")
    folder = store.ensure(folder_identity("ours", "id-1"))

    def killed(*_: object, **__: object) -> None:
        raise Unavailable("killed")

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(Unavailable):
        store.remove("id-1")
    monkeypatch.undo()
    assert (folder.path / "record.json").is_file()
    store.remove("id-1")
    assert not folder.path.exists()


async def test_a_slow_engine_holds_up_nobody(host: Host) -> None:
    agent = Agent(host)
    agent.reconciler.state.resync_period_s = 0.05
    async with agent.alive():
        agent.reconciler.set_slice("lab-1", make_lab(LAB.nodes[1]))
        await agent.until(settled())
        host.worlds["alpha"].delay("observe", 20)
        await asyncio.sleep(0.2)
        more = make_lab(LAB.nodes[1], make_node("more", "beta"), generation=2)
        agent.reconciler.set_slice("lab-1", more)
        await agent.until(settled(2), within_s=3)


async def test_an_image_that_was_removed_is_fetched_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.agent.hooks.image._REMEMBERED_S", 0.0)
    world = host.worlds["alpha"]
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a")))
        await agent.until(settled())
        world.images.clear()
        world.pullable.add(IMAGE)
        agent.reconciler.set_slice("lab-1", make_lab(make_node("a"), make_node("b"), generation=2))
        await agent.until(settled(2))


async def test_what_was_made_for_a_runtime_that_cannot_be_created_is_taken_back(host: Host) -> None:
    medium = Day0(method="iso", path="config.txt", label="CONFIG")
    node = make_node("b", "beta", day0=(medium,), startup_config="hostname b")
    host.worlds["beta"].fail("create", ImageMissing("no such image"), times=1)
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", make_lab(node))
        await agent.until(lambda status: status.nodes[0].state is NodeState.FAILED)
        media = host.folder / "nodes" / node.id / "media"
        assert list(media.iterdir()) == []
        again = node.model_copy(update={"attention": 1})
        agent.reconciler.set_slice("lab-1", make_lab(again, generation=2))
        await agent.until(settled(2))
        assert [path.name for path in media.iterdir()] == ["day0.iso"]
