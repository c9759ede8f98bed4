"""Wires to other hosts: which host devices to join to which tunnel, and what to tell the other hosts of our ends.

A port is joined as soon as it is there, the wire has its number, and the way to the other host is known. One whose way
is not known (any more) is left as it is: an address that nobody tells us is no reason to cut a wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from wireloom.model.network import TunnelPlan
from wireloom.model.slice import WireIntent
from wireloom.model.underlay import FarEnd, Way
from wireloom.planning.cabling import Cabling, is_let_go, is_shut

__all__ = ["dropped_tunnels", "may_join", "plan_tunnels", "told_ends", "tunnel_plan", "wanted_tunnels"]


def may_join(wire: WireIntent, cabling: Cabling) -> bool | None:
    """Whether ``wire`` should be joined; ``None``: it should be left as it is."""
    kept = any(cabling.keeps_carrier(ref) for ref in wire.ends)
    if not kept and (wire.remote is None or wire.remote.link_down != "cut"):
        return True
    return cabling.works(wire)


def tunnel_plan(wire: WireIntent, cabling: Cabling) -> TunnelPlan | None:
    """How the local end of ``wire`` is joined; without a ``remote`` address where the way there is not known.

    ``None``: the wire has no end here, or no number.
    """
    device = cabling.device(wire.local_ends[0])
    if wire.remote is None or device is None or not wire.remote.vni:
        return None
    way = cabling.observed.ways.get((wire.remote.host, wire.remote.encryption), Way())
    return TunnelPlan(device=device, remote=way.remote, local=way.local, vni=wire.remote.vni, mtu=wire.mtu)


def wanted_tunnels(cabling: Cabling) -> Mapping[str, TunnelPlan]:
    """By device, whether the port is there or not, of all that are not to be cut."""
    found = (tunnel_plan(wire, cabling) for wire in cabling.remote_wires if may_join(wire, cabling) is not False)
    return {plan.device: plan for plan in found if plan is not None}


def plan_tunnels(cabling: Cabling) -> Iterator[TunnelPlan]:
    """Ports to be joined to other hosts, or otherwise than they are."""
    for wire in cabling.remote_wires:
        plan = tunnel_plan(wire, cabling)
        port = cabling.ports.get(plan.device) if plan is not None else None
        if plan is None or port is None or not plan.remote or not may_join(wire, cabling):
            continue
        alone = port.peer is None and port.segment is None
        if not alone or port.tunnel != plan.tunnel or port.mtu != plan.mtu:
            yield plan


def dropped_tunnels(cabling: Cabling, wanted: Mapping[str, TunnelPlan], moved: Iterable[str]) -> Iterator[str]:
    """Devices that lead to another host and should not; ``moved``: those that another step of the plan ends."""
    leaving = set(moved)
    for device, port in sorted(cabling.ports.items()):
        plan = wanted.get(device)
        if port.tunnel is not None and device not in leaving and (plan is None or plan.vni != port.tunnel.vni):
            yield device


def told_ends(cabling: Cabling) -> Mapping[str, tuple[FarEnd, ...]]:
    """What other hosts are to be told of our ends, by host."""
    told: dict[str, list[FarEnd]] = {}
    for wire in cabling.remote_wires:
        if wire.remote is None:
            continue
        ref = wire.local_ends[0]
        port = cabling.ports.get(cabling.device(ref) or "")
        end = FarEnd(
            id=wire.id,
            up=wire.up,
            alive=cabling.alive(ref),
            programmed=port is not None and port.tunnel is not None and port.tunnel.vni == wire.remote.vni,
            shut=port is not None and (is_shut(port) or is_let_go(port)),
        )
        told.setdefault(wire.remote.host, []).append(end)
    return {host: tuple(ends) for host, ends in told.items()}
