"""What a node says of its IOL, and which configuration it starts with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

from . import netmap

__all__ = ["Boot", "Settings", "SettingsWrong", "adopt_files", "choose_boot", "command", "settings_of"]

#: What the rest of the container needs of its memory: IOL's program, the bridge, and files in use; MiB.
_RESERVED_MB = 256
_LEAST_MB = 256
_NVRAM_KB = 1024
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Above it there is no limit (cgroup v1 writes a large number).
_NO_LIMIT_MB = 1 << 24

_CONFIG = "config.txt"
_NOTE = ".booted"
#: Beside the file with the id in its name, for whoever does not know the id.
_NVRAM_LINK = "nvram"

#: Magic, format, and length of the configuration that follows (see ``wireloom.configs.nvram``).
_NVRAM_HEADER = struct.Struct(">HH12xI16x")
_NVRAM_MAGIC = 0xABCD


class SettingsWrong(Exception):
    """An environment variable that cannot be followed."""


class Settings(NamedTuple):
    """:ivar application: its id; hardware addresses are made of it. :ivar slots: of four Ethernet ports each.
    :ivar memory_mb: for IOS; 0: what IOL takes by itself. :ivar nvram_kb: size of the NVRAM."""

    application: int
    slots: int
    memory_mb: int
    nvram_kb: int


def settings_of(environment: Mapping[str, str], ports: Mapping[str, int]) -> Settings:
    """Of the node's environment (``IOL_PID``, ``IOL_SLOTS``, ``IOL_MEMORY``, ``IOL_NVRAM``) and its network devices.

    :raises SettingsWrong: a number is none, or out of bounds.
    """
    indexes = [index for name in ports if (index := netmap.index_of_device(name)) is not None]
    slots = netmap.slots_for(indexes)
    limit = _memory_limit_mb()
    memory = max(_LEAST_MB, limit - _RESERVED_MB) if limit else 0
    return Settings(
        application=_number(environment, "IOL_PID", 1, netmap.LARGEST_ID, 1),
        slots=max(slots, _number(environment, "IOL_SLOTS", 1, netmap.MOST_SLOTS, slots)),
        memory_mb=_number(environment, "IOL_MEMORY", 64, _NO_LIMIT_MB, memory),
        nvram_kb=_number(environment, "IOL_NVRAM", 16, 65536, _NVRAM_KB),
    )


def _number(environment: Mapping[str, str], name: str, least: int, most: int, otherwise: int) -> int:
    written = environment.get(name, "").strip()
    if not written:
        return otherwise
    if not re.fullmatch(r"[0-9]{1,9}", written) or not least <= int(written) <= most:
        raise SettingsWrong(f"{name} is {written!r}, and should be a number from {least} to {most}")
    return int(written)


def _memory_limit_mb() -> int:
    """What the container may use at most; 0: no limit."""
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            limit = int(file.read()) >> 20
            return limit if limit < _NO_LIMIT_MB else 0
    return 0


def command(program: str, settings: Settings, boot: Boot) -> list[str]:
    """How IOL is started."""
    words = [program, "-q", "-e", str(settings.slots), "-s", "0", "-n", str(settings.nvram_kb)]
    if settings.memory_mb:
        words += ["-m", str(settings.memory_mb)]
    if boot.config:
        words += ["-c", boot.config]
    return [*words, str(settings.application)]


# -- what is started with --------------------------------------------------------------------------------------


class Boot(NamedTuple):
    """:ivar config: file that IOL reads in the place of its NVRAM; empty: it reads that."""

    config: str


def adopt_files(folder: str, application: int) -> None:
    """Files that carry the id of an earlier life in their names get today's, and the NVRAM a name without one."""
    for stem, name in (("nvram_", f"nvram_{application:05d}"), ("vlan.dat-", f"vlan.dat-{application:05d}")):
        others = [entry for entry in os.listdir(folder) if entry.startswith(stem) and entry != name]
        others.sort(key=lambda entry: os.lstat(f"{folder}/{entry}").st_mtime)
        for other in others if not os.path.lexists(f"{folder}/{name}") else ():
            os.replace(f"{folder}/{other}", f"{folder}/{name}")
    link = f"{folder}/{_NVRAM_LINK}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(f"nvram_{application:05d}", link)


def choose_boot(folder: str) -> Boot:
    """NVRAM where IOS has saved something since it was last given a configuration; else that configuration.

    What it was given is remembered together with what NVRAM held then: a configuration that was put into the folder
    later wins over NVRAM, and one that IOS saved later wins over what it was given.
    """
    config = f"{folder}/{_CONFIG}"
    if not os.path.exists(config):
        return Boot("")
    given, saved = _stamp(config), _saved(f"{folder}/{_NVRAM_LINK}")
    note = _noted(f"{folder}/{_NOTE}")
    if note[:1] == [given]:
        return Boot(_CONFIG if saved in ("", *note[1:]) else "")
    with open(f"{folder}/{_NOTE}.new", "w") as file:
        file.write(f"{given}\n{saved}\n")
    os.replace(f"{folder}/{_NOTE}.new", f"{folder}/{_NOTE}")
    return Boot(_CONFIG)


def _stamp(path: str) -> str:
    """Of a file that is written anew when somebody chooses it, even with the same text."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return f"{digest} {os.stat(path).st_mtime_ns}"


def _saved(path: str) -> str:
    """Digest of the configuration that an NVRAM file holds; empty: there is none."""
    try:
        with open(path, "rb") as file:
            header = file.read(_NVRAM_HEADER.size)
            if len(header) < _NVRAM_HEADER.size:
                return ""
            magic, _, length = _NVRAM_HEADER.unpack(header)
            if magic != _NVRAM_MAGIC or not length:
                return ""
            return hashlib.sha256(file.read(length)).hexdigest()
    except FileNotFoundError:
        return ""


def _noted(path: str) -> list[str]:
    """What was given, and what was saved then."""
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []
