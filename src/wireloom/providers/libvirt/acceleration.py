"""Hardware virtualisation: used only where it truly works.

``/dev/kvm`` may exist, open and even create a VM on a host whose CPU has no virtualisation extension; no guest boots
there. So the CPU flag decides, and the device file is the second condition.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Acceleration", "AccelerationWish", "decide", "probe"]

AccelerationWish = Literal["auto", "kvm", "tcg"]


@dataclass(frozen=True)
class Acceleration:
    """The accelerator that domains get, and why."""

    kind: Literal["kvm", "tcg"]
    reason: str


def decide(wish: AccelerationWish, cpu_flags: frozenset[str], device_opens: bool) -> Acceleration:
    """The accelerator for these facts; a wish other than ``auto`` is obeyed, and the reason says so."""
    if wish != "auto":
        return Acceleration(wish, f"set to {wish} by configuration")
    if not cpu_flags & {"vmx", "svm"}:
        return Acceleration("tcg", "the CPU has no virtualisation extension (vmx or svm); guests are emulated")
    if not device_opens:
        return Acceleration("tcg", "/dev/kvm cannot be opened; guests are emulated")
    return Acceleration("kvm", "the CPU has a virtualisation extension and /dev/kvm opens")


def probe(
    wish: AccelerationWish = "auto", *, cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm")
) -> Acceleration:
    """:func:`decide` on the facts of this host."""
    return decide(wish, _cpu_flags(cpuinfo), _opens(device))


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    line = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    return frozenset(line.group(1).split()) if line else frozenset()


def _opens(device: Path) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
