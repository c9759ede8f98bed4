"""Nodes that move from host to host with what they have, of both technologies."""

from __future__ import annotations

import pytest
from many_hosts_rig import ManyHosts, is_wired

from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LAB = """\
name: lab
defaults: {device: linux}
nodes:
  a: {provider: docker, host: h1}
  c: {provider: docker}
  v: {provider: libvirt}
links:
  - [a:eth1, c:eth1]
  - [a:eth2, v:eth1]
"""
_BOOT_S = 240


async def ready(rig: ManyHosts) -> None:
    async with rig.client() as client:
        await client.wait_ready("lab", timeout_s=_BOOT_S)


async def test_a_drained_host_gives_its_nodes_to_others_with_what_they_have(rig: ManyHosts) -> None:
    async with rig.client() as client:
        await client.host.cordon("h1")
        await client.host.cordon("h3")
    # The pin is for a host that takes nothing else: the others are free, and there is one host for them.
    await rig.deploy(_LAB.replace(", host: h1", ""))
    await rig.wired()
    await ready(rig)
    view = await rig.lab()
    assert {node.host for node in view.nodes} == {"h2"}
    await rig.execute("v", "sh", "-c", "echo kept >/root/mark && sync")
    for node, address in (("a", "10.9.0.1"), ("c", "10.9.0.2")):
        await rig.execute(node, "ip", "address", "add", f"{address}/24", "dev", "eth1")
    async with rig.client() as client:
        for name in ("h1", "h3"):
            await client.host.uncordon(name)
        await client.host.drain("h2")
    view = await rig.reach(
        lambda view: is_wired(view) and all(node.host in {"h1", "h3"} for node in view.nodes),
        "the nodes have not moved",
        within_s=180,
    )
    rig.nothing_twice()
    await ready(rig)
    assert (await rig.execute("v", "cat", "/root/mark")).strip() == "kept"

    async def clean() -> bool:
        return not rig.hosts["h2"].debris(rig.id)

    await until(clean, "the drained host keeps something", within_s=60, show=lambda: rig.hosts["h2"].debris(rig.id))
    await rig.destroy()


async def test_nodes_move_where_the_user_wants_them_and_links_follow(rig: ManyHosts) -> None:
    await rig.deploy(_LAB)
    await rig.wired()
    async with rig.client() as client:
        view = await client.lab("lab")
        there = next(node.host for node in view.nodes if node.name == "c")
        target = "h3" if there != "h3" else "h2"
        previewed = await client.moves.move("lab", ["c"], target, dry_run=True)
        assert [move.target for move in previewed.moves] == [target]
        assert next(node.host for node in (await client.lab("lab")).nodes if node.name == "c") == there
        await client.moves.move("lab", ["c"], target)
    await rig.reach(
        lambda view: is_wired(view) and next(node.host for node in view.nodes if node.name == "c") == target,
        "the node has not moved",
        within_s=120,
    )
    for node, address in (("a", "10.9.0.1"), ("c", "10.9.0.2")):
        await rig.execute(node, "ip", "address", "replace", f"{address}/24", "dev", "eth1")
    assert " 0% packet loss" in await rig.execute("a", "ping", "-c", "2", "-W", "2", "10.9.0.2")
    await rig.destroy()
