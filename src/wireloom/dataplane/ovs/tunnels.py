"""Wires to other hosts, as the bridge of wires has them. Blocking: for the data plane's worker thread.

Two ways, by what carries the frames on. Each is told of ports that are in the bridge of wires already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from wireloom.dataplane.host import traffic
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.mtu import mend_mtu
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.tunnels import VxlanDevices, device_of, shown
from wireloom.dataplane.host.vxlan import Vxlan
from wireloom.dataplane.ovs.admission import Admissions
from wireloom.dataplane.ovs.flows import Flows, cut
from wireloom.dataplane.ovs.switch import Place, Switch, SwitchPort
from wireloom.dataplane.ovs.wires import Wires
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import Tunnel, TunnelPlan

__all__ = ["DeviceTunnels", "Tunnels"]


class Tunnels(Protocol):
    """The wires of one installation that lead to other hosts."""

    def observe(self, found: Sequence[Link], ports: Mapping[str, SwitchPort], flows: Flows) -> dict[str, Tunnel]:
        """By port; what leads nowhere is removed. ``found``: all devices of the host."""
        ...

    def ensure(self, plans: Sequence[TunnelPlan], ports: Mapping[str, Link]) -> list[DataPlaneFailed]:
        """Join ports, all of them in ``ports``, to other hosts; what failed."""
        ...

    def remove(self, devices: Sequence[str]) -> None:
        """Cut ports off from other hosts. Whatever else they are joined to by now stays."""
        ...

    def leave(self, devices: Iterable[str]) -> None:
        """Remove what is left of tunnels of ports that are joined otherwise by now, or about to go."""
        ...

    def withdraw(self) -> None:
        """Remove all that is ours."""
        ...


class DeviceTunnels:
    """By a VXLAN device of the kernel for each wire: for the datapath in user space.

    A flow leads to the device. The way back goes past Open vSwitch, redirected by the kernel: what comes out of the
    device may be several frames of a guest that a NIC has put together, which only the kernel can take apart again.
    """

    def __init__(
        self, switch: Switch, admissions: Admissions, wires: Wires, netlink: Netlink, installation: str
    ) -> None:
        self._switch = switch
        self._admissions = admissions
        self._wires = wires
        self._netlink = netlink
        self._installation = installation
        self._devices = VxlanDevices(netlink, installation, "clsact")

    def observe(self, found: Sequence[Link], ports: Mapping[str, SwitchPort], flows: Flows) -> dict[str, Tunnel]:
        ours = self._devices.among(found)
        if not ours:
            return {}
        numbers = {port.number: device for device, port in self._switch.ports().items() if device in ours}
        back = self._back(ours)
        names = {link.index: link.name for link in found}
        joined: dict[str, Tunnel] = {}
        used: set[str] = set()
        for port, number in self._wires.numbers(ports).items():
            name = numbers.get(flows.outputs.get(number))
            if name is not None:
                used.add(name)
                joined[port] = shown(ours[name], whole=names.get(back.get(name, 0)) == port)
        for name, index in back.items():
            if name not in used and names.get(index) in ports:
                used.add(name)
                joined.setdefault(names[index], shown(ours[name], whole=False))
        self._drop(ours.keys() - used)
        return joined

    def _back(self, ours: Mapping[str, Vxlan]) -> dict[str, int]:
        """By device, the index of the port that it is redirected to."""
        requests = [traffic.get_redirect(device.index, name) for name, device in ours.items()]
        targets = {}
        for name, outcome in zip(ours, self._netlink.batch(requests), strict=True):
            target = traffic.parse_redirect(outcome.replies[0]) if outcome.replies else None
            if target:
                targets[name] = target
        return targets

    def ensure(self, plans: Sequence[TunnelPlan], ports: Mapping[str, Link]) -> list[DataPlaneFailed]:
        outcomes = self._devices.ensure(plans, ports)
        names = {plan.device: device_of(self._installation, plan.vni) for plan in plans}
        devices = look_up(self._netlink, names.values())
        outcomes += mend_mtu(
            self._netlink,
            [(devices[names[plan.device]], plan.mtu) for plan in plans if names[plan.device] in devices],
        )
        problems = self._admissions.bring(Place(link.name, link.index, self._switch.wires) for link in devices.values())
        made = {port: devices[name] for port, name in names.items() if name in devices and name not in problems}
        self._wires.lead([(port, device.name) for port, device in made.items()])
        outcomes += self._netlink.batch(
            [traffic.redirect(device.index, ports[port].index, port) for port, device in made.items()]
        )
        self._leave(names, {device.name for device in made.values()})
        return [outcome.failure() for outcome in outcomes if outcome.failed] + list(problems.values())

    def remove(self, devices: Sequence[str]) -> None:
        ports = self._switch.ports()
        numbers = self._wires.numbers(ports)
        ours = self._devices.all()
        theirs = {numbers[name]: name for name in ours if name in numbers}
        outputs = self._wires.flows(ports).outputs if ours else {}
        led = {
            device: theirs[outputs[numbers[device]]]
            for device in devices
            if outputs.get(numbers.get(device, 0)) in theirs
        }
        self._switch.change_flows([cut(numbers[device]) for device in led])
        self._drop({device.name for device in self._devices.made_for(devices)} | set(led.values()))

    def leave(self, devices: Iterable[str]) -> None:
        self._leave(devices, set())

    def _leave(self, devices: Iterable[str], kept: set[str]) -> None:
        self._drop({device.name for device in self._devices.made_for(devices)} - kept)

    def withdraw(self) -> None:
        self._drop(self._devices.all().keys())

    def _drop(self, names: Iterable[str]) -> None:
        """Remove devices, Open vSwitch's ports for them first."""
        going = sorted(names)
        if not going:
            return
        self._switch.drop(going)
        self._devices.remove(going)
