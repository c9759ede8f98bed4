"""Wires to other hosts: a port and its VXLAN device redirected to each other. Blocking: for the worker thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, raise_together
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.tunnels import VxlanDevices, device_of, shown
from wireloom.dataplane.host.vxlan import Vxlan
from wireloom.dataplane.kernel.wires import Wires, read_targets
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import Tunnel, TunnelPlan, WirePlan

__all__ = ["Tunnels"]


class Tunnels:
    """The wires of one installation that lead to other hosts."""

    def __init__(self, netlink: Netlink, installation: str, wires: Wires) -> None:
        self._netlink = netlink
        self._installation = installation
        self._devices = VxlanDevices(netlink, installation)
        self._wires = wires

    def observe(self, found: Sequence[Link], targets: Mapping[int, int]) -> dict[str, Tunnel]:
        """By port; devices that lead nowhere, because their port went or joined something else, are removed.

        :param found: all devices of the host. :param targets: where each port redirects to, both by index.
        """
        ours = {device.index: device for device in self._devices.among(found).values()}
        if not ours:
            return {}
        back = read_targets(self._netlink, {index: device.name for index, device in ours.items()})
        names = {link.index: link.name for link in found}
        joined: dict[str, Tunnel] = {}
        used: set[int] = set()
        for port, target in targets.items():
            if target in ours:
                used.add(target)
                joined[names[port]] = shown(ours[target], whole=back.get(target) == port)
        for index, port in back.items():
            if index not in used and port in names:
                used.add(index)
                joined.setdefault(names[port], shown(ours[index], whole=False))
        self._devices.remove(device.name for index, device in ours.items() if index not in used)
        return joined

    def ensure(self, plans: Sequence[TunnelPlan]) -> None:
        """Join each port to its device, both ways; one that does not exist is left out.

        :raises DataPlaneFailed: the kernel refused; the others are joined all the same.
        """
        ports = look_up(self._netlink, [plan.device for plan in plans])
        present = [plan for plan in plans if plan.device in ports]
        if not present:
            return
        names = {plan.device: device_of(self._installation, plan.vni) for plan in present}
        outcomes = self._devices.ensure(present, ports)
        problems = [outcome.failure() for outcome in outcomes if outcome.failed]
        # A number that is in use by somebody else has no device of ours, and its wire is left out here.
        try:
            self._wires.ensure([WirePlan(a=plan.device, b=names[plan.device], mtu=plan.mtu) for plan in present])
        except DataPlaneFailed as error:
            problems.append(error)
        self.leave(names, kept=names.values())
        raise_together(problems)

    def remove(self, ports: Sequence[str]) -> None:
        """Cut ports off from other hosts. Whatever else they are joined to by now stays."""
        found = look_up(self._netlink, ports)
        targets = read_targets(self._netlink, {link.index: name for name, link in found.items()})
        ours = self._devices.all()
        by_index = {device.index: device for device in ours.values()}
        joined: list[tuple[str, Vxlan]] = [
            (name, by_index[targets[link.index]]) for name, link in found.items() if targets.get(link.index) in by_index
        ]
        self._wires.remove([WirePlan(a=name, b=device.name) for name, device in joined])
        going = {device.name for _, device in joined} | {device.name for device in self._devices.made_for(ports)}
        self._devices.remove(going)

    def leave(self, ports: Iterable[str], *, kept: Iterable[str] = ()) -> None:
        """Remove what is left of the tunnels of ports that are joined otherwise by now, or about to go."""
        stay = set(kept)
        self._devices.remove(device.name for device in self._devices.made_for(ports) if device.name not in stay)

    def withdraw(self) -> None:
        """Remove all that is ours."""
        self._devices.remove(self._devices.all())
