"""Verbs on links in a whole installation: cables are moved between running nodes, a machine gets NICs when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest

from wireloom.errors import Conflict
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.link_views import Parts
from wireloom.model.views import OperationState, OperationView
from wireloom.testing.installation import Installation, installed, own_folder, until

SUBNET: Final = "172.30.118.0/24"
LAB: Final = """
# the cable of v goes round
name: lab
defaults: {device: linux, provider: docker}
segments:
  lan: {kind: switch}
nodes:
  a: {exec: ["ip address add 10.8.0.1/24 dev eth1"]}
  b: {}
  v: {provider: libvirt, spare-ports: 1, startup-config: "ip address add 10.8.0.9/24 dev eth1\\n"}
links:
  - [v:eth1, a:eth1]   # the cable
  - [b:eth2, lan]
"""
#: A machine without acceleration boots slowly.
BOOT_S: Final = 240


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as installation:
            await installation.deploy(LAB)
            await installation.wired(within_s=120)
            async with installation.client() as client:
                await client.wait_ready("lab", timeout_s=BOOT_S)
            yield installation


async def pings(host: Installation, node: str, target: str) -> bool:
    async with host.client() as client:
        return (await client.exec("lab", node, ["ping", "-c", "1", "-W", "1", target])).exit_code == 0


async def done(host: Installation, operation: OperationView, *, within_s: float = 30) -> None:
    async with host.client() as client:
        ended = await client.wait(operation, timeout_s=within_s)
    assert ended.state is OperationState.DONE, ended.errors


async def test_cables_are_moved_impaired_and_machines_extended(host: Installation) -> None:
    """One lab for all of it: machines take their time to boot."""
    before = host.runtimes()
    await _a_cable_is_moved_between_running_nodes(host)
    await _an_impairment_outlives_a_killed_controller_and_goes_with_its_cable(host)
    assert host.runtimes() == before
    await _a_machine_gets_more_nics_only_when_told_to(host)
    assert {name: runtime for name, runtime in host.runtimes().items() if before[name] != runtime}.keys() == {"v"}


async def _a_cable_is_moved_between_running_nodes(host: Installation) -> None:
    await until(lambda: pings(host, "a", "10.8.0.9"), "a packet from container to virtual machine", within_s=60)
    async with host.client() as client:
        await done(host, await client.links.move("lab", "v:eth1", "a:eth1", "b:eth1"))
        assert (await client.exec("lab", "b", ["ip", "address", "add", "10.8.0.2/24", "dev", "eth1"])).exit_code == 0
    await until(lambda: pings(host, "b", "10.8.0.9"), "packets over the moved cable")
    async with host.client() as client:
        await done(host, await client.links.move("lab", "v:eth1", "b:eth1", "lan"))
        address = ["ip", "address", "add", "10.8.0.3/24", "dev", "eth2"]
        assert (await client.exec("lab", "b", address)).exit_code == 0
        assert "  - [v:eth1, lan]   # the cable" in await client.topology("lab")
        assert (await client.lab("lab")).revision == 3
    await until(lambda: pings(host, "b", "10.8.0.9"), "packets through the switch")


async def _an_impairment_outlives_a_killed_controller_and_goes_with_its_cable(host: Installation) -> None:
    slow = Impairment(rate_kbit=20_000)
    async with host.client() as client:
        await done(host, await client.links.impair("lab", "v:eth1", "lan", Parts(rate_kbit=20_000)))
    await host.replace("controller")
    await host.answering()
    async with host.client() as client:
        await done(host, await client.links.move("lab", "v:eth1", "lan", "b:eth1"), within_s=60)
        [link] = await client.links.find("lab", "b:eth1", "v:eth1")
        wanted = LinkImpairment(forward=slow, backward=slow)
        assert (link.impairment.configured, link.impairment.operational) == (wanted, wanted)
        await done(host, await client.links.clear("lab", "b:eth1", "v:eth1"))
        [link] = await client.links.find("lab", "b:eth1", "v:eth1")
    assert link.impairment.operational == LinkImpairment()


async def _a_machine_gets_more_nics_only_when_told_to(host: Installation) -> None:
    async with host.client() as client:
        with pytest.raises(Conflict, match="v was made with 2") as caught:
            await client.links.add("lab", "v:eth3", "lan")
        assert caught.value.node == "v"
        await done(host, await client.links.add("lab", "v:eth3", "lan", restart=True), within_s=BOOT_S)
        [link] = await client.links.find("lab", "v:eth3", "lan")
    assert link.state == "up"
