"""A small process that outlives the agent: it cuts nodes off whose lease ran out while no agent is there to do it.

An agent that holds leases keeps one running. It reads the leases that the agent writes down, and ends when there are
none any more, or when it has stopped what it had to. The engines are asked only then.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import structlog

from wireloom.agent.fencing.leases import HeldLease, boot_clock, read_leases
from wireloom.agent.folder import FolderStore
from wireloom.errors import WireloomError
from wireloom.planning.plan import LIVE_PHASES
from wireloom.providers.contract import Provider

__all__ = ["FenceGuard", "GuardStarter", "take_lock"]

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
#: The agent itself goes first, if it lives.
_HEAD_START_S: Final = 3.0
_AGAIN_S: Final = 3.0
_CALL_S: Final = 20.0
#: A guard is to be there before the first node that needs one has come up.
_START_LOOK_S: Final = 0.5


class FenceGuard:
    """:meth:`run` returns when nothing is left to guard.

    :param file: what :class:`~wireloom.agent.fencing.leases.LeaseBook` writes.
    :param lock: held by the one guard of a host. :param providers: made when they are needed.
    :param folders: of the nodes.
    """

    def __init__(
        self,
        file: Path,
        lock: Path,
        *,
        host_boot: str,
        providers: Callable[[], Mapping[str, Provider]],
        folders: FolderStore,
        clock: Callable[[], float] = boot_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._file = file
        self._lock = lock
        self._host_boot = host_boot
        self._make_providers = providers
        self._providers: Mapping[str, Provider] | None = None
        self._folders = folders
        self._clock = clock
        self._sleep = sleep
        self._clean: dict[str, float | None] = {}  # lab id → the lease that ran out, when nothing of it was left

    async def run(self) -> None:
        """Guard until nothing is left to guard; at once where another one does."""
        locked = take_lock(self._lock)
        if locked is None:
            return
        try:
            while (held := self._held()) and not self._is_over(held):
                lapsed = self._lapsed(held)
                if lapsed and await self._cut_off(set(lapsed)) == 0:
                    self._clean |= {lab_id: held[lab_id].granted for lab_id in lapsed}
                await self._sleep(_AGAIN_S if lapsed else _LOOK_S)
        finally:
            for provider in (self._providers or {}).values():
                await provider.close()
            locked.close()

    def _held(self) -> dict[str, HeldLease]:
        return read_leases(self._file, self._host_boot)

    def _is_over(self, held: Mapping[str, HeldLease]) -> bool:
        """Every lease has run out, and nothing is left to cut off; an agent that comes back starts another guard."""
        return all(self._clean.get(lab_id, -1) == lease.granted for lab_id, lease in held.items())

    def _lapsed(self, held: Mapping[str, HeldLease]) -> list[str]:
        """Labs whose nodes may not run, as far as they were not seen to be stopped already."""
        now = self._clock() - _HEAD_START_S
        return [
            lab_id
            for lab_id, lease in held.items()
            if lease.left_s(now) <= 0 and self._clean.get(lab_id, -1) != lease.granted
        ]

    async def _cut_off(self, labs: set[str]) -> int:
        """Stop what runs of these labs; how many there were, or may be."""
        if self._providers is None:
            self._providers = await asyncio.to_thread(self._make_providers)
            await asyncio.to_thread(self._folders.load)
        counts = await asyncio.gather(*(self._stop_all(provider, labs) for provider in self._providers.values()))
        return sum(counts)

    async def _stop_all(self, provider: Provider, labs: set[str]) -> int:
        try:
            async with asyncio.timeout(_CALL_S):
                statuses = await provider.observe()
        except (WireloomError, TimeoutError) as error:
            log.warning("engine not guarded", provider=provider.name, error=str(error))
            return 0  # it is not there, or will be asked again with the next look
        live = [one for one in statuses if one.identity.lab_id in labs and one.phase in LIVE_PHASES]
        for status in live:
            log.warning("cut off by the guard", lab=status.identity.lab, node=status.identity.node)
            try:
                self._folders.update(status.identity.node_id, host_boot="")  # it is started again when it may run
                async with asyncio.timeout(_CALL_S):
                    await provider.stop(status.runtime_id, 0)
            except (WireloomError, OSError, TimeoutError) as error:
                log.error("node not cut off", node=status.identity.node, error=str(error))
        return len(live)


def take_lock(path: Path) -> IO[str] | None:
    """The open file, locked until it is closed; ``None``: another one has it."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


class GuardStarter:
    """Keeps a guard running, from within an agent. :param command: of the guard, with its environment."""

    def __init__(self, lock: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._lock = lock
        self._command = list(command)
        self._environment = dict(environment)
        self._child: subprocess.Popen[bytes] | None = None

    async def run(self, needed: Callable[[], bool]) -> None:
        """Look for ever whether one is ``needed``, and start it where none runs."""
        while True:
            if needed():
                await asyncio.to_thread(self.ensure)
            await asyncio.sleep(_START_LOOK_S)

    def ensure(self) -> None:
        """Start a guard unless one runs. Blocking, and short."""
        if self._child is not None and self._child.poll() is None:
            return
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        free = take_lock(self._lock)
        if free is None:
            return
        free.close()
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, **self._environment},
            start_new_session=True,  # it outlives the agent
        )
        log.info("fence guard started", pid=self._child.pid)
