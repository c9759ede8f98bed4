"""What a cable does: how long after one end goes, or is pulled, the other end sees its carrier fall, and come back.

The peer is a container, whose NIC is asked every half millisecond, or a virtual machine, whose hypervisor is asked
whether it has told the guest. The clock starts

* with the SDK's call, where a link is pulled by a user (HTTP, database, fabric and agent are in the number),
* with the signal, where a container's or a machine's process is killed,
* with the end of the container's process, where a node is stopped: until then it may well use the link,
* with the command, where a guest shuts its own port.

libvirt answers nothing about other machines either until process 1 has reaped an emulator that was killed. Where that
takes long, as in some containers, a machine that watches a machine is shown for information.

A whole private installation is measured. Needs root, Docker, libvirt and the reference images.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import libvirt
from common import Result, measured, median, parser, report

from wireloom.dataplane.host import links
from wireloom.dataplane.host.namespaces import enter, open_namespace
from wireloom.dataplane.host.netlink import check
from wireloom.testing.guests import NamespaceGuest
from wireloom.testing.installation import Installation, installed, own_folder, run

LIMIT_MS: Final = 200
SUBNET: Final = "172.30.118.0/24"
PERIOD_S: Final = 0.0005
LONGEST_S: Final = 20.0
REAPED_AT_ONCE_S: Final = 0.1
LAB: Final = json.dumps(
    {
        "name": "lab",
        "defaults": {"device": "linux", "provider": "docker"},
        "nodes": {"a": None, "b": None, "v": {"provider": "libvirt"}, "w": {"provider": "libvirt"}},
        "links": [["a:eth1", "b:eth1"], ["v:eth1", "b:eth2"], ["a:eth2", "w:eth1"], ["v:eth2", "w:eth2"]],
    }
)

#: Whether a peer has a carrier now.
Carrier = Callable[[], bool]


@dataclass(frozen=True)
class Peer:
    """The end that watches: its node, its port, and the other end of the link."""

    name: str
    port: str
    far: tuple[str, str]


#: Container and machine, each linked to a container and to a machine.
TO_CONTAINER: Final = (Peer("a", "eth1", ("b", "eth1")), Peer("v", "eth1", ("b", "eth2")))
TO_MACHINE: Final = (Peer("a", "eth2", ("w", "eth1")), Peer("v", "eth2", ("w", "eth2")))
KINDS: Final = {"a": "container", "v": "machine"}


async def until(carrier: Carrier, wanted: bool) -> float:
    """When the carrier was first seen as wanted; the thread sleeps in between, and so hardly disturbs."""

    def look() -> float:
        end = time.monotonic() + LONGEST_S
        while carrier() is not wanted:
            if time.monotonic() > end:
                raise TimeoutError(f"the carrier did not become {wanted}")
            time.sleep(PERIOD_S)
        return time.monotonic()

    return await asyncio.to_thread(look)


class Bench:
    """A lab that runs; what is pulled or killed is made whole again after each round."""

    def __init__(self, host: Installation) -> None:
        self._host = host
        self._hypervisor = libvirt.open(host.libvirt_uri())

    @contextlib.asynccontextmanager
    async def carrier(self, peer: Peer) -> AsyncIterator[Carrier]:
        if peer.name != "v":
            guest = await NamespaceGuest.open(f"/proc/{self.process(peer.name)}/ns/net", peer.port)
            try:
                yield guest.carrier
            finally:
                guest.close()
            return
        domain = self._hypervisor.lookupByName(self._domain(peer.name))
        tap = self._tap(peer)
        yield lambda: "state='down'" not in domain.XMLDesc().partition(f"<target dev='{tap}'")[2].partition("</int")[0]

    def process(self, node: str) -> int:
        """Of a container its first process, of a machine its emulator."""
        if node in {"a", "b"}:
            engine_id, _ = self._host.runtimes()[node]
            return int(run("docker", "inspect", "-f", "{{.State.Pid}}", engine_id))
        (pid,) = self._host.emulators(self._domain(node))
        return pid

    def _domain(self, node: str) -> str:
        return next(name for name in self._host.domains() if name.split("-")[-2] == node)

    def _tap(self, peer: Peer) -> str:
        links = json.loads(run("ip", "-json", "link"))
        ours = [link for link in links if self._host.id in link.get("ifalias", "")]
        return next(link["ifname"] for link in ours if link["ifalias"].endswith(f"lab/{peer.name}/{peer.port}"))

    async def seen(self, peer: Peer, act: Callable[[], Awaitable[float]], *, wanted: bool = False) -> float:
        """Milliseconds from the moment that ``act`` gives until the peer sees its carrier change."""
        async with self.carrier(peer) as carrier:
            assert carrier() is not wanted, f"{peer}: the carrier is {wanted} already"
            watching = asyncio.create_task(until(carrier, wanted))
            await asyncio.sleep(0.05)  # the watcher's thread has begun
            began = await act()
            return 1000 * (await watching - began)

    # -- what is done to the far end -----------------------------------------------------------------------

    async def pull(self, peer: Peer, *, up: bool) -> float:
        async with self._host.client() as client:
            began = time.monotonic()
            verb = client.links.up if up else client.links.down
            await verb("lab", f"{peer.name}:{peer.port}", ":".join(peer.far))
        return began

    async def kill(self, peer: Peer) -> float:
        pid = self.process(peer.far[0])
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return began

    async def stop(self, peer: Peer) -> float:
        ended = asyncio.Event()
        opened = os.pidfd_open(self.process(peer.far[0]))
        asyncio.get_running_loop().add_reader(opened, ended.set)
        try:
            async with self._host.client() as client:
                await client.stop("lab", [peer.far[0]])
            await ended.wait()
            return time.monotonic()
        finally:
            asyncio.get_running_loop().remove_reader(opened)
            os.close(opened)

    async def shut(self, peer: Peer, *, up: bool) -> float:
        opened = open_namespace(f"/proc/{self.process(peer.far[0])}/ns/net")
        assert opened is not None
        try:
            return await asyncio.to_thread(_set_inside, opened, peer.far[1], up)
        finally:
            os.close(opened)

    async def whole(self) -> None:
        async with self._host.client() as client:
            await client.start("lab", ["b", "w"])
        await self._host.wired(within_s=120)


def _set_inside(namespace: int, port: str, up: bool) -> float:
    """Set a guest's NIC up or down; when it was asked."""
    with enter(namespace) as netlink:
        began = time.monotonic()
        check(netlink.batch([links.set_flags(port, up=up)]))
    return began


