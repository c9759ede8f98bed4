"""The private nats-server: files, port, supervision, and what a killed parent leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from wireloom.errors import Conflict, Unauthenticated, Unavailable
from wireloom.fabric.connection import Fabric
from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.login import Login
from wireloom.fabric.server import NatsServer


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def until(check: Callable[[], bool], timeout_s: float = 10) -> None:
    for _ in range(int(timeout_s / 0.02)):
        if check():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def listeners(port: int) -> list[str]:
    """Local addresses that listen on TCP ``port``."""
    ss = await asyncio.create_subprocess_exec("ss", "-Hltn", stdout=subprocess.PIPE)
    output, _ = await ss.communicate()
    local = [line.split()[3] for line in output.decode().splitlines()]
    return [address for address in local if address.endswith(f":{port}")]


def seeds(keys: FabricKeys) -> list[str]:
    """Every secret that there is."""
    return [value for name, value in asdict(keys).items() if name != "issued"]


async def test_secrets_are_private_and_the_server_hears_loopback_only(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        for path in (tmp_path / "nats/nats-server.conf", tmp_path / "nats/keys.json"):
            assert path.stat().st_mode & 0o777 == 0o600, path
        assert not any(seed in (tmp_path / "nats/nats-server.conf").read_text() for seed in seeds(server.keys))
        assert (tmp_path / "nats").stat().st_mode & 0o077 == 0
        assert server.url.startswith("nats://127.0.0.1:")
        port = int(server.url.rsplit(":", 1)[1])
        assert await listeners(port) == [f"127.0.0.1:{port}"]
        strangers = FabricKeys.new().controller_login
        for login in (strangers, Login(user="controller", password="guess"), Login()):  # noqa: S106
            with pytest.raises(Unauthenticated):
                await Fabric.connect(server.url, name="x", login=login, timeout_s=2)
    finally:
        await server.stop()


async def test_nothing_there_is_unavailable_within_the_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await Fabric.connect("nats://127.0.0.1:1", name="x", timeout_s=1)
    assert time.monotonic() - started < 4


async def test_a_dead_child_is_replaced_on_the_same_port(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        url, first = server.url, server.pid
        assert first is not None
        for _ in range(2):
            before = server.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await until(lambda before=before: server.pid not in (None, before))
        assert server.url == url
        fabric = await Fabric.connect(url, name="c", login=server.controller)
        await fabric.close()
    finally:
        await server.stop()
    assert server.pid is None


async def test_port_and_logins_outlive_a_restart(tmp_path: Path) -> None:
    first = NatsServer(tmp_path / "nats")
    await first.start()
    agent = await first.agent("h1")
    url, controller = first.url, first.controller
    await first.stop()
    second = NatsServer(tmp_path / "nats")
    await second.start()
    try:
        assert second.url == url
        assert second.controller == controller
        fabric = await Fabric.connect(url, name="a", login=agent, creates_stores=False)
        await fabric.close()
    finally:
        await second.stop()


async def test_a_port_taken_meanwhile_is_replaced_by_another(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    port = int(server.url.rsplit(":", 1)[1])
    await server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        again = NatsServer(tmp_path / "nats")
        await again.start()
        try:
            assert not again.url.endswith(f":{port}")
        finally:
            await again.stop()
        with pytest.raises(Unavailable, match="taken"):
            await NatsServer(tmp_path / "other", port=port).start()


async def test_a_store_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats/store").write_text("this is no folder")
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        assert (tmp_path / "nats/store").is_dir()
        assert (tmp_path / "nats/store.unreadable").read_text() == "this is no folder"
    finally:
        await server.stop()


async def test_a_folder_of_an_earlier_version_is_taken_over_without_its_passwords(tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    (folder / "credentials").mkdir(parents=True)
    (folder / "credentials/controller.json").write_text('{"user": "controller", "password": "p"}')
    (folder / "store/jetstream/$G/streams/KV_desired").mkdir(parents=True)
    (folder / "hosts.json").write_text('["h1"]')
    server = NatsServer(folder)
    await server.start()
    try:
        fabric = await Fabric.connect(server.url, name="c", login=server.controller)
        await fabric.close()
        assert not (folder / "credentials").exists()
        assert not (folder / "store/jetstream/$G").exists()
    finally:
        await server.stop()


async def test_two_parents_cannot_share_a_folder(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        with pytest.raises(Conflict):
            await NatsServer(tmp_path / "nats").start()
        assert server.pid is not None
    finally:
        await server.stop()


async def test_a_missing_binary_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="install"):
        await NatsServer(tmp_path / "nats", binary="no-such-nats").start()


_PARENT = """
import asyncio, sys
from pathlib import Path
from wireloom.fabric.server import NatsServer

async def main():
    server = NatsServer(Path(sys.argv[1]))
    await server.start()
    print("pid", server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def start_parent(folder: Path) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PARENT), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    for line in parent.stdout:
        if line.startswith("pid "):
            return parent, int(line.split()[1])
    raise AssertionError("the parent ended early")


async def test_the_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    parent, child = await asyncio.to_thread(start_parent, tmp_path / "nats")
    parent.kill()
    parent.wait(timeout=10)
    await until(lambda: not alive(child))


async def test_a_left_over_child_is_ended_and_a_stranger_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    server = NatsServer(folder)
    await server.start()
    await server.stop()
    config = folder / "nats-server.conf"
    left_over = await asyncio.create_subprocess_exec("nats-server", "-c", config, start_new_session=True)
    await until(lambda: (folder / "nats-server.pid").read_text() == str(left_over.pid))
    again = NatsServer(folder)
    await again.start()
    try:
        async with asyncio.timeout(5):
            await left_over.wait()
    finally:
        await again.stop()
    stranger = await asyncio.create_subprocess_exec("sleep", "30")
    try:
        (folder / "nats-server.pid").write_text(str(stranger.pid))
        await again.start()
        assert stranger.returncode is None
    finally:
        await again.stop()
        stranger.kill()
        await stranger.wait()
