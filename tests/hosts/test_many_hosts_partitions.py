"""Ways between hosts that are cut for some, or in one direction only: what still works goes on, and is told rightly."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from host_rig import NET
from many_hosts_rig import ManyHosts, is_wired
from traffic import deaf, give_addresses, pings, tcp_both_ways

from wireloom.model.state import LinkState, NodeState
from wireloom.model.views import LabView
from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CONTROLLER = f"{NET}1"
_PEER = {"h1": "h2", "h2": "h1"}
_LAB = """\
name: lab
defaults: {device: linux, provider: docker}
nodes:
  a: {host: h1}
  b: {host: h2}
  c: {host: h3}
links:
  - [a:eth1, b:eth1]
  - [a:eth2, c:eth1]
"""


async def wired(rig: ManyHosts) -> dict[str, dict[str, str]]:
    """The lab runs and carries; when its nodes were started, by host."""
    await rig.deploy(_LAB)
    await rig.wired()
    await give_addresses(rig, ("a", "10.9.0.1/24"), ("b", "10.9.0.2/24"))
    assert all(carried > 0 for carried in await tcp_both_ways(rig, "a", "b", "10.9.0.2"))
    return {name: host.started(rig.id) for name, host in rig.hosts.items()}


def only_that_way_fell(view: LabView) -> bool:
    states = {str(link.b): link.state for link in view.links}
    return (
        LinkState.UP not in {state for end, state in states.items() if end.startswith("b:")}
        and {state for end, state in states.items() if end.startswith("c:")} == {LinkState.UP}
        and {node.state for node in view.nodes} == {NodeState.RUNNING}
    )


@pytest.mark.parametrize("ways", [("h2",), ("h1", "h2")], ids=["one way", "both ways"])
async def test_only_links_over_a_cut_way_fall_and_they_come_back(rig: ManyHosts, ways: tuple[str, ...]) -> None:
    before = await wired(rig)
    with ExitStack() as cuts:
        for name in ways:
            cuts.enter_context(deaf(rig.hosts[name], rig.hosts[_PEER[name]].address))
        view = await rig.reach(only_that_way_fell, "the link over the cut way is not told to be down")
        assert any("h1" in link.message or "h2" in link.message for link in view.links), "nobody says why"
    await rig.reach(is_wired, "the link did not come back")
    assert all(carried > 0 for carried in await tcp_both_ways(rig, "a", "b", "10.9.0.2"))
    assert {name: host.started(rig.id) for name, host in rig.hosts.items()} == before
    await rig.destroy()


async def test_a_host_that_only_the_controller_misses_goes_on_carrying(rig: ManyHosts) -> None:
    before = await wired(rig)
    with deaf(rig.hosts["h2"], _CONTROLLER):
        await rig.reach(
            lambda view: {node.name: node.state for node in view.nodes}["b"] == NodeState.UNKNOWN, "b is not missed"
        )
        assert await pings(rig, "a", "10.9.0.2"), "the nodes do not reach each other any more"
        async with rig.client() as client:  # what is wanted meanwhile is done when the host is back
            await client.stop("lab", ["b"])
        assert rig.hosts["h2"].running(rig.id) == {"b"}
    await rig.alive(*rig.hosts)

    async def stopped() -> bool:
        return not rig.hosts["h2"].running(rig.id)

    await until(stopped, "the host that is back does not hear what was wanted meanwhile", within_s=60)
    async with rig.client() as client:
        await client.start("lab", ["b"])
    await rig.reach(is_wired, "the lab did not come back")
    assert rig.hosts["h1"].started(rig.id) == before["h1"]
    await rig.destroy()
