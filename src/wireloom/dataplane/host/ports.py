"""Making, mending and removing host ports. Blocking: for the data plane's worker thread."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from wireloom.dataplane.host import addresses, links
from wireloom.dataplane.host.joiner import Admission, Joiner
from wireloom.dataplane.host.leftovers import is_unlabelled
from wireloom.dataplane.host.links import Link, VethEnd
from wireloom.dataplane.host.namespaces import enter, namespace_ids, open_namespace, refuse_own
from wireloom.dataplane.host.netlink import Netlink, check, raise_together
from wireloom.dataplane.host.protocol import Outcome, Request, failure
from wireloom.dataplane.host.taps import make_tap
from wireloom.errors import DataPlaneFailed
from wireloom.model.network import PortAlias, PortPlan

__all__ = ["Ports", "disable_ipv6", "look_up"]

#: Frames that may wait for a slow guest; the kernel's default for Ethernet.
_TXQLEN = 1000
_LOOPBACK_INDEX = 1


@dataclass
class _Space:
    """A guest's namespace: as an open file, and its id in ours (-1: none yet)."""

    file: int
    nsid: int = -1


@dataclass
class _Job:
    """One port on its way to what its plan says."""

    plan: PortPlan
    space: _Space | None
    link: Link | None = None
    guest: Link | None = None
    created: bool = False
    error: DataPlaneFailed | None = None

    @property
    def kind(self) -> str:
        return "veth" if self.space else "tun"


def look_up(netlink: Netlink, devices: Iterable[str]) -> dict[str, Link]:
    """Those of ``devices`` that exist, by name."""
    outcomes = netlink.batch([links.get_link(device) for device in devices])
    check(outcomes)
    found = (links.parse_link(outcome.replies[0]) for outcome in outcomes if outcome.replies)
    return {link.name: link for link in found}


def disable_ipv6(device: str) -> None:
    """Keep the host from speaking IPv6 on a device (router and listener reports would enter the wire)."""
    # Missing where the kernel has no IPv6 or the device has gone: then there is nothing to keep quiet.
    with suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")


def _announce_carrier(device: str) -> None:
    """Have the kernel tell the bridge now that its port has a carrier; on its own it may take a second."""
    with suppress(OSError):  # EINVAL: the port is down
        Path(f"/sys/class/net/{device}/carrier").read_text()


