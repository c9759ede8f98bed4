"""Joining ports by redirection, both ways. Blocking: for the data plane's worker thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from wireloom.dataplane.host import links, traffic
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.mtu import mend_mtu
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Request
from wireloom.model.network import WirePlan

__all__ = ["Wires", "read_targets"]


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a wire as the kernel has it; ``target`` is the index it redirects to (0: a device that is gone)."""

    link: Link
    target: int | None


def read_targets(netlink: Netlink, devices: Mapping[int, str]) -> dict[int, int]:
    """Index of the redirection's target for each of ``devices`` (name by index) that has one."""
    outcomes = netlink.batch([traffic.get_redirect(index, name) for index, name in devices.items()])
    check(outcomes)
    targets: dict[int, int] = {}
    for index, outcome in zip(devices, outcomes, strict=True):
        target = traffic.parse_redirect(outcome.replies[0]) if outcome.replies else None
        if target is not None:
            targets[index] = target
    return targets


class Wires:
    """The wires of this host."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def ensure(self, plans: Sequence[WirePlan]) -> None:
        """Join each pair; a pair with an end that does not exist is left out.

        :raises DataPlaneFailed: the kernel refused; the other wires are made all the same.
        """
        ends = self._read(plans)
        present = [plan for plan in plans if plan.a in ends and plan.b in ends]
        goals = {end: other for plan in present for end, other in ((plan.a, plan.b), (plan.b, plan.a))}
        changed = [end for end, other in goals.items() if ends[end].target != ends[other].link.index]
        planned = {ends[name].link.index for name in goals}
        requests = self._cut_former_peers([ends[name] for name in changed], planned)
        outcomes = mend_mtu(self._netlink, [(ends[end].link, plan.mtu) for plan in present for end in (plan.a, plan.b)])
        for end in changed:
            requests += _join(ends[end].link, ends[goals[end]].link.index)
        check(outcomes + self._netlink.batch(requests))

    def remove(self, plans: Sequence[WirePlan]) -> None:
        """Cut each pair that is joined; an end that is joined to another device by now is left alone.

        :raises DataPlaneFailed: the kernel refused.
        """
        ends = self._read(plans)
        requests: list[Request] = []
        for plan in plans:
            for name, other in ((plan.a, plan.b), (plan.b, plan.a)):
                end = ends.get(name)
                if end is None or end.target is None:
                    continue
                # Zero: the peer has gone, and with it the reason for the redirection.
                expected = {0, ends[other].link.index} if other in ends else {0}
                if end.target in expected:
                    requests.append(traffic.clear_redirect(end.link.index, name))
        check(self._netlink.batch(requests))

    def _read(self, plans: Iterable[WirePlan]) -> dict[str, _End]:
        found = look_up(self._netlink, dict.fromkeys(name for plan in plans for name in (plan.a, plan.b)))
        targets = read_targets(self._netlink, {link.index: name for name, link in found.items()})
        return {name: _End(link, targets.get(link.index)) for name, link in found.items()}

    def leave(self, devices: Sequence[Link]) -> list[Request]:
        """Requests that stop the peers of ``devices`` from sending to them, before these go elsewhere."""
        targets = read_targets(self._netlink, {link.index: link.name for link in devices})
        ends = [_End(link, targets.get(link.index)) for link in devices]
        return self._cut_former_peers(ends, {link.index for link in devices})

    def _cut_former_peers(self, moving: Sequence[_End], planned: Set[int]) -> list[Request]:
        """Those of the peers of ends that move; not of peers that are ``planned`` for something else anyway."""
        former = {end.target: end.link.index for end in moving if end.target and end.target not in planned}
        back = read_targets(self._netlink, {index: f"index {index}" for index in former})
        return [
            traffic.clear_redirect(index, f"index {index}")
            for index, moved in former.items()
            if back.get(index) == moved
        ]


def _join(link: Link, target: int) -> list[Request]:
    requests: list[Request] = []
    if link.kind == "tun" and not link.up:
        # A tap passes frames only while its host side is up; the guest's carrier is the hypervisor's.
        requests.append(links.set_flags(link.name, up=True))
    requests += [traffic.ingress(link.index, link.name), traffic.redirect(link.index, target, link.name)]
    if link.master:
        requests += [traffic.fence(link.index, link.name), links.enslave(link.name, 0)]
    return requests
