"""Reads day-0 media from the disks of a virtual machine, by the kernel's own file systems."""

from __future__ import annotations

import glob
import os
import subprocess
import time

from .machine import Medium

__all__ = ["read_archived", "read_disks", "settle", "volume"]

_MOUNT = "/mnt/day0"
_SETTLE_S = 3.0


def settle() -> None:
    """Wait until a disk beside the first has come up, or for as long as a bus may take."""
    end = time.monotonic() + _SETTLE_S
    while time.monotonic() < end and not any(volume(device) for device in _devices()):
        time.sleep(0.1)


def _devices() -> list[str]:
    return sorted(path for pattern in ("/dev/sr*", "/dev/sd*", "/dev/vd*") for path in glob.glob(pattern))


def volume(device: str) -> tuple[str, str] | None:
    """File system and label of a disk that may be a medium (the disk's own boot partition is none)."""
    try:
        with open(device, "rb") as disk:
            boot = disk.read(512)
            disk.seek(0x8000)
            descriptor = disk.read(2048)
    except OSError:
        return None
    if descriptor[1:6] == b"CD001":
        return "iso9660", descriptor[40:72].decode("ascii", "replace").strip(" \0")
    if boot[510:512] == b"\x55\xaa":
        for kind, at in ((b"FAT", 43), (b"FAT32", 71)):
            if boot[at + 11 : at + 11 + len(kind)] == kind:
                label = boot[at : at + 11].decode("ascii", "replace").strip()
                return None if label == "WLBOOT" else ("vfat", label)
    return None


def read_disks(medium: Medium) -> str | None:
    """The text that a medium holds, from the first disk that fits."""
    for device in _devices():
        found = volume(device)
        if found is None or found[0] not in medium.kinds or (medium.labels and found[1] not in medium.labels):
            continue
        os.makedirs(_MOUNT, exist_ok=True)
        mounted = subprocess.run(["mount", "-t", found[0], "-o", "ro", device, _MOUNT], check=False, timeout=20)
        if mounted.returncode:
            continue
        try:
            text = read_archived(_MOUNT, medium)
        finally:
            subprocess.run(["umount", _MOUNT], check=False, timeout=20)
        if text is not None:
            return text
    return None


def read_archived(folder: str, medium: Medium) -> str | None:
    """The text of the medium's file below ``folder``, out of its archive if it has one."""
    if not medium.archive:
        path = _find(folder, medium.path)
        return None if path is None else _text(path)
    archive = _find(folder, medium.archive)
    if archive is None:
        return None
    done = subprocess.run(["tar", "-xzOf", archive, medium.path], check=False, capture_output=True, timeout=20)
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _find(folder: str, path: str) -> str | None:
    """``path`` below ``folder``, whatever the case of its letters: short names know none."""
    for part in path.split("/"):
        try:
            names = os.listdir(folder)
        except OSError:
            return None
        match = part if part in names else next((name for name in names if name.lower() == part.lower()), None)
        if match is None:
            return None
        folder = f"{folder}/{match}"
    return folder


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
