"""libvirt's states, reasons and events in the contract's words, and the choice of the accelerator."""

from __future__ import annotations

import os
from pathlib import Path

import libvirt
import pytest

from wireloom.model.runtime import EventKind
from wireloom.model.state import RuntimePhase
from wireloom.providers.libvirt.acceleration import decide, may_use, probe
from wireloom.providers.libvirt.cgroups import cpu_quota_works
from wireloom.providers.libvirt.metadata import Run
from wireloom.providers.libvirt.states import event_kind, interpret

GATED = Run(started_at=1.0)
RELEASED = Run(started_at=1.0, released=True)


@pytest.mark.parametrize(
    ("state", "reason", "run", "phase", "exit_code"),
    [
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, None, RuntimePhase.CREATED, None),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, GATED, RuntimePhase.GATED, None),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, RELEASED, RuntimePhase.RUNNING, None),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, GATED, RuntimePhase.RUNNING, None),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, RELEASED, RuntimePhase.SUSPENDED, None),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR, RELEASED, RuntimePhase.SUSPENDED, None),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, 0, RELEASED, RuntimePhase.SUSPENDED, None),
        (libvirt.VIR_DOMAIN_SHUTDOWN, 0, RELEASED, RuntimePhase.RUNNING, None),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, GATED, RuntimePhase.EXITED, 0),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED, GATED, RuntimePhase.EXITED, 1),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, GATED, RuntimePhase.EXITED, 1),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, GATED, RuntimePhase.EXITED, None),
        (libvirt.VIR_DOMAIN_CRASHED, 0, GATED, RuntimePhase.EXITED, 1),
        (libvirt.VIR_DOMAIN_NOSTATE, 0, RELEASED, RuntimePhase.UNKNOWN, None),
    ],
)
def test_phase_and_exit_code(
    state: int, reason: int, run: Run | None, phase: RuntimePhase, exit_code: int | None
) -> None:
    seen = interpret(state, reason, run)
    assert (seen.phase, seen.exit_code) == (phase, exit_code)


def test_a_dead_emulator_is_an_exit_before_libvirt_says_so() -> None:
    killed = interpret(libvirt.VIR_DOMAIN_RUNNING, 1, RELEASED, process_alive=False)
    assert (killed.phase, killed.exit_code) == (RuntimePhase.EXITED, 1)
    left = interpret(libvirt.VIR_DOMAIN_SHUTDOWN, 1, RELEASED, process_alive=False)
    assert (left.phase, left.exit_code) == (RuntimePhase.EXITED, 0)


@pytest.mark.parametrize(
    ("event", "detail", "kind"),
    [
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED, EventKind.CREATED),
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_DEFINED_UPDATED, None),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 0, EventKind.STARTED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, EventKind.EXITED),
        (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0, EventKind.REMOVED),
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, 0, None),
    ],
)
def test_event_kind(event: int, detail: int, kind: EventKind | None) -> None:
    assert event_kind(event, detail) is kind


@pytest.mark.parametrize(
    ("wish", "flags", "opens", "kind"),
    [
        ("auto", {"vmx"}, True, "kvm"),
        ("auto", {"svm"}, True, "kvm"),
        ("auto", {"vmx"}, False, "tcg"),
        ("auto", {"sse2"}, True, "tcg"),
        ("kvm", set(), False, "kvm"),
        ("tcg", {"vmx"}, True, "tcg"),
    ],
)
def test_acceleration_needs_the_flag_and_the_device(wish: str, flags: set[str], opens: bool, kind: str) -> None:
    found = decide(wish, frozenset(flags), opens)  # type: ignore[arg-type]
    assert found.kind == kind
    assert found.reason


def test_acceleration_reads_the_flags_of_the_host(tmp_path: Path) -> None:
    cpuinfo, device = tmp_path / "cpuinfo", tmp_path / "kvm"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu svm sse\n\nprocessor\t: 1\nflags\t\t: fpu svm sse\n")
    assert probe(cpuinfo=cpuinfo, device=device).kind == "tcg"
    device.touch()
    assert probe(cpuinfo=cpuinfo, device=device).kind == "kvm"
    cpuinfo.write_text("processor: 0\n")
    assert probe(cpuinfo=cpuinfo, device=device).kind == "tcg"


@pytest.mark.parametrize(
    ("mode", "groups", "usable"),
    [(0o600, {7}, False), (0o660, {7}, True), (0o660, {8}, False), (0o666, {8}, True), (0o606, {7}, False)],
)
def test_who_may_use_the_device(mode: int, groups: set[int], usable: bool) -> None:
    device = os.stat_result((mode, 0, 0, 1, 0, 7, 0, 0, 0, 0))
    assert may_use(device, 64055, frozenset(groups)) is usable


def test_cpu_limits_need_the_controller(tmp_path: Path) -> None:
    assert not cpu_quota_works(tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").touch()
    assert cpu_quota_works(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpuset io memory\n")
    assert not cpu_quota_works(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    assert cpu_quota_works(tmp_path)
