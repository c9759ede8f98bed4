"""What a verb changes in a lab's slices, and what it leaves as it was deployed. Pure.

Device definitions may change at any time. Nodes that are deployed keep the definition that they were deployed with
until the user deploys again or has them made anew, so that a verb on one node, a new address or a restart of the
controller never takes a node's runtime away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from wireloom.controller.store.records import Definitions
from wireloom.model.base import Value
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, SegmentIntent, Slice, WireIntent

__all__ = [
    "changed_links",
    "changed_segments",
    "definitions_of",
    "intents_by_id",
    "keeping_definitions",
    "links_at",
    "links_by_id",
    "segments_by_id",
    "takes_new_runtime",
    "tunnelled_links",
]

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


def links_at(slices: Mapping[str, Slice], node_ids: Collection[str]) -> tuple[str, ...]:
    """Ids of the links, be they to other nodes or to segments, that end at one of these nodes."""
    wanted = frozenset(node_ids)
    return tuple(link.id for link in links_by_id(slices).values() if any(end.node_id in wanted for end in link.ends))


def segments_by_id(slices: Mapping[str, Slice]) -> dict[str, SegmentIntent]:
    """Segments of all hosts by id."""
    return {segment.id: segment for document in slices.values() for segment in document.segments}


def changed_links(before: Mapping[str, Slice], after: Mapping[str, Slice]) -> tuple[str, ...]:
    """Ids of links that came, went or changed."""
    return _changed(links_by_id(before), links_by_id(after))


def changed_segments(before: Mapping[str, Slice], after: Mapping[str, Slice]) -> tuple[str, ...]:
    """Ids of segments that came, went or changed."""
    return _changed(segments_by_id(before), segments_by_id(after))


def _changed(old: Mapping[str, Value], new: Mapping[str, Value]) -> tuple[str, ...]:
    return tuple(key for key in {**old, **new} if old.get(key) != new.get(key))


def links_by_id(slices: Mapping[str, Slice]) -> dict[str, WireIntent | PlugIntent]:
    """Links of all hosts by id: those to other nodes first, each kind in the order of the topology.

    A link between hosts is as the host has it that has its first end.
    """
    documents = slices.values()
    wires: dict[str, WireIntent | PlugIntent] = {
        link.id: link for item in documents for link in item.wires if link.remote is None or link.remote.end == "b"
    }
    return wires | {link.id: link for item in documents for link in item.plugs}


def tunnelled_links(slices: Mapping[str, Slice]) -> frozenset[str]:
    """Ids of the links between hosts."""
    return frozenset(link.id for item in slices.values() for link in item.wires if link.remote is not None)


def definitions_of(slices: Mapping[str, Slice]) -> Definitions:
    """What the nodes of ``slices`` are deployed with: everything but what is of the controller's own making."""
    blank = {name: NodeIntent.model_fields[name].get_default() for name in _OWN}
    nodes = {node_id: node.model_copy(update=blank) for node_id, node in intents_by_id(slices).items()}
    return Definitions(nodes=nodes, clis={name: cli for item in slices.values() for name, cli in item.clis.items()})


def keeping_definitions(
    deployed: Definitions, rendered: Mapping[str, Slice], *, anew: Collection[str] = ()
) -> dict[str, Slice]:
    """``rendered`` slices of the same nodes, with the definitions that these were ``deployed`` with.

    :param anew: ids of nodes that are made anew, and take the definition of today.
    """
    known = {node_id: node for node_id, node in deployed.nodes.items() if node_id not in anew}
    result = {}
    for host, document in rendered.items():
        nodes = tuple(_kept(known[node.id], node) if node.id in known else node for node in document.nodes)
        kept = {node.cli: deployed.clis[node.cli] for node in nodes if node.id in known and node.cli in deployed.clis}
        used = {node.cli for node in nodes}
        merged = {name: cli for name, cli in (document.clis | kept).items() if name in used}
        arrivals = tuple(
            item.model_copy(update={"node": _kept(known[item.node_id], item.node)}) if item.node_id in known else item
            for item in document.arrivals
        )
        result[host] = document.model_copy(update={"nodes": nodes, "clis": merged, "arrivals": arrivals})
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
