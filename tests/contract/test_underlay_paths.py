"""Ways between two hosts, measured for real: whether packets arrive, in each direction, and how large they may be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from wireloom.agent.underlay.prober import PathProber
from wireloom.model.underlay import Peer
from wireloom.testing.conformance.dataplane_hosts import NIC, cable, living_in
from wireloom.testing.guests import run_command

pytestmark = pytest.mark.kernel

PORT = 47890
SECRET = "ab" * 32
ADDRESSES = {"h1": "192.0.2.1", "h2": "192.0.2.2"}
ADDRESSES6 = {"h1": "2001:db8:77::1", "h2": "2001:db8:77::2"}


def peer(host: str, addresses: dict[str, str] = ADDRESSES, secret: str = SECRET) -> dict[str, Peer]:
    return {host: Peer(host=host, address=addresses[host], secret=secret, probe_port=PORT)}


@contextlib.asynccontextmanager
async def measuring(space: str, host: str) -> AsyncIterator[PathProber]:
    prober = PathProber(host, PORT, every_s=0.2)
    with living_in(space):
        task = asyncio.create_task(prober.run())
        await asyncio.sleep(0)
    try:
        yield prober
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def two(
    mtu: int = 1500, addresses: dict[str, str] = ADDRESSES
) -> AsyncIterator[tuple[str, str, PathProber, PathProber]]:
    async with cable(mtu) as (one, other), measuring(one, "h1") as first, measuring(other, "h2") as second:
        first.set_peers(peer("h2", addresses))
        second.set_peers(peer("h1", addresses))
        yield one, other, first, second


async def soon(check: Callable[[], bool], prober: PathProber) -> None:
    for _ in range(1500):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not come about: {prober.paths}")


@pytest.mark.parametrize("addresses", [ADDRESSES, ADDRESSES6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("mtu", [1400, 1500, 9000])
async def test_the_largest_packet_is_found(mtu: int, addresses: dict[str, str]) -> None:
    async with two(mtu, addresses) as (_, _, first, second):
        for prober, host in ((first, "h2"), (second, "h1")):
            await soon(lambda prober=prober, host=host: prober.paths[host].mtu == mtu, prober)  # type: ignore[misc]
            path = prober.paths[host]
            assert (path.answered, path.problem) == (True, "")


async def test_a_way_that_is_narrow_where_no_host_sees_it_is_measured_all_the_same() -> None:
    """What is too large is lost without a word, as behind a tunnel of somebody else's; each direction on its own."""
    async with cable() as (one, other):
        rule = ("INPUT", "-p", "udp", "-m", "length", "--length", "1401:65535", "-j", "DROP")
        await run_command("ip", "netns", "exec", Path(one).name, "iptables", "-A", *rule)
        async with measuring(one, "h1") as first, measuring(other, "h2") as second:
            first.set_peers(peer("h2"))
            second.set_peers(peer("h1"))
            await soon(lambda: first.paths["h2"].mtu == 1500 and second.paths["h1"].mtu == 1400, second)


async def test_a_way_that_is_cut_in_one_direction_is_told_from_one_that_is_cut() -> None:
    async with two() as (one, _, first, second):
        await soon(lambda: bool(first.paths["h2"].mtu and second.paths["h1"].mtu), first)
        rule = ("OUTPUT", "-d", ADDRESSES["h2"], "-j", "DROP")
        await run_command("ip", "netns", "exec", Path(one).name, "iptables", "-A", *rule)
        await soon(lambda: first.paths["h2"].problem != "" and second.paths["h1"].problem != "", first)
        assert first.paths["h2"].problem == "what is sent to host h2 (192.0.2.2) does not arrive there"
        assert second.paths["h1"].problem == "nothing arrives from host h1 (192.0.2.1)"
        await run_command("ip", "netns", "exec", Path(one).name, "iptables", "-D", *rule)
        await soon(lambda: first.paths["h2"].problem == "" and first.paths["h2"].mtu == 1500, first)
        await run_command("ip", "-n", Path(one).name, "link", "set", NIC, "down")
        await soon(lambda: first.paths["h2"].problem == "nothing arrives from host h2 (192.0.2.2)", first)


async def test_nobody_but_a_peer_is_answered() -> None:
    async with cable() as (one, other), measuring(one, "h1") as first, measuring(other, "h2") as second:
        first.set_peers(peer("h2"))
        second.set_peers(peer("h1", secret="cd" * 32))
        await soon(lambda: first.paths["h2"].answered is False and second.paths["h1"].answered is False, first)
        await soon(lambda: first.paths["h2"].heard is False, first)
