"""The example with every kind of link that one host needs: deployed as it is written, on real engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from wireloom.model.impairment import Impairment
from wireloom.testing.installation import Installation, installed, own_folder, until

SUBNET: Final = "172.30.121.0/24"
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "branch-office.yml"
LAB: Final = "branch-office"
#: A machine without acceleration boots slowly.
BOOT_S: Final = 240


@pytest.fixture
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as installation:
            await installation.deploy(EXAMPLE.read_text())
            await installation.wired(lab=LAB, within_s=120)
            async with installation.client() as client:
                await client.wait_ready(LAB, timeout_s=BOOT_S)
            yield installation
            await installation.destroy(LAB)


async def pings(host: Installation, node: str, target: str) -> bool:
    async with host.client() as client:
        return (await client.exec(LAB, node, ["ping", "-c", "1", "-W", "1", target])).exit_code == 0


async def test_the_branch_office_has_a_switch_a_slow_line_and_a_way_out(host: Installation) -> None:
    for node, target, what in (
        ("pc1", "10.1.0.12", "container and machine on the switch"),
        ("pc1", "10.2.0.10", "the branch and the head office over the slow line"),
        ("server", "10.99.0.1", "the head office and its way out"),
    ):
        await until(lambda node=node, target=target: pings(host, node, target), f"frames between {what}", within_s=60)
    view = await host.lab(LAB)
    assert [(segment.name, segment.kind, segment.links) for segment in view.segments] == [
        ("lan", "switch", 3),
        ("internet", "nat", 1),
    ]
    slow = next(link.impairment for link in view.links if (link.a, link.b) == ("branch:eth2", "office:eth1"))
    assert slow.operational == slow.configured
    assert (slow.configured.forward, slow.configured.backward) == (
        Impairment(rate_kbit=2000),
        Impairment(rate_kbit=16_000),
    )
