"""TCP between a container and a virtual machine, and between two virtual machines, over wires, in both directions.

The baseline is the same guests, NIC models and host devices over a plain Linux bridge, the way in which Docker and
libvirt would plug them together by themselves; there is no "direct" cable between a tap and anything. Each pair of
guests has two links: the first stays the wire that the product made, the second is taken off its wire and put on a
bridge, so that both paths are there at the same time and rounds can alternate between them. For that the agent is
ended, or it would mend the wire; nodes and wires go on without it.

Speed is measured by iperf3 in the guests. Then a stream of known content crosses every wire in each direction and its
digest is compared at the far end, and the guests' own counters of segments with a wrong checksum must not have moved.
Emulated guests are slow, so the numbers are those of the emulator where there is no KVM; the ratio still tells what
a wire costs. Needs root, Docker, libvirt and the reference images.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncssh
from common import Result, compared, measured, median, parser, report

from wireloom.model.identity import device_name
from wireloom.testing.guests import run_command
from wireloom.testing.installation import Installation, installed, own_folder, until

TARGET: Final = 0.97
SUBNET: Final = "172.30.118.0/24"
USER, PASSWORD = "root", "frr"
COMMAND_S: Final = 120.0
#: A slow server turns the next client away while it still puts the last one's figures together.
TRIES, SERVER_RESTS_S = 5, 1.0
STREAM_PORT: Final = 5300
MEGABYTE: Final = 1_000_000

#: The paths: name, client, server, their ports, and the network that both have an address in (.1 and .2).
WIRE, BRIDGE = "wire", "bridge"


@dataclass(frozen=True)
class Pair:
    """Two guests with a wire and a bridge between them."""

    name: str
    client: str
    server: str
    ports: dict[str, tuple[str, str]]  # path → port of the client, port of the server
    networks: dict[str, str]  # path → first three bytes of the addresses

    def link(self, path: str) -> tuple[str, str]:
        near, far = self.ports[path]
        return f"{self.client}:{near}", f"{self.server}:{far}"

    def address(self, path: str) -> str:
        """Where the server is."""
        return f"{self.networks[path]}.2"


PAIRS: Final = (
    Pair(
        "container to VM",
        "c",
        "v",
        {WIRE: ("eth1", "eth1"), BRIDGE: ("eth2", "eth2")},
        {WIRE: "10.8.1", BRIDGE: "10.8.2"},
    ),
    Pair(
        "VM to VM",
        "w",
        "v",
        {WIRE: ("eth1", "eth3"), BRIDGE: ("eth2", "eth4")},
        {WIRE: "10.8.3", BRIDGE: "10.8.4"},
    ),
)


def topology() -> str:
    """Three hosts; every address is set by the startup configuration."""
    scripts: dict[str, list[str]] = {"c": [], "v": [], "w": []}
    for pair, path in itertools.product(PAIRS, (WIRE, BRIDGE)):
        for node, port, last in zip((pair.client, pair.server), pair.ports[path], (1, 2), strict=True):
            scripts[node].append(f"ip address replace {pair.networks[path]}.{last}/24 dev {port}\n")
    nodes = {
        name: {
            "device": "linux",
            "provider": "docker" if name == "c" else "libvirt",
            "startup-config": "".join(lines),
        }
        for name, lines in scripts.items()
    }
    links = [list(pair.link(path)) for pair in PAIRS for path in (WIRE, BRIDGE)]
    return json.dumps({"name": "lab", "nodes": nodes, "links": links})


# -- the other path --------------------------------------------------------------------------------------------


def host_devices(host: Installation) -> dict[str, str]:
    """``node:port`` → the host's end of it."""
    links = json.loads(
        subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True, timeout=30).stdout
    )
    found = {}
    for link in links:
        alias = link.get("ifalias", "")
        if host.id in alias and "lab/" in alias:
            node, _, port = alias.rpartition("lab/")[2].partition("/")
            found[f"{node}:{port.split()[0]}"] = link["ifname"]
    return found


