"""The parts of ``bootstrap``, each run by bash in a folder of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

PRELUDE = """
set -euo pipefail
REPOSITORY={repository} BUILD={folder}/build VENV={folder}/venv DATA={folder}/data STATE={folder}/data/bootstrap
RUN={folder}/run LOGS={folder}/log LOCK={folder}/lock COMMAND_LINK={folder}/bin/wireloom
mkdir -p "$BUILD/log" {folder}/bin
for part in steps packages python engines; do . "$REPOSITORY/scripts/lib/$part.sh"; done
"""


class Bash:
    """Runs lines of bash after the parts have been read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, script: str) -> subprocess.CompletedProcess[str]:
        prelude = PRELUDE.format(repository=REPOSITORY, folder=self.folder)
        return subprocess.run(
            ["bash", "-c", prelude + script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def bash(tmp_path: Path) -> Bash:
    return Bash(tmp_path)


def test_a_step_stops_at_its_first_failing_command_and_shows_its_log(bash: Bash) -> None:
    done = bash("inner() { echo before; false; echo after; }\nstep 'a step' inner\necho unreached")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "unreached" not in done.stdout
    assert "before" in done.stderr
    assert "after" not in done.stderr


def test_a_step_that_works_is_one_line_with_its_note(bash: Bash) -> None:
    done = bash("inner() { echo noise; note 'all there'; }\nstep 'a step' inner")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert line.startswith("a step ")
    assert line.endswith(" s  all there")


def test_lists_are_remembered_once_each_and_forgotten(bash: Bash) -> None:
    done = bash(
        "remember packages b a\nremember packages a c\nremembered packages\nforget packages\nremembered packages"
    )
    assert (done.returncode, done.stdout.split()) == (0, ["a", "b", "c"])


def fake_engine(bash: Bash) -> str:
    program = bash.folder / "bin" / "wl-fake-engine"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    return f"""
    PATH={bash.folder}/bin:$PATH
    has_systemd() {{ false; }}
    engine_is_needed() {{ false; }}
    engine_answers() {{ kill -0 "$(cut -d' ' -f1 "$ENGINE_STATE/$1")"; }} 2>/dev/null
    ENGINE_SECONDS=5
    ENGINES=(wl-fake-engine)
    record=$ENGINE_STATE/wl-fake-engine
    """


def test_an_engine_is_started_once_and_ended_by_its_record(bash: Bash) -> None:
    done = bash(
        fake_engine(bash)
        + """
        start_engines; first=$(cat "$record"); start_engines
        [ "$first" = "$(cat "$record")" ]
        stop_engine wl-fake-engine
        kill -0 "${first% *}" 2>/dev/null && echo "still there"
        [ ! -e "$record" ]
        """
    )
    assert (done.returncode, done.stdout) == (0, ""), done


def test_a_process_that_only_has_the_recorded_id_is_left_alone(bash: Bash) -> None:
    done = bash(
        fake_engine(bash)
        + """
        sleep 60 & mkdir -p "$ENGINE_STATE"
        echo "$! 12345" >"$record"
        stop_engine wl-fake-engine
        kill -0 $! && echo "left alone"
        kill $!
        """
    )
    assert (done.returncode, done.stdout) == (0, "left alone\n"), done


def test_the_command_link_never_replaces_something_else(bash: Bash) -> None:
    done = bash(
        """
        echo theirs >"$COMMAND_LINK"; link_command; unlink_command; cat "$COMMAND_LINK"
        rm "$COMMAND_LINK"; link_command; readlink "$COMMAND_LINK"; unlink_command; ls "$(dirname "$COMMAND_LINK")"
        """
    )
    assert done.stdout == f"theirs\n{bash.folder}/venv/bin/wireloom\n", done
