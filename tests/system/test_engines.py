"""Engines that go away and come back, nodes that vanish behind everyone's back, and two installations on one host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from private_engines import PrivateEngines, private_engines

from wireloom.model.views import LabView, NodeView
from wireloom.testing.installation import Installation, installed, own_folder, run, until

SUBNET, OTHER_SUBNET = "172.30.113.0/24", "172.30.114.0/24"

PAIR = """
name: lab
defaults: {device: linux, provider: docker}
nodes:
  a:
    startup-config: |
      ip address add 10.9.0.1/24 dev eth1
  b:
    startup-config: |
      ip address add 10.9.0.2/24 dev eth1
links:
  - [a:eth1, b:eth1]
"""

MIXED = PAIR.replace("  b:\n", "  v:\n    provider: libvirt\n").replace("b:eth1", "v:eth1")

#: A node that dies is to be seen within a second; the rest is what a busy machine adds to the test's own commands.
SEEN_WITHIN_S = 2.0

BACK_WITHIN_S = 45


@pytest.fixture
def engines() -> Iterator[PrivateEngines]:
    with own_folder(show_logs=False) as folder, private_engines(folder) as found:
        yield found


@contextlib.asynccontextmanager
async def lab_host(engines: PrivateEngines | None = None, *, subnet: str = SUBNET) -> AsyncIterator[Installation]:
    """An installation on private engines, or on the host's own."""
    environment = {"WIRELOOM_MANAGEMENT_SUBNET": subnet, **(engines.environment if engines else {})}
    wrapper = engines.inside if engines else ()
    with own_folder() as folder:
        async with installed(folder, wrapper=wrapper, **environment) as host:
            yield host


def node(view: LabView, name: str) -> NodeView:
    return next(found for found in view.nodes if found.name == name)


async def ping(host: Installation, source: str, address: str) -> bool:
    async with host.client() as client:
        answer = await client.exec("lab", source, ["ping", "-c", "1", "-W", "1", address])
    return answer.exit_code == 0


async def carrier(host: Installation, name: str, port: str, wanted: str) -> bool:
    async with host.client() as client:
        answer = await client.exec("lab", name, ["cat", f"/sys/class/net/{port}/carrier"])
    return answer.stdout.strip() == wanted


