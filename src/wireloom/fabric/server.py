"""A private nats-server as a supervised child: loopback only, random credentials, its store in the data folder.

The child dies with its parent (parent-death signal); one that a killed parent left behind nevertheless is found by its
pid file and command line, and ended. The port is chosen by the server itself once and kept from then on, so that
everybody's address stays good.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from wireloom.errors import Conflict, Unavailable
from wireloom.fabric.server_config import CONTROLLER_USER, ServerSettings, User, render
from wireloom.fabric.subjects import agent_permissions, agent_user

__all__ = ["Credentials", "NatsServer"]

log = structlog.get_logger(__name__)

_CHOOSE_PORT = -1
_READY_S = 15.0
_STOP_S = 5.0
_BACK_OFF_S = (0.1, 5.0)
_STEADY_S = 10.0
_STORE_SUSPECT = 4
_POLL_S = 0.05
_RELOAD_S = 5.0


@dataclass(frozen=True)
class Credentials:
    """A login on the fabric, kept in a file that only its owner can read."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Credentials:
        document = json.loads(path.read_text())
        return cls(document["user"], document["password"])

    def save(self, path: Path) -> None:
        _write_private(path, json.dumps({"user": self.user, "password": self.password}))


class NatsServer:
    """The child and its files below ``folder``.

    :param port: 0 takes the port stored from earlier, or a free one.
    :param hosts: hosts whose agents may log in from the start; :meth:`agent` adds more.
    """

    def __init__(self, folder: Path, *, port: int = 0, hosts: Sequence[str] = (), binary: str = "nats-server") -> None:
        self._folder = folder
        self._binary = binary
        self._wanted_port = port
        self._port = 0
        self._hosts = set(hosts) | self._stored_hosts()
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Address without credentials; stays the same for the life of the data folder."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id of the child, while one runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def controller(self) -> Credentials:
        """The login that may do everything."""
        return self._credentials(CONTROLLER_USER)

    def credentials_file(self, user: str) -> Path:
        """Where the login of ``user`` is kept (mode 0600)."""
        return self._folder / "credentials" / f"{user}.json"

    async def agent(self, host: str) -> Credentials:
        """The login for the agent of ``host``, made on first use; a running server knows it on return.

        :raises Unavailable: the server did not take it within some seconds.
        """
        credentials = self._credentials(agent_user(host))
        if host not in self._hosts:
            self._hosts.add(host)
            self._store_hosts()
            if self._process is not None and self._process.returncode is None:
                self._write_config(self._port)
                self._process.send_signal(signal.SIGHUP)
                await self._wait_login(credentials)
        return credentials

    async def start(self) -> None:
        """Start the child and keep it running.

        :raises Conflict: another process of ours runs a server on this data folder.
        :raises Unavailable: it does not start; the hint says what it wrote.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self._folder / "lock")
        try:
            await _end_left_over(self._folder / "nats-server.pid", self._config_path)
            self._store_hosts()
            await self._first_launch()
        except BaseException:
            await self._kill()
            self._unlock()
            raise
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())
        log.info("fabric.server-started", port=self._port, pid=self.pid)

    async def stop(self) -> None:
        """End the child; idempotent. What it stored stays."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._kill()
        self._unlock()

    @property
    def _config_path(self) -> Path:
        return self._folder / "nats-server.conf"

    async def _first_launch(self) -> None:
        if shutil.which(self._binary) is None:
            raise Unavailable(f"{self._binary} is not installed", hint="install the package nats-server")
        stored = self._wanted_port or self._stored_port()
        try:
            await self._launch(stored or _CHOOSE_PORT)
        except Unavailable as error:
            # Somebody else may have taken the port while we were away; agents on this host read the new address.
            log.warning("fabric.server-retried", port=stored, error=str(error))
            if self._wanted_port and await _somebody_listens(self._wanted_port):
                raise Unavailable(
                    f"port {self._wanted_port} of the fabric is taken by another program", hint="choose another port"
                ) from error
            try:
                await self._launch(self._wanted_port or _CHOOSE_PORT)
            except Unavailable:
                self._set_store_aside()
                await self._launch(self._wanted_port or _CHOOSE_PORT)
        (self._folder / "port").write_text(f"{self._port}\n")

    async def _supervise(self) -> None:
        pause, longest = _BACK_OFF_S
        failures = 0
        while True:
            started = time.monotonic()
            if self._process is not None and self._process.returncode is None:
                code = await self._process.wait()
                log.warning("fabric.server-died", code=code)
            if time.monotonic() - started > _STEADY_S:
                pause = _BACK_OFF_S[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
            try:
                await self._launch(self._port)
                failures = 0
            except Unavailable as error:
                failures += 1
                log.error("fabric.server-down", error=str(error), failures=failures)
                if failures == _STORE_SUSPECT:
                    self._set_store_aside()

    def _set_store_aside(self) -> None:
        """A store that the server cannot read must not keep it down: nothing in it is not known elsewhere."""
        store, aside = self._folder / "store", self._folder / "store.unreadable"
        if store.exists():
            shutil.rmtree(aside, ignore_errors=True)
            aside.unlink(missing_ok=True)
            store.rename(aside)
            log.error("fabric.store-set-aside", kept=str(aside))

    async def _launch(self, port: int) -> None:
        self._write_config(port)
        for stale in self._folder.glob("*.ports"):
            stale.unlink(missing_ok=True)
        with (self._folder / "nats-server.err").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                "setpriv",
                *("--pdeathsig", "KILL", "--", self._binary, "-c", str(self._config_path)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # a Ctrl-C meant for us does not take the fabric away first
            )
        try:
            self._port = await self._wait_ready(self._process)
        except BaseException:
            await self._kill()
            raise
        if port == _CHOOSE_PORT:
            self._write_config(self._port)  # what a reload reads must name the port in use

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> int:
        """The port, once the server greets on it."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise Unavailable("the private nats-server ended at once", hint=self._last_words())
            port = self._announced_port(process.pid)
            if port and await _greets(port):
                return port
            await asyncio.sleep(0.02)
        raise Unavailable(f"the private nats-server is not ready after {_READY_S:g} s", hint=self._last_words())

    async def _wait_login(self, credentials: Credentials) -> None:
        for _ in range(int(_RELOAD_S / _POLL_S)):
            if await _takes_login(self._port, credentials):
                return
            await asyncio.sleep(_POLL_S)
        raise Unavailable(f"the private nats-server does not take the login {credentials.user}")

    def _announced_port(self, pid: int) -> int:
        for path in self._folder.glob(f"*_{pid}.ports"):
            with contextlib.suppress(ValueError, KeyError, IndexError, OSError):  # it may be half written
                return urlsplit(json.loads(path.read_text())["nats"][0]).port or 0
        return 0

    def _last_words(self) -> str:
        lines: list[str] = []
        for name in ("nats-server.log", "nats-server.err"):
            with contextlib.suppress(OSError):
                lines += (self._folder / name).read_text(errors="replace").splitlines()[-3:]
        return " | ".join(lines)

    async def _kill(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal_number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
                return

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write_config(self, port: int) -> None:
        users = [User(CONTROLLER_USER, self.controller.password)]
        users += [
            User(agent_user(host), self._credentials(agent_user(host)).password, agent_permissions(host))
            for host in sorted(self._hosts)
        ]
        settings = ServerSettings(name="wireloom", folder=self._folder, port=port, users=users)
        _write_private(self._config_path, render(settings))

    def _credentials(self, user: str) -> Credentials:
        path = self.credentials_file(user)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            Credentials(user, secrets.token_urlsafe(24)).save(path)
        return Credentials.load(path)

    def _stored_port(self) -> int:
        try:
            return int((self._folder / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _stored_hosts(self) -> set[str]:
        try:
            return set(json.loads((self._folder / "hosts.json").read_text()))
        except (OSError, ValueError):
            return set()

    def _store_hosts(self) -> None:
        if self._folder.exists():
            _write_private(self._folder / "hosts.json", json.dumps(sorted(self._hosts)))


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` atomically with a file that only its owner can read."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    scratch.replace(path)


def _lock(path: Path) -> int:
    """Hold ``path`` for as long as the returned descriptor is open. :raises Conflict: somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(
            f"another process already runs the fabric in {path.parent}", hint="stop it, or use another data folder"
        ) from error
    return descriptor


async def _somebody_listens(port: int) -> bool:
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
    except (OSError, TimeoutError):
        return False


async def _greets(port: int) -> bool:
    """Whether a NATS server on loopback says INFO."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return (await reader.readline()).startswith(b"INFO ")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _takes_login(port: int, credentials: Credentials) -> bool:
    """Whether the server lets ``credentials`` in."""
    hello = {"user": credentials.user, "pass": credentials.password, "verbose": False, "lang": "python", "version": "0"}
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await reader.readline()
                writer.write(f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
                return (await reader.readline()).startswith(b"PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def _end_left_over(pid_file: Path, config: Path) -> None:
    """End the child that a killed parent left behind; the pid alone is not trusted, the command line is compared."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if not _runs_with(pid, config):
            return
        log.warning("fabric.left-over-server", pid=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        for _ in range(int(_STOP_S / _POLL_S)):
            if not _runs_with(pid, config):
                return
            await asyncio.sleep(_POLL_S)


def _runs_with(pid: int, config: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(config).encode() in arguments