class Ports:
    """The host ports of one installation."""

    def __init__(self, netlink: Netlink, installation: str, joiner: Joiner) -> None:
        self._netlink = netlink
        self._installation = installation
        self._joiner = joiner

    def ensure(self, plans: Sequence[PortPlan]) -> None:
        """Bring every port to its plan; those of vanished namespaces are skipped.

        A port that fails leaves no debris and does not stop the others.

        :raises DataPlaneFailed: the first failure, with all of them in ``details["failures"]``.
        """
        with ExitStack() as stack:
            jobs = self._jobs(plans, stack)
            self._inspect(jobs)
            self._clear_the_way(jobs)
            self._create(jobs)
            self._settle(jobs)
            self._settle_guests(jobs)
            for job in jobs:
                if job.created and job.plan.segment:
                    _announce_carrier(job.plan.device)
            self._undo_failed(jobs)

    def remove(self, devices: Sequence[str]) -> None:
        """Remove host ports of this installation, and with them their guests' ends."""
        found = look_up(self._netlink, devices)
        mine = [name for name, link in found.items() if self._is_mine(link)]
        # Of those that went by themselves the joiner may still know.
        self._joiner.release([*mine, *(device for device in devices if device not in found)])
        check(self._netlink.batch(links.delete_together(mine)))

    def _is_mine(self, link: Link) -> bool:
        """By its alias; one without, named as ours are, is a left-over of a crash between making and labelling it."""
        alias = PortAlias.parse(link.alias)
        if alias is None:
            return any(is_unlabelled(link, kind) for kind in ("veth", "tun"))
        return alias.installation == self._installation

    def _jobs(self, plans: Sequence[PortPlan], stack: ExitStack) -> list[_Job]:
        spaces: dict[str, _Space | None] = {}
        jobs: list[_Job] = []
        for plan in plans:
            attachment = plan.attachment
            if attachment.kind != "namespace":
                jobs.append(_Job(plan, None))
                continue
            path = attachment.netns
            if path not in spaces:
                spaces[path] = self._open(path, stack)
            space = spaces[path]
            if space is not None:
                jobs.append(_Job(plan, space))
        known = [space for space in spaces.values() if space is not None]
        for space, nsid in zip(known, namespace_ids(self._netlink, [s.file for s in known]), strict=True):
            space.nsid = nsid
        return jobs

    @staticmethod
    def _open(path: str, stack: ExitStack) -> _Space | None:
        opened = open_namespace(path)
        if opened is None:
            return None
        stack.callback(os.close, opened)
        refuse_own(opened, path)
        return _Space(opened)

    def _inspect(self, jobs: Sequence[_Job]) -> None:
        """Read both ends of what exists already."""
        found = look_up(self._netlink, [job.plan.device for job in jobs])
        for job in jobs:
            job.link = found.get(job.plan.device)
        pairs = [(job, job.link) for job in jobs if job.link and job.space and job.link.link_nsid is not None]
        asked = [links.get_link_in(link.link_nsid or 0, link.link) for _, link in pairs]
        for (job, _), outcome in zip(pairs, self._netlink.batch(asked), strict=True):
            job.guest = links.parse_link(outcome.replies[0]) if outcome.replies else None

    def _clear_the_way(self, jobs: Sequence[_Job]) -> None:
        """Remove devices of ours that have the wrong kind or lead into another namespace."""
        wrong: list[_Job] = []
        for job in jobs:
            if job.link is None:
                continue
            if not self._is_mine(job.link):
                job.error = failure(
                    errno.EEXIST, "make", job.plan.device, "the name belongs to a device that is not ours"
                )
            elif not self._fits(job, job.link):
                wrong.append(job)
        self._run(wrong, links.delete_together([job.plan.device for job in wrong]))
        for job in wrong:
            job.link = job.guest = None

    @staticmethod
    def _fits(job: _Job, link: Link) -> bool:
        if link.kind != job.kind or not link.alias:
            return False
        return job.space is None or (job.guest is not None and link.link_nsid == job.space.nsid)

    def _create(self, jobs: Sequence[_Job]) -> None:
        new = [job for job in jobs if job.link is None and job.error is None]
        veths = [job for job in new if job.space]
        requests = [self._veth(job) for job in veths]
        for job, outcome in zip(veths, self._netlink.batch(requests), strict=True):
            job.created = not outcome.error
            if outcome.error == errno.EEXIST and self._drop_stale_guest(job):
                outcome = self._netlink.batch([outcome.request])[0]  # noqa: PLW2901 - the second and last try
                job.created = not outcome.error
            if outcome.error:
                job.error = outcome.failure()
        for job in new:
            if job.space is None:
                try:
                    make_tap(job.plan.device)
                    job.created = True
                except DataPlaneFailed as error:
                    job.error = error

    @staticmethod
    def _veth(job: _Job) -> Request:
        plan = job.plan
        assert job.space is not None  # noqa: S101 - callers pass namespace ports only
        guest = VethEnd(job.space.file, plan.guest_name, plan.mac, plan.mtu)
        return links.new_veth(plan.device, plan.mtu, guest, _TXQLEN)

    def _drop_stale_guest(self, job: _Job) -> bool:
        """Remove the pair whose guest's end holds the name that we need, if its host's end is ours."""
        if job.space is None:
            return False
        nsid = namespace_ids(self._netlink, [job.space.file])[0]
        outcome = self._netlink.batch([links.get_link_in(nsid, job.plan.guest_name)])[0]
        if not outcome.replies:
            return False
        holder = links.parse_link(outcome.replies[0])
        try:
            name = socket.if_indextoname(holder.link)
        except OSError:
            return False
        other = look_up(self._netlink, [name]).get(name)
        if holder.kind != "veth" or other is None or other.link != holder.index or not self._is_mine(other):
            return False
        return not self._netlink.batch([links.delete_link(name)])[0].error

    def _settle(self, jobs: Sequence[_Job]) -> None:
        """Label the host's side, have it joined or kept apart, and raise it."""
        good = [job for job in jobs if job.error is None]
        self._run(good, [request for job in good for request in self._label(job)])
        admitted = {}
        for job in good:
            index = self._index(job)
            if index and job.error is None:
                master = job.link.master if job.link else 0
                admitted[job.plan.device] = Admission(job.plan.device, index, master, job.plan.segment)
        problems = self._joiner.admit(list(admitted.values()))
        for job in good:
            job.error = job.error or problems.get(job.plan.device)
        raised = [job.plan.device for job in good if job.created and job.plan.carrier and job.plan.device in admitted]
        self._run(good, [links.set_flags(device, up=True) for device in raised])

    @staticmethod
    def _index(job: _Job) -> int:
        """0: its namespace died and took it along."""
        if job.link is not None:
            return job.link.index
        try:
            return socket.if_nametoindex(job.plan.device)
        except OSError:
            return 0

    @staticmethod
    def _label(job: _Job) -> list[Request]:
        plan, link = job.plan, job.link
        requests: list[Request] = []
        if link is None:
            disable_ipv6(plan.device)
            requests.append(links.quieten(plan.device, ipv6=True))
        alias = plan.alias.text()
        if link is None or link.alias != alias or link.mtu != plan.mtu:
            requests.append(links.set_link(plan.device, alias=alias, mtu=plan.mtu))
        return requests

    def _settle_guests(self, jobs: Sequence[_Job]) -> None:
        """What has to be said inside the namespaces: loopback and NIC up, MTU, addresses, default route."""
        by_space: dict[int, list[_Job]] = {}
        for job in jobs:
            if job.space and job.error is None:
                by_space.setdefault(job.space.file, []).append(job)
        for namespace, members in by_space.items():
            if not any(self._guest_needs(job) for job in members):
                continue
            with enter(namespace) as netlink:
                outcomes = netlink.batch([links.set_link(_LOOPBACK_INDEX, name="lo", up=True)])
                for job in members:
                    outcomes += self._guest_side(netlink, job)
            self._note(members, outcomes)

    @staticmethod
    def _guest_needs(job: _Job) -> bool:
        if job.created or job.plan.addresses or job.plan.gateway:
            return True
        return job.guest is not None and job.guest.mtu != job.plan.mtu

    @staticmethod
    def _guest_side(netlink: Netlink, job: _Job) -> list[Outcome]:
        plan = job.plan
        index = job.guest.index if job.guest else None
        if index is None:
            found = look_up(netlink, [plan.guest_name]).get(plan.guest_name)
            if found is None:
                return []
            index = found.index
        requests: list[Request] = []
        if job.created:
            requests.append(links.set_link(index, name=plan.device, up=True))
        elif job.guest and job.guest.mtu != plan.mtu:
            requests.append(links.set_link(index, name=plan.device, mtu=plan.mtu))
        requests += [
            addresses.add_address(index, ipaddress.ip_interface(address), plan.device) for address in plan.addresses
        ]
        if plan.gateway:
            requests.append(addresses.default_route(index, plan.gateway, plan.device))
        return netlink.batch(requests)

    def _run(self, jobs: Sequence[_Job], requests: Sequence[Request]) -> None:
        self._note(jobs, self._netlink.batch(requests))

    @staticmethod
    def _note(jobs: Sequence[_Job], outcomes: Iterable[Outcome]) -> None:
        """Write each port's first failure to its job."""
        by_device = {job.plan.device: job for job in jobs}
        for outcome in outcomes:
            job = by_device.get(outcome.request.device)
            if outcome.failed and job is not None and job.error is None:
                job.error = outcome.failure()

    def _undo_failed(self, jobs: Sequence[_Job]) -> None:
        failed = [job for job in jobs if job.error is not None]
        self._netlink.batch(links.delete_together([job.plan.device for job in failed if job.created]))
        raise_together([job.error for job in failed if job.error is not None])
