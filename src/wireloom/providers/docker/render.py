"""The body of a container's create request, as a pure function of spec, settings and image."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

from wireloom.errors import InvalidInput
from wireloom.model.base import Value
from wireloom.model.identity import LABEL_INCARNATION, LABEL_SPEC
from wireloom.model.runtime import RuntimeSpec
from wireloom.model.slice import Bind
from wireloom.providers.docker.gate import GATE_SHELL, GATE_TARGET, gate_folder, gate_script
from wireloom.providers.docker.settings import DockerSettings

__all__ = ["ImageConfig", "guest_command", "render_create"]

MIB: Final = 1024 * 1024
CPU_PERIOD_US: Final = 100_000
CPU_QUOTA_MIN_US: Final = 1_000  # the kernel's smallest quota

#: The engine turns IPv6 off in a container without a network of its own; a router wants it.
IPV6_SYSCTLS: Final = {
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
}

#: The engine's default log driver may be one that cannot be read back; the size is bounded.
LOG_CONFIG: Final = {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}}

_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ImageConfig(Value):
    """What an image says of itself: its content id, and the program it starts."""

    digest: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


def guest_command(settings: DockerSettings, image: ImageConfig) -> list[str]:
    """The program that runs behind the gate: settings before image, as the engine merges them.

    :raises InvalidInput: neither names one.
    """
    if settings.entrypoint is not None:
        found = [*settings.entrypoint, *(settings.command or ())]
    else:
        found = [*image.entrypoint, *(image.command if settings.command is None else settings.command)]
    if not found:
        raise InvalidInput("the image names no program to start", hint="give the node a 'command' setting")
    return found


def render_create(
    spec: RuntimeSpec, settings: DockerSettings, image: ImageConfig, *, ipv6: bool = True
) -> dict[str, Any]:
    """The JSON body for ``POST /containers/create``; ``ipv6``: the host's kernel has it."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Hostname": spec.hostname,
        "Labels": {
            **spec.identity.labels(),
            LABEL_INCARNATION: str(spec.incarnation),
            LABEL_SPEC: spec.spec_hash,
        },
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Tty": settings.tty,
        "OpenStdin": settings.open_stdin,
        "Entrypoint": [GATE_SHELL, "sh", "-c", gate_script(_unusual_env(spec, image)), "gate"],
        "Cmd": guest_command(settings, image),
        "Healthcheck": {"Test": ["NONE"]},  # it would run code of the image before the gate opens
        "HostConfig": _host_config(spec, settings, ipv6=ipv6),
    }
    if settings.user is not None:
        body["User"] = settings.user
    return body


def _host_config(spec: RuntimeSpec, settings: DockerSettings, *, ipv6: bool) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": "none",
        "RestartPolicy": {"Name": "no"},  # the agent alone starts nodes
        "LogConfig": LOG_CONFIG,
        # A quota, because NanoCpus refuses more cores than the host has, and a limit above them is no mistake.
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": max(CPU_QUOTA_MIN_US, round(spec.cpu * CPU_PERIOD_US)),
        "Memory": spec.memory_mb * MIB,
        "MemorySwap": spec.memory_mb * MIB,
        "Mounts": [
            _mount(Bind(source=str(gate_folder(spec.folder)), target=GATE_TARGET, read_only=True)),
            *(_mount(bind) for bind in spec.binds),
        ],
        "Dns": list(spec.dns_servers),
        "DnsSearch": list(spec.dns_search),
        "CapAdd": list(settings.cap_add),
        "Privileged": settings.privileged,
        "Sysctls": _sysctls(settings, ipv6=ipv6),
        "Devices": [_device(text) for text in settings.devices],
        "Tmpfs": dict(settings.tmpfs),
    }
    if settings.shm_size_mb is not None:
        host["ShmSize"] = settings.shm_size_mb * MIB
    return host


def _sysctls(settings: DockerSettings, *, ipv6: bool) -> dict[str, str]:
    """Without IPv6 the kernel has none of its settings, and what they would switch off is not there."""
    wanted = {name: str(value) for name, value in settings.sysctls.items()}
    if ipv6:
        return IPV6_SYSCTLS | wanted
    return {name: value for name, value in wanted.items() if not name.startswith("net.ipv6.")}


def _mount(bind: Bind) -> dict[str, Any]:
    return {"Type": "bind", "Source": bind.source, "Target": bind.target, "ReadOnly": bind.read_only}


def _device(text: str) -> dict[str, str]:
    source, _, rest = text.partition(":")
    target, _, rights = rest.partition(":")
    return {"PathOnHost": source, "PathInContainer": target or source, "CgroupPermissions": rights or "rwm"}


def _unusual_env(spec: RuntimeSpec, image: ImageConfig) -> list[str]:
    """``NAME=value`` pairs that a shell would lose on the way, because the name is no shell variable."""
    pairs = dict(item.partition("=")[::2] for item in image.env) | spec.env
    return [shlex.quote(f"{name}={value}") for name, value in pairs.items() if not _SHELL_NAME.fullmatch(name)]
