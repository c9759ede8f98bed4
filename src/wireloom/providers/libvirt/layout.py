"""Where a virtual machine keeps its files: pure functions of the runtime's spec.

::

    <folder>/storage/   system-…, extra-… disks, firmware variables
    <folder>/console/   serial<n>.sock, vnc.sock, agent.sock
    <folder>/logs/      serial<n>.log (this power-on), serial<n>.log.previous-1 … -3
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wireloom.errors import InvalidInput
from wireloom.model.identity import short_hash
from wireloom.model.runtime import RuntimeSpec

__all__ = [
    "agent_socket",
    "check_paths",
    "extra_disk",
    "is_system_disk",
    "nvram",
    "serial_log",
    "serial_socket",
    "system_disk",
    "vnc_socket",
]

#: sizeof(sun_path) is 108 with the closing NUL (unix(7)).
_SOCKET_PATH_LIMIT: Final = 107


def system_disk(spec: RuntimeSpec) -> Path:
    """The overlay on the image. Another image gets another overlay, so that no disk ever sits on a foreign base."""
    return spec.storage / f"system-{spec.incarnation}-{short_hash(spec.image, length=8)}.qcow2"


def is_system_disk(disk: Path) -> bool:
    """Whether :func:`system_disk` could have made that path."""
    return disk.name.startswith("system-") and disk.parent.name == "storage"


def extra_disk(spec: RuntimeSpec, number: int) -> Path:
    return spec.storage / f"extra{number}-{spec.incarnation}.qcow2"


def nvram(spec: RuntimeSpec) -> Path:
    return spec.storage / f"nvram-{spec.incarnation}.fd"


def serial_socket(spec: RuntimeSpec, line: int) -> Path:
    return spec.folder / "console" / f"serial{line}.sock"


def serial_log(spec: RuntimeSpec, line: int) -> Path:
    return spec.folder / "logs" / f"serial{line}.log"


def agent_socket(spec: RuntimeSpec) -> Path:
    return spec.folder / "console" / "agent.sock"


def vnc_socket(spec: RuntimeSpec) -> Path:
    return spec.folder / "console" / "vnc.sock"


def check_paths(spec: RuntimeSpec) -> None:
    """:raises InvalidInput: the node's folder is relative, or too deep for a UNIX socket."""
    if not spec.folder.is_absolute():
        raise InvalidInput("the node's folder must be an absolute path", node=spec.identity.node)
    length = len(str(serial_socket(spec, 0)).encode())
    if length > _SOCKET_PATH_LIMIT:
        raise InvalidInput(
            f"the path of the console socket would be {length} bytes long; the system allows {_SOCKET_PATH_LIMIT}",
            hint="use a shorter data folder",
            node=spec.identity.node,
        )
