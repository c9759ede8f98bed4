"""What the agent and the capturing process say to each other, in lines.

On its standard input the process gets an :class:`Order`, and then lines of :class:`Request`. Where its standard input
ends, the agent is gone, and the process goes at once. On its standard error it says :class:`Report`: one when it
listens (or cannot), one when it has finished.
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

__all__ = ["Order", "Point", "Report", "Request"]


class Point(NamedTuple):
    """A device of the host to listen on.

    :ivar name: of the interface in the file, e.g. ``r1:eth1``; ``description``: more of the same, for people.
    :ivar take: frames that come ``in`` from the device, that go ``out`` to it, or ``both``.
    """

    device: str
    name: str
    description: str = ""
    take: Literal["in", "out", "both"] = "in"


class Order(NamedTuple):
    """A capture.

    :ivar program: the filter as BPF instructions ``(code, jt, jf, k)``, which also cuts frames to ``snaplen`` bytes.
    :ivar capture_filter: the same as text, for the file.
    :ivar packets: ends after so many frames; 0: does not. :ivar seconds: ends after so long; 0: does not.
    :ivar buffer: bytes that may wait in the kernel, over all points.
    :ivar spare: points that may come later. Their sockets are opened at once, while the process has the right to.
    """

    points: tuple[Point, ...]
    program: tuple[tuple[int, int, int, int], ...]
    comment: str
    writer: str
    capture_filter: str = ""
    packets: int = 0
    seconds: float = 0
    snaplen: int = 262144
    buffer: int = 4 << 20
    spare: int = 0

    def line(self) -> bytes:
        """The order as it is sent."""
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Order:
        """The reverse of :meth:`line`."""
        points, program, *rest = json.loads(line)
        return cls(tuple(Point(*point) for point in points), tuple(tuple(step) for step in program), *rest)


class Request(NamedTuple):
    """What is asked of a capture that runs.

    :ivar finish: the reason why it is to write its statistics and end; empty: it is to go on.
    :ivar points: all that it is to listen at from now on; ``None``: as before.
    """

    finish: str = ""
    points: tuple[Point, ...] | None = None

    def line(self) -> bytes:
        """The request as it is sent."""
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Request:
        """The reverse of :meth:`line`."""
        finish, points = json.loads(line)
        return cls(finish, None if points is None else tuple(Point(*point) for point in points))


class Report(NamedTuple):
    """How far a capture is.

    :ivar problem: why it cannot listen; ``number`` is the kernel's ``errno``.
    :ivar ended: why it has finished; empty while it listens.
    :ivar dropped: frames that passed the filter and found no room, because the reader was slow.
    """

    problem: str = ""
    number: int = 0
    ended: str = ""
    packets: int = 0
    dropped: int = 0

    def line(self) -> bytes:
        """The report as it is sent."""
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Report:
        """The reverse of :meth:`line`. :raises ValueError: it is something else, a traceback for instance."""
        return cls(*json.loads(line))
