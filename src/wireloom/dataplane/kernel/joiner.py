"""Joining by plain kernel means: redirection for wires, bridges for segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wireloom.dataplane.host import addresses, links, traffic
from wireloom.dataplane.host.joiner import Admission, Joins
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.protocol import Request
from wireloom.dataplane.host.uplinks import Uplinks
from wireloom.dataplane.host.vlan_devices import refuse_without_vlan_devices
from wireloom.dataplane.kernel import firewall
from wireloom.dataplane.kernel.firewall import Passage
from wireloom.dataplane.kernel.plugs import Plugs
from wireloom.dataplane.kernel.segments import Segments
from wireloom.dataplane.kernel.trial import try_out
from wireloom.dataplane.kernel.tunnels import Tunnels
from wireloom.dataplane.kernel.wires import Wires, read_targets
from wireloom.errors import DataPlaneFailed, Unsupported
from wireloom.model.network import DataPlaneAbilities, PlugPlan, PortAlias, SegmentPlan, TunnelPlan, WirePlan

__all__ = ["KernelJoiner"]


class KernelJoiner:
    """See :class:`~wireloom.dataplane.host.joiner.Joiner`."""

    def __init__(self, netlink: Netlink, installation: str) -> None:
        self._netlink = netlink
        self._installation = installation
        self._wires = Wires(netlink)
        self._tunnels = Tunnels(netlink, installation, self._wires)
        self._segments = Segments(netlink, installation, Uplinks(netlink, installation))
        self._plugs = Plugs(netlink, self._segments, self._wires)
        self._able: DataPlaneAbilities | None = None

    def abilities(self) -> DataPlaneAbilities:
        self._able = try_out()
        return self._able

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> Joins:
        names = {link.index: link.name for link in found}
        targets = read_targets(self._netlink, {link.index: link.name for link in ports if not link.master})
        tunnels = self._tunnels.observe(found, targets)
        peers = {link.name: names.get(targets.get(link.index, 0)) for link in ports if link.name not in tunnels}
        return Joins(
            peers={device: peer for device, peer in peers.items() if peer is not None},
            tunnels=tunnels,
            plugs=self._plugs.observe(found, ports),
            segments=self._segments.observe(found),
            bridges=frozenset(link.name for link in found if self._segments.is_foreign(link)),
        )

    def admit(self, ports: Sequence[Admission]) -> Mapping[str, DataPlaneFailed]:
        return self._plugs.admit(ports)

    def release(self, devices: Sequence[str]) -> None:
        """Redirections and bridge ports go with their devices; the firewall knows of them too, and tunnels stay."""
        self._plugs.leave(devices)
        self._tunnels.leave(devices)

    def ensure_wires(self, wires: Sequence[WirePlan]) -> None:
        self._wires.ensure(wires)
        self._tunnels.leave(device for wire in wires for device in (wire.a, wire.b))

    def remove_wires(self, wires: Sequence[WirePlan]) -> None:
        self._wires.remove(wires)

    def ensure_tunnels(self, tunnels: Sequence[TunnelPlan]) -> None:
        self._tunnels.ensure(tunnels)

    def remove_tunnels(self, devices: Sequence[str]) -> None:
        self._tunnels.remove(devices)

    def ensure_segment(self, segment: SegmentPlan) -> None:
        if segment.foreign:
            self._plugs.refuse_missing(segment.name)
            return
        self._refuse_beyond_abilities(segment)
        self._segments.ensure(segment)
        firewall.accept(Passage(segment.name, host_speaks=self._segments.host_speaks(segment)))

    def remove_segment(self, name: str) -> None:
        if self._segments.remove(name):
            firewall.forget(name)

    def mend(self) -> None:
        """Of the firewall alone nobody hears when others change it."""
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        speaking = addresses.parse_owners(self._netlink.dump(addresses.DUMP_ADDRESSES))
        used = {link.master for link in found if self._is_my_port(link)}
        passages = []
        for link in found:
            if link.alias and self._segments.is_mine(link):
                passages.append(Passage(link.name, host_speaks=link.index in speaking))
            elif link.index in used and self._segments.is_foreign(link):
                passages.append(Passage(link.name, foreign=True))
        firewall.accept(*passages)

    def ensure_plugs(self, plugs: Sequence[PlugPlan]) -> None:
        self._plugs.ensure(plugs)
        self._tunnels.leave(plug.device for plug in plugs)

    def remove_plugs(self, devices: Sequence[str]) -> None:
        self._plugs.remove(devices)

    def plugged(self) -> Sequence[str]:
        return self._plugged(links.parse_links(self._netlink.dump(links.DUMP_LINKS)))

    def _plugged(self, found: Sequence[Link]) -> list[str]:
        # A device of Open vSwitch is a master, too.
        masters = {link.index for link in found if link.kind == "bridge"}
        return [link.name for link in found if link.master in masters and self._is_my_port(link)]

    def withdraw(self) -> None:
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        ports = [link for link in found if self._is_my_port(link)]
        self._plugs.remove(self._plugged(found))
        targets = read_targets(self._netlink, {link.index: link.name for link in ports})
        requests: list[Request] = []
        # A port without a wire is left as it is: it may be another data plane's already.
        for link in (link for link in ports if link.index in targets):
            requests += traffic.apart(link.index, link.name)
            requests.append(traffic.clear_redirect(link.index, link.name))
        check(self._netlink.batch(requests))
        self._tunnels.withdraw()
        for link in found:
            if link.alias and self._segments.is_mine(link):
                self.remove_segment(link.name)

    def close(self) -> None:
        """Nothing of its own is open."""

    def _is_my_port(self, link: Link) -> bool:
        alias = PortAlias.parse(link.alias)
        return alias is not None and alias.installation == self._installation

    def _refuse_beyond_abilities(self, segment: SegmentPlan) -> None:
        """:raises Unsupported: this kernel lacks what the segment needs."""
        able = self._able or self.abilities()
        if segment.tagging != "none" and (reason := able.qinq if segment.tagging == "802.1ad" else able.vlans):
            raise Unsupported(
                f"a switch with VLANs cannot be made: {reason}",
                hint="have this host use the data plane ovs, or a kernel with VLAN filtering",
                details={"device": segment.name},
            )
        refuse_without_vlan_devices(segment, able.vlan_devices)
