"""What an agent finds beside its labs; what cannot be looked at hides nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_rig import Agent, Host, make_lab, make_node, settled

from wireloom.agent.housekeeping import HostHousekeeping
from wireloom.dataplane.simulated import SimulatedDataPlane
from wireloom.errors import Unavailable
from wireloom.fabric.documents import PruneQuestion
from wireloom.model.orphans import Leftover, Orphan

LAB = make_lab(make_node("a"), make_node("b", "beta"))
PART = Leftover(id="part", kind="image", name="wireloom-work/loading:x", size=7)
SPARE = Leftover(id="spare", kind="image", name="old", size=9, unused=True)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Elsewhere(Host):
    """The same engines, as another installation uses them."""

    installation = "theirs"


async def with_lab(host: Host) -> None:
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB)
        await agent.until(settled())


def keeping(agent: Agent) -> Agent:
    agent.pruner._housekeeping = HostHousekeeping(agent.providers)
    return agent


async def asked(agent: Agent, **question: object) -> tuple[dict[str, Orphan], list[str]]:
    answer = await agent.pruner.answer(PruneQuestion.model_validate({"labs": (), "all": True, **question}))
    return {orphan.id if orphan.kind == "image" else orphan.node: orphan for orphan in answer.orphans}, [
        trouble.source for trouble in answer.troubles
    ]


async def test_remains_say_what_is_needed_to_adopt_them(host: Host) -> None:
    await with_lab(host)
    (host.folder / "nodes" / "id-a" / "storage" / "disk").write_bytes(b"x" * 100_000)
    async with Agent(host).alive() as fresh:
        found, troubles = await asked(keeping(fresh))
        assert troubles == []
        a = found["a"]
        assert (a.kind, a.provider, a.lab, a.lab_id, a.node_id) == ("runtime", "alpha", "lab", "lab-1", "id-a")
        assert (a.why, a.running, a.incarnation, a.spec_hash) == ("no-lab", True, 1, LAB.nodes[0].spec_hash())
        assert a.size >= 100_000


async def test_leftovers_go_and_what_can_be_had_again_only_when_it_is_asked_for(host: Host) -> None:
    host.worlds["alpha"].leftovers = {"part": PART, "spare": SPARE}
    async with Agent(host).alive() as agent:
        found, _ = await asked(keeping(agent), dry_run=False)
        assert (found["part"].removed, found["spare"].removed) == (True, False)
        assert host.worlds["alpha"].leftovers.keys() == {"spare"}
        found, _ = await asked(agent, dry_run=False, images=True)
        assert found["spare"].removed
    assert host.worlds["alpha"].leftovers == {}


async def test_what_other_installations_have_is_listed_and_never_touched(host: Host, tmp_path: Path) -> None:
    theirs = Elsewhere(tmp_path / "theirs")
    theirs.worlds = host.worlds
    async with Agent(theirs).alive() as agent:
        agent.reconciler.set_slice("lab-1", LAB.model_copy(update={"installation": "theirs"}))
        await agent.until(settled())
    async with Agent(host).alive() as mine:
        found, _ = await asked(keeping(mine), dry_run=False, images=True)
        assert {name: (orphan.why, orphan.installation) for name, orphan in found.items()} == {
            "a": ("other-installation", "theirs"),
            "b": ("other-installation", "theirs"),
        }
        assert not any(orphan.removed for orphan in found.values())
    assert all(world.runtimes for world in host.worlds.values())


async def test_an_engine_that_is_down_is_told_and_hides_nothing_else(host: Host) -> None:
    await with_lab(host)
    host.worlds["alpha"].leftovers = {"part": PART}
    host.worlds["beta"].stop_engine()
    async with Agent(host).alive() as fresh:
        found, troubles = await asked(keeping(fresh), dry_run=False)
        assert troubles == ["beta"]
        assert found["a"].removed
        assert found["part"].removed
        assert found["b"].error is not None  # its folder is there; its engine may have more


async def test_networking_that_does_not_answer_is_told_and_hides_nothing_else(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_lab(host)
    async with Agent(host).alive() as fresh:

        async def away(_self: object) -> None:
            raise Unavailable("no answer")

        monkeypatch.setattr(SimulatedDataPlane, "observe", away)
        found, troubles = await asked(keeping(fresh))
        assert troubles == ["network"]
        assert found.keys() >= {"a", "b"}


async def test_only_what_is_named_goes(host: Host) -> None:
    await with_lab(host)
    async with Agent(host).alive() as fresh:
        found, _ = await asked(fresh)
        only = (found["a"].key,)
        found, _ = await asked(fresh, dry_run=False, only=only)
        assert {name: orphan.removed for name, orphan in found.items()} == {"a": True, "b": False}
