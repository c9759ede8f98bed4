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
from wireloom.dataplane.ovs.flows import Flows, Way, cookie_of, cut, cut_take, send, take
from wireloom.dataplane.ovs.switch import Place, Switch, SwitchPort
from wireloom.dataplane.ovs.wires import Wires
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import Tunnel, TunnelPlan

__all__ = ["DeviceTunnels", "FlowTunnels", "Tunnels"]


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


class FlowTunnels:
    """By one port of Open vSwitch's own, whose flows say where each frame goes: for the datapath in the kernel."""

    def __init__(self, switch: Switch, wires: Wires) -> None:
        self._switch = switch
        self._wires = wires

    def observe(self, found: Sequence[Link], ports: Mapping[str, SwitchPort], flows: Flows) -> dict[str, Tunnel]:
        joined: dict[str, Tunnel] = {}
        for device, number in self._wires.numbers(ports).items():
            way = flows.sends.get(number)
            taken = sorted(key for key, target in flows.takes.items() if target == number)
            if way is not None:
                whole = (way.tunnel, way.local) in taken
                joined[device] = Tunnel(remote=way.host if whole else "", vni=way.tunnel, local=way.local)
            elif taken:
                joined[device] = Tunnel(remote="", vni=taken[0][0], local=taken[0][1])
        if not joined:
            self._switch.drop_tunnel_port()
        return joined

    def ensure(self, plans: Sequence[TunnelPlan], ports: Mapping[str, Link]) -> list[DataPlaneFailed]:
        numbers = self._wires.numbers(self._switch.ports())
        wanted = {numbers[plan.device]: plan for plan in plans if plan.device in numbers}
        if not wanted:
            return []
        try:
            self._switch.ensure_tunnel_port()
        except DataPlaneFailed as error:
            return [error]
        self._switch.change_flows(_joining(wanted, self._wires.flows(self._switch.ports())))
        return []

    def remove(self, devices: Sequence[str]) -> None:
        self.leave(devices)

    def leave(self, devices: Iterable[str]) -> None:
        """Flows of numbers that no port has any more go, too; a port that is wired has none of these flows."""
        if not self._switch.has_tunnel_port:
            return
        ports = self._switch.ports()
        numbers = self._wires.numbers(ports)
        staying = set(numbers.values()) - {numbers[device] for device in devices if device in numbers}
        flows = self._wires.flows(ports)
        commands = [cut(number) for number in flows.sends if number not in staying]
        commands += [cut_take(*key) for key, target in flows.takes.items() if target not in staying]
        self._switch.change_flows(commands)
        if not flows.sends.keys() & staying:
            self._switch.drop_tunnel_port()

    def withdraw(self) -> None:
        self._switch.drop_tunnel_port()


def _joining(wanted: Mapping[int, TunnelPlan], flows: Flows) -> list[str]:
    """What joins ports, by number, to other hosts, and cuts off whoever had these ports or their tunnels."""
    ways = {number: Way(plan.vni, plan.tunnel.remote, plan.tunnel.local) for number, plan in wanted.items()}
    taken = {(way.tunnel, way.local): number for number, way in ways.items()}
    tunnels = {way.tunnel for way in ways.values()}
    cookies = {number: cookie_of(plan.device, str(plan.vni)) for number, plan in wanted.items()}
    commands = [cut(other) for other, end in flows.outputs.items() if end in wanted and other not in wanted]
    commands += [cut(other) for other, way in flows.sends.items() if way.tunnel in tunnels and other not in wanted]
    commands += [
        cut_take(*key) for key, end in flows.takes.items() if (end in wanted or key[0] in tunnels) and key not in taken
    ]
    commands += [send(number, way, cookies[number]) for number, way in ways.items() if flows.sends.get(number) != way]
    commands += [
        take(tunnel, local, number, cookies[number])
        for (tunnel, local), number in taken.items()
        if flows.takes.get((tunnel, local)) != number
    ]
    return commands
