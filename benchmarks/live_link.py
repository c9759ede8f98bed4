"""A link added between running nodes: how long until the first frame passes.

One guest sends a frame every millisecond from the moment it has a NIC to send on; the clock stops when the first one
arrives at the other. It starts twice: when the intent is put on the fabric, from where the agent has it ("inside the
agent"), and before the SDK's call or the command's process, for information. Between a container and a virtual machine
the first frame is seen on the machine's tap; that the guest's own carrier and stack answer as well is told by the first
ARP reply, for information, since an emulated guest takes its own time.

A whole private installation is measured: HTTP call, database, fabric, agent, kernel. Needs root, Docker, libvirt and
the reference images.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

import nats
from common import Result, measured, median, parser, report
from nats.aio.msg import Msg

from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.subjects import DESIRED
from wireloom.model.identity import device_name
from wireloom.testing.frames import ethernet, source_address, source_of
from wireloom.testing.guests import socket_in
from wireloom.testing.installation import WIRELOOM, Installation, installed, own_folder, run

LIMIT_MS: Final = 50
SUBNET: Final = "172.30.117.0/24"
PERIOD_S: Final = 0.001
ARRIVAL_S: Final = 10.0
PORT: Final = "eth1"
ETH_ALL, ETH_ARP = 0x0003, 0x0806
GUEST, SENDER = "198.51.100.2", "198.51.100.1"
IMAGE: Final = {"device": "linux", "provider": "docker"}
LAB: Final = json.dumps(
    {
        "name": "lab",
        "nodes": {
            "a": IMAGE,
            "b": IMAGE,
            "v": {
                "device": "linux",
                "provider": "libvirt",
                "startup-config": f"ip address add {GUEST}/24 dev {PORT}\n",
            },
        },
    }
)


class Sender:
    """Sends one frame each millisecond on a NIC, from when there is one, until stopped."""

    def __init__(self, opened: socket.socket, frame: bytes) -> None:
        self._socket = opened
        self._frame = frame
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        while not self._stopped.wait(PERIOD_S):
            with contextlib.suppress(OSError):  # no NIC yet, or it is not up yet
                self._socket.sendto(self._frame, (PORT, 0))

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._socket.close()


@dataclass
class Times:
    """Milliseconds of each round."""

    agent: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)


@dataclass
class Intents:
    """When each slice document was put on the fabric, with its number of wires."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    async def note(self, message: Msg) -> None:
        moment = time.monotonic()
        document = json.loads(message.data)
        if isinstance(document, dict):
            self.seen.append((moment, len(document["wires"])))

    def put_after(self, began: float) -> float:
        """When the first document with a wire was put after ``began``."""
        return next(moment for moment, wires in self.seen if moment >= began and wires)


@contextlib.asynccontextmanager
async def intents_of(host: Installation) -> AsyncIterator[Intents]:
    folder = host.data / "fabric"
    login = FabricKeys.load(folder / "keys.json").controller_login
    url = f"nats://127.0.0.1:{(folder / 'port').read_text().strip()}"
    intents = Intents()
    client = await nats.connect(url, user_jwt_cb=login.claims.encode, signature_cb=login.answer)
    try:
        await client.subscribe(DESIRED.subject("h1.*"), cb=intents.note)
        await client.flush()
        yield intents
    finally:
        await client.close()


