"""Commands over SSH against a real SSH server on loopback, which runs them in this machine's shell."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from wireloom.agent.channels import Call, ChannelTarget, Login
from wireloom.agent.channels.ssh import SshChannel
from wireloom.agent.ssh import InstallationKey, SshShell
from wireloom.errors import Conflict, DeadlineExceeded, GuestFailed, Unavailable
from wireloom.model.device import Access, Step
from wireloom.model.dialogue import Cli, Prompt
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import NodeIntent
from wireloom.providers.simulated import SimulatedProvider, SimulatedWorld

USER, PASSWORD = "admin", "for a test"
NODE = "n1"


class Door(asyncssh.SSHServer):
    """Counts connections; lets in by key or password."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._guest.connections.append(conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        await asyncio.sleep(self._guest.login_s)
        return (username, password) == (USER, PASSWORD)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        line = key.export_public_key().decode().split()[1]
        return username == USER and line in self._guest.authorized


@dataclass
class Guest:
    """An SSH server as a guest has it; ``authorized`` holds the key bodies that may log in."""

    host_keys: list[asyncssh.SSHKey]
    authorized: set[str] = field(default_factory=set)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    acceptor: asyncssh.SSHAcceptor | None = None
    port: int = 0
    allow_pty: bool = True
    login_s: float = 0

    async def start(self) -> None:
        self.acceptor = await asyncssh.create_server(
            lambda: Door(self),
            "127.0.0.1",
            self.port,
            server_host_keys=self.host_keys,
            process_factory=self._serve,
            encoding=None,
            line_editor=False,
            allow_pty=self.allow_pty,
        )
        self.port = self.acceptor.get_port()

    async def stop(self) -> None:
        for connection in self.connections:
            connection.abort()
        if self.acceptor is not None:
            self.acceptor.close()
            await self.acceptor.wait_closed()

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if process.command is None:
            await self._session(process)
            return
        if process.command == "no status":
            process.stdout.write(b"done")
            process.close()
            return
        await self._command(process)

    @staticmethod
    async def _session(process: asyncssh.SSHServerProcess[bytes]) -> None:
        """A router's command line on the session's terminal."""
        size = process.term_size
        process.stdout.write(b"Welcome\r\nr1#")
        typed = b""
        while data := await process.stdin.read(64):
            typed += data
            while b"\r" in typed:
                line, _, typed = typed.partition(b"\r")
                said = b"%d columns\r\n" % size[0] if line == b"show terminal" else b""
                process.stdout.write(line + b"\r\n" + said + b"r1#")
        process.exit(0)

    @staticmethod
    async def _command(process: asyncssh.SSHServerProcess[bytes]) -> None:
        shell = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command or "",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            stdout, stderr = await shell.communicate(await process.stdin.read())
            process.stdout.write(stdout)
            process.stderr.write(stderr)
            process.exit(shell.returncode or 0)
        finally:
            if shell.returncode is None:
                shell.kill()
                await shell.wait()


@dataclass
class Rig:
    guest: Guest
    shell: SshShell
    key: InstallationKey
    nodes: Path
    access: Access
    instance: str = "first"
    slow_factor: float = 1.0

    @property
    def login(self) -> Login:
        return Login(NODE, "r1", self.instance, "127.0.0.1", self.access, self.slow_factor)

    async def run(self, command: str, *, timeout_s: float = 10, stdin: bytes = b"") -> ExecResult:
        return await self.shell.run(self.login, command, timeout_s=timeout_s, stdin=stdin)


def host_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    guest = Guest([host_key()])
    await guest.start()
    nodes = tmp_path / "nodes"
    (nodes / NODE).mkdir(parents=True)
    key = InstallationKey.ensure(tmp_path / "keys")
    shell = SshShell(key, nodes, idle_s=0.3)
    access = Access(username=USER, password=PASSWORD, ssh_port=guest.port)
    try:
        yield Rig(guest, shell, key, nodes, access)
    finally:
        await shell.close()
        await guest.stop()


async def test_a_command_runs_with_its_input_and_both_outputs(rig: Rig) -> None:
    result = await rig.run("cat; echo bad >&2; exit 3", stdin=bytes(range(256)))
    assert result == ExecResult(exit_code=3, stdout=bytes(range(256)), stderr=b"bad\n", channel="ssh")


async def test_a_device_is_typed_to_in_a_session_with_a_wide_terminal(rig: Rig) -> None:
    cli = Cli(name="router", prompts=(Prompt(name="privileged", pattern=r"r1#"),))
    node = NodeIntent(
        id=NODE, name="r1", device="router", provider="simulated", image="i", mgmt_ipv4="127.0.0.1", access=rig.access
    )
    provider = SimulatedProvider("ssh", SimulatedWorld())
    target = ChannelTarget(node, provider, await provider.capabilities(), "first", cli)
    channel = SshChannel(rig.shell)
    step = Step(channel="ssh", prompt="privileged")
    result = await channel.run(Call(target, step, ["show", "terminal"], 10))
    assert (result.exit_code, result.stdout) == (0, b"250 columns\n")


