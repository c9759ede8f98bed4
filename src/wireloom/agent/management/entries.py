"""What the management network knows of a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wireloom.model.slice import Management, Slice

__all__ = ["NodeEntry", "entries_of", "management_of"]


@dataclass(frozen=True, order=True)
class NodeEntry:
    """A node's place in the management network; ``mac`` is that of its management port."""

    lab: str
    node: str
    address: str
    mac: str


def entries_of(slices: Mapping[str, Slice]) -> list[NodeEntry]:
    """Every node of ``slices`` that has a management address, in a stable order."""
    return sorted(_entries(slices.values()))


def management_of(slices: Mapping[str, Slice]) -> Management | None:
    """The network that the slices of this host ask for; all of them ask for the same."""
    return next((lab.management for _, lab in sorted(slices.items()) if lab.management is not None), None)


def _entries(slices: Iterable[Slice]) -> Iterable[NodeEntry]:
    for lab in slices:
        if lab.removed or lab.management is None:
            continue
        for node in lab.nodes:
            port = node.port(0)
            if node.mgmt_ipv4 is not None and port is not None and port.role == "mgmt":
                yield NodeEntry(lab=lab.lab, node=node.name, address=node.mgmt_ipv4, mac=port.mac)
