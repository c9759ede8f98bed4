"""The supervisor with real processes: restarts, order of stopping, locks, and what a killed one leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wireloom.errors import Conflict
from wireloom.processes import ProcessId, end_process, wait_gone
from wireloom.records import read_record, write_record
from wireloom.settings import Settings
from wireloom.supervisor import Supervisor, end_left_overs, hold_lock, running_record, start, stop

#: A program that says when it starts and ends, in a file; its name is its last argument, as with the real ones.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
notes, name = Path(sys.argv[1]), sys.argv[-1]
def note(word):
    with notes.open("a") as file: file.write(f"{name} {word}\\n")
def ended(*_):
    note("ends"); sys.exit(0)
signal.signal(signal.SIGTERM, ended)
note("starts")
if name == "controller":
    Path(sys.argv[2]).write_text('{"pid": %d}' % os.getpid())
while True: time.sleep(60)
"""

#: Runs a supervisor over such programs.
SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from wireloom.settings import Settings
from wireloom.supervisor import Supervisor, hold_lock
folder = Path(sys.argv[1])
settings = Settings(run_dir=folder / "run", data_dir=folder / "data", log_dir=folder / "log")
command = lambda name: [sys.executable, str(folder / "program.py"), str(folder / "notes"),
                        str(settings.paths.controller_file), name]
with hold_lock(settings.paths):
    asyncio.run(Supervisor(settings, command=command, first_pause_s=0.05).run())
"""


class Rig:
    """A supervisor in its own process over programs that take notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(run_dir=folder / "run", data_dir=folder / "data", log_dir=folder / "log")
        self.settings.run_dir.mkdir()
        (folder / "program.py").write_text(PROGRAM)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(self.folder)])
        self.wait_for(lambda: set(self.children()) == {"controller", "agent"})

    def children(self) -> dict[str, ProcessId]:
        record = running_record(self.settings.paths) or {"children": {}}
        return {name: ProcessId.model_validate(child) for name, child in record["children"].items()}

    def notes(self) -> list[str]:
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    @staticmethod
    def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    def clean(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        end_left_overs(self.settings.paths)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.clean()


def test_programs_start_in_order_and_stop_in_reverse(rig: Rig) -> None:
    rig.start()
    rig.wait_for(lambda: len(rig.notes()) == 2)
    assert stop(rig.settings.paths, timeout_s=20)
    assert rig.notes() == ["controller starts", "agent starts", "agent ends", "controller ends"]
    assert not rig.settings.paths.supervisor_file.exists()


def test_a_program_that_dies_is_started_again(rig: Rig) -> None:
    rig.start()
    first = rig.children()["agent"]
    os.kill(first.pid, signal.SIGKILL)
    rig.wait_for(lambda: rig.children().get("agent", first) != first)
    record = running_record(rig.settings.paths)
    assert record is not None
    assert record["children"]["agent"]["restarts"] == 1


def test_a_second_supervisor_is_refused_and_names_the_first(rig: Rig) -> None:
    rig.start()
    assert rig.process is not None
    with pytest.raises(Conflict, match=f"pid {rig.process.pid}"), hold_lock(rig.settings.paths):
        pass


def test_what_a_killed_supervisor_leaves_is_ended_by_its_record(rig: Rig) -> None:
    rig.start()
    left = rig.children()
    assert rig.process is not None
    rig.process.kill()
    rig.process.wait()
    assert running_record(rig.settings.paths) is None
    assert all(child.alive for child in left.values())
    assert stop(rig.settings.paths, timeout_s=20)
    assert not any(child.alive for child in left.values())
    assert not stop(rig.settings.paths, timeout_s=20)


def test_a_stranger_with_a_recorded_pid_is_left_alone(rig: Rig) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        identity = ProcessId.of(stranger.pid)
        assert identity is not None
        record = {"pid": 1, "start_ticks": 0, "children": {"agent": identity.model_dump()}}
        write_record(rig.settings.paths.supervisor_file, record)
        assert not end_left_overs(rig.settings.paths)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_ignores_the_request_is_ended(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    identity = ProcessId.of(child.pid)
    assert identity is not None
    assert not wait_gone(identity, 0.05)
    end_process(identity, grace_s=0.1)
    assert child.wait(timeout=5) == -signal.SIGKILL
    child.stdout.close()


def test_a_reused_pid_is_not_the_same_process() -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    assert own.alive
    assert not own.model_copy(update={"start_ticks": own.start_ticks + 1}).alive
    assert ProcessId.recorded({"pid": own.pid, "start_ticks": 0}) is None


async def test_logs_go_to_files_that_children_hold_themselves(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path, data_dir=tmp_path, log_dir=tmp_path)
    chatty = "import time; print('hello', flush=True); time.sleep(60)"
    supervisor = Supervisor(settings, log_to_files=True, command=lambda name: [sys.executable, "-c", chatty, name])
    running = asyncio.create_task(supervisor.run())
    log = tmp_path / "controller.log"
    await asyncio.to_thread(Rig.wait_for, lambda: log.exists() and b"hello" in log.read_bytes())
    supervisor.stop()
    await running
    assert read_record(settings.paths.supervisor_file) is None


def test_a_machine_that_has_joined_another_installation_gets_no_controller_of_its_own(tmp_path: Path) -> None:
    settings = Settings(run_dir=tmp_path / "run", data_dir=tmp_path / "data", log_dir=tmp_path / "log")
    agent = settings.data_dir / "agent"
    agent.mkdir(parents=True)
    write_record(agent / "join.json", {"token": "0" * 12, "seed": "", "done": True})
    write_record(agent / "login.json", {"installation": "i", "urls": [], "api_url": "https://c:7430"})
    with pytest.raises(Conflict, match="https://c:7430"):
        start(settings, detach=False, log_to_files=False, healthy_within_s=1, tell=print)
    assert not settings.paths.supervisor_file.exists()