@contextlib.asynccontextmanager
async def bridges(host: Installation) -> AsyncIterator[None]:
    """Take the second link of each pair off its wire and put it on a bridge of its own."""
    devices = host_devices(host)
    with contextlib.ExitStack() as undo:
        for number, pair in enumerate(PAIRS):
            bridge = device_name("x", host.id, number)
            undo.enter_context(_bridge(bridge))
            for device in (devices[end] for end in pair.link(BRIDGE)):
                # The wire's redirection, and the fence that keeps an unwired port off the host's own network.
                await run_command("tc", "qdisc", "del", "dev", device, "ingress")
                await run_command("ip", "link", "set", device, "master", bridge)
                undo.callback(_quietly, "ip", "link", "set", device, "nomaster")
        yield


@contextlib.contextmanager
def _bridge(name: str) -> Iterator[None]:
    """A bridge that forwards at once, past the firewall that Docker puts in front of bridged frames."""
    accept = ("FORWARD", "-i", name, "-o", name, "-j", "ACCEPT")
    kind = ("type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
    with contextlib.ExitStack() as undo:
        subprocess.run(["ip", "link", "add", name, *kind], check=True, timeout=30)
        undo.callback(_quietly, "ip", "link", "del", name)
        subprocess.run(["iptables", "-w", "10", "-I", *accept], check=True, timeout=30)
        undo.callback(_quietly, "iptables", "-w", "10", "-D", *accept)
        subprocess.run(["ip", "link", "set", name, "up"], check=True, timeout=30)
        yield


def _quietly(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=30)


# -- measuring -------------------------------------------------------------------------------------------------


class Shells:
    """A connection to each guest over the management network, which the measured traffic does not touch."""

    def __init__(self) -> None:
        self._open: dict[str, asyncssh.SSHClientConnection] = {}

    async def connect(self, node: str, address: str) -> None:
        self._open[node] = await asyncssh.connect(
            address, username=USER, password=PASSWORD, known_hosts=None, client_keys=None, agent_path=None, config=None
        )

    async def run(self, node: str, command: str) -> str:
        """Output of a command that must succeed."""
        done = await self._open[node].run(command, check=True, timeout=COMMAND_S)
        return str(done.stdout)

    async def close(self) -> None:
        for opened in self._open.values():
            opened.close()
            await opened.wait_closed()


@dataclass
class Speeds:
    """Mbit/s by path, round by round."""

    by_path: dict[str, list[float]] = field(default_factory=lambda: {WIRE: [], BRIDGE: []})

    def result(self, name: str) -> Result:
        wire, bridge = self.by_path[WIRE], self.by_path[BRIDGE]
        ratio = median([ours / plain for ours, plain in zip(wire, bridge, strict=True)])
        return compared(name, median(wire), median(bridge), "Mbit/s", ratio=ratio, at_least=TARGET)


async def tcp(shells: Shells, pair: Pair, path: str, seconds: float, *more: str) -> float:
    """Mbit/s that arrived."""
    command = ["iperf3", "--json", "--time", f"{seconds:g}", "--client", pair.address(path), *more]
    for _ in range(TRIES):
        document = json.loads(await shells.run(pair.client, " ".join(command)))
        if "error" not in document:
            return float(document["end"]["sum_received"]["bits_per_second"]) / 1e6
        await asyncio.sleep(SERVER_RESTS_S)
    raise RuntimeError(f"iperf3 from {pair.client} to {pair.server} over the {path}: {document['error']}")


async def speeds(shells: Shells, pair: Pair, rounds: int, seconds: float) -> list[Result]:
    forth, back = Speeds(), Speeds()
    for turn in range(rounds):
        for path in (WIRE, BRIDGE) if turn % 2 else (BRIDGE, WIRE):
            forth.by_path[path].append(await tcp(shells, pair, path, seconds))
            back.by_path[path].append(await tcp(shells, pair, path, seconds, "--reverse"))
        print(f"{pair.name}: round {turn + 1} of {rounds}", file=sys.stderr)
    return [forth.result(f"TCP {pair.name}"), back.result(f"TCP {pair.name}, the other way")]


def stream_command(size: int) -> str:
    """Writes ``size`` bytes that no two blocks of repeat."""
    return f"seq 1 {size} | head -c {size}"


def stream_digest(size: int) -> str:
    digest, left = hashlib.sha256(), size
    for first in itertools.count(1, 100_000):
        block = "".join(f"{number}\n" for number in range(first, first + 100_000)).encode()[:left]
        digest.update(block)
        left -= len(block)
        if not left:
            return digest.hexdigest()
    raise AssertionError("the count has no end")


async def transferred_intact(shells: Shells, sender: str, receiver: str, address: str, size: int) -> bool:
    """Send a stream of known content and compare what arrived."""
    listen = f"busybox nc -l -p {STREAM_PORT} </dev/null | sha256sum"
    receiving = asyncio.create_task(shells.run(receiver, listen))
    try:
        listening = f"grep -qi ':{STREAM_PORT:04X} 0*:0000 0A' /proc/net/tcp /proc/net/tcp6"
        await shells.run(receiver, f"until {listening}; do sleep 0.1; done")
        send = f"{stream_command(size)} >/dev/tcp/{address}/{STREAM_PORT}"
        await shells.run(sender, f"bash -c '{send}'")
        return (await receiving).split()[0] == stream_digest(size)
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def wrong_checksums(shells: Shells) -> int:
    """Segments that the kernels of the guests threw away for their checksum."""
    total = 0
    for node in ("c", "v", "w"):
        names, values = [
            line.split()
            for line in (await shells.run(node, "cat /proc/net/snmp")).splitlines()
            if line.startswith("Tcp:")
        ]
        total += int(dict(zip(names, values, strict=True))["InCsumErrors"])
    return total


async def intact(shells: Shells, megabytes: int) -> list[Result]:
    """Streams over each wire in each direction, and the checksum counters."""
    whole = 0
    for pair in PAIRS:
        client, server = (f"{pair.networks[WIRE]}.{last}" for last in (1, 2))
        for sender, receiver, address in ((pair.client, pair.server, server), (pair.server, pair.client, client)):
            whole += await transferred_intact(shells, sender, receiver, address, megabytes * MEGABYTE)
            print(f"stream from {sender} to {receiver} over a wire done", file=sys.stderr)
    streams = 2 * len(PAIRS)
    return [measured(f"streams of {megabytes} MB intact, of {streams}", whole, "streams", at_least=streams)]


@contextlib.asynccontextmanager
async def connected(host: Installation) -> AsyncIterator[Shells]:
    """Shells in all guests, with iperf3 serving where it has to."""
    shells = Shells()
    try:
        for node in (await host.lab()).nodes:

            async def connect(name: str = node.name, address: str | None = node.mgmt_ipv4) -> bool:
                with contextlib.suppress(OSError, asyncssh.Error):
                    await shells.connect(name, str(address))
                    return True
                return False

            await until(connect, f"{node.name} lets nobody in", within_s=60)
        for node_name in {pair.server for pair in PAIRS}:
            await shells.run(node_name, "iperf3 --server --daemon")
        yield shells
    finally:
        await shells.close()


async def measure(rounds: int, seconds: float, megabytes: int) -> Sequence[Result]:
    with own_folder(show_logs=False) as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as host:
            await host.deploy(topology())
            await host.wired()
            async with host.client() as client:
                await client.wait_ready("lab", timeout_s=180)
            async with connected(host) as shells:
                before = await wrong_checksums(shells)
                await host.kill("agent")
                try:
                    async with bridges(host):
                        results = [r for pair in PAIRS for r in await speeds(shells, pair, rounds, seconds)]
                    results += await intact(shells, megabytes)
                    broken = await wrong_checksums(shells) - before
                    results.append(measured("segments with a wrong checksum", broken, "segments", at_most=0))
                finally:
                    await host.start("agent")
            return results


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=2, help="length of one TCP run")
    options.add_argument("--megabytes", type=int, default=50, help="length of a stream whose content is compared")
    arguments = options.parse_args()
    measuring = measure(arguments.rounds, arguments.seconds, arguments.megabytes)
    report("guests", asyncio.run(measuring), arguments.json)
