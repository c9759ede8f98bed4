"""What a plan of a wire to another host has to keep. Pure; for every data plane."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from wireloom.errors import InvalidInput
from wireloom.model.network import TunnelPlan

__all__ = ["HIGHEST_VNI", "refuse_unfit_tunnels"]

#: A VXLAN network identifier has 24 bits (RFC 7348); 0 is left to others.
HIGHEST_VNI: Final = 2**24 - 1


def refuse_unfit_tunnels(plans: Sequence[TunnelPlan]) -> None:
    """:raises InvalidInput: two share a device or a number, or one has an address or number that cannot be used."""
    devices: set[str] = set()
    numbers: set[int] = set()
    for plan in plans:
        problem = _problem(plan)
        if plan.device in devices:
            problem = "the device is in two of them"
        elif plan.vni in numbers:
            problem = f"another one has the number {plan.vni}, too"
        if problem:
            raise InvalidInput(f"{plan.device} cannot be joined to another host: {problem}", details=_details(plan))
        devices.add(plan.device)
        numbers.add(plan.vni)


def _details(plan: TunnelPlan) -> dict[str, object]:
    return {"device": plan.device, "remote": plan.remote, "vni": plan.vni}


def _problem(plan: TunnelPlan) -> str:
    if not 1 <= plan.vni <= HIGHEST_VNI:
        return f"the number {plan.vni} is not between 1 and {HIGHEST_VNI}"
    try:
        remote = ipaddress.ip_address(plan.remote)
        local = ipaddress.ip_address(plan.local) if plan.local else None
    except ValueError as error:
        return str(error)
    if remote.is_multicast or remote.is_unspecified:
        return f"{remote} is no address of one host"
    if local is not None and local.version != remote.version:
        return f"{local} and {remote} are of two versions of IP"
    return ""
