"""Persistent taps, made through ``/dev/net/tun`` (linux/if_tun.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import struct
from typing import Final

from wireloom.dataplane.host.protocol import failure

__all__ = ["TUN_DEVICE", "attach_tap", "make_tap"]

TUN_DEVICE: Final = "/dev/net/tun"
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER, _TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
#: struct ifreq with flags: name, flags, padding.
_IFREQ = struct.Struct("=16sH22x")
#: Users as which distributions run QEMU.
_QEMU_USERS = ("libvirt-qemu", "qemu")


def _qemu_owner() -> tuple[int, int] | None:
    for name in _QEMU_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    return None


def attach_tap(device: str, flags: int = 0) -> int:
    """Open the tap ``device`` (made if missing) as an interface file, one Ethernet frame a read.

    :raises DataPlaneFailed: it is busy (``EBUSY``), not a tap (``EINVAL``), or taps do not exist here.
    """
    try:
        opened = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise failure(error.errno or errno.EIO, "open", TUN_DEVICE) from error
    try:
        fcntl.ioctl(opened, _TUNSETIFF, _IFREQ.pack(device.encode(), _IFF_TAP | _IFF_NO_PI | flags))
    except OSError as error:
        os.close(opened)
        raise failure(error.errno or errno.EIO, "open the tap", device) from error
    return opened


def make_tap(device: str) -> None:
    """Make a persistent tap that a hypervisor may open; ``EBUSY`` when the name is taken."""
    opened = attach_tap(device, _IFF_VNET_HDR | _IFF_TUN_EXCL)
    try:
        owner = _qemu_owner()
        if owner is not None:
            fcntl.ioctl(opened, _TUNSETOWNER, owner[0])
            fcntl.ioctl(opened, _TUNSETGROUP, owner[1])
        fcntl.ioctl(opened, _TUNSETPERSIST, 1)
    except OSError as error:
        raise failure(error.errno or errno.EIO, "keep the tap", device) from error
    finally:
        os.close(opened)
