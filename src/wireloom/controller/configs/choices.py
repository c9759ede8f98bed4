"""What a deploy means for the configurations that nodes are made with next. Pure.

The newest explicit act of the user wins: another ``startup-config`` in the topology takes the place of the active
revision, which stays in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wireloom.controller.store.config_records import ActiveConfig
from wireloom.controller.store.records import LabSnapshot, NodeRecord
from wireloom.model.topology import NodeSpec, Topology

__all__ = ["kept_configs", "superseded_configs", "superseded_messages"]


def superseded_configs(
    old: Topology, new: Topology, before: LabSnapshot, nodes: Iterable[NodeRecord]
) -> frozenset[str]:
    """Nodes, by id, that their topology gives another configuration than before."""
    found: set[str] = set()
    kept = {node.id for node in before.nodes}
    for node in nodes:
        was, becomes = old.node(node.name), new.node(node.name)
        if node.id in kept and was is not None and becomes is not None and _startup(was) != _startup(becomes):
            found.add(node.id)
    return frozenset(found)


def kept_configs(before: LabSnapshot | None, superseded: frozenset[str]) -> dict[str, ActiveConfig]:
    """What the nodes of ``before`` are made with next, once the topology has superseded some of it."""
    known = before.configs if before is not None else {}
    nothing = ActiveConfig()
    chosen = {
        node_id: ActiveConfig(by_user=True, choice=known.get(node_id, nothing).choice + 1) for node_id in superseded
    }
    return {**known, **chosen}


def superseded_messages(before: LabSnapshot | None, superseded: frozenset[str]) -> Iterator[str]:
    """What the user is told of active revisions that are active no more."""
    for node in before.nodes if before is not None else ():
        active = before.configs.get(node.id) if before is not None else None
        if node.id in superseded and active is not None and active.stored is not None:
            yield (
                f"{node.name}: its startup-config in the topology changed, so revision {active.stored.revision} is no "
                "longer active; `wireloom configs activate` brings it back"
            )


def _startup(spec: NodeSpec) -> tuple[str, str | None]:
    return spec.startup_template, spec.startup_config
