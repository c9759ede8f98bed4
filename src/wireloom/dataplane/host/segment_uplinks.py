"""Which uplink each segment has, on every data plane: joined, shown, given back. Blocking: for the worker thread.

:mod:`wireloom.dataplane.host.uplinks` knows what taking means for the host. How a device comes into a segment, and out
of it, is a data plane's own: :class:`UplinkPorts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from contextlib import ExitStack
from typing import Protocol

from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.uplinks import Uplinks
from wireloom.model.network import Segment, SegmentPlan

__all__ = ["SegmentUplinks", "UplinkPorts"]


class UplinkPorts(Protocol):
    """The ports of segments that lead to the world."""

    def put_in(self, plan: SegmentPlan, member: Link) -> None:
        """Have ``member`` be the uplink of a segment that is there; it may be already."""
        ...

    def take_out(self, segment: str, member: str | None) -> bool:
        """Take ``member``, and whatever else is an uplink of ``segment``, out of it.

        :returns: whether there was anything that had to do with an uplink.
        """
        ...

    def have_own_address(self, segment: str) -> None:
        """Give the host's device in ``segment`` its own hardware address again, if it is there."""
        ...


class SegmentUplinks:
    """The uplinks of the segments of one installation."""

    def __init__(self, uplinks: Uplinks, ports: UplinkPorts, installation: str) -> None:
        self._uplinks = uplinks
        self._ports = ports
        self._installation = installation

    def settle(self, plan: SegmentPlan) -> None:
        """Have a segment that is there reach the world as ``plan`` says, or not at all.

        :raises NotFound, Conflict, DataPlaneFailed: see ``Uplinks.take`` and ``Uplinks.move_in``.
        """
        note = self._uplinks.note(plan.name)
        wanted = plan.uplink.member(self._installation) if plan.uplink else None
        if note is None or note.member != wanted:
            self.release(plan.name)
            note = None
        if plan.uplink is None:
            return
        with ExitStack() as undo:
            if note is None:
                # What was taken just now and cannot be used is of more use to the host.
                undo.callback(self.release, plan.name)
            self._ports.put_in(plan, self._uplinks.take(plan))
            self._uplinks.move_in(plan)
            undo.pop_all()

    def release(self, segment: str) -> None:
        """Take the uplink out and give back what it was, if ``segment`` has one."""
        note = self._uplinks.note(segment)
        if not self._ports.take_out(segment, note.member if note else None):
            return
        self._uplinks.give_back(segment)
        self._ports.have_own_address(segment)

    def shown(self, segments: Iterable[Segment], joined: Set[tuple[str, str]]) -> dict[str, Segment]:
        """Segments as they are to be observed, by name.

        One that somebody removed while it held something of the host's is shown too, down: what it held is to be
        given back, or it is to be made again. One that does not hold all that it should is shown without its uplink.

        :param segments: those that are there. :param joined: devices in them, each with its segment before it.
        """
        notes = self._uplinks.notes()
        astray = self._uplinks.astray()
        found: dict[str, Segment] = {}
        for segment in segments:
            note = notes.get(segment.name) if segment.name not in astray else None
            uplink = note.member if note and (segment.name, note.member) in joined else None
            found[segment.name] = segment.model_copy(update={"uplink": uplink})
        for name, note in notes.items():
            found.setdefault(name, Segment(name=name, alias=note.alias, up=False))
        return found
