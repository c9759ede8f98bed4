"""Joining by plain kernel means: redirection for wires, bridges for segments."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from wireloom.dataplane.host import links, traffic
from wireloom.dataplane.host.joiner import Admission, Joins
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Request, failure
from wireloom.dataplane.kernel import firewall
from wireloom.dataplane.kernel.segments import Segments
from wireloom.dataplane.kernel.wires import Wires, read_targets
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import DataPlaneAbilities, PlugPlan, PortAlias, SegmentPlan, WirePlan

__all__ = ["KernelJoiner"]


class KernelJoiner:
    """See :class:`~wireloom.dataplane.host.joiner.Joiner`."""

    def __init__(self, netlink: Netlink, installation: str) -> None:
        self._netlink = netlink
        self._installation = installation
        self._wires = Wires(netlink)
        self._segments = Segments(netlink, installation)

    def abilities(self) -> DataPlaneAbilities:
        return DataPlaneAbilities(name="kernel")

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> Joins:
        names = {link.index: link.name for link in found}
        targets = read_targets(self._netlink, {link.index: link.name for link in ports if not link.master})
        peers = {link.name: names.get(targets.get(link.index, 0)) for link in ports}
        return Joins(
            peers={device: peer for device, peer in peers.items() if peer is not None},
            plugs={link.name: (names[link.master], None) for link in ports if link.master in names},
            segments=self._segments.observe(found),
        )

    def admit(self, ports: Sequence[Admission]) -> Mapping[str, DataPlaneFailed]:
        masters = look_up(self._netlink, sorted({port.segment for port in ports if port.segment}))
        problems: dict[str, DataPlaneFailed] = {}
        requests: list[Request] = []
        for port in ports:
            if port.segment and port.segment not in masters:
                problems[port.device] = failure(errno.ENODEV, "plug into the segment", port.segment)
            elif port.segment:
                requests += _plug(port.device, port.index, masters[port.segment].index)
            elif not port.master:
                requests += traffic.apart(port.index, port.device)
        for outcome in self._netlink.batch(requests):
            if outcome.failed:
                problems.setdefault(outcome.request.device, outcome.failure())
        return problems

    def release(self, devices: Sequence[str]) -> None:
        """Redirections and bridge ports go with their devices."""

    def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        self._wires.ensure(wires)

    def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        self._wires.remove(wires)

    def ensure_segment(self, segment: SegmentPlan) -> None:
        self._segments.ensure(segment)
        firewall.accept_segment(segment.name)

    def remove_segment(self, name: str) -> None:
        if self._segments.remove(name):
            firewall.forget_segment(name)

    def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        """Put devices into bridges; those that are there already are left alone."""
        found = look_up(self._netlink, dict.fromkeys(name for plug in plugs for name in (plug.device, plug.segment)))
        requests: list[Request] = []
        for plug in plugs:
            device, bridge = found.get(plug.device), found.get(plug.segment)
            if device is None or bridge is None or device.master == bridge.index:
                continue
            requests += _plug(device.name, device.index, bridge.index)
        check(self._netlink.batch(requests))

    def remove_plugs(self, devices: Sequence[str]) -> None:
        """Take devices out of bridges, and fence them again."""
        found = look_up(self._netlink, devices)
        requests: list[Request] = []
        for link in found.values():
            if link.master:
                # The fence first: the host must never hear the guest.
                requests += traffic.apart(link.index, link.name)
                requests.append(links.enslave(link.name, 0))
        check(self._netlink.batch(requests))

    def withdraw(self) -> None:
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        requests: list[Request] = []
        for link in found:
            alias = PortAlias.parse(link.alias)
            if alias is not None and alias.installation == self._installation:
                requests += traffic.apart(link.index, link.name)
                requests.append(traffic.clear_redirect(link.index, link.name))
        check(self._netlink.batch(requests))
        for name in self._segments.observe(found):
            self.remove_segment(name)

    def close(self) -> None:
        """Nothing of its own is open."""


def _plug(device: str, index: int, bridge: int) -> list[Request]:
    return [
        links.enslave(device, bridge),
        links.forward_groups(index, device),
        # Last: until now its frames went where its wire led, and from now on they go to the bridge.
        traffic.no_ingress(index, device),
    ]
