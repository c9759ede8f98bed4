"""``wireloom capture`` on a whole installation: pipes, files, lines; nodes, readers and agents that go meanwhile."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from wireloom.commands import run
from wireloom.pcapng import BlockReader, Summary
from wireloom.testing.installation import WIRELOOM, Installation, installed, own_folder, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.docker]

LAB = """
name: lab
defaults: {device: linux, provider: docker}
nodes:
  a: {startup-config: "ip address add 10.9.0.1/24 dev eth1\\n"}
  b: {startup-config: "ip address add 10.9.0.2/24 dev eth1\\nip address add 10.8.0.2/24 dev eth2\\n"}
  c: {startup-config: "ip address add 10.8.0.3/24 dev eth1\\n"}
segments:
  lan: {kind: switch}
links:
  - [a:eth1, b:eth1]
  - [b:eth2, lan]
  - [c:eth1, lan]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        async with installed(folder, WIRELOOM_MANAGEMENT_SUBNET="172.30.118.0/24") as installation:
            await installation.deploy(LAB)
            await installation.wired()
            async with installation.client() as client:
                await client.wait_ready("lab", timeout_s=60)
            await until(lambda: pinged(installation, "a", "10.9.0.2"), "the wire carries packets")
            yield installation


async def pinged(host: Installation, node: str, address: str, count: int = 1) -> bool:
    async with host.client() as client:
        command = ["ping", "-c", str(count), "-i", "0.2", "-W", "1", address]
        return (await client.exec("lab", node, command)).exit_code == 0


@asynccontextmanager
async def capturing(host: Installation, *arguments: str) -> AsyncIterator[Process]:
    """``wireloom capture lab …``, once its agent is at it; nothing of it is left on the host."""
    before = await sniffers(host)
    process = await asyncio.create_subprocess_exec(
        str(WIRELOOM), "capture", "lab", *arguments, env=host.environment, stdout=PIPE, stderr=PIPE
    )
    new: set[int] = set()

    async def begun() -> bool:
        new.update(await sniffers(host) - before)
        return bool(new)

    async def gone() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in new)

    try:
        await until(begun, "the capture has begun", within_s=30)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        await until(gone, "the capturing process has gone", within_s=20)


async def sniffers(host: Installation) -> set[int]:
    """The capturing processes of its agent that listen: they have given up root just before."""
    found = await run("pgrep", "-u", "65534", "-P", str(host.processes["agent"].pid), "-f", "wireloom.sniffer")
    return {int(line) for line in found.output.split()}


def summed(data: bytes) -> Summary:
    reader = BlockReader()
    reader.feed(data)
    return reader.summary


async def test_a_wire_is_piped_to_a_reader_of_pcapng(host: Installation) -> None:
    async with capturing(host, "a:eth1", "b:eth1", "--filter", "icmp", "--packets", "4") as process:
        assert await pinged(host, "a", "10.9.0.2", 2)
        data, told = await asyncio.wait_for(process.communicate(), 20)
    assert told.decode() == "4 packets (the limit of packets is reached)\n"
    file = host.folder / "wire.pcapng"
    file.write_bytes(data)
    shown = await run("tshark", "-n", "-r", str(file), "-T", "fields", "-e", "frame.interface_name", "-e", "icmp.type")
    lines = [line.split() for line in shown.output.splitlines()]
    assert lines == [["a:eth1", "8"], ["b:eth1", "0"]] * 2


async def test_a_segment_is_written_to_a_file(host: Installation, tmp_path: Path) -> None:
    file = tmp_path / "lan.pcapng"
    async with capturing(host, "lan", "--filter", "icmp", "--packets", "2", "--out", str(file)) as process:
        assert await pinged(host, "c", "10.8.0.2")
        _, told = await asyncio.wait_for(process.communicate(), 20)
    assert told.decode() == "2 packets (the limit of packets is reached)\n"
    assert sorted(summed(file.read_bytes()).interfaces) == ["b:eth2", "c:eth1"]


async def test_frames_are_printed_as_they_are_decoded(host: Installation) -> None:
    async with capturing(host, "a:eth1", "--json", "--filter", "icmp", "--packets", "2") as process:
        assert await pinged(host, "a", "10.9.0.2")
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
    first, second = map(json.loads, printed.splitlines())
    assert (first["source"], first["destination"], first["protocol"]) == ("10.9.0.1", "10.9.0.2", "ICMP")
    assert (second["port"], second["info"].split("  ")[0]) == ("a:eth1", "Echo (ping) reply")


async def test_a_capture_sees_a_node_boot(host: Installation) -> None:
    async with capturing(host, "a:eth1", "--filter", "icmp", "--packets", "2") as process:
        async with host.client() as client:
            await client.wait(await client.restart("lab", ["a"]), timeout_s=60)
        await until(lambda: pinged(host, "a", "10.9.0.2"), "the wire carries packets again")
        data, _ = await asyncio.wait_for(process.communicate(), 20)
    assert summed(data).packets == 2


async def test_a_link_that_goes_takes_its_captures_with_it(host: Installation) -> None:
    async with host.client() as client:
        await client.wait(await client.links.add("lab", "a:eth3", "c:eth3"), timeout_s=60)
    async with capturing(host, "a:eth3 -- c:eth3") as process:
        async with host.client() as client:
            await client.wait(await client.links.remove("lab", "a:eth3", "c:eth3"), timeout_s=60)
        _, told = await asyncio.wait_for(process.communicate(), 20)
    assert "a:eth3 -- c:eth3 is gone" in told.decode()


async def test_history_tells_of_captures(host: Installation) -> None:
    async with host.client() as client:
        told = [event.message for event in await client.events("lab") if event.kind == "capture.ended"]
    assert any("captured a:eth1 -- b:eth1: 4 packets" in message for message in told)


async def test_a_killed_agent_leaves_no_capture(host: Installation) -> None:
    async with capturing(host, "a:eth1") as process:
        await host.replace("agent")
        assert await asyncio.wait_for(process.wait(), 30) == 1
    await host.answering()
    await host.wired()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a:eth1", "--filter", "no such filter"], 1, "not a capture filter"),
        (["a:eth9 -- b:eth9"], 1, "no link"),
        (["nobody:eth1"], 1, "no node nobody"),
        (["a:eth1", "--packets", "-1"], 2, "packets"),
    ],
)
async def test_what_cannot_be_captured_is_said(host: Installation, arguments: list[str], code: int, words: str) -> None:
    given = [f"{name}={value}" for name, value in host.environment.items() if name.startswith("WIRELOOM_")]
    done = await run("env", *given, str(WIRELOOM), "capture", "lab", *arguments, timeout_s=60)
    assert (done.code, done.output) == (code, "")
    assert words in done.errors
