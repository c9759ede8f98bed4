"""Host ports of a domain, as the host and its emulator have them."""

from __future__ import annotations

import socket

from wireloom.errors import RuntimeFailed
from wireloom.providers.libvirt import process
from wireloom.providers.libvirt.domains import Domain

__all__ = ["check_taps_exist", "lost_taps"]


def check_taps_exist(domain: Domain) -> None:
    """:raises RuntimeFailed: the data plane has not made them."""
    existing = {name for _index, name in socket.if_nameindex()}
    missing = sorted(set(domain.devices.values()) - existing)
    if missing:
        raise RuntimeFailed(
            f"host ports do not exist: {', '.join(missing)}",
            hint="the data plane makes them before a start",
            details={"devices": missing},
        )


def lost_taps(domain: Domain) -> frozenset[str]:
    """Host ports that the emulator no longer holds, because they were deleted or made anew."""
    pid = process.process_id(domain.name, domain.uuid)
    if pid is None:
        return frozenset()
    return frozenset(domain.devices.values()) - process.held_taps(pid)
