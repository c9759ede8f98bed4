"""Programs that read files of unknown origin: bounded in memory, time and file size, and unable to open other files.

A program starts through :mod:`wireloom.library.confine`, a few lines that give everything up that it does not need:
the network, capabilities, and, where the kernel has Landlock, all files but those that are named. It ends with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Final

import wireloom
from wireloom.commands import Finished
from wireloom.errors import Unavailable
from wireloom.library import confine
from wireloom.library.values import GIB, ImageRefused, Limits

__all__ = ["Bounds", "python_module", "run_bounded", "run_bounded_async", "start_bounded"]

_TICK_S: Final = 0.2
_BLOCK: Final = 1 << 20
_SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ERRORS_KEPT: Final = 64 << 10

#: The packages that have the programs, for the hint.
_PACKAGES: Final = {"qemu-img": "qemu-utils", "zstd": "zstd"}


@dataclass(frozen=True)
class Bounds:
    """What a program gets. Sizes in bytes, times in seconds.

    :ivar memory: of its address space. :ivar cpu_s: of all its threads together. :ivar file_size: of each file that
        it writes. :ivar output: of its standard output, where it is kept for the caller.
    :ivar reads: files and folders that it may read, beyond programs and libraries; :ivar writes: and change.
    :ivar confined: no other file can be opened (where the kernel can see to it). :ivar python: it is one of our own
        modules, and reads our code. :ivar privileged: it keeps the capabilities that we have.
    """

    memory: int = 2 * GIB
    cpu_s: float = 120
    wall_s: float = 120
    file_size: int = 0
    open_files: int = 64
    output: int = 8 << 20
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    confined: bool = True
    python: bool = False
    privileged: bool = False

    @classmethod
    def to_inspect(cls, limits: Limits, *reads: Path, python: bool = False) -> Bounds:
        """To read files, and write none."""
        return cls(memory=limits.memory, cpu_s=limits.inspect_s, wall_s=limits.inspect_s, reads=reads, python=python)

    @classmethod
    def to_convert(cls, limits: Limits, *reads: Path, folder: Path, python: bool = False) -> Bounds:
        """To read files, and write into a folder."""
        return cls(
            memory=limits.memory,
            # Programs use several processors: the time on the wall is what ends them.
            cpu_s=limits.convert_s * (os.cpu_count() or 1),
            wall_s=limits.convert_s,
            file_size=limits.size,
            reads=reads,
            writes=(folder,),
            python=python,
        )

    def order(self) -> str:
        """As the launcher reads it."""
        reads = [*self.reads, *(_code_folders() if self.python else ())]
        return json.dumps(
            {
                "parent": os.getpid(),
                "memory": self.memory,
                "cpu_s": max(1, round(self.cpu_s)),
                "file_size": self.file_size,
                "open_files": self.open_files,
                "confined": self.confined,
                "privileged": self.privileged,
                "reads": [str(each.absolute()) for each in reads],
                "writes": [str(each.absolute()) for each in self.writes],
            }
        )


def python_module(name: str, *arguments: str) -> tuple[str, ...]:
    """The command of one of our own modules; its :class:`Bounds` say ``python=True``."""
    return (sys.executable, "-I", "-m", name, *arguments)


def start_bounded(
    command: Sequence[str], *, bounds: Bounds, stdin: int | FileIO, stderr: int
) -> subprocess.Popen[bytes]:
    """Start a program and leave it to the caller, who reads its output and ends it: ``bounds.wall_s`` is not watched.

    ``stdin`` and ``stderr`` are as of ``subprocess``. A code of ``confine.NOT_STARTED`` says that it never ran.

    :raises Unavailable: it is not installed.
    """
    if shutil.which(command[0], path=_SEARCH_PATH) is None:
        package = _PACKAGES.get(command[0], command[0])
        raise Unavailable(f"{command[0]} is not installed", hint=f"install the package {package}")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", confine.__file__, bounds.order(), *command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd="/",
        env={"PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        start_new_session=True,
    )


def run_bounded(
    command: Sequence[str],
    *,
    bounds: Bounds,
    stdin: FileIO | None = None,
    on_output: Callable[[bytes], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> Finished:
    """Run a program to its end; blocks. What it says on standard output goes to ``on_output``, or into the answer.

    ``stdin`` is read from where it is; none: there is nothing to read. ``watch`` is called some times a second.
    Whatever it or ``on_output`` raises ends the program, and goes on.
    A program that crashed has a negative code, as of ``subprocess``.

    :raises Unavailable: it is not installed, or could not be started.
    :raises ImageRefused: ``unbounded``: it wanted more time or said more than it may; ``size``: it wrote more.
    """
    given = subprocess.DEVNULL if stdin is None else stdin
    with start_bounded(command, bounds=bounds, stdin=given, stderr=subprocess.PIPE) as process:
        talk = _Talk(command[0], bounds, on_output)
        try:
            talk.listen(process, watch)
        finally:
            _kill(process)
    return _finished(command[0], process.returncode, talk)


async def run_bounded_async(
    command: Sequence[str],
    *,
    bounds: Bounds,
    stdin: FileIO | None = None,
    on_output: Callable[[bytes], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> Finished:
    """The same for the event loop; a cancelled caller leaves no program behind. The callbacks run in a thread."""
    cancelled = threading.Event()

    def look() -> None:
        if cancelled.is_set():
            raise _GivenUp
        if watch is not None:
            watch()

    def work() -> Finished:
        return run_bounded(command, bounds=bounds, stdin=stdin, on_output=on_output, watch=look)

    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # it was given up: nobody asks how it ended
        raise


class _GivenUp(Exception):
    """Ends a program whose caller was cancelled."""


class _Talk:
    """What a program says while it runs."""

    def __init__(self, name: str, bounds: Bounds, on_output: Callable[[bytes], None] | None) -> None:
        self._name = name
        self._bounds = bounds
        self._on_output = on_output
        self.output = bytearray()
        self.errors = bytearray()

    def listen(self, process: subprocess.Popen[bytes], watch: Callable[[], None] | None) -> None:
        """Until it has closed its outputs, and ended."""
        end = time.monotonic() + self._bounds.wall_s
        with selectors.DefaultSelector() as selector:
            for stream, take in ((process.stdout, self._take_output), (process.stderr, self._take_error)):
                selector.register(_open(stream), selectors.EVENT_READ, take)
            while selector.get_map():
                for key, _ in selector.select(_TICK_S):
                    block = os.read(key.fd, _BLOCK)
                    if block:
                        key.data(block)
                    else:
                        selector.unregister(key.fileobj)
                self._check(end, watch)
        while process.poll() is None:
            self._check(end, watch)
            time.sleep(0.001)  # it has closed its outputs, and is about to end

    def _check(self, end: float, watch: Callable[[], None] | None) -> None:
        if watch is not None:
            watch()
        if time.monotonic() > end:
            raise ImageRefused(
                "unbounded", f"{self._name} did not come to an end in {self._bounds.wall_s:g} s, and was ended"
            )

    def _take_output(self, block: bytes) -> None:
        if self._on_output is not None:
            self._on_output(block)
            return
        self.output += block
        if len(self.output) > self._bounds.output:
            raise ImageRefused("unbounded", f"{self._name} had more to say than {self._bounds.output} bytes")

    def _take_error(self, block: bytes) -> None:
        self.errors += block
        del self.errors[:-_ERRORS_KEPT]


def _finished(name: str, code: int, talk: _Talk) -> Finished:
    errors = talk.errors.decode(errors="replace").strip()
    if code == -signal.SIGXCPU:
        raise ImageRefused("unbounded", f"{name} needed more of the processor than it may, and was ended")
    if code == -signal.SIGXFSZ:
        raise ImageRefused("size", f"{name} wrote a file that is larger than it may be, and was ended")
    if code == confine.NOT_STARTED:
        raise Unavailable(errors or f"{name} was not started")
    return Finished(code, talk.output.decode(errors="replace").strip(), errors)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, with all that it has started."""
    if process.returncode is None:  # not asked for yet: its id, and so the group's, is not given to others
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("it was asked for")
    return stream


def _code_folders() -> tuple[Path, ...]:
    """Folders that Python and our modules are read from."""
    own = Path(wireloom.__file__).resolve().parent.parent
    return tuple(dict.fromkeys((own, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())))
