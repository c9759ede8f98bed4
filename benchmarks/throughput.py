"""TCP throughput and ping over a wire against a direct veth pair between the same two namespaces.

Rounds alternate, so that what else the machine does hits both alike; a ratio is the median of the rounds' ratios.
Needs root, iperf3 and ping.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common import Result, compared, median, parser, report

from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.model.attachment import NamespaceAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.network import PortAlias, PortPlan, WirePlan
from wireloom.testing.guests import namespace, run_command

INSTALLATION = "benchmark-throughput"
#: A wire has to be as good as a cable, within what a run can tell.
TARGET = 0.97
DIRECT_SERVER, WIRE_SERVER = "192.0.2.2", "198.51.100.2"
_COMMAND_DEADLINE_S = 60


@dataclass
class _Series:
    """One measure over both paths, round by round."""

    wire: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)

    def result(self, name: str, unit: str, *, smaller_is_better: bool = False) -> Result:
        pairs = zip(self.wire, self.direct, strict=True)
        ratios = [direct / wire if smaller_is_better else wire / direct for wire, direct in pairs]
        return compared(name, median(self.wire), median(self.direct), unit, ratio=median(ratios), at_least=TARGET)


async def _output(netns: str, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", Path(netns).name, *command, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_COMMAND_DEADLINE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {output.decode()}")
    return output.decode()


async def tcp_gbits(netns: str, server: str, seconds: float, *more: str) -> float:
    """Gbit/s."""
    output = await _output(netns, "iperf3", "--json", "--time", f"{seconds:g}", "--client", server, *more)
    return float(json.loads(output)["end"]["sum_received"]["bits_per_second"]) / 1e9


async def ping_us(netns: str, server: str, count: int) -> float:
    """Median round trip in microseconds."""
    output = await _output(netns, "ping", "-n", "-i", "0.01", "-c", str(count), server)
    return 1000 * median([float(found) for found in re.findall(r"time=([\d.]+) ms", output)])


def _port(netns: str, index: int) -> PortPlan:
    return PortPlan(
        device=device_name("p", INSTALLATION, index),
        alias=PortAlias(
            installation=INSTALLATION, lab_id="lab", node_id=f"n{index}", index=0, name=f"throughput/n{index}/wire"
        ),
        attachment=NamespaceAttachment(netns=netns),
        guest_name="wire",
        mac=mac_address(INSTALLATION, index),
        addresses=(f"198.51.100.{index + 1}/24",),
        carrier=True,
    )


@asynccontextmanager
async def both_paths(plane: KernelDataPlane, client: str, server: str) -> AsyncIterator[tuple[str, str]]:
    """A wire and a direct pair between two namespaces, and an iperf3 server behind them; the wire's host devices.

    :param plane: of ``INSTALLATION``.
    """
    a, b = Path(client).name, Path(server).name
    await run_command("ip", "-n", a, "link", "add", "direct", "type", "veth", "peer", "direct", "netns", b)
    for name, address in ((a, "192.0.2.1/24"), (b, DIRECT_SERVER + "/24")):
        await run_command("ip", "-n", name, "address", "add", address, "dev", "direct")
        await run_command("ip", "-n", name, "link", "set", "direct", "up")
    ports = [_port(client, 0), _port(server, 1)]
    listening = None
    try:
        await plane.ensure_ports(ports)
        await plane.ensure_wires([WirePlan(a=ports[0].device, b=ports[1].device)])
        listening = await asyncio.create_subprocess_exec(
            "ip",
            "netns",
            "exec",
            b,
            "iperf3",
            "--server",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.sleep(0.5)  # iperf3 does not tell when it listens
        yield ports[0].device, ports[1].device
    finally:
        if listening is not None:
            listening.terminate()
            await listening.wait()
        await plane.remove_ports([port.device for port in ports])


async def _measure(rounds: int, seconds: float, pings: int) -> Sequence[Result]:
    forth, back, ping = _Series(), _Series(), _Series()
    plane = KernelDataPlane(INSTALLATION)
    try:
        async with namespace() as client, namespace() as server, both_paths(plane, client, server):
            for turn in range(rounds):
                paths = [("wire", WIRE_SERVER), ("direct", DIRECT_SERVER)]
                for path, address in paths if turn % 2 else reversed(paths):
                    getattr(forth, path).append(await tcp_gbits(client, address, seconds))
                    getattr(back, path).append(await tcp_gbits(client, address, seconds, "--reverse"))
                    getattr(ping, path).append(await ping_us(client, address, pings))
                print(f"round {turn + 1} of {rounds}", file=sys.stderr)
    finally:
        await plane.close()
    return [
        forth.result("TCP over a wire", "Gbit/s"),
        back.result("TCP over a wire, the other way", "Gbit/s"),
        ping.result("ping over a wire", "us", smaller_is_better=True),
    ]


async def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=12)
    options.add_argument("--seconds", type=float, default=1, help="length of one TCP run")
    options.add_argument("--pings", type=int, default=100)
    arguments = options.parse_args()
    report("throughput", await _measure(arguments.rounds, arguments.seconds, arguments.pings), arguments.json)


if __name__ == "__main__":
    asyncio.run(main())
