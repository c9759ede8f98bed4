"""Guests over SSH on their management address: commands, interactive sessions, subsystems.

One connection a port is kept and shared; it is closed after some idle time. The guest's host key is remembered for the
life of an instance (its runtime and the incarnation of its storage): the first one seen is trusted, another one later
is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import asyncssh
import structlog

from wireloom.agent.channels.base import Login
from wireloom.agent.host_keys import HOST_KEY_FILE, HostKeys
from wireloom.agent.installation_key import InstallationKey
from wireloom.errors import Conflict, DeadlineExceeded, GuestFailed, Unavailable, WireloomError
from wireloom.model.runtime import ExecResult
from wireloom.providers.contract import ByteStream

__all__ = ["InstallationKey", "SshShell"]

log = structlog.get_logger(__name__)

#: On native speed.
_CONNECT_S: Final = 15.0
_IDLE_S: Final = 60.0
_AT_ONCE: Final = 4
_ALIVE_S: Final = 15
_OUTPUT_MOST: Final = 4 << 20  # what an answer over the fabric can hold
_READ_MOST: Final = 64 << 10
_TERMINAL: Final = "vt100"
_TERMINAL_SIZE: Final = (250, 500)
#: Guests are often older than today's defaults allow, and reached over a bridge of this very host.
_EVERY_ALGORITHM: Final = "*"
#: A shell's convention for a command that a signal ended.
_SIGNALLED: Final = 128


class _Client(asyncssh.SSHClient):
    """Trusts the first host key of an instance and no other afterwards."""

    def __init__(self, known: asyncssh.SSHKey | None) -> None:
        self._known = known
        self.seen: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.seen = key
        return self._known is None or key.public_data == self._known.public_data


class _Line:
    """The connection to one target, made when needed. Commands share it, a few at once.

    :param unused: told of a line that was closed because nobody used it for ``idle_s``.
    """

    def __init__(
        self, login: Login, key: InstallationKey, folder: Path, idle_s: float, unused: Callable[[_Line], None]
    ) -> None:
        self.login = login
        self._key = key
        self._host_keys = HostKeys(folder, login.instance, login.access.ssh_port)
        self._idle_s = idle_s
        self._unused = unused
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, command: str, *, timeout_s: float, stdin: bytes) -> ExecResult:
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with self._in_use(timeout_s):
            process = await self._start(_left(deadline), command=command)
            try:
                async with asyncio.timeout_at(deadline):
                    with contextlib.suppress(BrokenPipeError):  # it ended without reading
                        process.stdin.write(stdin)
                        process.stdin.write_eof()  # a command that reads must see the end, also of no input
                    stdout, stderr = await _collect(process)
                    await process.wait_closed()
            except TimeoutError:
                with contextlib.suppress(OSError):
                    process.terminate()
                raise DeadlineExceeded(f"the command did not end in {timeout_s:g} s", node=self.login.name) from None
            except (OSError, asyncssh.Error) as error:
                raise self._broken(error) from error
            finally:
                process.close()
            if process.exit_status is None and process.exit_signal is None and self._lost():
                raise self._broken(None)
        return ExecResult(exit_code=_exit_code(process), stdout=stdout, stderr=stderr, channel="ssh")

    @contextlib.asynccontextmanager
    async def stream(self, *, timeout_s: float, **what: Any) -> AsyncIterator[ByteStream]:
        """A session that lasts as long as the context; ``what`` is asyncssh's word for its kind."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with self._in_use(timeout_s):
            process = await self._start(_left(deadline), **what)
            stream = _SessionStream(process, self._broken)
            try:
                yield stream
            finally:
                await stream.close()

    def close(self) -> None:
        """Let go of the connection; idempotent."""
        if self._idle is not None:
            self._idle.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _start(self, timeout_s: float, **what: Any) -> asyncssh.SSHClientProcess[bytes]:
        """Begin a session; a kept connection that died meanwhile is replaced once. Nothing has run on an error."""
        limit_s = min(_CONNECT_S * self.login.slow_factor, timeout_s)
        for attempt in (1, 2):
            fresh = self._lost()
            try:
                async with asyncio.timeout(limit_s):
                    connection = await self._connected(limit_s)
                    return await connection.create_process(encoding=None, stdin=asyncssh.PIPE, **what)
            except TimeoutError:
                if self._users == 1:  # what others use is left to them, and to the keep-alive
                    self.close()
                raise self._unreachable(f"no answer within {limit_s:g} s") from None
            except (OSError, asyncssh.Error) as error:
                if isinstance(error, asyncssh.ChannelOpenError) and not self._lost():
                    raise self._translated(error) from error  # this session is refused; others go on
                self.close()
                if fresh or attempt == 2:
                    raise self._translated(error) from error
        raise AssertionError("unreachable")

    async def _connected(self, limit_s: float) -> asyncssh.SSHClientConnection:
        async with self._connecting:
            if self._connection is not None and not self._lost():
                return self._connection
            self._connection = await self._connect(limit_s)
            return self._connection

    async def _connect(self, limit_s: float) -> asyncssh.SSHClientConnection:
        known = self._host_keys.remembered()
        client = _Client(known)
        access = self.login.access
        connection = await asyncssh.connect(
            self.login.address,
            port=access.ssh_port,
            username=access.username,
            password=access.password or None,
            client_keys=[self._key.private],
            client_factory=lambda: client,
            known_hosts=([], [], []),
            server_host_key_algs=_algorithms_of(known),
            kex_algs=_EVERY_ALGORITHM,
            encryption_algs=_EVERY_ALGORITHM,
            mac_algs=_EVERY_ALGORITHM,
            signature_algs=_EVERY_ALGORITHM,
            agent_path=None,
            config=None,
            connect_timeout=limit_s,
            login_timeout=limit_s,
            keepalive_interval=_ALIVE_S,
        )
        if known is None and client.seen is not None:
            self._host_keys.remember(client.seen)
        return connection

    @contextlib.asynccontextmanager
    async def _in_use(self, timeout_s: float) -> AsyncIterator[None]:
        """:raises Unavailable: others use every slot for so long."""
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            await self._take_slot(timeout_s)
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._users -= 1
            if self._users == 0:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._close_unused)

    def _close_unused(self) -> None:
        self.close()
        self._unused(self)

    async def _take_slot(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise self._unreachable(f"{_AT_ONCE} sessions are open and none ended in {timeout_s:.3g} s") from None

    def _lost(self) -> bool:
        return self._connection is None or self._connection.is_closed()

    def _translated(self, error: Exception) -> WireloomError:
        """What a failure before the command ran means; ``Unavailable`` lets another channel be tried."""
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return Conflict(
                f"{self.login.address} shows another host key than before",
                hint=f"if the guest made a new one, remove {HOST_KEY_FILE} from the node's folder",
                node=self.login.name,
            )
        if isinstance(error, asyncssh.PermissionDenied):
            return self._unreachable(f"the login as {self.login.access.username} is refused")
        if isinstance(error, OSError) and error.errno:
            return self._unreachable(os.strerror(error.errno).lower())
        return self._unreachable(str(error) or type(error).__name__)

    def _unreachable(self, reason: str) -> Unavailable:
        where = f"{self.login.address} port {self.login.access.ssh_port}"
        return Unavailable(f"SSH to {where}: {reason}", node=self.login.name)

    def _broken(self, error: Exception | None) -> GuestFailed:
        # Not Unavailable: the command may have run, so that no other channel may run it again.
        reason = f": {error}" if error is not None and str(error) else ""
        return GuestFailed(f"the connection ended while the command ran{reason}", node=self.login.name)


class _SessionStream:
    """A :class:`~wireloom.providers.contract.ByteStream` on an SSH session."""

    def __init__(
        self, process: asyncssh.SSHClientProcess[bytes], broken: Callable[[Exception | None], GuestFailed]
    ) -> None:
        self._process = process
        self._broken = broken

    async def read(self) -> bytes:
        try:
            return await self._process.stdout.read(_READ_MOST)
        except (OSError, asyncssh.Error) as error:
            raise self._broken(error) from error

    async def write(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise self._broken(error) from error

    async def resize(self, columns: int, rows: int) -> None:
        self._process.change_terminal_size(columns, rows)

    async def close(self) -> None:
        self._process.close()


class SshShell:
    """Reaches guests; one per agent. Errors of every method, beside those of the session itself:

    * ``Unavailable``: the guest cannot be connected to; nothing has run;
    * ``Conflict``: it shows another host key than before; nothing has run;
    * ``GuestFailed``: the connection ended in the middle.

    :param nodes_dir: node folders by node id, where host keys are remembered.
    :param idle_s: a connection unused for so long is closed.
    """

    def __init__(self, key: InstallationKey, nodes_dir: Path, *, idle_s: float = _IDLE_S) -> None:
        self._key = key
        self._nodes_dir = nodes_dir
        self._idle_s = idle_s
        self._lines: dict[tuple[str, int], _Line] = {}

    async def run(self, login: Login, command: str, *, timeout_s: float, stdin: bytes = b"") -> ExecResult:
        """Run ``command`` by the guest's own shell; the deadline includes connecting.

        A server that tells no exit status (many network devices) counts as success.

        :raises DeadlineExceeded: the command did not end in time.
        """
        return await self._line(login).run(command, timeout_s=timeout_s, stdin=stdin)

    def terminal(self, login: Login, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        """An interactive session; its terminal is wide and high, so that little is wrapped or paged."""
        return self._line(login).stream(timeout_s=timeout_s, term_type=_TERMINAL, term_size=_TERMINAL_SIZE)

    def subsystem(self, login: Login, name: str, *, timeout_s: float) -> AbstractAsyncContextManager[ByteStream]:
        """A subsystem; NETCONF has a port of its own."""
        if name == "netconf":
            access = login.access.model_copy(update={"ssh_port": login.access.netconf_port})
            login = replace(login, access=access)
        return self._line(login).stream(timeout_s=timeout_s, subsystem=name)

    def forget(self, node_id: str) -> None:
        """Drop the connections to a node that is gone, or is another runtime now; idempotent."""
        for key in [key for key in self._lines if key[0] == node_id]:
            self._lines.pop(key).close()

    async def close(self) -> None:
        """Drop every connection."""
        for node_id, _ in list(self._lines):
            self.forget(node_id)

    def _line(self, login: Login) -> _Line:
        key = _key_of(login)
        line = self._lines.get(key)
        if line is None or line.login != login:
            if line is not None:
                line.close()
            folder = self._nodes_dir / login.node_id
            line = self._lines[key] = _Line(login, self._key, folder, self._idle_s, self._drop)
        return line

    def _drop(self, line: _Line) -> None:
        """Nobody has used ``line`` for a while: what is left of it is nothing worth keeping."""
        key = _key_of(line.login)
        if self._lines.get(key) is line:
            del self._lines[key]


def _key_of(login: Login) -> tuple[str, int]:
    return login.node_id, login.access.ssh_port


async def _collect(process: asyncssh.SSHClientProcess[bytes]) -> tuple[bytes, bytes]:
    """Both outputs to their ends. :raises GuestFailed: there is no end to them."""
    outputs = (bytearray(), bytearray())

    async def drain(reader: asyncssh.SSHReader[bytes], output: bytearray) -> None:
        while data := await reader.read(_READ_MOST):
            output += data
            if sum(map(len, outputs)) > _OUTPUT_MOST:
                raise GuestFailed(
                    f"the command wrote more than {_OUTPUT_MOST >> 20} MiB and was ended",
                    hint="let it write to a file",
                )

    await asyncio.gather(drain(process.stdout, outputs[0]), drain(process.stderr, outputs[1]))
    return bytes(outputs[0]), bytes(outputs[1])


def _left(deadline: float) -> float:
    """Seconds until ``deadline``, which may be over."""
    return max(0.0, deadline - asyncio.get_running_loop().time())


def _algorithms_of(known: asyncssh.SSHKey | None) -> str | list[str]:
    """Ask for the kind of key that is remembered: a guest has several, and another one would look like a change."""
    if known is None:
        return _EVERY_ALGORITHM
    return [name.decode() for name in known.sig_algorithms]


def _exit_code(process: asyncssh.SSHClientProcess[bytes]) -> int:
    if process.exit_status is not None:
        return process.exit_status
    return _SIGNALLED if process.exit_signal is not None else 0
