"""Hosts that go: cut off, killed, back again. What runs goes on, nothing runs twice, and nothing is left behind."""

from __future__ import annotations

import signal

import pytest
from many_hosts_rig import ManyHosts

from wireloom.model.state import NodeState
from wireloom.model.views import LabView
from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PINNED = """\
name: lab
defaults: {device: linux, provider: docker, restart: always}
nodes:
  a: {host: h1}
  b: {host: h2}
links:
  - [a:eth1, b:eth1]
"""


def states(view: LabView) -> dict[str, str]:
    return {node.name: str(node.state) for node in view.nodes}


async def test_nodes_of_a_host_that_is_cut_off_are_unknown_and_go_on(rig: ManyHosts) -> None:
    await rig.deploy(_PINNED)
    await rig.wired()
    before = rig.hosts["h2"].started(rig.id)
    rig.cut("h2")
    await rig.reach(
        lambda view: states(view) == {"a": NodeState.RUNNING, "b": NodeState.UNKNOWN}, "b is not told to be unknown"
    )
    view = await rig.lab()
    assert [link.state for link in view.links] != ["up"]
    assert view.nodes[1].error is None
    rig.mend("h2")
    await rig.wired()
    assert rig.hosts["h2"].started(rig.id) == before
    await rig.destroy()


async def test_a_host_that_returns_after_its_lab_was_destroyed_keeps_nothing(rig: ManyHosts) -> None:
    await rig.deploy(_PINNED)
    await rig.wired()
    rig.cut("h2")
    await rig.reach(lambda view: states(view)["b"] == NodeState.UNKNOWN, "the host is not missed")
    async with rig.client() as client:
        await client.destroy("lab")

    async def gone_elsewhere() -> bool:
        return not rig.hosts["h1"].debris(rig.id)

    await until(gone_elsewhere, "the host that is there keeps something")
    assert rig.hosts["h2"].running(rig.id) == {"b"}
    rig.mend("h2")
    await rig.gone()


async def test_a_host_whose_everything_was_killed_comes_back_with_its_nodes(rig: ManyHosts) -> None:
    await rig.deploy(_PINNED)
    await rig.wired()
    host = rig.hosts["h2"]
    for name in ("agent", "dockerd"):
        host.programs[name].end(signal.SIGKILL)
    await rig.reach(lambda view: states(view)["b"] == NodeState.UNKNOWN, "the host is not missed")
    for name in ("dockerd", "agent"):
        host.programs[name].start()
    await rig.wired()
    await rig.destroy()


async def test_a_controller_that_was_killed_finds_everything_as_it_was(rig: ManyHosts) -> None:
    await rig.deploy(_PINNED)
    await rig.wired()
    before = {name: host.started(rig.id) for name, host in rig.hosts.items()}
    controller = rig.controllers["controller"]
    controller.end(signal.SIGKILL)
    controller.start()
    await rig.alive(*rig.hosts)
    await rig.wired()
    assert {name: host.started(rig.id) for name, host in rig.hosts.items()} == before
    await rig.destroy()
