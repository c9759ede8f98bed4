"""NICs of the host that segments reach the world by: taken over, and given back. Blocking: for the worker thread.

Taking over is three steps, so that every kind of data plane can do the middle one its own way::

    uplinks.take(plan)         checks, notes down, makes the VLAN's device, raises the NIC -> the device to join
    …                          the joiner puts it into the segment
    uplinks.move_in(plan)      the host's addresses and routes go from the NIC to the segment, if the plan says so

and giving back is the reverse: the joiner takes the device out, then ``give_back(name)``.

What was taken is noted in a file before anything changes and until everything is back. The files are in a folder of
this boot, as what they tell of does not outlive it either. So whoever comes after a killed agent can finish what
it began, in either direction: each step may be repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from wireloom.dataplane.host import addresses, held, links
from wireloom.dataplane.host.addresses import Interface
from wireloom.dataplane.host.held import HeldAddress, HeldRoute
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import disable_ipv6, look_up
from wireloom.dataplane.host.presence import let_speak, write_setting
from wireloom.dataplane.host.protocol import Request
from wireloom.errors import Conflict, InternalError, NotFound
from wireloom.model.base import Value
from wireloom.model.identity import short_hash
from wireloom.model.network import PortAlias, SegmentAlias, SegmentPlan, Uplink

__all__ = ["NOTES", "Note", "Uplinks"]

#: Beside nothing else: the notes tell of the kernel of this boot, whatever folders an agent was started with.
NOTES: Final = Path("/run/wireloom/uplinks")

_LOOPBACK_INDEX: Final = 1
#: Kinds of devices that have ports of their own: a bridge in a bridge would be a loop in the making.
_SWITCHES: Final = frozenset({"bridge", "openvswitch"})


class Note(Value):
    """What a segment has taken from the host.

    :ivar segment: its device; ``alias``: its own.
    :ivar uplink: the NIC, or a VLAN on it. ``member``: the device that is in the segment.
    :ivar raised: the NIC was down, and is so again in the end.
    :ivar addresses: of the host, moved from the NIC to the segment; ``routes``: likewise.
    """

    segment: str
    alias: str
    uplink: Uplink
    member: str
    raised: bool = False
    addresses: tuple[HeldAddress, ...] = ()
    routes: tuple[HeldRoute, ...] = ()


class Uplinks:
    """Uplinks of one installation.

    :param folder: where the notes of all installations are.
    :param refuse: raises a Conflict for a NIC that this data plane must not take as a whole.
    """

    def __init__(
        self,
        netlink: Netlink,
        installation: str,
        folder: Path = NOTES,
        refuse: Callable[[Link], None] = lambda _: None,
    ) -> None:
        self._netlink = netlink
        self._installation = installation
        self._folder = folder / short_hash("uplinks", installation)
        self._refuse = refuse

    def note(self, segment: str) -> Note | None:
        """What ``segment`` has taken, if anything. :raises InternalError: the note cannot be read."""
        path = self._folder / f"{segment}.json"
        try:
            return Note.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise InternalError(
                f"what {segment} has taken from the host is noted in {path}, which cannot be read: {error}",
                hint="give the host's interface its addresses by hand, then remove the file",
                details={"device": segment},
            ) from error

    def noted(self) -> set[str]:
        """Segments that have a note, even if it cannot be read."""
        return {path.stem for path in self._folder.glob("*.json")}

    def notes(self) -> Mapping[str, Note]:
        """What all segments have taken, by segment.

        Without those whose note cannot be read: asking for one of these says so, and nobody else suffers.
        """
        found: dict[str, Note] = {}
        for segment in sorted(self.noted()):
            with suppress(InternalError):
                if note := self.note(segment):
                    found[segment] = note
        return found

    def moved(self, segment: str) -> set[Interface]:
        """The host's addresses that ``segment`` holds."""
        note = self.note(segment)
        return {address.interface for address in note.addresses} if note else set()

    def astray(self) -> set[str]:
        """Segments whose NIC was given addresses anew meanwhile, which they are to hold: ``move_in`` sees to it."""
        moving = [note for note in self.notes().values() if note.uplink.addresses == "move" and not note.uplink.vlan]
        if not moving:
            return set()
        nics = look_up(self._netlink, [note.uplink.device for note in moving])
        dump = self._netlink.dump(addresses.DUMP_ADDRESSES)
        return {
            note.segment
            for note in moving
            if (nic := nics.get(note.uplink.device)) and held.addresses_of(dump, nic.index, 0)
        }

    def take(self, plan: SegmentPlan) -> Link:
        """Make the uplink of ``plan`` ready to be joined; what stands already is left as it is.

        :returns: the device to put into the segment.
        :raises NotFound: the host has no such NIC.
        :raises Conflict: it is somebody else's, carries addresses that may not move, or is too narrow.
        :raises DataPlaneFailed: the kernel refused.
        """
        if plan.uplink is None:
            raise InternalError(f"the segment {plan.name} has no uplink")
        found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
        nic = _nic(found, plan.uplink)
        if plan.mtu > nic.mtu:
            raise Conflict(
                f"{nic.name} has an MTU of {nic.mtu}; the segment's frames of {plan.mtu} do not fit",
                hint=f"give the segment mtu: {nic.mtu}, or {nic.name} a greater one",
                details={"device": nic.name},
            )
        note = self.note(plan.name)
        if note is None:
            note = self._first_note(plan, plan.uplink, nic, found)
            self._write(note)
        if not nic.up:
            check(self._netlink.batch([links.set_flags(nic.name, up=True)]))
        return nic if plan.uplink.vlan is None else self._vlan_device(plan, note, nic, plan.uplink.vlan)

    def move_in(self, plan: SegmentPlan) -> None:
        """Have the segment hold the host's addresses and routes in place of its NIC, where the plan says so.

        The host keeps each address throughout: it is set on the segment before it is taken from the NIC.

        :raises Conflict: a route uses the NIC together with others.
        :raises DataPlaneFailed: the kernel refused.
        """
        note = self.note(plan.name)
        uplink = plan.uplink
        if note is None or uplink is None or uplink.vlan is not None or uplink.addresses == "refuse":
            return
        devices = look_up(self._netlink, [uplink.device, plan.name])
        nic, segment = devices.get(uplink.device), devices.get(plan.name)
        if nic is None or segment is None:
            return
        note = self._with_what_is_on(note, nic)
        if not note.addresses:
            return
        self._write(note)
        # What was learnt from routers moves too, and more would be learnt twice.
        write_setting("ipv6", segment.name, "accept_ra", "0")
        ipv6 = any(one.interface.version == 6 for one in note.addresses)
        requests = [let_speak(segment.name, ipv6=ipv6, like=nic.name)]
        if segment.address != nic.address:
            # The same hardware address as before: no neighbour has to learn, and no lease is for another.
            requests.append(links.set_address(segment.name, nic.address))
        check(self._netlink.batch(requests + _give(note, segment, at_home=False)))
        check(self._netlink.batch(_strip(note, nic)))

    def give_back(self, segment: str) -> None:
        """Let the host have again what ``segment`` took; harmless when it took nothing. Its device is joined no more.

        :raises DataPlaneFailed: the kernel refused; what is noted stays so, and may be given back later.
        """
        note = self.note(segment)
        if note is None:
            return
        devices = look_up(self._netlink, [note.uplink.device, segment, note.member])
        nic = devices.get(note.uplink.device)
        if note.uplink.vlan is not None and note.member in devices:
            check(self._netlink.batch([links.delete_link(note.member)]))
        if nic is not None:
            self._return_to(nic, note, devices.get(segment))
        self._forget(note)

    def _return_to(self, nic: Link, note: Note, segment: Link | None) -> None:
        wake = [] if note.raised or nic.up else [links.set_flags(nic.name, up=True)]
        check(self._netlink.batch(wake + _give(note, nic, at_home=True)))
        requests = _strip(note, segment) if segment is not None else []
        others = [other for other in self.notes().values() if other.segment != note.segment]
        if note.raised and note.uplink.device not in {other.uplink.device for other in others}:
            requests.append(links.set_flags(nic.name, up=False))
        check(self._netlink.batch(requests))

    def _first_note(self, plan: SegmentPlan, uplink: Uplink, nic: Link, found: Sequence[Link]) -> Note:
        """:raises Conflict: see :meth:`take`."""
        self._refuse_taken(uplink, plan.name)
        raised = not nic.up or any(note.raised and note.uplink.device == nic.name for note in self.notes().values())
        note = Note(
            segment=plan.name,
            alias=plan.alias,
            uplink=uplink,
            member=uplink.member(self._installation),
            raised=raised,
        )
        if uplink.vlan is None:
            self._refuse_used(uplink, plan.name, nic, found)
        else:
            _refuse_used_vlan(note, nic, found)
        return note

    def _refuse_taken(self, uplink: Uplink, segment: str) -> None:
        """:raises Conflict: another segment has the same, or all of the NIC, or a part of what is asked for."""
        for note in self.notes().values():
            other = note.uplink
            apart = other.vlan != uplink.vlan and None not in {other.vlan, uplink.vlan}
            if note.segment == segment or other.device != uplink.device or apart:
                continue
            owner = SegmentAlias.parse(note.alias)
            what = uplink.device if other.vlan is None else f"VLAN {other.vlan} of {uplink.device}"
            raise _taken(what, f"the segment {owner.name if owner else note.segment}")

    def _refuse_used(self, uplink: Uplink, segment: str, nic: Link, found: Sequence[Link]) -> None:
        """:raises Conflict: the whole NIC cannot be had."""
        master = next((link for link in found if link.index == nic.master), None) if nic.master else None
        if master is not None and master.name != segment:
            hint = "use another interface" if master.kind == "openvswitch" else f"name interface: {master.name}"
            raise _taken(nic.name, f"the {master.kind or 'device'} {master.name}", hint)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        dump = self._netlink.dump(addresses.DUMP_ADDRESSES)
        present = held.addresses_of(dump, nic.index, now)
        if present and uplink.addresses == "refuse":
            texts = ", ".join(one.text for one in present)
            raise Conflict(
                f"{nic.name} is how others reach this host: it has {texts}",
                hint="set move-addresses: true to have the segment hold them meanwhile, or use another interface",
                details={"device": nic.name, "addresses": [one.text for one in present]},
            )
        _refuse_cut_off(nic, found, dump)
        self._refuse(nic)
        if not present:
            return
        if shared := held.shared_routes(self._netlink.dump(held.DUMP_ROUTES), nic.index):
            raise Conflict(
                f"the route {shared[0]} uses {nic.name} together with others and cannot move",
                hint="use another interface, or make it routes by one device each",
                details={"device": nic.name},
            )

    def _vlan_device(self, plan: SegmentPlan, note: Note, nic: Link, vlan: int) -> Link:
        """The device of a VLAN of ``nic``, made or mended."""
        if note.member not in look_up(self._netlink, [note.member]):
            self._netlink.ask(links.new_vlan(note.member, nic.index, vlan))
            disable_ipv6(note.member)
        quiet = links.quieten(note.member, ipv6=True)
        check(self._netlink.batch([quiet, links.set_link(note.member, alias=plan.alias, mtu=plan.mtu, up=True)]))
        return look_up(self._netlink, [note.member])[note.member]

    def _with_what_is_on(self, note: Note, nic: Link) -> Note:
        """``note`` with the addresses and routes that the NIC has now; it may have been given them anew."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        here = held.addresses_of(self._netlink.dump(addresses.DUMP_ADDRESSES), nic.index, now)
        ways = held.routes_of(self._netlink.dump(held.DUMP_ROUTES), nic.index, now)
        fresh = {one.text: one for one in here}
        routes = {one.message: one for one in ways}
        return note.model_copy(
            update={
                # In the order that they were found in: the kernel prefers the first of equals.
                "addresses": tuple(({one.text: one for one in note.addresses} | fresh).values()),
                "routes": tuple(({one.message: one for one in note.routes} | routes).values()),
            }
        )

    def _write(self, note: Note) -> None:
        """In one step: a note is there as a whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{note.segment}.json"
        new = path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(note.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def _forget(self, note: Note) -> None:
        for ending in ("json", "new"):
            (self._folder / f"{note.segment}.{ending}").unlink(missing_ok=True)
        with suppress(OSError):  # others are noted there
            self._folder.rmdir()


def _nic(found: Sequence[Link], uplink: Uplink) -> Link:
    """:raises NotFound, Conflict: there is none that could be an uplink."""
    name = uplink.device
    nic = next((link for link in found if link.name == name), None)
    if nic is None:
        raise NotFound(
            f"this host has no network interface {name}",
            hint="`ip link` on the host lists them",
            details={"device": name},
        )
    if nic.index == _LOOPBACK_INDEX:
        raise Conflict("the loopback interface leads nowhere", details={"device": name})
    if PortAlias.parse(nic.alias) or SegmentAlias.parse(nic.alias):
        raise _taken(name, "a lab")
    if nic.kind in _SWITCHES and uplink.vlan is None:
        raise Conflict(
            f"{name} is a switch itself, and not of the kind that this host's data plane puts ports into",
            hint="have the host use the other data plane, or name an interface that is no bridge",
            details={"device": name},
        )
    return nic


def _taken(device: str, owner: str, hint: str = "use another interface") -> Conflict:
    return Conflict(f"{device} is used by {owner}", hint=hint, details={"device": device})


def _refuse_cut_off(nic: Link, found: Sequence[Link], dump: Sequence[bytes]) -> None:
    """:raises Conflict: other devices of the host live on the frames of the NIC: VLANs, tunnels, macvlan and the like.

    Whether they would get any more depends on the data plane, and the segment would lack those that they get.

    :param dump: of addresses.
    """
    # The two ends of a veth pair name each other so.
    above = [link for link in found if link.link == nic.index and link.link_nsid is None and link.kind != "veth"]
    if not above:
        return
    texts = {link.name: [one.text for one in held.addresses_of(dump, link.index, 0)] for link in above}
    names = ", ".join(f"{name} ({', '.join(own)})" if own else name for name, own in texts.items())
    raise Conflict(
        f"{nic.name} as a whole cannot be had: {names} would lose the frames that come in by it",
        hint="name a VLAN of it that the host does not use, or another interface",
        details={
            "device": nic.name,
            "devices": list(texts),
            "addresses": [one for own in texts.values() for one in own],
        },
    )


def _refuse_used_vlan(note: Note, nic: Link, found: Sequence[Link]) -> None:
    """:raises Conflict: the host uses this VLAN itself, or another installation all of the NIC."""
    master = next((link for link in found if link.index == nic.master), None) if nic.master else None
    if master is not None and SegmentAlias.parse(master.alias):
        raise _taken(nic.name, "a lab")
    for link in found:
        if link.vlan == note.uplink.vlan and link.link == nic.index and link.name != note.member:
            raise _taken(f"VLAN {link.vlan} of {nic.name}", f"the host as {link.name}", f"name interface: {link.name}")


def _give(note: Note, link: Link, *, at_home: bool) -> list[Request]:
    """Give a device what is noted; ``at_home``: it is the NIC."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    requests = [
        held.give_address(one, link.index, link.name, at_home=at_home, now=now)
        for one in held.in_order_of_giving(note.addresses)
    ]
    return requests + [held.give_route(one, link.index, link.name, at_home=at_home, now=now) for one in note.routes]


def _strip(note: Note, link: Link) -> list[Request]:
    """Take what is noted from a device, last things first: what is left, were this cut short, is in order."""
    requests = [held.drop_route(one, link.index, link.name) for one in reversed(note.routes)]
    given = reversed(held.in_order_of_giving(note.addresses))
    return requests + [held.drop_address(one, link.index, link.name) for one in given]
