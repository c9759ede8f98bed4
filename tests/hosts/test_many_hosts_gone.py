"""Hosts that are removed while they are cut off, and what no lab wants any more, on three hosts."""

from __future__ import annotations

import asyncio
import signal

import pytest
from many_hosts_rig import ManyHosts, is_wired

from wireloom.errors import Conflict
from wireloom.model.orphans import AdoptRequest
from wireloom.model.state import NodeState
from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LAB = """\
name: lab
defaults: {device: linux, provider: docker}
nodes:
  a: {host: h1}
  b: {host: h2}
links:
  - [a:eth1, b:eth1]
"""


async def test_what_a_host_kept_of_a_lab_is_found_while_an_engine_elsewhere_is_down(rig: ManyHosts) -> None:
    await rig.deploy(_LAB)
    await rig.wired()
    rig.hosts["h1"].programs["libvirtd"].end(signal.SIGKILL)
    try:
        async with rig.client() as client:

            async def told() -> bool:
                hosts = {finds.host: finds for finds in (await client.orphans.discover()).hosts}
                return bool(hosts["h1"].troubles) and not hosts["h2"].troubles and not hosts["h3"].troubles

            await until(told, "the engine that is down is not told, or hides others", within_s=30)
            found = await client.orphans.prune(dry_run=True)
            assert not [orphan for orphan in found if orphan.error is None], "what a lab wants is no orphan"
    finally:
        rig.hosts["h1"].programs["libvirtd"].start()
    await rig.alive(*rig.hosts)
    await rig.reach(is_wired, "the lab did not come back")
    await rig.destroy()


async def test_a_host_that_was_removed_while_it_was_cut_off_is_refused_and_may_join_again(rig: ManyHosts) -> None:
    await rig.deploy(_LAB)
    await rig.wired()
    host = rig.hosts["h2"]
    rig.cut("h2")
    await rig.reach(
        lambda view: {node.name: node.state for node in view.nodes}["b"] == NodeState.UNKNOWN, "b is not missed"
    )
    async with rig.client() as client:
        preview = await client.host.removal("h2")
        assert [(lost.lab, lost.node) for lost in preview.nodes] == [("lab", "b")]
        assert len(preview.wires) == 1
        with pytest.raises(Conflict):
            await client.host.remove("h2")
        await client.host.remove("h2", force=True)
        assert "h2" not in {seen.host for seen in await client.hosts()}
    rig.mend("h2")
    await asyncio.sleep(8)
    await rig.alive("h1", "h3")  # its login is good for nothing any more
    assert host.running(rig.id) == {"b"}, "nobody but the user stops what a removed host runs"
    async with rig.client() as client:
        await client.destroy("lab")

    async def forgotten() -> bool:
        async with rig.client() as client:
            return not await client.labs() and not rig.hosts["h1"].debris(rig.id)

    await until(forgotten, "the lab waits for a host that was removed", within_s=60)
    host.programs["agent"].end(signal.SIGTERM)
    await rig.join(host)
    await rig.alive(*rig.hosts)
    async with rig.client() as client:
        found = [orphan for orphan in await client.orphans.prune(dry_run=True) if orphan.host == "h2"]
        assert {orphan.node for orphan in found if orphan.kind == "runtime"} == {"b"}
        assert host.running(rig.id) == {"b"}, "a preview removes nothing"
        adopted = await client.orphans.adopt(AdoptRequest(topology=_LAB, dry_run=True))
        assert {node.name: node.outcome for node in adopted.nodes} == {"a": "new", "b": "kept"}
        await client.orphans.prune(dry_run=False, hosts=["h2"])

    async def clean() -> bool:
        return not rig.debris()

    await until(clean, "what was pruned is still there", within_s=30, show=rig.debris)
