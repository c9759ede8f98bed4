"""The capture itself: rings are read as far as the output takes it, merged by time and written as pcapng."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from wireloom import pcapng
from wireloom.sniffer.merge import Merge
from wireloom.sniffer.order import Order, Point, Report, Request
from wireloom.sniffer.outlet import Outlet
from wireloom.sniffer.ring import BLOCK, BLOCK_AGE_MS, Frame, Ring, open_listener

__all__ = ["Capture"]

_NOBODY: Final = 65534
_NICENESS: Final = 5
_FEWEST_BLOCKS: Final = 2
_EMPTY_S: Final = 1.0
#: Bytes that may wait for the reader here, beside those in the kernel.
_WAITING_MOST: Final = 4 << 20
_HEARD_AT_ONCE: Final = 1 << 16
_LINK_GROUP: Final = 1  # RTMGRP_LINK: devices come, go and change


class Capture:
    """:param control: what the agent says. :param output: where the capture goes. :param reports: what it is told."""

    def __init__(self, order: Order, *, control: int, output: int, reports: int) -> None:
        """:raises OSError: the kernel refuses a socket or its ring."""
        self._order = order
        self._control = control
        self._output = output
        self._outlet = Outlet(output, _WAITING_MOST)
        self._listening = True
        self._reports = reports
        self._said = b""
        blocks = max(_FEWEST_BLOCKS, order.buffer // BLOCK // max(1, len(order.points)))
        self._rings = [
            Ring(open_listener(), point, number, order.program, blocks) for number, point in enumerate(order.points)
        ]
        self._spare = [open_listener() for _ in range(order.spare)]
        self._delivered = 0
        self._merge = Merge(len(self._rings) + len(self._spare))
        self._links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._links.bind((0, _LINK_GROUP))
        self._links.setblocking(False)
        self._poll = select.poll()
        for listened in (control, self._links.fileno(), *(ring.fileno() for ring in self._rings)):
            self._poll.register(listened, select.POLLIN)

    def run(self) -> None:
        """Capture until a limit is reached or the agent says so. :raises BrokenPipeError: the reader is gone."""
        _step_back()
        started_ns = time.time_ns()
        deadline = time.monotonic() + self._order.seconds if self._order.seconds else None
        self._attend()
        os.write(self._reports, Report().line())
        self._outlet.put(self._head())
        ended = ""
        while not ended:
            asked = self._wait(deadline)
            if asked is None:
                return
            if self._listening:
                self._take()
            if self._put(self._merge.due(time.time_ns())):
                ended = "the limit of packets is reached"
            elif deadline is not None and time.monotonic() >= deadline:
                ended = "the time is over"
            else:
                ended = asked
        self._empty()
        self._outlet.put(self._tail(started_ns, ended))
        self._outlet.finish()
        dropped = sum(ring.dropped for ring in self._rings)
        os.write(self._reports, Report(ended=ended, packets=self._delivered, dropped=dropped).line())

    def _wait(self, deadline: float | None) -> str | None:
        """Wait for frames or for the end; why the agent asks to finish, if it does; ``None``: nobody is there."""
        self._heed()
        waits = [self._merge.wait_ms(time.time_ns())]
        waits.append(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000)
        events = dict(self._poll.poll(min((wait for wait in waits if wait is not None), default=None)))
        if any(flags & select.POLLERR for flags in events.values()) or self._links.fileno() in events:
            self._attend()
        if events.get(self._output, 0) & (select.POLLERR | select.POLLHUP):
            return None
        return self._hear() if self._control in events else ""

    def _hear(self) -> str | None:
        """Do what the agent says; as :meth:`_wait`."""
        said = os.read(self._control, _HEARD_AT_ONCE)
        if not said:
            return None
        *lines, self._said = (self._said + said).split(b"\n")
        for request in map(Request.parse, lines):
            ended = request.finish or (self._listen_at(request.points) if request.points is not None else "")
            if ended:
                return ended
        return ""

    def _listen_at(self, points: Sequence[Point]) -> str:
        """Listen at ``points`` and nowhere else; why that cannot be, or nothing."""
        known = {ring.point: ring for ring in self._rings}
        for point, ring in known.items():
            if point in points:
                ring.hear()
            else:
                ring.deafen()
        for point in points:
            if point in known:
                continue
            if not self._spare:
                return f"too many ports came and went for one capture: {point.name} is one too many"
            try:
                ring = Ring(self._spare.pop(), point, len(self._rings), self._order.program, _FEWEST_BLOCKS)
            except OSError as error:
                return f"{point.name} cannot be captured: {error.strerror}"
            ring.attend()
            self._rings.append(ring)
            self._poll.register(ring.fileno(), select.POLLIN if self._listening else 0)
            self._outlet.put(self._description(point))
        return ""

    def _heed(self) -> None:
        """Let the poll look at what matters: at the rings while there is room, at the reader while something waits."""
        self._poll.register(self._output, select.POLLOUT if self._outlet.waiting else 0)
        listening = not self._outlet.full
        if listening != self._listening:
            self._listening = listening
            for ring in self._rings:
                self._poll.modify(ring.fileno(), select.POLLIN if listening else 0)

    def _empty(self) -> None:
        """Take what came before the end; the kernel holds young blocks back for a moment."""
        for ring in self._rings:
            ring.deafen()
        patience = time.monotonic() + _EMPTY_S
        while any(ring.left for ring in self._rings) and time.monotonic() < patience:
            select.poll().poll(BLOCK_AGE_MS / 10)
            self._take()
        self._put(self._merge.rest())

    def _take(self) -> None:
        """A block of each ring that has one."""
        for ring in self._rings:
            self._merge.add(list(ring.take_block()))

    def _attend(self) -> None:
        """Devices came, went or changed."""
        with contextlib.suppress(OSError):  # nothing more to read, or so much that some was dropped
            while self._links.recv(1 << 16):
                pass
        for ring in self._rings:
            ring.attend()

    def _put(self, frames: list[Frame]) -> bool:
        """Write frames, as many as may still come; whether none may after these."""
        if self._order.packets:
            frames = frames[: self._order.packets - self._delivered]
        for frame in frames:
            self._rings[frame.interface].delivered += 1
        self._delivered += len(frames)
        self._outlet.put(
            b"".join(
                [
                    pcapng.enhanced_packet(frame.interface, frame.time_ns, frame.data, frame.length, frame.direction)
                    for frame in frames
                ]
            )
        )
        return 0 < self._order.packets <= self._delivered

    def _head(self) -> bytes:
        order, system = self._order, os.uname()
        blocks = [
            pcapng.section_header(order.comment, program=order.writer, system=f"{system.sysname} {system.release}")
        ]
        return b"".join([*blocks, *map(self._description, order.points)])

    def _description(self, point: Point) -> bytes:
        return pcapng.interface_description(
            point.name,
            description=point.description,
            snaplen=self._order.snaplen,
            capture_filter=self._order.capture_filter,
        )

    def _tail(self, started_ns: int, ended: str) -> bytes:
        """Statistics of every interface; the last one says why the capture ended."""
        blocks = []
        now = time.time_ns()
        for number, ring in enumerate(self._rings):
            ring.count()
            blocks.append(
                pcapng.interface_statistics(
                    number,
                    started_ns=started_ns,
                    ended_ns=now,
                    received=ring.received,
                    dropped=ring.dropped,
                    delivered=ring.delivered,
                    comment=ended if number == len(self._rings) - 1 else "",
                )
            )
        return b"".join(blocks)


def _step_back() -> None:
    """The lab goes first: where there is too little time for both, frames miss the capture. And sockets are open:
    nothing that comes now needs root."""
    os.nice(_NICENESS)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
