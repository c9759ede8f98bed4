"""Which port of IOL is which port of the node. Pure.

IOL has slots ("units" to some) of four Ethernet ports: ``Ethernet0/0`` to ``Ethernet0/3``, then ``Ethernet1/0``. Over
netio a port is one byte, the slot in its low half and the port in its high half. A NETMAP file lists pairs of ends
``<application id>:<slot>/<port>``; IOL sends what leaves one end of a pair to the application at the other.

Sources: the public bridges for these programs (their documentation of the fabric, and the NETMAP files
that they write).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "BRIDGE_ID",
    "LARGEST_ID",
    "LEAST_SLOTS",
    "MOST_SLOTS",
    "PORTS_PER_SLOT",
    "index_of_device",
    "interface_name",
    "interface_of",
    "netmap",
    "port_key",
    "slots_for",
]

PORTS_PER_SLOT = 4
MOST_SLOTS = 16
#: As many as a link may be plugged into later, without IOL being started again.
LEAST_SLOTS = 4

#: Application ids go from 1 to 1024. The bridge has one that no IOL of ours gets.
BRIDGE_ID = 1023
LARGEST_ID = 1022

_DEVICE = re.compile(r"eth([1-9][0-9]{0,3})")


def index_of_device(name: str) -> int | None:
    """Index of the data port behind a network device of the node, from 1; ``None``: it is no data port."""
    found = _DEVICE.fullmatch(name)
    index = int(found[1]) if found else 0
    return index if 1 <= index <= MOST_SLOTS * PORTS_PER_SLOT else None


def _place(index: int) -> tuple[int, int]:
    """Slot and port of data port ``index``."""
    if not 1 <= index <= MOST_SLOTS * PORTS_PER_SLOT:
        raise ValueError(f"there is no data port {index}")
    return divmod(index - 1, PORTS_PER_SLOT)


def interface_name(index: int) -> str:
    """As IOL calls it: ``Ethernet1/0`` for 5."""
    slot, port = _place(index)
    return f"Ethernet{slot}/{port}"


def interface_of(key: int) -> str:
    """The same of the byte that names a port in a netio header."""
    return f"Ethernet{key & 15}/{key >> 4}"


def port_key(index: int) -> int:
    """The byte that names data port ``index`` in a netio header."""
    slot, port = _place(index)
    return slot | port << 4


def slots_for(indexes: Iterable[int]) -> int:
    """How many slots IOL needs for these ports, and some to spare."""
    highest = max(indexes, default=1)
    slot, _ = _place(highest)
    return max(LEAST_SLOTS, slot + 1)


def netmap(application: int, bridge: int, slots: int) -> str:
    """The text of a NETMAP file: every port of every slot goes to the same port of the bridge.

    :raises ValueError: ids or slots are out of bounds.
    """
    if not 1 <= application <= LARGEST_ID or application == bridge:
        raise ValueError(f"application id {application} is not between 1 and {LARGEST_ID}")
    if not 1 <= slots <= MOST_SLOTS:
        raise ValueError(f"{slots} slots are not between 1 and {MOST_SLOTS}")
    ends = [(slot, port) for slot in range(slots) for port in range(PORTS_PER_SLOT)]
    return "".join(f"{application}:{slot}/{port} {bridge}:{slot}/{port}\n" for slot, port in ends)
