"""A host gets another data plane under a running lab: nodes run on, every link is made anew, nothing old is left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from wireloom.testing.installation import Installation, installed, own_folder, until

LAB = """
name: lab
defaults: {device: linux, provider: docker}
segments:
  lan: {kind: switch}
nodes:
  a: {startup-config: "ip address add 10.9.0.1/24 dev eth1\\nip address add 10.8.0.1/24 dev eth2\\n"}
  b: {startup-config: "ip address add 10.8.0.2/24 dev eth1\\n"}
  v: {provider: libvirt, startup-config: "ip address add 10.9.0.2/24 dev eth1\\n"}
links:
  - [a:eth1, v:eth1]
  - [a:eth2, lan]
  - [b:eth1, lan]
"""


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder) as installation:
            yield installation


async def use(host: Installation, dataplane: str) -> None:
    """What a user does: another word in the settings, and the agent is started anew."""
    host.extra_environment["WIRELOOM_DATAPLANE"] = dataplane
    await host.replace("agent")
    await host.answering()


async def reaches(host: Installation, address: str) -> bool:
    async with host.client() as client:
        return (await client.exec("lab", "a", ["ping", "-c", "1", "-W", "1", address])).exit_code == 0


async def test_running_lab_is_wired_anew_when_its_host_changes_the_data_plane(host: Installation) -> None:
    await host.deploy(LAB)
    await host.wired()
    before = host.runtimes()
    assert host.switches() == []
    for dataplane in ("ovs", "kernel"):
        await use(host, dataplane)
        await until(lambda: reaches(host, "10.9.0.2"), f"a packet to the virtual machine by {dataplane}", within_s=60)
        await until(lambda: reaches(host, "10.8.0.2"), f"a packet through the switch by {dataplane}", within_s=60)
        await host.wired()
        assert bool(host.switches()) == (dataplane == "ovs")
    assert host.runtimes() == before


async def greeting(host: Installation) -> bool:
    """The virtual machine's SSH server is heard by TCP: its frames have whole checksums."""
    async with host.client() as client:
        answer = await client.exec("lab", "a", ["sh", "-c", "nc -w 3 10.9.0.2 22 </dev/null"])
    return answer.stdout.startswith("SSH-2.0-")


async def test_lab_on_open_vswitch_outlives_its_agent(host: Installation) -> None:
    await use(host, "ovs")
    await host.deploy(LAB)
    await host.wired()
    before = host.runtimes(), sorted(host.switches())
    await until(lambda: greeting(host), "the virtual machine's greeting over TCP", within_s=60)
    await host.replace("agent")
    await host.answering()
    await until(lambda: reaches(host, "10.8.0.2"), "a packet through the switch", within_s=60)
    await host.wired()
    assert (host.runtimes(), sorted(host.switches())) == before
    assert await greeting(host)
