"""Judging a machine: what was read of it becomes findings with a meaning and an advice. Pure.

:mod:`wireloom.agent.facts` does the reading.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from wireloom.model.base import Value

__all__ = [
    "Finding",
    "KernelTrial",
    "Level",
    "Readings",
    "Route",
    "can_run_privileged",
    "judge",
    "missing_capabilities",
    "parse_trial",
]

GIB: Final = 1024**3
#: By bit (linux/capability.h).
_CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)


class Level(StrEnum):
    """How much a finding matters: ``fail`` means that labs cannot run as they should."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Value):
    """One check: what was found, what that means for labs, and what to do about it."""

    name: str
    level: Level
    finding: str
    meaning: str = ""
    advice: str = ""


@dataclass(frozen=True)
class KernelTrial:
    """What happened when the kernel was asked for one ability in a throw-away network namespace."""

    works: bool
    answer: str = ""


@dataclass(frozen=True)
class Route:
    """A route of the host: destination network and device."""

    network: str
    device: str


@dataclass(frozen=True)
class Readings:
    """What was read of a machine. Nothing here is judged yet.

    :ivar sockets: engine name to whether its socket accepts connections.
    :ivar tools: program name to its path, ``None`` when it is not installed.
    :ivar kernel: ability to the outcome of its trial; empty when none could be made, ``kernel_problem`` says why.
    :ivar capabilities: bit mask of what the container engine may hand to a container; ``capabilities_all`` the
        mask of all that this kernel knows.
    :ivar landlock: version of the kernel's Landlock; 0: it has none.
    :ivar disk_free: bytes free where ``data_dir`` is or will be.
    :ivar port_owner: who has the API's port: ``""`` nobody, ``wireloom``, or ``other``.
    """

    root: bool
    sockets: Mapping[str, bool] = field(default_factory=dict)
    tools: Mapping[str, str | None] = field(default_factory=dict)
    static_busybox: str | None = None
    kvm: bool = False
    kvm_reason: str = ""
    kernel: Mapping[str, KernelTrial] = field(default_factory=dict)
    kernel_problem: str = ""
    capabilities: int = 0
    capabilities_all: int = 0
    landlock: int = 0
    ip_forward: bool | None = None
    data_dir: str = ""
    disk_free: int = 0
    memory_total: int = 0
    port: str = ""
    port_owner: str = ""
    subnet: str = ""
    routes: tuple[Route, ...] = ()


def can_run_privileged(capabilities: int, known: int) -> bool:
    """Whether an engine that holds ``capabilities`` can start a container with all that the kernel knows."""
    return bool(known) and capabilities & known == known


def missing_capabilities(capabilities: int, known: int) -> str:
    """Names of the capabilities that an engine lacks for privileged containers, in words; empty: none."""
    if can_run_privileged(capabilities, known):
        return ""
    missing = known & ~capabilities
    return ", ".join(_capability(bit) for bit in range(missing.bit_length()) if missing >> bit & 1) or "unknown"


def parse_trial(output: str) -> dict[str, KernelTrial]:
    """Lines of ``ability TAB ok`` or ``ability TAB no TAB answer``."""
    found = {}
    for line in output.splitlines():
        name, _, rest = line.partition("\t")
        verdict, _, answer = rest.partition("\t")
        found[name] = KernelTrial(works=verdict == "ok", answer=answer)
    return found


def judge(readings: Readings) -> list[Finding]:
    """Every check, in the order in which a person would repair things."""
    return [
        _root(readings),
        *_engines(readings),
        *_tools(readings),
        _busybox(readings),
        _kvm(readings),
        *_kernel(readings),
        _privileged(readings),
        _landlock(readings),
        _forwarding(readings),
        _subnet(readings),
        _port(readings),
        _disk(readings),
        _memory(readings),
    ]


def _root(readings: Readings) -> Finding:
    if readings.root:
        return Finding(name="root", level=Level.OK, finding="running as root")
    return Finding(
        name="root",
        level=Level.FAIL,
        finding="not running as root",
        meaning="the agent makes network devices and talks to the engines, which only root may; some checks below "
        "cannot be made either",
        advice="run `sudo wireloom doctor`",
    )