@contextlib.asynccontextmanager
async def states_of(host: Installation, *names: str) -> AsyncIterator[list[set[str]]]:
    """Every state that each of the nodes has from now on, in the order of ``names``."""
    seen: list[set[str]] = [set() for _ in names]
    looked = asyncio.Event()

    async def look() -> None:
        while True:
            view = await host.lab()
            for states, name in zip(seen, names, strict=True):
                states.add(node(view, name).state)
            looked.set()
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    try:
        async with asyncio.timeout(30):
            await looked.wait()
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@contextlib.asynccontextmanager
async def uninterrupted_ping(pid: str, address: str) -> AsyncIterator[None]:
    """Ten packets a second from the network of process ``pid``; at the end, none may have been lost."""
    pinging = await asyncio.create_subprocess_exec(
        *("nsenter", f"--net=/proc/{pid}/ns/net", "ping", "-i", "0.1", "-W", "1", address),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield
    finally:
        pinging.send_signal(signal.SIGINT)
        output, _ = await pinging.communicate()
    summary = output.decode().splitlines()[-2]
    assert " 0% packet loss" in summary, summary


async def dies_and_comes_back(host: Installation, name: str, kill: Callable[[], object]) -> None:
    """The end of a running node is seen at once, and it is started again and wired."""
    before = host.runtimes()[name]
    kill()
    died = time.monotonic()
    await host.reach(
        lambda view: node(view, name).state != "running" or bool(node(view, name).error), f"{name}'s death is seen"
    )
    assert time.monotonic() - died < SEEN_WITHIN_S
    await host.wired(within_s=BACK_WITHIN_S)
    after = host.runtimes()[name]
    assert (after[0], after[1] != before[1]) == (before[0], True)


# -- the container engine ----------------------------------------------------------------------------------


async def test_containers_that_outlive_their_engine_are_not_touched(engines: PrivateEngines) -> None:
    engines.start_docker(live_restore=True)
    async with lab_host(engines) as host:
        await host.deploy(PAIR)
        await host.wired()
        before = host.runtimes()
        pid = engines.docker("inspect", "--format", "{{.State.Pid}}", before["a"][0]).strip()
        async with states_of(host, "a", "b") as states, uninterrupted_ping(pid, "10.9.0.2"):
            engines.kill("dockerd")
            away = await host.reach(
                lambda view: {found.state for found in view.nodes} == {"unknown"}, "the loss is seen", within_s=5
            )
            assert all("docker" in found.message for found in away.nodes)
            engines.start_again("dockerd")
            await host.wired(within_s=20)
            await asyncio.sleep(0.5)
        assert states == [{"running", "unknown"}] * 2
        assert host.runtimes() == before
        assert await ping(host, "a", "10.9.0.2")

        await dies_and_comes_back(host, "b", lambda: engines.docker("kill", before["b"][0]))
        assert host.runtimes()["a"] == before["a"]
        await until(lambda: ping(host, "a", "10.9.0.2"), "packets to the node that was started again")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_containers_that_died_with_their_engine_come_back_wired(
    engines: PrivateEngines, number: signal.Signals
) -> None:
    engines.start_docker()
    async with lab_host(engines) as host:
        await host.deploy(PAIR)
        await host.wired()
        before = host.runtimes()
        async with states_of(host, "a", "b") as states:
            engines.kill("dockerd", number)
            engines.start_again("dockerd")
            await until(lambda: started_anew(host, before), "both were started again", within_s=BACK_WITHIN_S)
            await host.wired(within_s=BACK_WITHIN_S)
        assert not any("failed" in seen for seen in states)
        await until(lambda: ping(host, "a", "10.9.0.2"), "packets after the engine came back")


async def started_anew(host: Installation, before: dict[str, tuple[str, str]]) -> bool:
    after = host.runtimes()
    return all(after[name][0] == before[name][0] and after[name][1] != before[name][1] for name in before)


# -- the hypervisor ----------------------------------------------------------------------------------------


async def test_virtual_machines_outlive_their_engine_and_stay_in_hand(engines: PrivateEngines) -> None:
    engines.start_libvirt()
    engines.start_docker()
    async with lab_host(engines) as host:
        await host.deploy(MIXED)
        await host.wired()
        await until(lambda: ping(host, "a", "10.9.0.2"), "the virtual machine boots", within_s=60)
        before = host.runtimes()
        async with states_of(host, "a", "v") as states:
            engines.kill("libvirtd")
            away = await host.reach(lambda view: node(view, "v").state == "unknown", "the loss is seen", within_s=5)
            assert "libvirt" in node(away, "v").message
            assert await ping(host, "a", "10.9.0.2")
            engines.start_again("libvirtd")
            await host.wired(within_s=20)
        assert states == [{"running"}, {"running", "unknown"}]
        assert host.runtimes() == before

        async with host.client() as client:
            await client.links.down("lab", "a:eth1", "v:eth1")
        await until(lambda: carrier(host, "v", "eth1", "0"), "the carrier fell in the guest")
        async with host.client() as client:
            await client.links.up("lab", "a:eth1", "v:eth1")
        await until(lambda: carrier(host, "v", "eth1", "1"), "the carrier came back in the guest")

        await dies_and_comes_back(host, "v", lambda: os.kill(int(before["v"][1]), signal.SIGKILL))


# -- an engine that is not there yet -----------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["docker", "libvirt"])
async def test_nodes_of_a_missing_engine_wait_while_the_others_run(engines: PrivateEngines, missing: str) -> None:
    there, waiting = ("v", "a") if missing == "docker" else ("a", "v")
    engines.start_docker()
    if missing == "docker":
        engines.kill("dockerd", signal.SIGTERM)  # it has its image by now, before the agent can ask for it
        engines.start_libvirt()
    async with lab_host(engines) as host:
        await host.deploy(MIXED)
        view = await host.reach(lambda view: node(view, there).state == "running", f"{there} runs at once")
        told = node(view, waiting).message + str(node(view, waiting).error)
        assert f"provider {missing}" in told
        assert "not available" in told
        if missing == "docker":
            engines.start_again("dockerd")
        else:
            engines.start_libvirt()
        await host.wired(within_s=BACK_WITHIN_S)
        assert not node(await host.lab(), waiting).error


async def test_an_agent_that_starts_without_an_engine_takes_its_nodes_over_later(engines: PrivateEngines) -> None:
    engines.start_docker(live_restore=True)
    async with lab_host(engines) as host:
        await host.deploy(PAIR)
        await host.wired()
        before = host.runtimes()
        await host.kill("agent")
        engines.kill("dockerd")
        await host.start("agent")
        await host.reach(
            lambda view: {found.state for found in view.nodes} == {"unknown"}, "nodes are unknown", within_s=20
        )
        engines.start_again("dockerd")
        await host.wired(within_s=20)
        assert host.runtimes() == before


# -- behind everyone's back --------------------------------------------------------------------------------


async def test_nodes_that_are_removed_behind_our_back_are_made_again() -> None:
    async with lab_host() as host:
        await host.deploy(MIXED)
        await host.wired()
        before = host.runtimes()
        run("docker", "rm", "--force", before["a"][0])
        await until(lambda: replaced(host, "a", before), "the container was made again", within_s=BACK_WITHIN_S)
        await host.wired(within_s=BACK_WITHIN_S)
        domain, pid = before["v"]
        run("virsh", "undefine", domain)
        run("virsh", "destroy", domain)
        await until(lambda: replaced(host, "v", before), "the machine was made again", within_s=BACK_WITHIN_S)
        await host.wired(within_s=BACK_WITHIN_S)
        assert host.runtimes()["v"] != (domain, pid)


async def replaced(host: Installation, name: str, before: dict[str, tuple[str, str]]) -> bool:
    found = host.runtimes().get(name, before[name])
    return found != before[name] and found[1] not in {"", "0"}


# -- neighbours --------------------------------------------------------------------------------------------


async def test_two_installations_on_one_host_never_touch_each_other() -> None:
    async with lab_host() as one, lab_host(subnet=OTHER_SUBNET) as other:
        await one.deploy(MIXED)
        await one.wired()
        async with one.client() as client:
            await client.stop("lab", ["v"])  # one virtual machine at a time is enough for a small host
        await one.reach(lambda view: node(view, "v").state == "stopped", "the first machine is off")
        await other.deploy(MIXED)
        await other.wired()
        in_one, in_other = one.runtimes(), other.runtimes()
        assert set(in_one) == set(in_other) == {"a", "v"}
        assert not {found[0] for found in in_one.values()} & {found[0] for found in in_other.values()}

        await lose_the_lab(one)
        await until(lambda: has_orphans(one, {"a", "v"}), "the lost lab is an orphan")
        async with one.client() as client:
            removed = await client.prune(dry_run=False)
        assert all(item.removed for item in removed)
        await until(lambda: is_empty(one), "the first one is pruned", show=one.debris)
        await stays_wired(other, in_other)

        await one.deploy(PAIR)
        await one.wired()
        assert await ping(one, "a", "10.9.0.2")
        await one.destroy()
        await until(lambda: is_empty(one), "the first one is destroyed", show=one.debris)
        await stays_wired(other, in_other)
        await until(lambda: ping(other, "a", "10.9.0.2"), "packets in the other one", within_s=60)


async def stays_wired(host: Installation, runtimes: dict[str, tuple[str, str]]) -> None:
    await host.wired(within_s=5)
    assert host.runtimes() == runtimes


async def lose_the_lab(host: Installation) -> None:
    """The database is an old backup that does not know the lab, so that everything of it is an orphan."""
    await host.kill("controller")
    with contextlib.closing(sqlite3.connect(host.data / "wireloom.sqlite")) as database, database:
        database.execute("pragma foreign_keys = on")
        database.execute("delete from labs")
    await host.start("controller")
    await host.answering()
    await host.replace("agent")
    await host.answering()


async def has_orphans(host: Installation, nodes: set[str]) -> bool:
    async with host.client() as client:
        found = await client.prune(dry_run=True)
    return {item.node for item in found if item.kind == "runtime"} == nodes


async def is_empty(host: Installation) -> bool:
    return not host.debris()
