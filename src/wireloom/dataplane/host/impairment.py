"""What is wrong with links on purpose, made by queues on host devices. Blocking: for the worker thread.

A queue on a device holds what the device hands to its guest. What comes from a guest in a segment goes through a queue
on a device of its own, see :mod:`wireloom.dataplane.host.detours`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host import qdiscs, traffic
from wireloom.dataplane.host.detours import Detours, new_ifb
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.namespaces import enter, new_namespace
from wireloom.dataplane.host.netlink import Netlink, raise_together
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.protocol import Outcome, Request, failure
from wireloom.dataplane.host.qdiscs import Qdisc
from wireloom.dataplane.refusals import refusals, unsupported
from wireloom.errors import DataPlaneFailed
from wireloom.model.impairment import PARTS, Impairment
from wireloom.model.network import DataPlaneAbilities, ImpairmentPlan

__all__ = ["Impaired", "Impairments", "Means", "find_means"]

_LOOPBACK_INDEX: Final = 1
#: What a queue that only limits the rate can do.
_SHAPED: Final = frozenset({"rate", "limit"})
#: What the kernel says of a kind of queue, device or filter that it does not have.
_LACKING: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class Means:
    """What this kernel has: for each means an empty text, or why it is not there."""

    netem: str = ""
    tbf: str = ""
    detour: str = ""

    @property
    def parts(self) -> dict[str, str]:
        """Parts of an impairment that cannot be made → why."""
        shaped = self.tbf if self.netem else ""
        reasons = {part: shaped if part in _SHAPED else self.netem for part in PARTS}
        return {part: reason for part, reason in reasons.items() if reason}


@dataclass(frozen=True)
class Impaired:
    """What is wrong with the frames of a port, each direction."""

    to_guest: Impairment | None = None
    from_guest: Impairment | None = None


def find_means() -> Means:
    """Find out what this kernel has, by trying it on a namespace that is thrown away.

    The kernel loads modules that are installed as they are asked for.

    :raises DataPlaneFailed: there is no namespace to be had.
    """
    namespace = new_namespace()
    try:
        with enter(namespace) as netlink:
            netem, tbf = (
                _problem(netlink, qdiscs.MODULE[kind], qdiscs.try_out(kind, _LOOPBACK_INDEX))
                for kind in ("netem", "tbf")
            )
            return Means(netem, tbf, _problem_of_detours(netlink))
    finally:
        os.close(namespace)


def _problem(netlink: Netlink, module: str, request: Request) -> str:
    (outcome,) = netlink.batch([request])
    if not outcome.error:
        return ""
    if outcome.error in _LACKING:
        return f"this host's kernel lacks the module {module}"
    return f"this host's kernel does not take {module}: {outcome.failure().details['errno']}"


def _problem_of_detours(netlink: Netlink) -> str:
    name = "wli"
    problem = _problem(netlink, "ifb", new_ifb(name))
    helper = look_up(netlink, [name]).get(name)
    if problem or helper is None:
        return problem
    return _problem(netlink, "sch_ingress", traffic.ingress(_LOOPBACK_INDEX, "lo")) or _problem(
        netlink, "cls_bpf or act_mirred", traffic.detour(_LOOPBACK_INDEX, helper.index, "lo")
    )


@dataclass(frozen=True)
class _Goal:
    """What the outermost queue of ``link`` should do to frames of the port ``device``."""

    device: str
    link: Link
    wanted: Impairment | None


class Impairments:
    """Queues on the ports of one installation.

    :param means: what the kernel has.
    """

    def __init__(self, netlink: Netlink, installation: str, means: Callable[[], Means] = find_means) -> None:
        self._netlink = netlink
        self._detours = Detours(netlink, installation)
        self._find_means = means
        self._found_means: Means | None = None

    @property
    def means(self) -> Means:
        """What the kernel has, as last found out."""
        if self._found_means is None:
            self._found_means = self._find_means()
        return self._found_means

    def add_to(self, abilities: DataPlaneAbilities) -> DataPlaneAbilities:
        """``abilities`` of a joiner with what can be impaired here, found out anew."""
        self._found_means = self._find_means()
        return abilities.model_copy(
            update={
                "impairments": self.means.parts,
                "impair_from_guest": abilities.impair_from_guest or self.means.detour,
            }
        )

    def set(self, plans: Sequence[ImpairmentPlan], abilities: DataPlaneAbilities) -> None:
        """Bring each port to its plan, and read it back; a port that does not exist is left out.

        :raises Unsupported: the kernel lacks what a plan needs; the others are carried out.
        :raises DataPlaneFailed: the kernel refused, or does something else than it was told; or what comes from a guest
            is to be impaired (``ENOTCONN``) at a port that is in no segment.
        """
        refused = refusals(plans, abilities)
        due = [plan for plan in plans if plan.device not in refused]
        ports = look_up(self._netlink, [plan.device for plan in due])
        present = [plan for plan in due if plan.device in ports]
        if present:
            raise_together(self._set(present, ports))
        if refused:
            raise unsupported(refused)

    def observe(self, found: Sequence[Link], ports: Sequence[Link]) -> Mapping[str, Impaired]:
        """What is wrong with ``ports``, by device; ``found`` are all devices of the host."""
        self._detours.sweep(found)
        queues = self._read_queues()
        helpers = self._detours.observe(found)
        impaired: dict[str, Impaired] = {}
        for port in ports:
            helper = helpers.get(port.name)
            to_guest = qdiscs.read_impairment(queues.get(port.index, ()), port.mtu)
            from_guest = qdiscs.read_impairment(queues.get(helper.index, ()), port.mtu) if helper else None
            if to_guest or from_guest:
                impaired[port.name] = Impaired(to_guest, from_guest)
        return impaired

    def leave_segments(self, devices: Iterable[str]) -> None:
        """Ports are about to be taken out of their segments, or removed: what comes from them goes straight on."""
        self._detours.leave(devices)

    def leave_segment(self, name: str) -> None:
        """A segment is about to go, and its ports are out of it then."""
        self._detours.leave_segment(name)

    def _set(self, plans: Sequence[ImpairmentPlan], ports: Mapping[str, Link]) -> list[DataPlaneFailed]:
        wanted = [plan.device for plan in plans if _none(plan.from_guest)]
        # Outside of a segment a detour would end in the host's own stack.
        detoured = {device for device in wanted if ports[device].master}
        self._detours.leave(plan.device for plan in plans if plan.device not in detoured)
        helpers, outcomes = self._detours.make([ports[device] for device in detoured])
        goals = [_Goal(plan.device, ports[plan.device], _none(plan.to_guest)) for plan in plans]
        goals += [
            _Goal(plan.device, helpers[plan.device], _none(plan.from_guest)) for plan in plans if plan.device in helpers
        ]
        queues = self._read_queues()
        wrong = [goal for goal in goals if self._read(goal, queues, ports) != goal.wanted]
        requests = [request for goal in wrong for request in self._requests(goal, queues, ports)]
        outcomes += self._netlink.batch(requests)
        # Only now: a frame that comes before the queue is there would not be held up.
        outcomes += self._detours.enter((ports[device], helper) for device, helper in helpers.items())
        loose = [_not_in_segment(device) for device in wanted if device not in detoured]
        return loose + self._problems(wrong, outcomes, ports)

    def _requests(self, goal: _Goal, queues: Mapping[int, Sequence[Qdisc]], ports: Mapping[str, Link]) -> list[Request]:
        wanted, link = goal.wanted, goal.link
        if wanted is None:
            return [qdiscs.delete_root(q, link.name) for q in queues.get(link.index, ()) if qdiscs.is_ours(q)]
        if wanted.parts <= _SHAPED and not self.means.tbf:
            return qdiscs.with_tbf(link.index, link.name, wanted, ports[goal.device].mtu)
        return qdiscs.with_netem(link.index, link.name, wanted)

    def _problems(
        self, wrong: Sequence[_Goal], outcomes: Iterable[Outcome], ports: Mapping[str, Link]
    ) -> list[DataPlaneFailed]:
        """What the kernel refused, and what it took without a word and does not do."""
        errors = [outcome.failure() for outcome in outcomes if outcome.failed]
        if errors or not wrong:
            return errors
        queues = self._read_queues()
        different = [goal for goal in wrong if self._read(goal, queues, ports) != goal.wanted]
        if not different:
            return []
        there = look_up(self._netlink, [goal.link.name for goal in different])
        return [
            failure(errno.EBADMSG, "impair", goal.device, "it was told, and does something else")
            for goal in different
            if goal.link.name in there and there[goal.link.name].index == goal.link.index
        ]

    @staticmethod
    def _read(goal: _Goal, queues: Mapping[int, Sequence[Qdisc]], ports: Mapping[str, Link]) -> Impairment | None:
        return qdiscs.read_impairment(queues.get(goal.link.index, ()), ports[goal.device].mtu)

    def _read_queues(self) -> dict[int, list[Qdisc]]:
        """All queues that we made, by the index of their device."""
        found: dict[int, list[Qdisc]] = {}
        for body in self._netlink.dump(qdiscs.DUMP_QDISCS):
            qdisc = qdiscs.parse_qdisc(body)
            if qdisc is not None:
                found.setdefault(qdisc.index, []).append(qdisc)
        return found


def _not_in_segment(device: str) -> DataPlaneFailed:
    return failure(errno.ENOTCONN, "impair what comes from", device, "it is in no segment")


def _none(wanted: Impairment | None) -> Impairment | None:
    return wanted.or_none() if wanted is not None else None
