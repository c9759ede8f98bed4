"""Who an object on a host belongs to, and how it is named and labelled.

Names are cosmetic and for people; programs find objects by the labels. Both are pure functions of
immutable ids, so any process can recompute them after a restart.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from wireloom.model.base import Value

__all__ = [
    "DEVICE_NAME_LIMIT",
    "LABEL_INCARNATION",
    "LABEL_INSTALLATION",
    "LABEL_LAB",
    "LABEL_LAB_ID",
    "LABEL_NODE",
    "LABEL_NODE_ID",
    "LABEL_SPEC",
    "NAME_PATTERN",
    "Identity",
    "device_name",
    "is_device_name",
    "mac_address",
    "short_hash",
]

LABEL_INSTALLATION: Final = "wireloom.installation"
LABEL_LAB: Final = "wireloom.lab"
LABEL_LAB_ID: Final = "wireloom.lab-id"
LABEL_NODE: Final = "wireloom.node"
LABEL_NODE_ID: Final = "wireloom.node-id"
LABEL_INCARNATION: Final = "wireloom.incarnation"
LABEL_SPEC: Final = "wireloom.spec"

#: IFNAMSIZ is 16 bytes with the closing NUL (linux/if.h).
DEVICE_NAME_LIMIT: Final = 15

#: Lab and node names are DNS labels (RFC 1123), because nodes use them as host names.
NAME_PATTERN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)

_DEVICE_NAME: Final = re.compile(r"wl[a-z][0-9a-f]{12}")


def short_hash(*parts: object, length: int = 12) -> str:
    """Lower-case hexadecimal hash of ``parts``, ``length`` digits."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:length]


def device_name(kind: str, *parts: object) -> str:
    """A network device name of at most 15 characters: ``wl`` + one letter of kind + 12 hash digits."""
    if len(kind) != 1:
        raise ValueError("a device kind is one letter")
    return f"wl{kind}{short_hash(kind, *parts, length=12)}"


def is_device_name(name: str) -> bool:
    """Whether :func:`device_name` could have made ``name``."""
    return _DEVICE_NAME.fullmatch(name) is not None


def mac_address(*parts: object) -> str:
    """A stable, locally administered unicast address, e.g. ``02:1f:…`` (IEEE 802c: bit 1 set, bit 0 clear)."""
    digits = short_hash("mac", *parts, length=10)
    return ":".join(["02", *(digits[i : i + 2] for i in range(0, 10, 2))])


class Identity(Value):
    """The immutable owner of a runtime: which installation, lab and node, by id and by display name."""

    installation: str
    lab_id: str
    lab: str
    node_id: str
    node: str

    @property
    def runtime_name(self) -> str:
        """``wl-<lab>-<node>-<short id>``; at most 63 characters, so that it can be a host name too."""
        tail = self.node_id[:8]
        head = f"wl-{self.lab}-{self.node}"[: 63 - len(tail) - 1].rstrip("-")
        return f"{head}-{tail}".lower()

    def labels(self) -> dict[str, str]:
        """The labels that every object of this node carries on a host."""
        return {
            LABEL_INSTALLATION: self.installation,
            LABEL_LAB: self.lab,
            LABEL_LAB_ID: self.lab_id,
            LABEL_NODE: self.node,
            LABEL_NODE_ID: self.node_id,
        }

    @classmethod
    def from_labels(cls, labels: dict[str, str]) -> Identity | None:
        """The identity that :meth:`labels` wrote, or ``None`` for an object that is not ours."""
        try:
            return cls(
                installation=labels[LABEL_INSTALLATION],
                lab_id=labels[LABEL_LAB_ID],
                lab=labels[LABEL_LAB],
                node_id=labels[LABEL_NODE_ID],
                node=labels[LABEL_NODE],
            )
        except KeyError:
            return None
