"""A whole installation as users have it: deploy, edit, kill anything, destroy; nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator

import pytest

from wireloom.model.device_views import DeviceFileRequest
from wireloom.model.views import DeployRequest
from wireloom.testing.installation import Installation, installed, own_folder, run, until

LAB = """
name: lab
defaults: {device: linux}
nodes:
  a:
    provider: docker
    startup-config: |
      ip address add 10.9.0.1/24 dev eth1
  v:
    provider: libvirt
    startup-config: |
      ip address add 10.9.0.2/24 dev eth1
  b: {provider: docker}
  c: {provider: docker}
links:
  - [a:eth1, v:eth1]
  - [v:eth2, b:eth1]
"""

KILLED = ["agent", "controller", "nats-server"]


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder) as installation:
            yield installation


async def ping(host: Installation, node: str, address: str) -> bool:
    async with host.client() as client:
        answer = await client.exec("lab", node, ["ping", "-c", "1", "-W", "1", address])
    return answer.exit_code == 0


async def test_a_lab_is_deployed_edited_live_and_destroyed(host: Installation) -> None:
    await host.deploy(LAB)
    await host.wired()
    before = host.runtimes()
    assert set(before) == {"a", "b", "c", "v"}
    await until(lambda: ping(host, "a", "10.9.0.2"), "a packet from container to virtual machine", within_s=60)

    edited = LAB.replace("  c: {provider: docker}\n", "  d: {provider: docker}\n") + "  - [v:eth3, d:eth1]\n"
    async with host.client() as client:
        plan = await client.plan(DeployRequest(topology=edited))
        assert {(change.kind, change.name, change.action) for change in plan.changes if change.kind == "node"} == {
            ("node", "c", "remove"),
            ("node", "d", "add"),
        }
        assert all(change.reasons for change in plan.changes)
    await host.deploy(edited)
    await host.reach(lambda view: {node.name for node in view.nodes} == {"a", "b", "d", "v"}, "edited")
    await host.wired()
    after = host.runtimes()
    assert {name: after[name] for name in ("a", "b", "v")} == {name: before[name] for name in ("a", "b", "v")}
    assert "c" not in after

    async with host.client() as client:
        await client.links.down("lab", "a:eth1", "v:eth1")
    await until(lambda: carrier(host, "a", "eth1", "0"), "the container's carrier fell")
    await until(lambda: carrier(host, "v", "eth1", "0"), "the virtual machine's carrier fell")
    async with host.client() as client:
        await client.links.up("lab", "a:eth1", "v:eth1")
    await until(lambda: carrier(host, "v", "eth1", "1"), "the virtual machine's carrier came back")
    await until(lambda: ping(host, "a", "10.9.0.2"), "packets after the link came back")

    async with host.client() as client:
        await client.links.remove("lab", "a:eth1", "v:eth1")
        await client.links.add("lab", "b:eth2", "v:eth1", mtu=9000)
    await host.wired()
    await until(lambda: carrier(host, "a", "eth1", "gone"), "the unplugged port left the container")
    assert host.runtimes() == after
    async with host.client() as client:
        await client.exec("lab", "b", ["ip", "address", "add", "10.9.0.3/24", "dev", "eth2"])
    await until(lambda: ping(host, "b", "10.9.0.2"), "packets over the moved link")


async def carrier(host: Installation, node: str, port: str, wanted: str) -> bool:
    command = f"cat /sys/class/net/{port}/carrier 2>/dev/null || echo gone"
    async with host.client() as client:
        answer = await client.exec("lab", node, ["sh", "-c", command])
    return answer.stdout.strip() == wanted


@pytest.mark.parametrize("killed", KILLED)
async def test_a_kill_at_rest_touches_nothing(host: Installation, killed: str) -> None:
    await host.deploy(LAB)
    await host.wired()
    before = host.runtimes()
    await host.replace(killed)
    await asyncio.sleep(1)
    await host.answering()
    await host.wired()
    assert host.runtimes() == before
    async with host.client() as client:
        await client.stop("lab", ["b"])
    await host.reach(lambda view: any(node.state == "stopped" for node in view.nodes), "a verb works afterwards")


async def test_an_override_waits_for_the_next_deploy_also_over_a_restart_of_the_controller(host: Installation) -> None:
    lab = "name: lab\ndefaults: {device: linux, provider: docker}\nnodes: {a: {memory: 200}, b: }\n"
    await host.deploy(lab)
    await host.wired()
    before = host.runtimes()
    override = DeviceFileRequest(text="hardware: {memory: {default: 300}}", kind="override", source="linux.yaml")
    async with host.client() as client:
        await client.add_device_file(override)
    await host.replace("controller")
    await asyncio.sleep(1)
    await host.answering()
    await host.wired()
    assert host.runtimes() == before
    async with host.client() as client:
        plan = await client.plan(DeployRequest(topology=lab))
    assert [(change.name, change.action) for change in plan.changes] == [("b", "recreate")]
    await host.deploy(lab)
    await host.wired()
    after = host.runtimes()
    assert (after["a"] == before["a"], after["b"] == before["b"]) == (True, False)


@pytest.mark.parametrize("killed", KILLED)
@pytest.mark.parametrize("after_s", [0.2, 0.9])
async def test_a_kill_during_deploy_loses_nothing(host: Installation, killed: str, after_s: float) -> None:
    await host.deploy(LAB)
    await asyncio.sleep(after_s)
    await host.replace(killed)
    await host.answering()
    await host.wired()
    assert set(host.runtimes()) == {"a", "b", "c", "v"}


@pytest.mark.parametrize("killed", KILLED)
async def test_a_kill_during_destroy_leaves_nothing(host: Installation, killed: str) -> None:
    await host.deploy(LAB)
    await host.wired()
    async with host.client() as client:
        await client.destroy("lab")
    await asyncio.sleep(0.2)
    await host.replace(killed)
    await host.answering()
    await host.gone()


async def test_nodes_that_die_are_seen_within_a_second_and_started_again(host: Installation) -> None:
    await host.deploy(LAB)
    await host.wired()
    container, _ = host.runtimes()["b"]
    await asyncio.to_thread(run, "docker", "kill", container)
    died = time.monotonic()
    await host.reach(lambda view: view.nodes[2].state != "running" or bool(view.nodes[2].error), "b's death is seen")
    assert time.monotonic() - died < 1
    await host.wired()
    domain, pid = host.runtimes()["v"]
    os.kill(int(pid), signal.SIGKILL)  # while it boots
    died = time.monotonic()
    await host.reach(lambda view: view.nodes[1].state != "running" or bool(view.nodes[1].error), "v's death is seen")
    assert time.monotonic() - died < 1
    await host.wired()
    assert host.runtimes()["v"][0] == domain
    await until(lambda: ping(host, "a", "10.9.0.2"), "packets after both were started again", within_s=60)


async def test_an_invalid_topology_starts_nothing_and_names_every_mistake(host: Installation) -> None:
    wrong = LAB.replace("device: linux", "device: linus") + "  - [a:eth1, nobody:eth1]\n"
    async with host.client() as client:
        with pytest.raises(Exception, match="mistake") as caught:
            await client.deploy(DeployRequest(topology=wrong))
    assert len(caught.value.details["diagnostics"]) >= 2  # type: ignore[attr-defined]
    # The agent, which has just begun, may be sending the frames of its self-test.
    await until(lambda: nothing_left(host), "nothing was started", show=host.debris)


async def test_orphans_of_both_technologies_are_found_and_pruned(host: Installation) -> None:
    await host.deploy(LAB)
    await host.wired()
    await host.kill("controller")
    with sqlite3.connect(host.data / "wireloom.sqlite") as database:  # an old backup that does not know the lab
        database.execute("pragma foreign_keys = on")
        database.execute("delete from labs")
    await host.start("controller")
    await host.answering()
    await host.replace("agent")
    await host.answering()
    async with host.client() as client:
        assert await client.labs() == []
        found = await client.prune(dry_run=True)
        assert {item.node for item in found if item.kind == "runtime"} == {"a", "b", "c", "v"}
        assert set(host.runtimes()) == {"a", "b", "c", "v"}
        removed = await client.prune(dry_run=False)
        assert all(item.removed for item in removed)
    await until(lambda: nothing_left(host), "everything was pruned", show=host.debris)


async def nothing_left(host: Installation) -> bool:
    return not host.debris()
