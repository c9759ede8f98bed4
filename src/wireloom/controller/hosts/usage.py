"""What labs take of hosts: the most that their nodes may use. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from wireloom.model.slice import Slice
from wireloom.model.state import NodeState, SliceStatus
from wireloom.model.views import HostUse

__all__ = ["LabOnHosts", "use_by_host"]


@dataclass(frozen=True)
class LabOnHosts:
    """A lab's slices and what was observed of them, by host."""

    lab: str
    slices: Mapping[str, Slice]
    statuses: Mapping[str, SliceStatus]


@dataclass
class _Sum:
    labs: list[str] = field(default_factory=list)
    nodes: int = 0
    running: int = 0
    cpus: float = 0
    memory_mb: int = 0


def use_by_host(labs: Iterable[LabOnHosts]) -> dict[str, HostUse]:
    """What each host has of labs; nodes that are off take nothing."""
    sums: dict[str, _Sum] = {}
    for lab in labs:
        for host, document in lab.slices.items():
            if document.nodes:
                _add(sums.setdefault(host, _Sum()), lab, document, lab.statuses.get(host))
    return {
        host: HostUse(
            labs=tuple(sorted(found.labs)),
            nodes=found.nodes,
            running=found.running,
            cpus=found.cpus,
            memory_mb=found.memory_mb,
        )
        for host, found in sums.items()
    }


def _add(found: _Sum, lab: LabOnHosts, document: Slice, status: SliceStatus | None) -> None:
    found.labs.append(lab.lab)
    found.nodes += len(document.nodes)
    for node in document.nodes:
        if node.power == "on":
            found.cpus += node.cpu
            found.memory_mb += node.memory_mb
    if status is not None:
        found.running += sum(node.state is NodeState.RUNNING for node in status.nodes)
