"""``wireloom up`` and ``down``: the controller and the agent as watched children of one small process.

::

    up ── lock ── end left-overs ── controller (with its fabric) ── agent
                                        └──── restarted with back-off when they die ────┘
    SIGTERM ── agent ends ── controller ends ── record removed ── lock released

The record (``<run_dir>/up.json``) names the supervisor and its children by pid and start time. When the supervisor is
killed, its children go on, and the next ``up`` or ``down`` ends them by that record. Nodes and wires are nobody's
children here: they outlive all of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final

from wireloom.errors import Conflict, NotPermitted, RuntimeFailed
from wireloom.health import unhealthy_reason
from wireloom.logfiles import log_file, rotate
from wireloom.paths import Paths
from wireloom.processes import ProcessId, end_process, program_command, wait_gone
from wireloom.records import read_record, write_record
from wireloom.settings import Settings

__all__ = ["Supervisor", "end_left_overs", "hold_lock", "running_record", "start", "stop"]

#: Order of start; they stop in the reverse one, so the agent's last words still reach the controller.
PROGRAMS: Final = ("controller", "agent")
STOP_GRACE_S: Final = 15.0
#: Between two tries of a child that dies: doubled each time, forgotten after a child has lived long enough.
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
STEADY_AFTER_S: Final = 60.0
#: The agent is of no use before the fabric is there, which the controller may start.
CONTROLLER_HEAD_START_S: Final = 15.0
LOG_CHECK_S: Final = 30.0
HEALTH_POLL_S: Final = 0.5


def running_record(paths: Paths) -> dict[str, Any] | None:
    """The record of the running supervisor with those of its children that live; ``None`` when none runs."""
    record = read_record(paths.supervisor_file)
    if record is None or ProcessId.recorded(record) is None:
        return None
    children = {name: child for name, child in record["children"].items() if ProcessId.recorded(child)}
    return {**record, "children": children}


def start(
    settings: Settings, *, detach: bool, log_to_files: bool, healthy_within_s: float, tell: Callable[[str], None]
) -> None:
    """Run the supervisor: in the foreground until it is stopped, or with ``detach`` until all is healthy.

    :raises Conflict: it runs already, or this machine has joined another installation.
    :raises NotPermitted: not root.
    :raises RuntimeFailed: not healthy in time; with ``detach`` everything is stopped again.
    """
    if os.geteuid() != 0:
        raise NotPermitted("the agent needs root for networking and engines", hint="run `sudo wireloom up`")
    _refuse_host_of_another(settings)
    for folder in (settings.run_dir, settings.data_dir):
        folder.mkdir(parents=True, exist_ok=True)
    if detach:
        from wireloom.detached import start_detached

        start_detached(settings, healthy_within_s=healthy_within_s, tell=tell)
        return
    with hold_lock(settings.paths):
        end_left_overs(settings.paths)
        asyncio.run(Supervisor(settings, log_to_files=log_to_files).run())


def _refuse_host_of_another(settings: Settings) -> None:
    """A machine that has joined by a token would leave its installation by being given a controller of its own."""
    folder = settings.data_dir / "agent"
    joined, login = read_record(folder / "join.json"), read_record(folder / "login.json")
    if joined and joined.get("done") and login:
        where = login.get("api_url") or "another machine"
        raise Conflict(
            f"this machine is a host of another installation, whose controller is at {where}",
            hint=f"run its agent with `sudo wireloom agent`; to leave that installation, remove {folder}",
        )


def stop(paths: Paths, *, timeout_s: float) -> bool:
    """Stop the supervisor and its children. Blocks until they are gone.

    :returns: whether there was anything to stop.
    :raises RuntimeFailed: still there after ``timeout_s`` seconds.
    """
    record = read_record(paths.supervisor_file)
    supervisor = ProcessId.recorded(record)
    if supervisor is not None:
        with suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        if not wait_gone(supervisor, timeout_s):
            raise RuntimeFailed(
                f"Wireloom (pid {supervisor.pid}) has not stopped after {timeout_s:g} s",
                hint=f"look at the logs in {paths.log_dir}; `kill -9 {supervisor.pid}` and `wireloom down` is safe",
            )
    return end_left_overs(paths) or supervisor is not None


def end_left_overs(paths: Paths) -> bool:
    """End children of a supervisor that was killed, by their record. Call with the lock held or nobody running."""
    record = read_record(paths.supervisor_file)
    found = False
    for name in reversed(PROGRAMS):
        child = ProcessId.recorded((record or {}).get("children", {}).get(name))
        # The command line is checked too: a record from before a reboot could name anybody.
        if child is not None and child.command_line()[-1:] == (name,):
            end_process(child, grace_s=STOP_GRACE_S)
            found = True
    paths.supervisor_file.unlink(missing_ok=True)
    return found


@contextmanager
def hold_lock(paths: Paths) -> Iterator[None]:
    """Hold the installation's lock. :raises Conflict: another supervisor holds it."""
    with (paths.run_dir / "up.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            record = read_record(paths.supervisor_file) or {}
            raise Conflict(
                f"Wireloom is running already (pid {record.get('pid', 'unknown')})",
                hint="look with `wireloom status`, stop with `wireloom down`",
            ) from None
        yield


@dataclass
class _Child:
    """One program under watch."""

    name: str
    process: asyncio.subprocess.Process | None = None
    started_at: float = 0
    restarts: int = 0

    def record(self) -> dict[str, Any] | None:
        identity = ProcessId.of(self.process.pid) if self.process is not None else None
        if identity is None:
            return None
        return {**identity.model_dump(), "started_at": self.started_at, "restarts": self.restarts}


class Supervisor:
    """Keeps the programs running until it is told to stop.

    :param command: argument list of a program by name; replaced in tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log_to_files: bool = False,
        command: Callable[[str], Sequence[str]] | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._settings = settings
        self._log_to_files = log_to_files
        self._command = command or program_command
        self._first_pause_s = first_pause_s
        self._children = {name: _Child(name) for name in PROGRAMS}
        self._stopping = asyncio.Event()
        self._started_at = time.time()

    async def run(self) -> None:
        """Start the programs, restart what dies, and end all of them in order on SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # closing the terminal is not a wish to stop
        self._write_record()
        keepers = {name: asyncio.create_task(self._keep(child)) for name, child in self._children.items()}
        helpers = [asyncio.create_task(self._rotate_logs()), asyncio.create_task(self._announce())]
        try:
            await self._stopping.wait()
        finally:
            for helper in helpers:
                helper.cancel()
            self._stopping.set()
            for name in reversed(PROGRAMS):
                await self._end(self._children[name])
                await keepers[name]
            self._settings.paths.supervisor_file.unlink(missing_ok=True)
            self._say("stopped; nodes and links go on")

    def stop(self) -> None:
        """Begin to stop; :meth:`run` returns when all have ended."""
        self._stopping.set()

    async def _keep(self, child: _Child) -> None:
        if child.name == "agent":
            await self._head_start()
        pause_s = self._first_pause_s
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once(child)
            if self._stopping.is_set():
                return
            if time.monotonic() - began > STEADY_AFTER_S:
                pause_s = self._first_pause_s
            child.restarts += 1
            self._say(f"{child.name} ended with code {code}; starting it again in {pause_s:g} s")
            await self._unless_stopping(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _run_once(self, child: _Child) -> int:
        with ExitStack() as files:
            sink = self._sink(child.name, files)
            child.process = await asyncio.create_subprocess_exec(
                *self._command(child.name),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **self._settings.to_environment()},
                process_group=0,  # a Ctrl-C at the terminal is ours to pass on, in order
            )
        child.started_at = time.time()
        self._write_record()
        return await child.process.wait()

    def _sink(self, name: str, files: ExitStack) -> IO[bytes] | None:
        if not self._log_to_files:
            return None
        # Children hold their log files themselves, so they can go on writing when we are killed.
        return files.enter_context(log_file(self._settings.paths, name).open("ab"))

    async def _end(self, child: _Child) -> None:
        if child.process is None or child.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            child.process.terminate()
        try:
            await asyncio.wait_for(child.process.wait(), STOP_GRACE_S)
        except TimeoutError:
            self._say(f"{child.name} did not end in {STOP_GRACE_S:g} s and is killed")
            with suppress(ProcessLookupError):
                child.process.kill()
            await child.process.wait()

    async def _head_start(self) -> None:
        deadline = time.monotonic() + CONTROLLER_HEAD_START_S
        while not self._stopping.is_set() and time.monotonic() < deadline:
            process = self._children["controller"].process
            found = read_record(self._settings.paths.controller_file)
            if process is not None and found is not None and found.get("pid") == process.pid:
                return
            await self._unless_stopping(0.1)

    async def _unless_stopping(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for loses a cancellation that comes with the event
                await self._stopping.wait()

    async def _announce(self) -> None:
        """Say once that everything is up; at the start only, so asking a few times a second is fine."""
        while await unhealthy_reason(self._settings.paths, self._settings.host):
            await self._unless_stopping(HEALTH_POLL_S)
            if self._stopping.is_set():
                return
        url = (read_record(self._settings.paths.controller_file) or {}).get("url")
        self._say(f"healthy; the API is at {url}")

    async def _rotate_logs(self) -> None:
        while self._log_to_files:
            for name in ("up", *PROGRAMS):
                await asyncio.to_thread(rotate, log_file(self._settings.paths, name))
            await asyncio.sleep(LOG_CHECK_S)

    def _write_record(self) -> None:
        own = ProcessId.of(os.getpid())
        assert own is not None  # noqa: S101 - we are alive
        children = {name: child.record() for name, child in self._children.items()}
        document = {
            **own.model_dump(),
            "started_at": self._started_at,
            "host": self._settings.host,
            "children": {name: record for name, record in children.items() if record is not None},
        }
        write_record(self._settings.paths.supervisor_file, document)

    def _say(self, text: str) -> None:
        sys.stderr.write(f"wireloom up: {text}\n")
        sys.stderr.flush()
