"""Configurations of real routers, in a container and in a virtual machine: read, compared, given back, never lost."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator

import pytest

from wireloom.client import Client
from wireloom.model.config_views import MapConfigs
from wireloom.model.views import OperationView
from wireloom.testing.installation import Installation, installed, own_folder, until

SUBNET = "172.30.126.0/24"
LAB = """
name: lab
defaults: {device: frr}
nodes:
  c: {provider: docker}
  v: {provider: libvirt}
"""
NODES = ("c", "v")
FIRST, SECOND, THIRD = (f"ip route {net} Null0" for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))
#: A virtual machine is emulated here, and boots twice.
READY_S = 150.0


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as installation:
            await installation.deploy(LAB)
            await ready(installation)
            yield installation


async def ready(host: Installation) -> None:
    await host.reach(
        lambda view: view.converged and all(node.ready == "yes" for node in view.nodes), "ready", within_s=READY_S
    )


async def configure(client: Client, node: str, *lines: str) -> None:
    """Change the running configuration, without saving it in the node."""
    typed = [part for line in ("configure terminal", *lines) for part in ("-c", line)]
    answer = await client.exec("lab", node, ["vtysh", *typed])
    assert answer.exit_code == 0, answer


async def running(client: Client, node: str) -> str:
    """What the router itself says, read by other means than the store's."""
    return (await client.exec("lab", node, ["vtysh", "-c", "show running-config"])).stdout


async def done(client: Client, operation: OperationView) -> OperationView:
    ended = await client.wait(operation, timeout_s=READY_S)
    assert not ended.errors, ended
    return ended


async def revisions(client: Client, node: str) -> list[tuple[int, str, bool]]:
    return [(item.number, item.origin, item.active) for item in await client.configs.revisions("lab", node)]


@pytest.mark.docker
@pytest.mark.libvirt
async def test_a_configuration_is_read_changed_compared_and_given_back(host: Installation) -> None:
    async with host.client() as client:
        for node in NODES:
            await configure(client, node, FIRST)
        await done(client, await client.configs.extract("lab"))
        stored = {view.node: view for view in await client.configs.of_lab("lab")}
        channels = {name: view.latest.channel for name, view in stored.items() if view.latest}
        assert channels == {"c": "exec", "v": "ssh"}

        for node in NODES:
            await configure(client, node, f"no {FIRST}", SECOND)
            diff = await client.configs.diff("lab", node, "active", "running")
            assert f"-{FIRST}\n+{SECOND}\n" in diff.diff
        await done(client, await client.configs.extract("lab", note="changed"))
        for node in NODES:
            assert await revisions(client, node) == [(2, "extract", True), (1, "extract", False)]

            # Loaded into the running node: FRR takes the lines over and keeps others.
            before = host.runtimes()[node]
            await done(client, await client.configs.restore("lab", node, "1"))
            text = await running(client, node)
            assert FIRST in text
            assert SECOND in text
            assert host.runtimes()[node] == before
            assert (await revisions(client, node))[-1] == (1, "extract", True)

        with zipfile.ZipFile(io.BytesIO(await client.configs.archive("lab", "latest"))) as archive:
            assert archive.namelist() == ["lab/configs.json", "lab/c.cfg", "lab/v.cfg"]
            assert SECOND.encode() in archive.read("lab/v.cfg")

        # Made anew with it: it has this configuration and nothing else, and what ran before is stored.
        before_all = host.runtimes()
        for node in NODES:
            await configure(client, node, THIRD)
            await done(client, await client.configs.restore("lab", node, "1", reboot=True))
        await ready(host)
        for node in NODES:
            text = await running(client, node)
            assert FIRST in text
            assert SECOND not in text
            assert host.runtimes()[node] != before_all[node]
            assert THIRD in (await client.configs.text("lab", node, "latest")).text
            assert (await revisions(client, node))[-1] == (1, "extract", True)


@pytest.mark.docker
@pytest.mark.libvirt
async def test_a_stop_stores_the_configuration_also_while_the_controller_is_away_and_a_new_runtime_has_it(
    host: Installation,
) -> None:
    async with host.client() as client:
        for node in NODES:
            await configure(client, node, FIRST)
        await client.stop("lab")
        await until(lambda: handed_over(client), "nodes are being stopped", within_s=30)
    await host.replace("controller")
    await host.answering()
    async with host.client() as client:
        await until(lambda: collected(client), "what the agent held is stored", within_s=90)
        for node in NODES:
            assert await revisions(client, node) == [(1, "stop", True)]
        # Wiped while it is off: the next start begins with what ran last.
        await done(client, await client.wipe("lab", list(NODES)))
        await done(client, await client.start("lab"))
        await ready(host)
        for node in NODES:
            assert FIRST in await running(client, node)


async def handed_over(client: Client) -> bool:
    return any(node.power == "off" for node in (await client.lab("lab")).nodes)


async def collected(client: Client) -> bool:
    return all([await revisions(client, node) for node in NODES])


@pytest.mark.docker
async def test_another_size_keeps_what_a_container_ran_and_another_startup_config_does_not() -> None:
    topology = LAB.replace("  v: {provider: libvirt}\n", "")
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as host, host.client() as client:
            await host.deploy(topology)
            await ready(host)
            await configure(client, "c", FIRST)
            before = host.runtimes()["c"]
            await host.deploy(topology.replace("docker}", "docker, memory: 300MB}"))
            await until(lambda: anew(host, before), "made anew", within_s=60)
            await ready(host)
            assert FIRST in await running(client, "c")

            text = f'docker, memory: 300MB, startup-config: "{THIRD}\\n"}}'
            await host.deploy(topology.replace("docker}", text))
            seen: list[str] = []
            await until(lambda: runs(client, THIRD, seen), "not as the topology says", within_s=60, show=lambda: seen)
            await ready(host)
            assert FIRST not in await running(client, "c")
            active = next(view for view in await client.configs.of_lab("lab") if view.node == "c")
            assert (active.active, active.chosen_by) == (None, "topology")

            # The node goes, and what it had goes to another one.
            await host.deploy(topology.replace("  c:", "  d:"))
            await ready(host)
            taken = await client.configs.take_over("lab", "d", MapConfigs(source_node="c", activate=True))
            await done(client, await client.configs.restore("lab", "d", str(taken[0].number)))
            assert FIRST in await running(client, "d")


async def anew(host: Installation, before: tuple[str, str]) -> bool:
    return host.runtimes().get("c", before) != before and (await host.lab()).converged


async def runs(client: Client, line: str, seen: list[str]) -> bool:
    """``seen`` holds what was seen last: the configuration in the router, and the file that it was given."""
    given = await client.exec("lab", "c", ["cat", "/etc/frr/frr.conf"])
    seen[:] = [await running(client, "c"), given.stdout]
    return line in seen[0]
