"""Joining ports by flows, both ways. Blocking: for the data plane's worker thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wireloom.dataplane.ovs.flows import cookie_of, cut, join, parse_outputs
from wireloom.dataplane.ovs.switch import Switch, SwitchPort
from wireloom.model.network import WirePlan

__all__ = ["Wires"]


class Wires:
    """The wires of one installation, between ports that are in its bridge of wires."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def peers(self, ports: Mapping[str, SwitchPort]) -> dict[str, str]:
        """By device, the one that its guest's frames come out of."""
        names = {port.number: device for device, port in self._here(ports).items()}
        outputs = self._outputs(ports)
        return {
            names[source]: names[target] for source, target in outputs.items() if source in names and target in names
        }

    def join(self, plans: Sequence[WirePlan]) -> None:
        """Join each pair whose two ends are there; whoever had one of them hears of it no more. One step for all."""
        ports = self._switch.ports()
        numbers = self._numbers(ports)
        outputs = self._outputs(ports)
        goals: dict[int, int] = {}
        cookies: dict[int, int] = {}
        for plan in plans:
            if plan.a not in numbers or plan.b not in numbers:
                continue
            a, b = numbers[plan.a], numbers[plan.b]
            goals |= {a: b, b: a}
            cookies |= dict.fromkeys((a, b), cookie_of(plan.a, plan.b))
        changed = [source for source, target in goals.items() if outputs.get(source) != target]
        former = {outputs[source] for source in changed if source in outputs} - goals.keys()
        commands = [cut(peer) for peer in sorted(former) if outputs.get(peer) in goals]
        commands += [join(source, goals[source], cookies[source]) for source in changed]
        self._switch.change_flows(commands)

    def remove(self, plans: Sequence[WirePlan]) -> None:
        """Cut each pair that is joined; an end that is joined to another device by now is left alone."""
        ports = self._switch.ports()
        numbers = self._numbers(ports)
        outputs = self._outputs(ports)
        known = set(numbers.values())
        commands: list[str] = []
        for plan in plans:
            for name, other in ((plan.a, plan.b), (plan.b, plan.a)):
                source = numbers.get(name)
                if source is None or source not in outputs:
                    continue
                # A number that nobody has: the peer has gone, and with it the reason for the flow.
                if outputs[source] == numbers.get(other) or outputs[source] not in known:
                    commands.append(cut(source))
        self._switch.change_flows(commands)

    def _outputs(self, ports: Mapping[str, SwitchPort]) -> dict[int, int]:
        return parse_outputs(self._switch.openflow.dump()) if self._here(ports) else {}

    def _here(self, ports: Mapping[str, SwitchPort]) -> dict[str, SwitchPort]:
        return {device: port for device, port in ports.items() if port.bridge == self._switch.wires}

    def _numbers(self, ports: Mapping[str, SwitchPort]) -> dict[str, int]:
        return {device: port.number for device, port in self._here(ports).items() if port.number is not None}
