"""What a verb changes in a lab's slices, and what it leaves as it was deployed. Pure.

Device definitions may change at any time. Nodes that are deployed keep the definition that they were deployed with
until the user deploys again or has them made anew, so that a verb on one node, a new address or a restart of the
controller never takes a node's runtime away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from wireloom.model.slice import NodeIntent, PortIntent, Slice, WireIntent

__all__ = ["changed_wires", "intents_by_id", "keeping_definitions", "takes_new_runtime", "wires_at"]

#: What is of the controller's own making in an intent, and so never part of a node's definition.
_OWN: Final = (
    "power", "incarnation", "restarts", "attention", "mgmt_ipv4", "stored_config", "config_chosen", "config_choice",
    "privileged_allowed",
)  # fmt: skip


def intents_by_id(slices: Mapping[str, Slice]) -> dict[str, NodeIntent]:
    """Nodes of all hosts by id."""
    return {node.id: node for document in slices.values() for node in document.nodes}


def takes_new_runtime(before: NodeIntent, after: NodeIntent) -> bool:
    """Whether the runtime of ``before`` cannot serve for ``after``."""
    return before.spec_hash() != after.spec_hash() or before.incarnation != after.incarnation


def wires_at(slices: Mapping[str, Slice], node_ids: Collection[str]) -> tuple[str, ...]:
    """Ids of the wires that end at one of these nodes."""
    wanted = frozenset(node_ids)
    return tuple(wire.id for wire in _wires(slices).values() if {wire.a.node_id, wire.b.node_id} & wanted)


def changed_wires(before: Mapping[str, Slice], after: Mapping[str, Slice]) -> tuple[str, ...]:
    """Ids of wires that came, went or changed."""
    old, new = _wires(before), _wires(after)
    return tuple(wire_id for wire_id in old | new if old.get(wire_id) != new.get(wire_id))


def _wires(slices: Mapping[str, Slice]) -> dict[str, WireIntent]:
    return {wire.id: wire for document in slices.values() for wire in document.wires}


def keeping_definitions(
    deployed: Mapping[str, Slice], rendered: Mapping[str, Slice], *, anew: Collection[str] = ()
) -> dict[str, Slice]:
    """``rendered`` slices of the same nodes, with the definitions that these have in the ``deployed`` ones.

    :param anew: ids of nodes that are made anew, and take the definition of today.
    """
    known = {node_id: node for node_id, node in intents_by_id(deployed).items() if node_id not in anew}
    clis = {name: cli for document in deployed.values() for name, cli in document.clis.items()}
    result = {}
    for host, document in rendered.items():
        nodes = tuple(_kept(known[node.id], node) if node.id in known else node for node in document.nodes)
        kept = {node.cli: clis[node.cli] for node in nodes if node.id in known and node.cli in clis}
        used = {node.cli for node in nodes}
        merged = {name: cli for name, cli in (document.clis | kept).items() if name in used}
        result[host] = document.model_copy(update={"nodes": nodes, "clis": merged})
    return result


def _kept(deployed: NodeIntent, rendered: NodeIntent) -> NodeIntent:
    own = {name: getattr(rendered, name) for name in _OWN}
    return deployed.model_copy(update={**own, "ports": _kept_ports(deployed, rendered)})


def _kept_ports(deployed: NodeIntent, rendered: NodeIntent) -> tuple[PortIntent, ...]:
    """Ports as they were named and made, in the roles that they have now."""
    known = {port.index: port for port in deployed.ports}
    roles = {port.index: port.role for port in rendered.ports}
    if deployed.ports_fixed and all(index in known for index, role in roles.items() if role == "data"):
        return tuple(port.model_copy(update={"role": roles.get(port.index, port.role)}) for port in deployed.ports)
    return tuple(
        known[port.index].model_copy(update={"role": port.role}) if port.index in known else port
        for port in rendered.ports
    )
