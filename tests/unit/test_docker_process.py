"""Is a container's first process still the gate? Also in the moment in which it becomes another program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wireloom.providers.docker.process import InitProcess

GATE = "/.wireloom/busybox\0sh\0-c\0read\0"


@pytest.mark.parametrize(
    ("command_line", "program", "gated"),
    [
        (GATE, "/.wireloom/busybox", True),
        ("runc\0init\0", "/memfd:runc_cloned:/proc/self/exe (deleted)", True),
        ("", "/.wireloom/busybox", True),
        ("", "/memfd:runc_cloned:/proc/self/exe (deleted)", True),
        ("", "/usr/sbin/runc (deleted)", True),
        ("", "/usr/bin/dash", False),
        ("/.wireloom/busybox\0env\0a.b=c\0/init\0", "/.wireloom/busybox", False),
        ("/bin/sh\0-c\0true\0", "/usr/bin/dash", False),
    ],
)
def test_the_gate_is_known_by_command_line_and_by_program_while_that_is_empty(
    monkeypatch: pytest.MonkeyPatch, command_line: str, program: str, gated: bool
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: command_line.encode())
    monkeypatch.setattr(os, "readlink", lambda path: program)
    assert InitProcess(pid=1, start_ticks=1).gated is gated
