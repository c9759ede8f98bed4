"""Hardware virtualisation: used only where it truly works.

``/dev/kvm`` may exist, open and even create a VM on a host whose CPU has no virtualisation extension; no guest boots
there. So the CPU flag decides, and the device file is the second condition.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = ["Acceleration", "AccelerationWish", "decide", "device_problem", "may_use", "probe"]

AccelerationWish = Literal["auto", "kvm", "tcg"]

_DEVICE: Final = Path("/dev/kvm")

#: The user that libvirt runs emulators as: Debian and Ubuntu, Fedora.
_EMULATOR_USERS: Final = ("libvirt-qemu", "qemu")


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
    wish: AccelerationWish = "auto", *, cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = _DEVICE
) -> Acceleration:
    """:func:`decide` on the facts of this host."""
    return decide(wish, _cpu_flags(cpuinfo), _opens(device))


def device_problem(device: Path = _DEVICE) -> str:
    """What is wrong with the device's permissions, or nothing.

    libvirt tests whether its emulators' user may use the device. Where root may and that user may not, libvirt
    takes what it knows of QEMU for outdated at every call and asks QEMU anew, which takes seconds each time.
    """
    user = next((user for user in map(_user, _EMULATOR_USERS) if user is not None), None)
    if user is None or not device.exists():
        return ""
    groups = {user.pw_gid, *(group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem)}
    if may_use(device.stat(), user.pw_uid, frozenset(groups)):
        return ""
    return f"{user.pw_name} may not use {device}, which makes every libvirt call slow; set its group to kvm, mode 660"


def may_use(device: os.stat_result, user: int, groups: frozenset[int]) -> bool:
    """Whether ``user`` with ``groups`` may read and write a file with these permissions."""
    if user == device.st_uid:
        needed = stat.S_IRUSR | stat.S_IWUSR
    elif device.st_gid in groups:
        needed = stat.S_IRGRP | stat.S_IWGRP
    else:
        needed = stat.S_IROTH | stat.S_IWOTH
    return device.st_mode & needed == needed


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    line = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    return frozenset(line.group(1).split()) if line else frozenset()


def _opens(device: Path) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True