def reaping_s() -> float:
    """How long process 1 takes to reap a child that it inherited."""
    command = "sleep 60 >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, timeout=10).stdout)
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    while Path(f"/proc/{pid}").exists() and time.monotonic() - began < LONGEST_S:
        time.sleep(0.005)
    return time.monotonic() - began


async def _there_and_back(
    bench: Bench, name: str, peer: Peer, rounds: int, act: Callable[..., Awaitable[float]]
) -> list[Result]:
    falls, comes = [], []
    for _ in range(rounds):
        falls.append(await bench.seen(peer, partial(act, peer, up=False)))
        comes.append(await bench.seen(peer, partial(act, peer, up=True), wanted=True))
        await bench.whole()
    return [*_results(f"{name}: carrier falls", falls), *_results(f"{name}: carrier comes back", comes)]


async def _one_way(
    bench: Bench,
    name: str,
    peer: Peer,
    rounds: int,
    act: Callable[[Peer], Awaitable[float]],
    *,
    limited: bool = True,
) -> list[Result]:
    falls = []
    for _ in range(rounds):
        falls.append(await bench.seen(peer, partial(act, peer)))
        await bench.whole()
    return _results(f"{name}: carrier falls", falls, limited=limited)


def _results(name: str, values: Sequence[float], *, limited: bool = True) -> list[Result]:
    return [
        measured(f"{name}, half within", median(values), "ms"),
        measured(f"{name}, all within", max(values), "ms", at_most=LIMIT_MS if limited else None),
    ]


async def measure(containers: int, machines: int, dataplane: str) -> list[Result]:
    reaping = reaping_s()
    results = [measured("a dead process is reaped within", 1000 * reaping, "ms")]
    environment = {"WIRELOOM_MANAGEMENT_SUBNET": SUBNET, "WIRELOOM_DATAPLANE": dataplane}
    with own_folder() as folder:
        async with installed(folder, **environment) as host:
            await host.deploy(LAB)
            await host.wired(within_s=120)
            async with host.client() as client:
                await client.wait_ready("lab", timeout_s=180)
            bench = Bench(host)
            for up in (False, True):  # the first call opens database and connections
                await bench.seen(TO_CONTAINER[0], partial(bench.pull, TO_CONTAINER[0], up=up), wanted=up)
            for peer in TO_CONTAINER:
                seen_by = f"seen by a {KINDS[peer.name]}"
                print(seen_by, file=sys.stderr)
                results += await _there_and_back(bench, f"link pulled, {seen_by}", peer, containers, bench.pull)
                results += await _there_and_back(
                    bench, f"port shut by a container, {seen_by}", peer, containers, bench.shut
                )
                results += await _one_way(bench, f"container killed, {seen_by}", peer, containers, bench.kill)
                results += await _one_way(bench, f"container stopped, {seen_by}", peer, containers, bench.stop)
            for peer in TO_MACHINE:
                seen_by = f"seen by a {KINDS[peer.name]}"
                print(seen_by, file=sys.stderr)
                killed = f"machine killed, {seen_by}"
                limited = peer.name != "v" or reaping < REAPED_AT_ONCE_S
                results += await _one_way(bench, killed, peer, machines, bench.kill, limited=limited)
                results += await _one_way(bench, f"machine stopped, {seen_by}", peer, machines, bench.stop)
    return results


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--containers", type=int, default=10, metavar="ROUNDS")
    options.add_argument("--machines", type=int, default=3, metavar="ROUNDS")
    options.add_argument("--dataplane", choices=("kernel", "ovs"), default="kernel")
    arguments = options.parse_args()
    measuring = measure(arguments.containers, arguments.machines, arguments.dataplane)
    report(f"carrier ({arguments.dataplane})", asyncio.run(measuring), arguments.json)
