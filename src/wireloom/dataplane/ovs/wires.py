"""Joining ports by flows, both ways. Blocking: for the data plane's worker thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wireloom.dataplane.ovs.flows import Flows, cookie_of, cut, cut_take, join, parse_flows
from wireloom.dataplane.ovs.switch import Switch, SwitchPort
from wireloom.model.network import WirePlan

__all__ = ["Wires"]


class Wires:
    """The wires of one installation, between ports that are in its bridge of wires."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    def peers(self, ports: Mapping[str, SwitchPort], flows: Flows) -> dict[str, str]:
        """By device, the one that its guest's frames come out of."""
        names = {port.number: device for device, port in self._here(ports).items()}
        return {
            names[source]: names[target]
            for source, target in flows.outputs.items()
            if source in names and target in names
        }

    def join(self, plans: Sequence[WirePlan]) -> None:
        """Join each pair whose two ends are there; whoever had one of them hears of it no more. One step for all."""
        self.lead([pair for plan in plans for pair in ((plan.a, plan.b), (plan.b, plan.a))])

    def lead(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Have what comes in at the first of each pair leave at the second, and at neither what others send."""
        ports = self._switch.ports()
        numbers = self.numbers(ports)
        flows = self.flows(ports)
        goals: dict[int, int] = {}
        cookies: dict[int, int] = {}
        for source, target in pairs:
            if source in numbers and target in numbers:
                goals[numbers[source]] = numbers[target]
                cookies[numbers[source]] = cookie_of(source, target)
        moved = goals.keys() | set(goals.values())
        commands = [cut(other) for other, end in sorted(flows.outputs.items()) if end in moved and other not in goals]
        commands += [cut_take(*taken) for taken, end in sorted(flows.takes.items()) if end in moved]
        commands += [
            join(source, target, cookies[source])
            for source, target in goals.items()
            if flows.outputs.get(source) != target
        ]
        self._switch.change_flows(commands)

    def remove(self, plans: Sequence[WirePlan]) -> None:
        """Cut each pair that is joined; an end that is joined to another device by now is left alone."""
        ports = self._switch.ports()
        numbers = self.numbers(ports)
        outputs = self.flows(ports).outputs
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

    def flows(self, ports: Mapping[str, SwitchPort]) -> Flows:
        """All flows, where any of ``ports`` can have one."""
        return parse_flows(self._switch.openflow.dump()) if self._here(ports) else Flows()

    def numbers(self, ports: Mapping[str, SwitchPort]) -> dict[str, int]:
        """By device, of those of ``ports`` that are in the bridge of wires."""
        return {device: port.number for device, port in self._here(ports).items() if port.number is not None}

    def _here(self, ports: Mapping[str, SwitchPort]) -> dict[str, SwitchPort]:
        return {device: port for device, port in ports.items() if port.bridge == self._switch.wires}
