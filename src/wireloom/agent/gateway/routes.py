"""The host's own routes: a network of ours must not hide any of them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping

from wireloom.commands import run
from wireloom.errors import Conflict, DataPlaneFailed

__all__ = ["clashing_routes", "refuse_clash"]


def clashing_routes(routes: Iterable[Mapping[str, object]], subnet: str, own_device: str) -> list[str]:
    """Routes of the host (as ``ip -j route`` tells them) that overlap with ``subnet``, in words."""
    wanted = ipaddress.IPv4Network(subnet)
    found = []
    for route in routes:
        target, device = str(route.get("dst", "default")), str(route.get("dev", ""))
        if target == "default" or device == own_device:
            continue
        network = ipaddress.IPv4Network(target, strict=False)
        if network.prefixlen > 0 and network.overlaps(wanted):
            found.append(f"{network} on {device or 'no device'}")
    return found


async def refuse_clash(subnet: str, own_device: str, *, what: str, hint: str) -> None:
    """:raises Conflict: ``subnet`` of ``what`` overlaps with a route of the host that is not by ``own_device``."""
    result = await run("ip", "-j", "-4", "route", "show")
    if result.code != 0:
        raise DataPlaneFailed(f"the host's routes cannot be read: {result.errors}")
    clashes = clashing_routes(json.loads(result.output or "[]"), subnet, own_device)
    if clashes:
        raise Conflict(
            f"{what} {subnet} overlaps with {', '.join(clashes)}",
            hint=hint,
            details={"subnet": subnet, "routes": clashes},
        )
