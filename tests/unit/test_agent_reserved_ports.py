"""Ports that a guest counts and nobody uses: made like others, never up, no reason to act; and images asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_rig import IMAGE, Agent, Host, make_lab, make_node, settled

from wireloom.agent.images import ImageQuestions
from wireloom.agent.world import now
from wireloom.errors import ImageMissing
from wireloom.fabric.documents import ImagesQuestion
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PortAlias
from wireloom.model.slice import NodeIntent, PortIntent
from wireloom.planning.plan import plan
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld
from wireloom.providers.simulated.world import CONTAINER_LIKE, MACHINE_LIKE


def with_reserved(name: str) -> NodeIntent:
    node = make_node(name, "beta", ports_fixed=True)
    reserved = PortIntent(
        index=-1,
        name="reserved1",
        guest_name="reserved1",
        device=device_name("p", name, -1),
        mac=mac_address(name, -1),
        role="reserved",
        position=1,
    )
    return node.model_copy(update={"ports": (node.ports[0], reserved, *node.ports[1:])})


async def test_a_reserved_port_is_there_without_carrier_and_the_plan_is_empty(tmp_path: Path) -> None:
    host = Host(tmp_path)
    lab = make_lab(with_reserved("a"), with_reserved("b"))
    async with Agent(host).alive() as agent:
        agent.reconciler.set_slice("lab-1", lab)
        await agent.until(settled())
        observed = agent.reconciler.observe(lab)
        assert [runtime.carriers[-1] for runtime in observed.runtimes.values()] == [False, False]
        assert lab.nodes[0].ports[1].device in agent.network.ports
        assert plan(lab, observed, now()).empty
        answer = await agent.pruner.prune(("lab-1",), dry_run=True)
        assert answer.orphans == ()
        agent.reconciler.set_slice("lab-1", lab.model_copy(update={"generation": 2, "removed": True}))
        await agent.until(lambda status: status.generation == 2 and not status.nodes)
        assert lab.nodes[0].ports[1].device not in agent.network.ports


def test_the_alias_of_a_reserved_port_is_read_back() -> None:
    alias = PortAlias(installation="i", lab_id="l", node_id="n", index=-2, name="lab/r1/reserved2")
    assert PortAlias.parse(alias.text()) == alias


@pytest.mark.parametrize("pulls", [True, False])
async def test_a_host_tells_which_images_it_lacks_and_fetches_none(pulls: bool) -> None:
    world = SimulatedWorld((CONTAINER_LIKE if pulls else MACHINE_LIKE).model_copy(update={"pulls": pulls}))
    world.add_image(IMAGE)
    provider = SimulatedProvider("i", world, name="alpha")
    questions = ImageQuestions({"alpha": provider})
    answer = await questions.images(ImagesQuestion(wanted={"alpha": (IMAGE, "gone"), "unknown": ("x",)}))
    if pulls:
        assert (answer.absent, answer.missing) == ({"alpha": ("gone",)}, {})
    else:
        assert list(answer.missing["alpha"]) == ["gone"]
        assert answer.missing["alpha"]["gone"]["code"] == ImageMissing.code
    assert not await provider.images.has("gone")
