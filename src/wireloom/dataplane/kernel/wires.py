"""Joining ports by redirection, both ways. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wireloom.dataplane.kernel import links, traffic
from wireloom.dataplane.kernel.links import Link
from wireloom.dataplane.kernel.namespaces import enter, find_namespace
from wireloom.dataplane.kernel.netlink import Netlink, check
from wireloom.dataplane.kernel.ports import look_up
from wireloom.dataplane.kernel.protocol import Outcome, Request
from wireloom.errors import InvalidInput
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

        :raises InvalidInput: a device is in two of the wires, or joined to itself.
        :raises DataPlaneFailed: the kernel refused; the other wires are made all the same.
        """
        _check_plans(plans)
        ends = self._read(plans)
        present = [plan for plan in plans if plan.a in ends and plan.b in ends]
        goals = {end: other for plan in present for end, other in ((plan.a, plan.b), (plan.b, plan.a))}
        changed = [end for end, other in goals.items() if ends[end].target != ends[other].link.index]
        requests = self._cut_former_peers(changed, ends, goals)
        outcomes = self._mend_mtu(present, ends)
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

    def _cut_former_peers(
        self, changed: Sequence[str], ends: Mapping[str, _End], goals: Mapping[str, str]
    ) -> list[Request]:
        """Requests that stop former peers from sending to ends that move, before these are joined anew."""
        planned = {ends[name].link.index for name in goals}
        former: dict[int, int] = {}
        for name in changed:
            target = ends[name].target
            if target and target not in planned:
                former[target] = ends[name].link.index
        back = read_targets(self._netlink, {index: f"index {index}" for index in former})
        return [
            traffic.clear_redirect(index, f"index {index}")
            for index, moved in former.items()
            if back.get(index) == moved
        ]

    def _mend_mtu(self, plans: Sequence[WirePlan], ends: Mapping[str, _End]) -> list[Outcome]:
        """Set the MTU of host and guest sides; the guest first, so that a crash between them is mended later."""
        wrong = [
            (ends[name].link, plan.mtu)
            for plan in plans
            for name in (plan.a, plan.b)
            if ends[name].link.mtu != plan.mtu
        ]
        outcomes: list[Outcome] = []
        for link, mtu in wrong:
            if link.kind == "veth" and link.link_nsid is not None:
                outcomes += self._mend_guest(link, link.link_nsid, mtu)
        return outcomes + self._netlink.batch([links.set_link(link.name, mtu=mtu) for link, mtu in wrong])

    def _mend_guest(self, link: Link, nsid: int, mtu: int) -> list[Outcome]:
        namespace = find_namespace(self._netlink, nsid)
        if namespace is None:
            return []
        try:
            with enter(namespace) as netlink:
                return netlink.batch([links.set_link(link.link, name=link.name, mtu=mtu)])
        finally:
            os.close(namespace)


def _join(link: Link, target: int) -> list[Request]:
    requests: list[Request] = []
    if link.master:
        requests.append(links.enslave(link.name, 0))
    if link.kind == "tun" and not link.up:
        # A tap passes frames only while its host side is up; the guest's carrier is the hypervisor's.
        requests.append(links.set_flags(link.name, up=True))
    requests += [traffic.ingress(link.index, link.name), traffic.redirect(link.index, target, link.name)]
    return requests


def _check_plans(plans: Sequence[WirePlan]) -> None:
    seen: set[str] = set()
    for plan in plans:
        if plan.a == plan.b or plan.a in seen or plan.b in seen:
            raise InvalidInput(
                f"the wire {plan.a} to {plan.b} uses a device that another end has", details={"device": plan.a}
            )
        seen |= {plan.a, plan.b}