async def first(opened: socket.socket, wanted: Callable[[bytes], bool]) -> float:
    """When the first wanted frame arrived."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[float] = loop.create_future()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            while not arrived.done():
                if wanted(opened.recv(2048)):
                    arrived.set_result(time.monotonic())

    loop.add_reader(opened.fileno(), read)
    try:
        async with asyncio.timeout(ARRIVAL_S):
            return await arrived
    finally:
        loop.remove_reader(opened.fileno())
        opened.close()


async def listener(netns: str, protocol: int, device: str = "") -> socket.socket:
    """Hears ``device``; without one every NIC of the namespace, also those to come."""
    opened = await socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    if device:
        opened.bind((device, protocol))
    return opened


class Bench:
    """One installation with running nodes and no link."""

    def __init__(self, host: Installation, intents: Intents) -> None:
        self._host = host
        self._intents = intents
        pids = {
            name: run("docker", "inspect", "-f", "{{.State.Pid}}", engine_id).strip()
            for name, (engine_id, _) in host.runtimes().items()
            if name != "v"
        }
        self._netns = {name: f"/proc/{pid}/ns/net" for name, pid in pids.items()}

    async def tap(self) -> str:
        """The host's end of the machine's port."""
        links = json.loads(run("ip", "-json", "link"))
        wanted = f"v/{PORT}"
        names = [link["ifname"] for link in links if self._ours(link) and wanted in link["ifalias"]]
        assert len(names) == 1, f"taps of {wanted}: {names}"
        return str(names[0])

    def _ours(self, link: dict[str, str]) -> bool:
        return link["ifname"].startswith(device_name("p")[:3]) and self._host.id in link.get("ifalias", "")

    async def round(self, peer: str, add: Callable[[str, str], Awaitable[object]], times: Times) -> None:
        """Add a link from ``a`` to ``peer``, note the times, and take it away again."""
        mine, source = (f"a:{PORT}", f"{peer}:{PORT}"), source_address()
        hears = await self._listener(peer)
        answers = await listener(self._netns["a"], ETH_ARP)
        sending = Sender(await socket_in(self._netns["a"], socket.AF_PACKET, socket.SOCK_RAW), _arp(source))
        with sending:
            arrival = asyncio.create_task(first(hears, lambda frame: source_of(frame) == source))
            reply = asyncio.create_task(first(answers, lambda frame: _is_reply(frame, source)))
            try:
                began = time.monotonic()
                await add(*mine)
                arrived = await arrival
                if peer == "v":
                    times.answered.append(1000 * (await reply - self._intents.put_after(began)))
            finally:
                arrival.cancel()
                reply.cancel()
                await asyncio.gather(arrival, reply, return_exceptions=True)
        times.agent.append(1000 * (arrived - self._intents.put_after(began)))
        times.call.append(1000 * (arrived - began))
        await self._remove(*mine)

    async def _listener(self, peer: str) -> socket.socket:
        if peer == "v":
            return await listener("/proc/self/ns/net", ETH_ALL, await self.tap())
        return await listener(self._netns[peer], ETH_ARP)

    async def by_sdk(self, a: str, b: str) -> None:
        async with self._host.client() as client:
            await client.links.add("lab", a, b)

    async def by_command(self, a: str, b: str) -> None:
        async with self._host.client() as client:
            endpoint = client.endpoint
        environment = {**os.environ, "WIRELOOM_URL": endpoint.url, "WIRELOOM_TOKEN": endpoint.token}
        process = await asyncio.create_subprocess_exec(
            str(WIRELOOM), "link", "add", "lab", a, b, env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0

    async def _remove(self, a: str, b: str) -> None:
        async with self._host.client() as client:
            await client.wait(await client.links.remove("lab", a, b), timeout_s=30)
        await self._host.reach(lambda view: view.converged and not view.links, "the link is gone")


def _arp(source: bytes) -> bytes:
    """Asks for the guest's address."""
    question = bytes.fromhex("0806" + "0001080006040001") + source + socket.inet_aton(SENDER)
    return ethernet("ffffffffffff", question + bytes(6) + socket.inet_aton(GUEST) + bytes(18), source)


def _is_reply(frame: bytes, to: bytes) -> bool:
    return frame[:6] == to and frame[20:22] == b"\x00\x02"


def _results(name: str, times: Times, *, limited: bool = True) -> list[Result]:
    """Half and 95 of 100 of the rounds."""
    results = []
    for what, values, limit in (
        ("inside the agent", times.agent, LIMIT_MS if limited else None),
        ("from the call", times.call, None),
        ("until the guest answers ARP", times.answered, None),
    ):
        if values:
            results.append(measured(f"{name}, {what}: half within", median(values), "ms"))
            late = quantiles(values, n=20, method="inclusive")[-1]
            results.append(measured(f"{name}, {what}: 95 of 100 within", late, "ms", at_most=limit))
    return results


async def _series(name: str, rounds: int, one: Callable[[Times], Awaitable[None]]) -> Times:
    times = Times()
    for turn in range(rounds):
        await one(times)
        if (turn + 1) % 10 == 0:
            print(f"{name}: {turn + 1} of {rounds}", file=sys.stderr)
    return times


async def measure(containers: int, machines: int, commands: int) -> Sequence[Result]:
    with own_folder(show_logs=False) as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET=SUBNET) as host:
            await host.deploy(LAB)
            await host.wired()
            async with host.client() as client:
                await client.wait_ready("lab", timeout_s=120)
            async with intents_of(host) as intents:
                bench = Bench(host, intents)
                await bench.round("b", bench.by_sdk, Times())  # the first call opens database and connections
                plain = await _series("containers", containers, lambda t: bench.round("b", bench.by_sdk, t))
                mixed = await _series("container and VM", machines, lambda t: bench.round("v", bench.by_sdk, t))
                typed = await _series("by command", commands, lambda t: bench.round("b", bench.by_command, t))
    results = [*_results("live link between containers", plain), *_results("live link, container to VM", mixed)]
    if commands:
        results.append(measured("live link, from `wireloom link add`: half within", median(typed.call), "ms"))
    return results


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--containers", type=int, default=50, metavar="ROUNDS")
    options.add_argument("--machines", type=int, default=20, metavar="ROUNDS")
    options.add_argument("--commands", type=int, default=10, metavar="ROUNDS")
    arguments = options.parse_args()
    measuring = measure(arguments.containers, arguments.machines, arguments.commands)
    report("live link", asyncio.run(measuring), arguments.json)