async def test_output_beyond_all_measure_is_ended_and_said(rig: Rig) -> None:
    with pytest.raises(GuestFailed, match="more than 4 MiB"):
        await rig.run("head -c 5000000 /dev/zero", timeout_s=30)


async def test_much_output_arrives_whole(rig: Rig) -> None:
    result = await rig.run("head -c 3000000 /dev/zero", timeout_s=30)
    assert len(result.stdout) == 3_000_000


async def test_the_installations_key_opens_without_a_password(rig: Rig) -> None:
    rig.access = rig.access.model_copy(update={"password": ""})
    with pytest.raises(Unavailable, match="refused"):
        await rig.run("true")
    rig.guest.authorized.add(rig.key.public_line.split()[1])
    assert (await rig.run("echo in")).stdout == b"in\n"


async def test_commands_share_one_connection_which_closes_when_idle(rig: Rig) -> None:
    await asyncio.gather(*(rig.run("sleep 0.1") for _ in range(6)))
    await rig.run("true")
    assert len(rig.guest.connections) == 1
    await asyncio.sleep(0.6)
    assert rig.guest.connections[0].is_closed()
    await rig.run("true")
    assert len(rig.guest.connections) == 2


async def test_a_session_that_is_refused_ends_no_other(rig: Rig) -> None:
    await rig.guest.stop()
    rig.guest.allow_pty = False
    await rig.guest.start()
    await rig.run("true")
    running = asyncio.create_task(rig.run("sleep 0.5; echo done"))
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable):
        async with rig.shell.terminal(rig.login, timeout_s=5):
            pass
    assert (await running).stdout == b"done\n"


async def test_waiting_for_others_counts_against_the_deadline(rig: Rig) -> None:
    others = [asyncio.create_task(rig.run("sleep 1.5")) for _ in range(4)]
    await asyncio.sleep(0.3)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="4 sessions are open"):
        await rig.run("true", timeout_s=0.3)
    assert time.monotonic() - started < 1
    await asyncio.gather(*others)


async def test_a_connection_that_died_is_made_anew(rig: Rig) -> None:
    await rig.run("true")
    rig.guest.connections[0].abort()
    assert (await rig.run("echo again")).stdout == b"again\n"


async def test_a_connection_that_dies_under_a_command_is_no_reason_to_run_it_again(rig: Rig) -> None:
    running = asyncio.create_task(rig.run("sleep 4"))
    await asyncio.sleep(0.6)
    rig.guest.connections[0].abort()
    with pytest.raises(GuestFailed):
        await running


async def test_a_slow_command_ends_at_its_deadline_and_leaves_the_line_usable(rig: Rig) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await rig.run("sleep 4", timeout_s=0.5)
    assert time.monotonic() - started < 2
    assert (await rig.run("echo next")).stdout == b"next\n"
    assert len(rig.guest.connections) == 1


async def test_nobody_there_is_unavailable_at_once(rig: Rig) -> None:
    await rig.guest.stop()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await rig.run("true")
    assert time.monotonic() - started < 2


async def test_a_silent_server_is_unavailable_within_the_deadline(rig: Rig) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        rig.access = rig.access.model_copy(update={"ssh_port": silent.getsockname()[1]})
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await rig.run("true", timeout_s=1)
        assert time.monotonic() - started < 3


async def test_an_emulated_guest_has_more_time_to_let_somebody_in(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireloom.agent.ssh._CONNECT_S", 0.6)
    rig.guest.login_s = 1.0
    with pytest.raises(Unavailable):
        await rig.run("true")
    rig.slow_factor = 5
    assert (await rig.run("echo in")).stdout == b"in\n"


async def test_another_host_key_is_refused_for_the_same_instance_only(rig: Rig) -> None:
    await rig.run("true")
    await rig.guest.stop()
    rig.guest.host_keys = [host_key()]
    await rig.guest.start()
    with pytest.raises(Conflict, match="host key"):
        await rig.run("true")
    rig.instance = "made anew"
    assert (await rig.run("echo new")).stdout == b"new\n"


async def test_a_guest_with_several_host_keys_is_recognised_again(rig: Rig) -> None:
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    await rig.guest.stop()
    rig.guest.host_keys = [rsa]
    await rig.guest.start()
    await rig.run("true")
    await rig.guest.stop()
    rig.guest.host_keys = [host_key(), rsa]
    await rig.guest.start()
    assert (await rig.run("echo same")).stdout == b"same\n"


async def test_a_server_that_tells_no_status_counts_as_success(rig: Rig) -> None:
    result = await rig.run("no status")
    assert (result.exit_code, result.stdout) == (0, b"done")


def test_the_key_pair_is_made_once_and_is_private(tmp_path: Path) -> None:
    first = InstallationKey.ensure(tmp_path / "keys")
    again = InstallationKey.ensure(tmp_path / "keys")
    assert first.public_line == again.public_line
    assert first.public_line.startswith("ssh-ed25519 ")
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert first.path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