#: Engine: who needs it, the package that brings it, and the unit that starts it.
_ENGINES: Final = {
    "docker": ("containers", "docker.io", "docker"),
    "libvirtd": ("virtual machines", "libvirt-daemon-system", "libvirtd"),
    "virtlogd": ("virtual machines", "libvirt-daemon-system", "virtlogd"),
}


def _engines(readings: Readings) -> Iterator[Finding]:
    for name, (nodes, package, unit) in _ENGINES.items():
        if readings.sockets.get(name):
            yield Finding(name=name, level=Level.OK, finding="answers")
        else:
            yield Finding(
                name=name,
                level=Level.FAIL,
                finding="does not answer",
                meaning=f"no {nodes} can run on this host",
                advice=f"install the package {package} and start it: `systemctl start {unit}`",
            )


@dataclass(frozen=True)
class _Tool:
    package: str
    meaning: str
    level: Level = Level.FAIL


_TOOLS: Final = {
    "nats-server": _Tool("nats-server", "`wireloom up` cannot start its private fabric", Level.WARN),
    "dnsmasq": _Tool("dnsmasq-base", "virtual machines get no management address and no node has a DNS name"),
    "qemu-img": _Tool("qemu-utils", "no disks can be made for virtual machines"),
    "qemu-system-x86_64": _Tool("qemu-system-x86", "no virtual machine can run"),
    "iptables": _Tool("iptables", "nodes cannot reach the world, nor each other past the engine's firewall"),
    "tcpdump": _Tool("tcpdump", "captures take no filter", Level.WARN),
    "tshark": _Tool("tshark", "captures cannot be decoded here, only downloaded", Level.WARN),
    "zstd": _Tool("zstd", "images that are packed with zstd cannot be imported or loaded here", Level.WARN),
}


def _tools(readings: Readings) -> Iterator[Finding]:
    for name, tool in _TOOLS.items():
        path = readings.tools.get(name)
        if path is not None:
            yield Finding(name=name, level=Level.OK, finding=path)
        else:
            yield Finding(
                name=name,
                level=tool.level,
                finding="not installed",
                meaning=tool.meaning,
                advice=f"install the package {tool.package}",
            )


def _busybox(readings: Readings) -> Finding:
    if readings.static_busybox is not None:
        return Finding(name="static busybox", level=Level.OK, finding=readings.static_busybox)
    return Finding(
        name="static busybox",
        level=Level.FAIL,
        finding="not found",
        meaning="containers cannot be held at their start gate until their ports are in place",
        advice="install the package busybox-static",
    )


def _kvm(readings: Readings) -> Finding:
    if readings.kvm:
        return Finding(name="kvm", level=Level.OK, finding=readings.kvm_reason)
    return Finding(
        name="kvm",
        level=Level.WARN,
        finding=readings.kvm_reason,
        meaning="virtual machines run emulated: everything works, about ten times slower",
        advice="enable virtualisation in the firmware, or nested virtualisation when this is a VM itself",
    )


@dataclass(frozen=True)
class _Ability:
    meaning: str
    advice: str
    level: Level = Level.FAIL


_LOAD: Final = "use a kernel that has it, or load its module: `modprobe {module}`"
_ABILITIES: Final = {
    "veth": _Ability("containers get no ports", _LOAD.format(module="veth")),
    "tap": _Ability("virtual machines get no ports", _LOAD.format(module="tun")),
    "bridge": _Ability("there is no management network", _LOAD.format(module="bridge")),
    "tc ingress": _Ability("nodes cannot be wired", _LOAD.format(module="sch_ingress")),
    "tc redirect": _Ability("nodes cannot be wired", _LOAD.format(module="act_mirred")),
    "nat": _Ability("nodes do not reach the world over management", _LOAD.format(module="nf_nat"), Level.WARN),
    "vxlan": _Ability("no links between hosts", _LOAD.format(module="vxlan"), Level.WARN),
    "netem": _Ability("links cannot be impaired (delay, loss)", _LOAD.format(module="sch_netem"), Level.WARN),
    "8021q": _Ability(
        "container nodes cannot make VLAN sub-interfaces; virtual machines can",
        _LOAD.format(module="8021q"),
        Level.WARN,
    ),
}


