"""What an agent says of its machine, beside what its engines can do.

What never changes is read once. What changes slowly, or costs a process (the kernel's abilities, interfaces), is read
again when it is old. The rest is a handful of small files under ``/proc`` for each heartbeat. Nothing here raises for
what it finds, changes anything that outlives the reading, or asks an engine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from wireloom.agent.probes import KernelTrial, missing_capabilities, parse_trial
from wireloom.fabric.documents import Ability, Disk, Nic

__all__ = ["Machine", "parse_nics", "try_kernel"]

T = TypeVar("T")

TRIAL_TIMEOUT_S: Final = 15.0
_IP_TIMEOUT_S: Final = 5.0
#: A module may be loaded at any time, but hardly ever is.
_ABILITIES_AGE_S: Final = 900.0
_NICS_AGE_S: Final = 30.0
_DISKS_AGE_S: Final = 10.0
#: Devices of nodes and links, of which a host may have thousands.
_OURS: Final = ("wl", "lo")

#: Runs each trial in a network namespace that ends with its shell; prints ``ability TAB ok|no TAB answer``.
TRIAL_FRAME: Final = """
t() { name=$1; shift; if answer=$("$@" 2>&1); then echo "$name	ok"; else echo "$name	no	"$answer; fi; }
"""

_ABILITIES: Final = """
ip link add wlp0 type veth peer name wlp1
t netem tc qdisc add dev wlp1 root netem delay 1ms
t 8021q ip link add link wlp0 name wlp5 type vlan id 5
t vxlan ip link add wlp4 type vxlan id 7 dstport 4789 local 127.0.0.1
t vrf ip link add wlp6 type vrf table 10
t mpls test -e /proc/sys/net/mpls/platform_labels
t dummy ip link add wlp7 type dummy
t macvlan ip link add link wlp0 name wlp8 type macvlan mode bridge
t wireguard ip link add wlp9 type wireguard
t ipsec ip xfrm state add src 127.0.0.1 dst 127.0.0.2 proto esp spi 1 mode transport \\
  aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128
t openvswitch test -d /sys/module/openvswitch
"""


def try_kernel(script: str) -> tuple[dict[str, KernelTrial], str]:
    """The outcome per ability of a script of trials, or why nothing could be tried. Blocking, up to 15 s."""
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", TRIAL_FRAME + script],
            capture_output=True,
            text=True,
            timeout=TRIAL_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return {}, "unshare is not installed"
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {TRIAL_TIMEOUT_S:g} s"
    return parse_trial(done.stdout), done.stderr.strip()


class _Kept(Generic[T]):
    """A reading that is good for a while."""

    def __init__(self, read: Callable[[], T], age_s: float, clock: Callable[[], float]) -> None:
        self._read = read
        self._age_s = age_s
        self._clock = clock
        self._until = float("-inf")
        self._value: T | None = None

    def get(self) -> T:
        if self._value is None or self._clock() >= self._until:
            self._value = self._read()
            self._until = self._clock() + self._age_s
        return self._value


class Machine:
    """Readings of this machine, some of them kept. One per agent; :meth:`read` is called off the loop.

    :param folders: purpose → folder whose room is told; those on one file system are told once.
    """

    def __init__(self, folders: Mapping[str, Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folders = folders
        self._abilities = _Kept(_try_abilities, _ABILITIES_AGE_S, clock)
        self._nics = _Kept(_read_nics, _NICS_AGE_S, clock)
        self._disks = _Kept(lambda: tuple(_disks(folders)), _DISKS_AGE_S, clock)

    def read(self) -> dict[str, Any]:
        """Fields of :class:`~wireloom.fabric.documents.HostFacts`. Blocking; some milliseconds, seconds at times."""
        lacking = missing_capabilities(*engine_capabilities())
        return {
            "architecture": platform.machine(),
            "cpu_model": _cpu_model(),
            "memory_free_mb": _memory_available_mb(),
            "load": tuple(round(load, 2) for load in os.getloadavg()),
            "disks": self._disks.get(),
            "nics": self._nics.get(),
            "abilities": self._abilities.get(),
            "privileged": not lacking,
            "privileged_reason": f"the container engine lacks capabilities: {lacking}" if lacking else "",
        }


def _try_abilities() -> tuple[Ability, ...]:
    found, problem = try_kernel(_ABILITIES)
    if not found:
        return ()
    return tuple(
        Ability(name=name, works=trial.works, reason="" if trial.works else trial.answer or problem or "absent")
        for name, trial in found.items()
    )


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _memory_available_mb() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError, IndexError):
        return None


def _disks(folders: Mapping[str, Path]) -> Iterator[Disk]:
    seen: set[int] = set()
    for purpose, folder in folders.items():
        existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
        if existing is None or existing.stat().st_dev in seen:
            continue
        seen.add(existing.stat().st_dev)
        usage = shutil.disk_usage(existing)
        yield Disk(purpose=purpose, path=str(folder), total=usage.total, free=usage.free)


def _read_nics() -> tuple[Nic, ...]:
    try:
        done = subprocess.run(
            ["ip", "-json", "-details", "address", "show"], capture_output=True, timeout=_IP_TIMEOUT_S, check=False
        )
        return parse_nics(json.loads(done.stdout or b"[]"), _speed)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ()


def parse_nics(links: list[dict[str, Any]], speed: Callable[[str], int | None]) -> tuple[Nic, ...]:
    """The host's own interfaces in what ``ip -json -details address`` prints, by name.

    Those of nodes, links and segments are left out, and so are ports of other people's bridges.

    :param speed: of an interface by its name, Mbit/s.
    """
    found = []
    for link in links:
        name = str(link.get("ifname", ""))
        addresses = tuple(
            f"{item['local']}/{item['prefixlen']}"
            for item in link.get("addr_info", ())
            if item.get("scope") == "global" and "local" in item
        )
        is_hardware = "parentdev" in link
        if not name or name.startswith(_OURS) or not (addresses or is_hardware):
            continue
        up = "LOWER_UP" in link.get("flags", ())
        found.append(
            Nic(
                name=name,
                mac=str(link.get("address", "")),
                mtu=int(link.get("mtu", 0)),
                up=up,
                speed=speed(name),
                addresses=addresses,
            )
        )
    return tuple(sorted(found, key=lambda nic: nic.name))


def _speed(name: str) -> int | None:
    try:
        speed = int((Path("/sys/class/net") / name / "speed").read_text())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None


def engine_capabilities() -> tuple[int, int]:
    """(What the container engine may hand on, what the kernel knows), as bit masks."""
    try:
        known = (1 << (int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1)) - 1
    except (OSError, ValueError):
        return 0, 0
    return _bounding_set(_engine_pid()), known


def _engine_pid() -> str:
    """The container engine's process, else our own: it would be started with what we have."""
    for path in ("/run/docker.pid", "/var/run/docker.pid"):
        try:
            pid = Path(path).read_text().strip()
        except OSError:
            continue
        if pid.isdecimal() and Path(f"/proc/{pid}").exists():
            return pid
    return "self"


def _bounding_set(pid: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    except OSError:
        pass  # it ended meanwhile: nothing is known, and nothing is promised
    return 0
