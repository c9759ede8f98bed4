"""Commands in a guest over SSH on its management address.

One connection a node is kept and shared by its commands; it is closed after some idle time. The guest's host key is
remembered for the life of an instance (its incarnation and specification): the first one seen is trusted, another one
later is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh
import structlog

from wireloom.agent.installation_key import InstallationKey
from wireloom.errors import Conflict, DeadlineExceeded, GuestFailed, Unavailable, WireloomError
from wireloom.model.device import Access
from wireloom.model.runtime import ExecResult
from wireloom.model.slice import NodeIntent

__all__ = ["InstallationKey", "SshShell"]

log = structlog.get_logger(__name__)

_CONNECT_S: Final = 10.0
_IDLE_S: Final = 60.0
_AT_ONCE: Final = 4
_ALIVE_S: Final = 15
#: Guests are often older than today's defaults allow, and reached over a bridge of this very host.
_EVERY_ALGORITHM: Final = "*"
#: A shell's convention for a command that a signal ended.
_SIGNALLED: Final = 128
_HOST_KEY_FILE: Final = "ssh-host-key.json"


@dataclass(frozen=True)
class _Target:
    """Who is connected to, and as whom; another value needs another connection."""

    node_id: str
    name: str
    instance: str
    address: str
    access: Access


class _HostKeys:
    """The remembered host key of one node: ``{"instance", "key"}`` in the node's folder."""

    def __init__(self, folder: Path, instance: str) -> None:
        self._path = folder / _HOST_KEY_FILE
        self._instance = instance

    def remembered(self) -> asyncssh.SSHKey | None:
        try:
            document = json.loads(self._path.read_text())
            if document["instance"] == self._instance:
                return asyncssh.import_public_key(document["key"])
        except (OSError, ValueError, KeyError, asyncssh.KeyImportError):
            return None
        return None

    def remember(self, key: asyncssh.SSHKey) -> None:
        if not self._path.parent.is_dir():
            return  # the node is being removed
        line = key.export_public_key().decode().strip()
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps({"instance": self._instance, "key": line}))
        scratch.replace(self._path)


class _Client(asyncssh.SSHClient):
    """Trusts the first host key of an instance and no other afterwards."""

    def __init__(self, known: asyncssh.SSHKey | None) -> None:
        self._known = known
        self.seen: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.seen = key
        return self._known is None or key.public_data == self._known.public_data


class _Line:
    """The connection to one target, made when needed. Commands share it, a few at once."""

    def __init__(self, target: _Target, key: InstallationKey, folder: Path, idle_s: float) -> None:
        self.target = target
        self._key = key
        self._host_keys = _HostKeys(folder, target.instance)
        self._idle_s = idle_s
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._users = 0
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, command: str, *, timeout_s: float, stdin: bytes) -> ExecResult:
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with self._in_use():
            process = await self._start(command, timeout_s)
            try:
                async with asyncio.timeout_at(deadline):
                    with contextlib.suppress(BrokenPipeError):  # it ended without reading
                        process.stdin.write(stdin)
                        process.stdin.write_eof()  # a command that reads must see the end, also of no input
                    stdout, stderr = await process.communicate()
                    await process.wait_closed()
            except TimeoutError:
                with contextlib.suppress(OSError):
                    process.terminate()
                raise DeadlineExceeded(f"the command did not end in {timeout_s:g} s", node=self.target.name) from None
            except (OSError, asyncssh.Error) as error:
                raise self._broken(error) from error
            finally:
                process.close()
            if process.exit_status is None and process.exit_signal is None and self._lost():
                raise self._broken(None)
        return ExecResult(
            exit_code=_exit_code(process), stdout=_as_bytes(stdout), stderr=_as_bytes(stderr), channel="ssh"
        )

    def close(self) -> None:
        """Let go of the connection; idempotent."""
        if self._idle is not None:
            self._idle.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _start(self, command: str, timeout_s: float) -> asyncssh.SSHClientProcess[bytes]:
        """Begin ``command``; a kept connection that died meanwhile is replaced once. Nothing has run on an error."""
        limit_s = min(_CONNECT_S, timeout_s)
        for attempt in (1, 2):
            fresh = self._lost()
            try:
                async with asyncio.timeout(limit_s):
                    connection = await self._connected(limit_s)
                    return await connection.create_process(command, encoding=None, stdin=asyncssh.PIPE)
            except TimeoutError:
                self.close()
                raise self._unreachable(f"no answer within {limit_s:g} s") from None
            except (OSError, asyncssh.Error) as error:
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
        access = self.target.access
        connection = await asyncssh.connect(
            self.target.address,
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
    async def _in_use(self) -> AsyncIterator[None]:
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            async with self._slots:
                yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._idle = asyncio.get_running_loop().call_later(self._idle_s, self.close)

    def _lost(self) -> bool:
        return self._connection is None or self._connection.is_closed()

    def _translated(self, error: Exception) -> WireloomError:
        """What a failure before the command ran means; ``Unavailable`` lets another channel be tried."""
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return Conflict(
                f"{self.target.address} shows another host key than before",
                hint=f"if the guest made a new one, remove {_HOST_KEY_FILE} from the node's folder",
                node=self.target.name,
            )
        if isinstance(error, asyncssh.PermissionDenied):
            return self._unreachable(f"the login as {self.target.access.username} is refused")
        return self._unreachable(str(error) or type(error).__name__)

    def _unreachable(self, reason: str) -> Unavailable:
        where = f"{self.target.address} port {self.target.access.ssh_port}"
        return Unavailable(f"SSH to {where}: {reason}", node=self.target.name)

    def _broken(self, error: Exception | None) -> GuestFailed:
        # Not Unavailable: the command may have run, so that no other channel may run it again.
        reason = f": {error}" if error is not None and str(error) else ""
        return GuestFailed(f"the connection ended while the command ran{reason}", node=self.target.name)


class SshShell:
    """Runs command lines in guests; one per agent.

    :param nodes_dir: node folders by node id, where host keys are remembered.
    :param idle_s: a connection unused for so long is closed.
    """

    def __init__(self, key: InstallationKey, nodes_dir: Path, *, idle_s: float = _IDLE_S) -> None:
        self._key = key
        self._nodes_dir = nodes_dir
        self._idle_s = idle_s
        self._lines: dict[str, _Line] = {}

    async def run(
        self, node: NodeIntent, address: str, access: Access, command: str, *, timeout_s: float, stdin: bytes = b""
    ) -> ExecResult:
        """Run ``command`` by the guest's own shell; the deadline includes connecting.

        A server that tells no exit status (many network devices) counts as success.

        :raises Unavailable: it cannot be connected to; nothing has run.
        :raises DeadlineExceeded: the command did not end in time.
        :raises GuestFailed: the connection ended while the command ran.
        :raises Conflict: the guest shows another host key than before.
        """
        target = _Target(node.id, node.name, f"{node.incarnation}-{node.spec_hash()}", address, access)
        return await self._line(target).run(command, timeout_s=timeout_s, stdin=stdin)

    def forget(self, node_id: str) -> None:
        """Drop the connection to a node that is gone; idempotent."""
        line = self._lines.pop(node_id, None)
        if line is not None:
            line.close()

    async def close(self) -> None:
        """Drop every connection."""
        for node_id in list(self._lines):
            self.forget(node_id)

    def _line(self, target: _Target) -> _Line:
        line = self._lines.get(target.node_id)
        if line is None or line.target != target:
            self.forget(target.node_id)
            line = self._lines[target.node_id] = _Line(
                target, self._key, self._nodes_dir / target.node_id, self._idle_s
            )
        return line


def _algorithms_of(known: asyncssh.SSHKey | None) -> str | list[str]:
    """Ask for the kind of key that is remembered: a guest has several, and another one would look like a change."""
    if known is None:
        return _EVERY_ALGORITHM
    return [name.decode() for name in known.sig_algorithms]


def _exit_code(process: asyncssh.SSHClientProcess[bytes]) -> int:
    if process.exit_status is not None:
        return process.exit_status
    return _SIGNALLED if process.exit_signal is not None else 0


def _as_bytes(data: bytes | str | None) -> bytes:
    return data.encode() if isinstance(data, str) else data or b""
