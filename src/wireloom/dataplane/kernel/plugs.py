"""Ports in bridges, ours and those of others. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from wireloom.dataplane.host import bridges, links, traffic
from wireloom.dataplane.host.joiner import Admission
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.mtu import mend_mtu
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Outcome, Request, failure
from wireloom.dataplane.kernel import firewall
from wireloom.dataplane.kernel.firewall import Passage
from wireloom.dataplane.kernel.segments import Segments, read_vlans
from wireloom.dataplane.kernel.wires import Wires
from wireloom.errors import Conflict, DataPlaneFailed, NotFound, Unsupported, WireloomError
from wireloom.model.network import PlugPlan, PortAlias
from wireloom.model.vlans import Vlans

__all__ = ["Plugs"]

#: The greatest first byte of an address that is no group's and locally administered.
_HIGH_PREFIX: Final = b"\xfe"


class Plugs:
    """The ports of one installation that are in bridges."""

    def __init__(self, netlink: Netlink, segments: Segments, wires: Wires) -> None:
        self._netlink = netlink
        self._segments = segments
        self._wires = wires

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> dict[str, tuple[str, Vlans | None]]:
        """Which of ``ports`` are in which bridge of ``found``, and as which port of it.

        One that is shut up there is taken out: whoever put it in or took it out was killed on the way.
        """
        masters = {link.index: link for link in found}
        halfway = self._take_out_halfway([link for link in ports if link.master in masters])
        inside = [(link, masters[link.master]) for link in ports if link.master in masters and link.name not in halfway]
        filtering = any(bridge.tagging != "none" for _, bridge in inside)
        vlans = read_vlans(self._netlink) if filtering else {}
        return {
            link.name: (bridge.name, bridges.read_vlans(vlans.get(link.index, ())) if self._tells(bridge) else None)
            for link, bridge in inside
        }

    def admit(self, ports: Sequence[Admission]) -> Mapping[str, DataPlaneFailed]:
        """Put new ports into the segments that they name, and keep the others apart; what failed, by device."""
        masters = look_up(self._netlink, sorted({port.segment for port in ports if port.segment}))
        problems: dict[str, DataPlaneFailed] = {}
        requests: list[Request] = []
        for port in ports:
            if port.segment and port.segment not in masters:
                problems[port.device] = failure(errno.ENODEV, "plug into the segment", port.segment)
            elif port.segment:
                bridge = masters[port.segment]
                vlans = Vlans.access() if bridge.tagging != "none" else None
                requests += _plug(port.device, port.index, bridge.index, vlans)
            elif not port.master:
                requests += traffic.apart(port.index, port.device)
        for outcome in self._netlink.batch(requests):
            if outcome.failed:
                problems.setdefault(outcome.request.device, outcome.failure())
        return problems

    def ensure(self, plans: Sequence[PlugPlan]) -> None:
        """Put devices into bridges, as the ports that they are to be; one that is refused does not stop the others.

        :raises Conflict: a bridge of somebody else's has another MTU. :raises Unsupported: or does not filter VLANs.
        :raises DataPlaneFailed: the kernel refused.
        """
        found = look_up(self._netlink, dict.fromkeys(name for plan in plans for name in (plan.device, plan.segment)))
        refused: list[WireloomError] = []
        chosen: list[tuple[PlugPlan, Link, Link]] = []
        for plan in plans:
            device, bridge = found.get(plan.device), found.get(plan.segment)
            if device is None or bridge is None:
                continue
            problem = self._problem(plan, bridge)
            if problem is None:
                chosen.append((plan, device, bridge))
            else:
                refused.append(problem)
        outcomes = mend_mtu(self._netlink, [(device, plan.mtu) for plan, device, _ in chosen])
        check(outcomes + self._put_in(chosen))
        if refused:
            raise refused[0]

    def remove(self, devices: Sequence[str]) -> None:
        """Take devices out of bridges, and fence them again."""
        found = look_up(self._netlink, devices)
        requests: list[Request] = []
        for link in found.values():
            if link.master:
                # The fence first: the host must never hear the guest.
                requests += traffic.apart(link.index, link.name)
                requests.append(links.enslave(link.name, 0))
        check(self._netlink.batch(requests))
        self._forget({link.master for link in found.values()}, ())

    def _take_out_halfway(self, inside: Sequence[Link]) -> set[str]:
        """Those of the ports in bridges that have a fence or a wire all the same, out of their bridges now."""
        asked = [
            question(link.index, link.name) for link in inside for question in (traffic.get_fence, traffic.get_redirect)
        ]
        outcomes = self._netlink.batch(asked)
        check(outcomes)
        halfway = {outcome.request.device for outcome in outcomes if outcome.replies}
        leaving = [link for link in inside if link.name in halfway]
        check(self._netlink.batch([traffic.clear_redirect(link.index, link.name) for link in leaving]))
        self.remove([link.name for link in leaving])
        return halfway

    def leave(self, devices: Sequence[str]) -> None:
        """Devices are about to go."""
        going = set(devices)
        # One dump of all is cheaper than a question about each.
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        self._forget({link.master for link in found if link.name in going}, going)

    def refuse_missing(self, name: str) -> None:
        """:raises NotFound: there is no such bridge. :raises Conflict: it is none."""
        bridge = look_up(self._netlink, [name]).get(name)
        if bridge is None:
            raise NotFound(f"this host has no bridge {name}", details={"device": name})
        if bridge.kind != "bridge":
            raise Conflict(f"{name} is no bridge", details={"device": name})

    def _tells(self, bridge: Link) -> bool:
        """Whether a port of this bridge is in VLANs that we said."""
        return bridge.tagging != "none" and self._segments.is_mine(bridge)

    def _problem(self, plan: PlugPlan, bridge: Link) -> WireloomError | None:
        """Why the plan cannot be had; a bridge of somebody else's is taken as it is."""
        if not self._segments.is_foreign(bridge):
            return None
        details = {"device": plan.device}
        if plan.vlans is not None:
            return Unsupported(
                f"{bridge.name} is not Wireloom's: its VLANs are not for links to choose",
                hint="leave vlan and trunk out, or use a segment of kind switch",
                details=details,
            )
        if plan.mtu != bridge.mtu:
            # A bridge takes over the least MTU of its ports, and this one's is not ours to change.
            return Conflict(
                f"the bridge {bridge.name} has an MTU of {bridge.mtu}, the segment {plan.mtu}",
                hint=f"give the segment mtu: {bridge.mtu}",
                details=details,
            )
        return None

    def _put_in(self, chosen: Sequence[tuple[PlugPlan, Link, Link]]) -> list[Outcome]:
        filtering = any(bridge.tagging != "none" for _, _, bridge in chosen)
        present = read_vlans(self._netlink) if filtering else {}
        # A port in no bridge may be wired: what its peer sends must not come out of it any more.
        requests = self._wires.leave([device for _, device, _ in chosen if not device.master])
        for plan, device, bridge in chosen:
            vlans = plan.vlans or (Vlans.access() if self._tells(bridge) else None)
            if self._segments.is_foreign(bridge):
                requests += _plug_as_it_is(device, bridge)
                continue
            if device.master != bridge.index:
                requests += _plug(device.name, device.index, bridge.index, vlans)
                continue
            if vlans is not None:
                requests += bridges.set_vlans(device.index, device.name, present.get(device.index, ()), vlans)
            # Whoever put it in may have been killed before it was opened; its detour stays.
            requests += [
                links.forward_groups(device.index, device.name),
                traffic.clear_redirect(device.index, device.name),
                traffic.clear_fence(device.index, device.name),
            ]
        foreign = sorted({bridge.name for _, _, bridge in chosen if self._segments.is_foreign(bridge)})
        if foreign:
            firewall.accept(*(Passage(name, foreign=True) for name in foreign))
        return self._netlink.batch(requests)

    def _forget(self, left: set[int], going: Collection[str]) -> None:
        """Take back what the firewall was told for bridges of others that ports left, if they were the last of ours.

        :param left: indexes of bridges, 0 among them for ports that were in none. :param going: ports about to go.
        """
        if not left - {0}:
            return
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        used = {link.master for link in found if link.name not in going and PortAlias.parse(link.alias)}
        for link in found:
            if link.index in left - used and self._segments.is_foreign(link):
                firewall.forget(link.name)


def _plug(device: str, index: int, bridge: int, vlans: Vlans | None) -> list[Request]:
    requests = [links.enslave(device, bridge), links.forward_groups(index, device)]
    if vlans is not None:
        requests += bridges.set_vlans(index, device, (), vlans)
    # Last: until now its frames went where its wire led, and from now on they go to the bridge.
    requests.append(traffic.no_ingress(index, device))
    return requests


def _plug_as_it_is(device: Link, bridge: Link) -> list[Request]:
    """Put a port into a bridge of somebody else's, who has decided what it forwards."""
    if device.master == bridge.index:
        return [traffic.clear_redirect(device.index, device.name), traffic.clear_fence(device.index, device.name)]
    # A bridge takes over the least address of its ports, and with it the host would change its own.
    return [
        links.set_address(device.name, _HIGH_PREFIX + device.address[1:]),
        links.enslave(device.name, bridge.index),
        traffic.no_ingress(device.index, device.name),
    ]