def _kernel(readings: Readings) -> Iterator[Finding]:
    if not readings.kernel:
        yield Finding(
            name="kernel",
            level=Level.WARN,
            finding=f"could not be tried: {readings.kernel_problem or 'no answer'}",
            meaning="it is unknown what the kernel can do for links",
            advice="run this as root, with the packages iproute2 and util-linux installed",
        )
        return
    for name, ability in _ABILITIES.items():
        trial = readings.kernel.get(name, KernelTrial(works=False, answer="not tried"))
        if trial.works:
            yield Finding(name=name, level=Level.OK, finding="works")
        else:
            yield Finding(
                name=name,
                level=ability.level,
                finding=trial.answer or "does not work",
                meaning=ability.meaning,
                advice=ability.advice,
            )


def _privileged(readings: Readings) -> Finding:
    if can_run_privileged(readings.capabilities, readings.capabilities_all):
        return Finding(name="privileged", level=Level.OK, finding="the engine holds every capability")
    bits = missing_capabilities(readings.capabilities, readings.capabilities_all)
    return Finding(
        name="privileged",
        level=Level.WARN,
        finding=f"the engine lacks capabilities: {bits}",
        meaning="devices that need a privileged container cannot run here; all others can",
        advice="run on a machine whose root is not restricted, when you need such a device",
    )


def _capability(bit: int) -> str:
    return _CAPABILITIES[bit] if bit < len(_CAPABILITIES) else f"number {bit}"


def _landlock(readings: Readings) -> Finding:
    if readings.landlock:
        return Finding(name="landlock", level=Level.OK, finding=f"version {readings.landlock}")
    return Finding(
        name="landlock",
        level=Level.WARN,
        finding="the kernel has none, or it is off",
        meaning="readers of images have bounds of memory and time, but the kernel does not keep other files from them",
        advice="use a kernel with CONFIG_SECURITY_LANDLOCK, and with `landlock` in its list `lsm=`",
    )


def _forwarding(readings: Readings) -> Finding:
    if readings.ip_forward:
        return Finding(name="ip forwarding", level=Level.OK, finding="on")
    return Finding(
        name="ip forwarding",
        level=Level.WARN,
        finding="off" if readings.ip_forward is False else "unknown",
        meaning="nodes do not reach the world over the management network",
        advice="`sysctl -w net.ipv4.ip_forward=1`",
    )


def _subnet(readings: Readings) -> Finding:
    wanted = ipaddress.IPv4Network(readings.subnet)
    # Our own bridge may be there from an earlier run; its devices carry our prefix.
    clashes = [
        route
        for route in readings.routes
        if not route.device.startswith("wl")
        and (network := ipaddress.IPv4Network(route.network)).prefixlen > 0
        and network.overlaps(wanted)
    ]
    if not clashes:
        return Finding(name="management subnet", level=Level.OK, finding=f"{wanted} is free")
    listed = ", ".join(f"{route.network} on {route.device}" for route in clashes)
    return Finding(
        name="management subnet",
        level=Level.FAIL,
        finding=f"{wanted} overlaps with {listed}",
        meaning="management addresses of nodes would be unreachable, or hide part of your network",
        advice="choose another one with `management_subnet` in the settings",
    )


def _port(readings: Readings) -> Finding:
    if readings.port_owner == "other":
        return Finding(
            name="api port",
            level=Level.FAIL,
            finding=f"{readings.port} is taken by another program",
            meaning="the controller cannot listen",
            advice="choose another one with `listen_port` in the settings",
        )
    found = "the controller listens" if readings.port_owner == "wireloom" else "free"
    return Finding(name="api port", level=Level.OK, finding=f"{readings.port}: {found}")


def _disk(readings: Readings) -> Finding:
    free = f"{readings.disk_free / GIB:.1f} GiB free for {readings.data_dir}"
    if readings.disk_free >= 10 * GIB:
        return Finding(name="disk", level=Level.OK, finding=free)
    return Finding(
        name="disk",
        level=Level.WARN if readings.disk_free >= GIB else Level.FAIL,
        finding=free,
        meaning="disks of virtual machines grow while they run, and stop them when the room ends",
        advice="make room, or put `data_dir` elsewhere in the settings",
    )


def _memory(readings: Readings) -> Finding:
    total = f"{readings.memory_total / GIB:.1f} GiB"
    if readings.memory_total >= 2 * GIB:
        return Finding(name="memory", level=Level.OK, finding=total)
    return Finding(
        name="memory",
        level=Level.WARN,
        finding=total,
        meaning="only a few containers fit, and hardly a virtual machine",
        advice="give the machine at least 2 GiB",
    )
