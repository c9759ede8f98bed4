"""Nodes of a lost host are started elsewhere, and never run twice: their host has stopped them by itself before."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from host_rig import Host, run
from many_hosts_rig import ManyHosts

from wireloom.model.views import LabView
from wireloom.testing.installation import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_HUB = "wlt-mh-hub"
_LAB = """\
name: lab
on-host-loss: {restart-elsewhere-after: 30s}
defaults: {device: linux}
nodes:
  a: {provider: docker}
  v: {provider: libvirt}
links:
  - [a:eth1, v:eth1]
"""


def cable(host: Host, state: str) -> None:
    run("ip", "-n", _HUB, "link", "set", host.cable, state)


@asynccontextmanager
async def never_twice(rig: ManyHosts) -> AsyncIterator[None]:
    """Look at all hosts all the time."""

    async def watch() -> None:
        while True:
            await asyncio.to_thread(rig.nothing_twice)
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    try:
        yield
        assert not watching.done(), watching.exception()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def spread_nowhere(rig: ManyHosts) -> Host:
    """The lab runs, all of it on one host."""
    await rig.deploy(_LAB)
    view = await rig.wired()
    (name,) = {node.host for node in view.nodes}
    return rig.hosts[name]


def elsewhere(host: Host) -> Callable[[LabView], bool]:
    def check(view: LabView) -> bool:
        return all(node.host not in {"", host.name} for node in view.nodes)

    return check


def runs(view: LabView) -> bool:
    """Nodes and links are as they should be; the lost host has not said yet that it has nothing left of them."""
    return all(node.state == "running" for node in view.nodes) and all(link.state == "up" for link in view.links)


def idle(rig: ManyHosts, host: Host) -> Callable[[], object]:
    async def check() -> bool:
        return not await asyncio.to_thread(host.running, rig.id)

    return check


async def test_a_host_that_is_cut_off_stops_its_nodes_and_others_start_them(rig: ManyHosts) -> None:
    host = await spread_nowhere(rig)
    async with never_twice(rig):
        cable(host, "down")
        try:
            await rig.reach(lambda view: {node.state for node in view.nodes} == {"unknown"}, "the host is lost")
            await until(idle(rig, host), "the lost host stops its nodes", within_s=60)
            await rig.reach(elsewhere(host), "the nodes are given to others", within_s=90)
            await rig.reach(runs, "they run there", within_s=120)
        finally:
            cable(host, "up")
        await rig.alive(*rig.hosts)
        await until(lambda: clean(rig, host), "what the lost host had is removed there", within_s=60)
        await rig.wired()
    await rig.destroy()


async def test_an_agent_that_is_killed_and_stays_away_leaves_no_node_running(rig: ManyHosts) -> None:
    host = await spread_nowhere(rig)
    async with never_twice(rig):
        host.programs["agent"].end(signal.SIGKILL)
        try:
            await until(idle(rig, host), "the guard stops the nodes", within_s=60)
            await rig.reach(elsewhere(host), "the nodes are given to others", within_s=90)
            await rig.reach(runs, "they run there", within_s=120)
        finally:
            host.programs["agent"].start()
        await rig.alive(*rig.hosts)
        await until(lambda: clean(rig, host), "what the killed agent had is removed", within_s=60)
    await rig.destroy()


async def test_a_host_that_is_back_in_time_goes_on_with_its_nodes(rig: ManyHosts) -> None:
    host = await spread_nowhere(rig)
    before = host.output("docker", "ps", "-q", "--no-trunc")
    cable(host, "down")
    try:
        await asyncio.sleep(8)
    finally:
        cable(host, "up")
    await rig.alive(*rig.hosts)
    await rig.wired()
    await asyncio.sleep(20)  # longer than a lease: it is renewed again
    assert host.output("docker", "ps", "-q", "--no-trunc") == before
    view = await rig.wired()
    assert {node.host for node in view.nodes} == {host.name}
    await rig.destroy()


async def clean(rig: ManyHosts, host: Host) -> bool:
    return not await asyncio.to_thread(host.debris, rig.id)
