"""Reading a machine: for ``wireloom doctor`` everything, for an agent's heartbeat the little that it says of its host.

Every reading is bounded in time, changes nothing, and never raises for what it finds.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

from wireloom import __version__
from wireloom.agent.machine import Machine, engine_capabilities, try_kernel
from wireloom.agent.probes import Readings, Route, parse_trial
from wireloom.fabric.documents import HostFacts
from wireloom.library.confine import landlock_version
from wireloom.model.device import CPU_FLAGS
from wireloom.settings import Settings

__all__ = ["host_facts", "parse_routes", "parse_trial", "read_machine"]

SOCKET_TIMEOUT_S: Final = 3.0

#: Where each engine listens; the modular daemons of newer libvirt count as well.
ENGINE_SOCKETS: Final = {
    "docker": ("/run/docker.sock", "/var/run/docker.sock"),
    "libvirtd": ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"),
    "virtlogd": ("/run/libvirt/virtlogd-sock",),
}
TOOLS: Final = ("nats-server", "dnsmasq", "qemu-img", "qemu-system-x86_64", "iptables", "tcpdump", "tshark", "zstd")

#: Each line tries one ability, in order, in a network namespace that ends with this shell.
_TRIAL: Final = """
t veth ip link add wlp0 type veth peer name wlp1
t tap ip tuntap add dev wlp2 mode tap
t bridge ip link add wlp3 type bridge
t vxlan ip link add wlp4 type vxlan id 7 dstport 4789 local 127.0.0.1
t "tc ingress" tc qdisc add dev wlp0 ingress
t "tc redirect" tc filter add dev wlp0 parent ffff: protocol all \\
  u32 match u32 0 0 action mirred egress redirect dev wlp1
t netem tc qdisc add dev wlp1 root netem delay 1ms
t 8021q ip link add link wlp0 name wlp5 type vlan id 5
t nat iptables -t nat -A POSTROUTING -j MASQUERADE
"""


def read_machine(settings: Settings, *, kvm: bool, kvm_reason: str, static_busybox: str | None) -> Readings:
    """Everything that :func:`~wireloom.agent.probes.judge` wants to know. Takes up to about half a minute.

    :param kvm: whether virtual machines would be accelerated, as their provider decides; ``kvm_reason`` says why.
    :param static_busybox: the busybox that the start gate would use.
    """
    kernel, kernel_problem = try_kernel(_TRIAL)
    capabilities, known = engine_capabilities()
    return Readings(
        root=os.geteuid() == 0,
        sockets={name: any(_accepts(path) for path in paths) for name, paths in ENGINE_SOCKETS.items()},
        tools={name: shutil.which(name) for name in TOOLS},
        static_busybox=static_busybox,
        kvm=kvm,
        kvm_reason=kvm_reason,
        kernel=kernel,
        kernel_problem=kernel_problem,
        capabilities=capabilities,
        capabilities_all=known,
        landlock=landlock_version(),
        ip_forward=_ip_forward(),
        data_dir=str(settings.data_dir),
        disk_free=_disk_free(settings.data_dir),
        memory_total=_memory_total(),
        port=f"{settings.listen_host}:{settings.listen_port}",
        port_owner=_port_owner(settings),
        subnet=settings.management_subnet,
        routes=parse_routes(Path("/proc/net/route").read_text()),
    )


def host_facts(
    settings: Settings, *, installation: str, kvm: bool, kvm_reason: str, machine: Machine | None = None
) -> HostFacts:
    """What an agent says of its host, as far as the machine itself tells it. Cheap enough for every heartbeat.

    :param machine: readings that are kept from one heartbeat to the next.
    """
    return HostFacts(
        host=settings.host,
        version=__version__,
        installation=installation,
        time=time.time(),
        kernel=platform.release(),
        os=_os_name(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=_memory_total() >> 20,
        kvm=kvm,
        kvm_reason=kvm_reason,
        nested=kvm and _nested(),
        cpu_flags=_cpu_flags(),
        management_subnet=settings.management_subnet,
        **(machine.read() if machine is not None else {}),
    )


@cache
def _cpu_flags() -> tuple[str, ...]:
    """The CPU's flags that a device may need; they stay as they are while the host is up."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return tuple(flag for flag in CPU_FLAGS if flag in flags)


def _nested(modules: Path = Path("/sys/module")) -> bool:
    """Whether guests can have hardware acceleration themselves, as the kernel's module is set."""
    for module in ("kvm_intel", "kvm_amd"):
        try:
            return (modules / module / "parameters" / "nested").read_text().strip() in {"1", "Y", "y"}
        except OSError:
            continue
    return False


def _accepts(path: str) -> bool:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(SOCKET_TIMEOUT_S)
        try:
            connection.connect(path)
        except OSError:
            return False
    return True


def _ip_forward() -> bool | None:
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return None


def _disk_free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _memory_total() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _port_owner(settings: Settings) -> str:
    """Who listens on the API's port; asked by binding it, which another listener prevents."""
    family = socket.AF_INET6 if ":" in settings.listen_host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listen_host, settings.listen_port))
        except OSError:
            return "wireloom" if _is_our_controller(settings) else "other"
    return ""


def _is_our_controller(settings: Settings) -> bool:
    try:
        document = json.loads(settings.paths.controller_file.read_text())
        return str(document["url"]).endswith(f":{settings.listen_port}") and Path(f"/proc/{document['pid']}").exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def parse_routes(table: str) -> tuple[Route, ...]:
    """The routes in ``/proc/net/route``: addresses and masks are little-endian hexadecimal."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return tuple(
        Route(network=f"{_address(row[1])}/{int(row[7], 16).bit_count()}", device=row[0])
        for row in rows
        if len(row) > 7
    )


def _address(hexadecimal: str) -> str:
    return socket.inet_ntoa(int(hexadecimal, 16).to_bytes(4, "little"))
