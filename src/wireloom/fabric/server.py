"""A private nats-server as a supervised child, with its store in the data folder; beyond loopback only with TLS.

Whom it lets in says an account's claims (see :mod:`wireloom.fabric.logins`): it knows no passwords and no secrets. The
child dies with its parent (parent-death signal); one that a killed parent left behind nevertheless is found by its
pid file and command line, and ended. The port is chosen by the server itself once and kept from then on, so that
everybody's address stays good.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
import signal
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from wireloom.errors import Conflict, InvalidInput, Unavailable
from wireloom.fabric import nkeys
from wireloom.fabric.addresses import is_name, own_names
from wireloom.fabric.authority import Authority
from wireloom.fabric.claims import read_claims
from wireloom.fabric.keys import FabricKeys, new_seed
from wireloom.fabric.login import Login
from wireloom.fabric.logins import agent_claims
from wireloom.fabric.nkeys import Kind
from wireloom.fabric.server_config import Files, ServerSettings, Tls, Trust, render

__all__ = ["NatsServer"]

log = structlog.get_logger(__name__)

_CHOOSE_PORT = -1
_READY_S = 15.0
_STOP_S = 5.0
_BACK_OFF_S = (0.1, 5.0)
_STEADY_S = 10.0
_STORE_SUSPECT = 4
_POLL_S = 0.05
_RENEW_EVERY_S = 12 * 3600.0
_AGENT_DAYS = 90
_MAX_NAMES = 64


class NatsServer:
    """The child and its files below ``folder``.

    :param keys: whose logins it takes; those in ``folder``, made on first use, when not given.
    :param listen: address; one beyond loopback makes it ask for TLS, with an authority of its own in ``folder``.
    :param names: further names and addresses that its certificate is for.
    :param port: 0 takes the port stored from earlier, or a free one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keys: FabricKeys | None = None,
        listen: str = "127.0.0.1",
        names: Collection[str] = (),
        port: int = 0,
        binary: str = "nats-server",
    ) -> None:
        self._folder = folder
        self._binary = binary
        self._listen = listen
        self._names = set(names)
        self._wanted_port = port
        self._port = 0
        self._given_keys = keys
        self._authority: Authority | None = None
        self._tls: Tls | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Address for processes of this machine; stays the same for the life of the data folder."""
        return self.url_at(self._near)

    def url_at(self, name: str) -> str:
        """Address for those who reach this machine as ``name``."""
        scheme = "nats" if self._loopback else "tls"
        return f"{scheme}://{f'[{name}]' if ':' in name else name}:{self._port}"

    @property
    def listens_beyond_loopback(self) -> bool:
        """Whether other hosts can reach it."""
        return not self._loopback

    @property
    def ca(self) -> str:
        """Certificate (PEM) by which it is known, once started; empty: it asks for no TLS."""
        return self._authority.certificate if self._authority is not None else ""

    @property
    def pid(self) -> int | None:
        """Process id of the child, while one runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def keys(self) -> FabricKeys:
        """The keys that sign logins. Blocking on first use, some milliseconds."""
        if self._given_keys is None:
            self._given_keys = FabricKeys.ensure(self._folder / "keys.json")
        return self._given_keys

    @property
    def controller(self) -> Login:
        """The login that may do everything."""
        return self.keys.controller_login

    async def agent(self, host: str) -> Login:
        """A new login for the agent of ``host``, with a key that nobody else has."""
        seed = new_seed(Kind.USER)
        claims = agent_claims(self.keys, host, nkeys.public_key(seed), days=_AGENT_DAYS, now=time.time())
        return Login.signed(claims, seed)

    def keep_account(self, claims: str) -> None:
        """Start from now on with these claims of the account, also when the server has lost what it was told."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(self._account_path, claims)

    async def reached_as(self, name: str) -> None:
        """Hosts reach this machine as ``name``: its certificate is to say so. At most some dozens are remembered."""
        known = self._stored_names()
        if self._authority is None or name in known or len(known) >= _MAX_NAMES or not is_name(name):
            return
        _write_private(self._names_path, json.dumps(sorted({*known, name})))
        if await asyncio.to_thread(self._certify) and self.pid is not None:
            self._reload()

    async def start(self) -> None:
        """Start the child and keep it running.

        :raises Conflict: another process of ours runs a server on this data folder.
        :raises Unavailable: it does not start; the hint says what it wrote.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self._folder / "lock")
        try:
            await _end_left_over(self._folder / "nats-server.pid", self._config_path)
            await asyncio.to_thread(self._prepare)
            await self._first_launch()
        except BaseException:
            await self._kill()
            self._unlock()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._supervise()), loop.create_task(self._renew())]
        log.info("fabric.server-started", listen=self._listen, port=self._port, pid=self.pid)

    async def stop(self) -> None:
        """End the child; idempotent. What it stored stays."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
            if self._wanted_port and await _somebody_listens(self._near, self._wanted_port):
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
            if port and await _greets(self._near, port):
                return port
            await asyncio.sleep(0.02)
        raise Unavailable(f"the private nats-server is not ready after {_READY_S:g} s", hint=self._last_words())

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
        folder, keys = self._folder, self.keys
        settings = ServerSettings(
            name="wireloom",
            listen=self._listen,
            port=port,
            store=folder / "store",
            claims=folder / "claims",
            trust=Trust(
                operator=keys.operator_claims,
                system_account=keys.system_key,
                accounts={keys.account_key: self._account_claims(), keys.system_key: keys.system_claims},
            ),
            tls=self._tls,
            files=Files(pid=folder / "nats-server.pid", ports=folder, log=folder / "nats-server.log"),
        )
        _write_private(self._config_path, render(settings))

    def _account_claims(self) -> str:
        """What the account's claims were when they were pushed last, or the first ones."""
        with contextlib.suppress(OSError, InvalidInput):
            kept = self._account_path.read_text()
            if read_claims(kept).subject == self.keys.account_key:
                return kept
        return self.keys.account_claims()

    def _prepare(self) -> None:
        """Keys and certificate. Blocking, some milliseconds.

        What an earlier version kept goes: passwords, and the store of an account that there is no more, all of which is
        written anew.
        """
        if (self._folder / "credentials").exists():
            shutil.rmtree(self._folder / "store", ignore_errors=True)
            (self._folder / "hosts.json").unlink(missing_ok=True)
            shutil.rmtree(self._folder / "credentials", ignore_errors=True)
        self.keys.operator_claims  # noqa: B018 - read here, where it may block
        if not self._loopback:
            self._authority = Authority(self._folder / "tls")
            self._certify()

    def _certify(self) -> bool:
        """Have a certificate for every name. True: it is another one than before. Blocking."""
        if self._authority is None:
            return False
        before = self._tls and self._tls.chain.read_bytes()
        names = {*own_names(), *self._names, *self._stored_names(), *_concrete(self._listen)}
        made = self._authority.ensure_server(names)
        self._tls = Tls(made.chain, made.key)
        return before != made.chain.read_bytes()

    async def _renew(self) -> None:
        """Look twice a day whether the certificate ends soon, or the machine has new addresses."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                if await asyncio.to_thread(self._certify) and self.pid is not None:
                    self._reload()
            except (OSError, InvalidInput) as error:
                log.error("fabric.certificate-not-renewed", error=str(error))

    def _reload(self) -> None:
        """Have the child read its files again; connections go on."""
        if self._process is not None and self._process.returncode is None:
            self._write_config(self._port)
            self._process.send_signal(signal.SIGHUP)
            log.info("fabric.server-reloaded")

    @property
    def _loopback(self) -> bool:
        return self._listen == "localhost" or ipaddress.ip_address(self._listen).is_loopback

    @property
    def _near(self) -> str:
        """Where this machine itself reaches the server."""
        return {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(self._listen, self._listen)  # noqa: S104

    @property
    def _account_path(self) -> Path:
        return self._folder / "account.jwt"

    @property
    def _names_path(self) -> Path:
        return self._folder / "names.json"

    def _stored_names(self) -> set[str]:
        try:
            return set(json.loads(self._names_path.read_text()))
        except (OSError, ValueError):
            return set()

    def _stored_port(self) -> int:
        try:
            return int((self._folder / "port").read_text())
        except (OSError, ValueError):
            return 0


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


def _concrete(listen: str) -> set[str]:
    """The address, unless it means all of them."""
    return set() if listen != "localhost" and ipaddress.ip_address(listen).is_unspecified else {listen}


async def _somebody_listens(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return True
    except (OSError, TimeoutError):
        return False


async def _greets(address: str, port: int) -> bool:
    """Whether a NATS server says INFO there."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                return (await reader.readline()).startswith(b"INFO ")
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
