"""Captures of frames: what is asked for, and what is told of them.

=======  =================================================  ==========================================
method   path (below ``/api/v1``)                           answer
=======  =================================================  ==========================================
GET      /labs/{lab}/capture?of=&filter=&packets=&seconds=  pcapng, as the frames come
         &snaplen=
WS       the same                                           CaptureMessage, one a text message
=======  =================================================  ==========================================
"""

from __future__ import annotations

from typing import Final

from wireloom.errors import InvalidInput
from wireloom.model.base import Value

__all__ = ["FILTER_MOST", "SNAPLEN_MOST", "CaptureEnd", "CaptureMessage", "CaptureOptions", "DecodedFrame"]

#: Characters of a filter; what people write has some hundred.
FILTER_MOST: Final = 4096
#: Bytes of a frame that are kept: more than any frame has.
SNAPLEN_MOST: Final = 262_144
_SNAPLEN_LEAST: Final = 14  # an Ethernet header


class CaptureOptions(Value):
    """Which frames, and how many.

    :ivar filter: as of pcap-filter(7); empty: all.
    :ivar packets: end after so many; :ivar seconds: end after so long; 0: do not.
    :ivar snaplen: bytes of a frame that are kept.
    """

    filter: str = ""
    packets: int = 0
    seconds: float = 0
    snaplen: int = SNAPLEN_MOST

    def check(self) -> None:
        """:raises InvalidInput: a value makes no sense. Whether the filter is one, only its host can say."""
        if len(self.filter) > FILTER_MOST:
            raise InvalidInput(f"a capture filter has at most {FILTER_MOST} characters")
        if not self.filter.isprintable():
            raise InvalidInput("a capture filter is one line of printable characters")
        if not 0 <= self.packets < 1 << 62 or not 0 <= self.seconds < 1 << 31:  # which also refuses a NaN
            raise InvalidInput("the limits of a capture are not below 0")
        if not _SNAPLEN_LEAST <= self.snaplen <= SNAPLEN_MOST:
            raise InvalidInput(f"a snap length is {_SNAPLEN_LEAST} to {SNAPLEN_MOST} bytes")


class DecodedFrame(Value):
    """One line of a decoded capture.

    :ivar number: counts from 1. :ivar time: UNIX seconds. :ivar length: bytes on the wire.
    :ivar port: where the frame came in, e.g. ``r1:eth1``.
    :ivar source: address of the highest layer that has one; :ivar destination: likewise.
    """

    number: int
    time: float
    port: str
    source: str
    destination: str
    protocol: str
    length: int
    info: str


class CaptureEnd(Value):
    """How a capture ended.

    :ivar packets: frames in it. :ivar dropped: that are not in it, because its reader was slow. No lab lost them.
    :ivar reason: in words; empty when it was cut off, and nothing is known of ``dropped``.
    """

    packets: int = 0
    dropped: int = 0
    reason: str = ""


class CaptureMessage(Value):
    """What a decoded capture says: frames as they come, and how it ended, which is the last message."""

    frames: tuple[DecodedFrame, ...] = ()
    end: CaptureEnd | None = None
