"""Programs get what they were given, and no more."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wireloom.errors import Unavailable
from wireloom.library.bounded import Bounds, python_module, run_bounded, run_bounded_async
from wireloom.library.confine import landlock_version
from wireloom.library.values import ImageRefused
from wireloom.processes import ProcessId, wait_gone

PYTHON = "/usr/bin/python3"


def reason(refusal: pytest.ExceptionInfo[ImageRefused]) -> str:
    return str(refusal.value.details["reason"])


def test_a_program_says_how_it_ended() -> None:
    done = run_bounded(("sh", "-c", "echo out; echo err >&2; exit 7"), bounds=Bounds())
    assert (done.code, done.output, done.errors) == (7, "out", "err")


def test_a_program_that_is_not_there_is_named_with_its_package() -> None:
    with pytest.raises(Unavailable) as refusal:
        run_bounded(("no-such-program",), bounds=Bounds())
    assert "no-such-program" in refusal.value.message


def test_time_on_the_wall_ends_it() -> None:
    started = time.monotonic()
    with pytest.raises(ImageRefused) as refusal:
        run_bounded(("sh", "-c", "sleep 60 & wait"), bounds=Bounds(wall_s=0.3))
    assert reason(refusal) == "unbounded"
    assert time.monotonic() - started < 10


def test_time_of_the_processor_ends_it() -> None:
    with pytest.raises(ImageRefused) as refusal:
        run_bounded(("sh", "-c", "while :; do :; done"), bounds=Bounds(cpu_s=1, wall_s=60))
    assert reason(refusal) == "unbounded"


def test_a_file_grows_to_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused) as refusal:
        run_bounded(
            ("dd", "if=/dev/zero", f"of={tmp_path}/big", "bs=64k", "count=100"),
            bounds=Bounds(file_size=100_000, writes=(tmp_path,)),
        )
    assert reason(refusal) == "size"
    assert (tmp_path / "big").stat().st_size <= 100_000


def test_memory_is_refused_beyond_its_limit() -> None:
    done = run_bounded((PYTHON, "-I", "-S", "-c", "bytearray(1 << 30)"), bounds=Bounds(memory=512 << 20))
    assert done.code != 0
    assert "MemoryError" in done.errors


def test_what_it_says_is_limited() -> None:
    with pytest.raises(ImageRefused) as refusal:
        run_bounded(("sh", "-c", "while :; do echo word; done"), bounds=Bounds(output=1000))
    assert reason(refusal) == "unbounded"


def test_what_it_says_can_be_taken_as_it_comes() -> None:
    taken: list[bytes] = []
    done = run_bounded(("sh", "-c", "echo a; echo b"), bounds=Bounds(), on_output=taken.append)
    assert (b"".join(taken), done.output) == (b"a\nb\n", "")


def test_it_reads_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(b"a\nb\nc\n")
    with path.open("rb", buffering=0) as file:
        file.seek(2)
        assert run_bounded(("cat",), bounds=Bounds(), stdin=file).output == "b\nc"
        assert file.tell() == 6


def test_who_watches_can_end_it() -> None:
    def watch() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bounded(("sh", "-c", "echo $$; sleep 60"), bounds=Bounds(), watch=watch)


#: A capability of the host, as the kernel itself declares it: what we make of it is what is tested.
needs_landlock = pytest.mark.skipif(not landlock_version(), reason="the kernel declares no Landlock")


@needs_landlock
def test_it_opens_no_file_that_is_not_named(tmp_path: Path) -> None:
    secret, given = tmp_path / "secret", tmp_path / "given"
    secret.write_text("secret")
    given.write_text("given")
    command = ("cat", str(given), str(secret), "/etc/passwd", "/etc/shadow", "/proc/1/environ")
    done = run_bounded(command, bounds=Bounds(reads=(given,)))
    assert (done.output, done.code) == ("given", 1)
    for text in (f"echo x >> {given}", f"echo x > {tmp_path}/new", f"rm {given}", f"ls {tmp_path}"):
        assert run_bounded(("sh", "-c", text), bounds=Bounds(reads=(given,), file_size=1000)).code != 0
    done = run_bounded(("sh", "-c", f"echo x > {tmp_path}/new"), bounds=Bounds(writes=(tmp_path,), file_size=1000))
    assert done.code == 0


def test_it_has_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        done = run_bounded((PYTHON, "-I", "-S", "-c", text), bounds=Bounds(python=True))
    assert done.code != 0
    assert "Error" in done.errors


def test_it_has_no_capabilities_and_none_to_gain() -> None:
    text = "import sys; print(*[l for l in open('/proc/self/status') if l.startswith(('CapEff', 'NoNewPrivs'))])"
    done = run_bounded((PYTHON, "-I", "-S", "-c", text), bounds=Bounds(confined=False))
    assert done.output.split() == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]


def test_our_own_modules_run_bounded() -> None:
    done = run_bounded(python_module("wireloom.library.zstd_frames"), bounds=Bounds(python=True))
    assert (done.code, done.errors) == (0, "")


async def test_a_cancelled_caller_leaves_no_program() -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[bytes] = loop.create_future()
    command = run_bounded_async(
        ("sh", "-c", "echo $$; sleep 60"),
        bounds=Bounds(),
        on_output=lambda block: loop.call_soon_threadsafe(told.set_result, block),
    )
    task = asyncio.create_task(command)
    pid = int(await told)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_does_not_outlive_us() -> None:
    text = (
        "from wireloom.library.bounded import *\n"
        "run_bounded(('sh', '-c', 'echo $$; sleep 60'), bounds=Bounds(),"
        " on_output=lambda pid: print(pid.decode(), flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = ProcessId.of(int(parent.stdout.readline()))
        parent.kill()
    assert child is None or wait_gone(child, 10)


async def test_the_loop_goes_on_while_it_runs() -> None:
    task = asyncio.create_task(run_bounded_async(("sh", "-c", "sleep 0.3; echo done"), bounds=Bounds()))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert (await task).output == "done"
    assert turns > 3
