"""One VXLAN device for each wire to another host, made and found again. Blocking: for the data plane's worker thread.

A device is named by its number, which is unique on a host as it is between hosts: a wire whose end here moves to
another port keeps its device. Its alias says which port it is for. What comes out of it, and what goes into it, is for
joiners to say; until they do it is fenced, so that nothing from another host reaches this host's own stack.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from wireloom.dataplane.host import links, traffic
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import disable_ipv6, look_up
from wireloom.dataplane.host.protocol import Outcome, Request
from wireloom.dataplane.host.traffic import Hook
from wireloom.dataplane.host.vxlan import DUMP_VXLANS, KIND, UDP_PORT, Vxlan, change_vxlan, new_vxlan, parse_vxlan
from wireloom.model.identity import device_name
from wireloom.model.network import PortAlias, Tunnel, TunnelAlias, TunnelPlan

__all__ = ["VxlanDevices", "device_of", "shown"]


def device_of(installation: str, vni: int) -> str:
    """The name of the device of a wire to another host."""
    return device_name("x", installation, vni)


def shown(device: Vxlan, *, whole: bool) -> Tunnel:
    """What a device joins its port to; ``whole``: frames pass both ways."""
    return Tunnel(remote=device.remote if whole and device.up else "", vni=device.vni, local=device.local)


class VxlanDevices:
    """Those of one installation.

    :param hook: where their fences hang.
    """

    def __init__(self, netlink: Netlink, installation: str, hook: Hook = "ingress") -> None:
        self._netlink = netlink
        self._installation = installation
        self._hook = hook

    def among(self, found: Sequence[Link]) -> dict[str, Vxlan]:
        """Ours, by name, read only where ``found`` (all devices) has any of the kind."""
        return self.all() if any(link.kind == KIND for link in found) else {}

    def all(self) -> dict[str, Vxlan]:
        """Ours, by name."""
        parsed = (parse_vxlan(body) for body in self._netlink.dump(DUMP_VXLANS))
        return {device.name: device for device in parsed if device is not None and self._is_mine(device)}

    def _is_mine(self, device: Vxlan) -> bool:
        """One without an alias was left by a crash between making and labelling it."""
        alias = TunnelAlias.parse(device.alias)
        if alias is None:
            return not device.alias and device.name == device_of(self._installation, device.vni)
        return alias.installation == self._installation

    def made_for(self, ports: Iterable[str]) -> list[Vxlan]:
        """Those that are labelled as of one of these ports."""
        wanted = set(ports)
        return [device for device in self.all().values() if _port_of(device) in wanted]

    def ensure(self, plans: Sequence[TunnelPlan], ports: Mapping[str, Link]) -> list[Outcome]:
        """Have the device of each plan, up and fenced; its port is one of ``ports``."""
        known = self.all()
        names = {plan.device: device_of(self._installation, plan.vni) for plan in plans}
        unfit = [plan for plan in plans if (old := known.get(names[plan.device])) and not _can_change(old, plan)]
        outcomes = self._netlink.batch([links.delete_link(names[plan.device]) for plan in unfit])
        for plan in unfit:
            del known[names[plan.device]]
        requests: list[Request] = []
        for plan in plans:
            requests += self._settle(plan, ports[plan.device], known.get(names[plan.device]))
        outcomes += self._netlink.batch(requests)
        for name in names.values():
            if name not in known:
                disable_ipv6(name)
        return outcomes + self._raise(names)

    def _settle(self, plan: TunnelPlan, port: Link, known: Vxlan | None) -> list[Request]:
        name = device_of(self._installation, plan.vni)
        owner = PortAlias.parse(port.alias)
        alias = TunnelAlias(installation=self._installation, device=plan.device, name=owner.name if owner else "")
        requests: list[Request] = []
        if known is None:
            requests.append(new_vxlan(name, plan))
        elif (known.remote, known.local) != (plan.tunnel.remote, plan.tunnel.local):
            requests.append(change_vxlan(name, plan))
        if known is None or known.alias != alias.text():
            requests.append(links.set_link(name, alias=alias.text()))
        if known is None:
            requests.append(links.quieten(name, ipv6=True))
        return requests

    def _raise(self, names: Mapping[str, str]) -> list[Outcome]:
        """Fence them first: what comes in from another host is not for this one."""
        found = look_up(self._netlink, names.values())
        requests: list[Request] = []
        for port, name in names.items():
            if name in found and not found[name].up:
                index = found[name].index
                requests += [traffic.ingress(index, port, self._hook), traffic.fence(index, port)]
                requests.append(links.set_link(index, name=port, up=True))
        return self._netlink.batch(requests)

    def remove(self, devices: Iterable[str]) -> None:
        """Remove devices by name."""
        check(self._netlink.batch(links.delete_together(list(devices))))


def _port_of(device: Vxlan) -> str:
    alias = TunnelAlias.parse(device.alias)
    return alias.device if alias else ""


def _can_change(device: Vxlan, plan: TunnelPlan) -> bool:
    """Whether a device can become that of ``plan``: the kernel keeps the version of IP and the UDP port of each."""
    old = ipaddress.ip_address(device.remote) if device.remote else None
    return old is not None and old.version == ipaddress.ip_address(plan.remote).version and device.port == UDP_PORT
