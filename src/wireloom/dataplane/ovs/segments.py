"""Segments: bridges that learn addresses, with the host's own device in each. Blocking: for the worker thread."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from wireloom.dataplane.host import links
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check, raise_together
from wireloom.dataplane.host.ports import look_up
from wireloom.dataplane.host.presence import settle_presence
from wireloom.dataplane.host.protocol import failure
from wireloom.dataplane.host.segment_uplinks import SegmentUplinks
from wireloom.dataplane.host.uplinks import Uplinks
from wireloom.dataplane.ovs.admission import Admissions
from wireloom.dataplane.ovs.fence import refuse_filtered
from wireloom.dataplane.ovs.switch import Bridge, Place, Switch
from wireloom.dataplane.ovs.vlans import uplink_mode
from wireloom.errors import Conflict, DataPlaneFailed, InternalError
from wireloom.model.network import Segment, SegmentPlan

__all__ = ["Segments"]


class Segments:
    """The segments of one installation."""

    def __init__(self, switch: Switch, admissions: Admissions, netlink: Netlink, installation: str) -> None:
        self._switch = switch
        self._admissions = admissions
        self._netlink = netlink
        self._unmended: set[str] = set()
        self._uplinks = Uplinks(netlink, installation, refuse=partial(refuse_filtered, netlink))
        self._ways_out = SegmentUplinks(self._uplinks, _UplinkPorts(switch, admissions), installation)

    def ensure(self, plan: SegmentPlan) -> None:
        """Make or mend a segment with its uplink.

        :raises DataPlaneFailed: ``EEXIST`` when the name is not ours. :raises Conflict: see ``Uplinks.take``.
        """
        created = plan.name not in self._switch.bridges()
        if created and look_up(self._netlink, [plan.name]):
            raise failure(errno.EEXIST, "make the segment", plan.name, "the name belongs to a device that is not ours")
        wanted = Bridge(plan.name, "segment", None, plan.alias, plan.tagging, plan.address, plan.mtu)
        self._switch.ensure_segment_bridge(wanted)
        with ExitStack() as undo:
            if created:
                undo.callback(self.remove, plan.name)
            self._settle(wanted)
            self._ways_out.settle(plan)
            undo.pop_all()

    def remove(self, name: str) -> None:
        """Remove a segment of ours; its ports stay, in the bridge of wires, and its uplink is the host's again."""
        inside = [port for port in self._switch.ports().values() if port.bridge == name and not port.uplink]
        problems = self._admissions.bring(Place(port.device, port.index, self._switch.wires) for port in inside)
        self._ways_out.release(name)
        self._switch.drop_bridges({name})
        raise_together(list(problems.values()))

    def names(self) -> list[str]:
        """Segments that are Open vSwitch's; notes of uplinks tell of those of other data planes, too."""
        return sorted(bridge.name for bridge in self._bridges())

    def let_go_of_strays(self) -> None:
        """Give the host the NICs that Open vSwitch holds from an earlier boot: its database outlives what we note.

        Nothing tells any more how they were, and the datapath in user space has no fence at them.
        """
        uplinked = {port.bridge for port in self._switch.ports().values() if port.uplink}
        for segment in sorted(uplinked - self._uplinks.noted()):
            self._ways_out.release(segment)

    def mend(self, found: Sequence[Link]) -> None:
        """A new ovs-vswitchd makes the host's device in a segment anew, without what we have set on it.

        A segment that cannot be mended is shown as one that is down, for others to say why.
        """
        self._unmended = set()
        shown = {link.name: link for link in found}
        wrong = [bridge for bridge in self._bridges() if not _is_whole(bridge, shown.get(bridge.name))]
        present = look_up(self._netlink, [bridge.name for bridge in wrong])
        for bridge in wrong:
            if _is_whole(bridge, present.get(bridge.name)) or bridge.name not in present:
                continue
            try:
                self._mend(bridge)
            except (Conflict, DataPlaneFailed, InternalError):
                self._unmended.add(bridge.name)

    def _mend(self, bridge: Bridge) -> None:
        self._settle(bridge)
        note = self._uplinks.note(bridge.name)
        if note is not None:
            plan = SegmentPlan(name=bridge.name, alias=bridge.alias, mtu=bridge.mtu, uplink=note.uplink)
            self._uplinks.move_in(plan)

    def observe(self, found: Sequence[Link]) -> dict[str, Segment]:
        """By name; one whose device ovs-vswitchd does not show is down. See ``SegmentUplinks.shown``."""
        shown = {link.name: link for link in found}
        joined = {(port.bridge, port.device) for port in self._switch.ports().values() if port.uplink}
        segments = [self._segment(bridge, shown.get(bridge.name)) for bridge in self._bridges()]
        return self._ways_out.shown(segments, joined)

    def _segment(self, bridge: Bridge, link: Link | None) -> Segment:
        return Segment(
            name=bridge.name,
            alias=bridge.alias,
            up=link is not None and link.up and bridge.name not in self._unmended,
            mtu=link.mtu if link else bridge.mtu,
            tagging=bridge.tagging,
        )

    def _bridges(self) -> list[Bridge]:
        return [bridge for bridge in self._switch.bridges().values() if bridge.role == "segment"]

    def _settle(self, bridge: Bridge) -> None:
        """What ovs-vswitchd leaves to others: the label, the address and the state of the host's device."""
        link = look_up(self._netlink, [bridge.name]).get(bridge.name)
        if link is None:
            raise failure(errno.ENODEV, "set up the segment", bridge.name)
        moved = self._uplinks.moved(bridge.name)
        requests = settle_presence(self._netlink, bridge.name, link.index, bridge.address, moved)
        check(self._netlink.batch([*requests, links.set_link(bridge.name, alias=bridge.alias, up=True)]))


class _UplinkPorts:
    """See :class:`~wireloom.dataplane.host.segment_uplinks.UplinkPorts`."""

    def __init__(self, switch: Switch, admissions: Admissions) -> None:
        self._switch = switch
        self._admissions = admissions

    def put_in(self, plan: SegmentPlan, member: Link) -> None:
        place = Place(member.name, member.index, plan.name, uplink_mode(plan.tagging), uplink=True)
        raise_together(list(self._admissions.bring([place]).values()))
        if plan.uplink is not None and plan.uplink.addresses == "move" and plan.uplink.vlan is None:
            # The same hardware address as before: no neighbour has to learn.
            self._switch.set_address(plan.name, member.address.hex(":"))

    def take_out(self, segment: str, member: str | None) -> bool:
        inside = {port.device for port in self._switch.ports().values() if port.uplink and port.bridge == segment}
        leaving = inside if member is None else inside | {member}
        self._admissions.let_go(sorted(leaving), fenced=False)
        return bool(leaving)

    def have_own_address(self, segment: str) -> None:
        if segment in self._switch.bridges():
            self._switch.set_address(segment)


def _is_whole(bridge: Bridge, link: Link | None) -> bool:
    return link is not None and link.up and link.alias == bridge.alias
