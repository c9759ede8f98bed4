"""Whose carrier to raise and whose to drop, so that links behave like cables.

A port has carrier while the user wants its link up, both nodes are alive and the guest at the far end has not shut
its own port, nor its hypervisor let go of it. Where both guests have shut theirs, both carriers stay up: only a port
that is up can tell when its guest comes back, so dropping both would blind us to it, and raise and drop them for ever.
A node whose engine does not answer may well be alive: the carriers of its links stay as they are. Of an end on another
host the last word of that host holds; until its first one the carrier stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from wireloom.model.slice import PortIntent, PortRef, WireIntent
from wireloom.planning.cabling import ALIVE, Cabling, is_let_go, is_shut

__all__ = ["plan_carriers"]


def plan_carriers(cabling: Cabling) -> tuple[dict[str, bool], dict[str, dict[int, bool]]]:
    """What to change: by host device, and by node id and port index for what its provider does."""
    desired = _desired(cabling)
    on_device: dict[str, bool] = {}
    on_runtime: dict[str, dict[int, bool]] = {}
    for node in cabling.nodes.values():
        runtime = cabling.observed.runtimes.get(node.id)
        capabilities = cabling.observed.capabilities.get(node.provider)
        if capabilities is None or runtime is None or runtime.phase not in ALIVE:
            continue
        by_provider = capabilities.carrier == "provider"
        for port in node.ports:
            up = _wanted(port, desired)
            if up is None:
                continue
            host_port = cabling.ports.get(port.device)
            if host_port is not None and host_port.up != (up or by_provider):
                on_device[port.device] = up or by_provider
            if by_provider and node.id not in cabling.touched and runtime.carriers.get(port.index, up) != up:
                on_runtime.setdefault(node.id, {})[port.index] = up
    return on_device, on_runtime


def _wanted(port: PortIntent, desired: Mapping[str, bool | None]) -> bool | None:
    """A data port without a link has no carrier, like one without a cable."""
    return True if port.role == "mgmt" else desired.get(port.device, False)


def _desired(cabling: Cabling) -> dict[str, bool | None]:
    """Whether a linked port's carrier should be up, by device; ``None``: nobody knows, leave it."""
    desired: dict[str, bool | None] = {}
    for wire in cabling.wires:
        desired |= _ends(cabling, wire)
    for plug in cabling.plugs:
        device = cabling.device(plug.port)
        if device is not None:
            desired[device] = plug.up or cabling.keeps_carrier(plug.port)
    return desired


def _ends(cabling: Cabling, wire: WireIntent) -> dict[str, bool | None]:
    works = cabling.works(wire)
    desired: dict[str, bool | None] = {}
    for ref in wire.local_ends:
        port = cabling.port(ref)
        if port is None:
            continue
        if cabling.keeps_carrier(ref):
            desired[port.device] = True
        elif works and (shut := _far_is_shut(cabling, wire, ref)) is not None:
            desired[port.device] = not shut or is_shut(cabling.ports[port.device])
        else:
            desired[port.device] = works
    return desired


def _far_is_shut(cabling: Cabling, wire: WireIntent, ref: PortRef) -> bool | None:
    """Whether the end of ``wire`` beyond ``ref`` is shut, or was let go; ``None``: it is not in the lab."""
    if wire.remote is not None:
        told = cabling.far(wire)
        return told.shut if told is not None else None
    far = cabling.port(wire.b if ref == wire.a else wire.a)
    return None if far is None else is_shut(cabling.ports[far.device]) or is_let_go(cabling.ports[far.device])
