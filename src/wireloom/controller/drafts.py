"""From what is stored and what is asked to what shall be: the nodes of a lab after a verb. Pure but for new ids.

Identity: a node keeps its id, and with it its disks, as long as its name, device and provider stay. A node of another
device or provider is another node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from wireloom.controller.placing import Ground, is_made, placed_nodes
from wireloom.controller.preflight import Candidate, Findings, ImageRef, check, unsuited
from wireloom.controller.store.records import LabSnapshot, NodeRecord
from wireloom.errors import NotFound, WireloomError
from wireloom.fabric.documents import HostFacts
from wireloom.model.slice import Slice
from wireloom.model.topology import NodeSpec, Topology
from wireloom.model.views import ActionRequest
from wireloom.planning.expand import data_ports
from wireloom.planning.placement import Choice, Placement

__all__ = ["acted_on", "after_verb", "drafted_nodes", "images_wanted", "inspected", "with_ports"]

_COUNTERS: Final = {
    "start": ("attention",),
    "stop": (),
    "restart": ("restarts", "attention"),
    "wipe": ("incarnation", "attention"),
}
_POWER: Final = {"start": "on", "stop": "off", "restart": "on"}  # a wipe leaves the power as it is


def drafted_nodes(
    topology: Topology, snapshot: LabSnapshot | None, lab_id: str, new_id: Callable[[], str]
) -> list[NodeRecord]:
    """The nodes of ``topology`` with their identities; new ones have no place yet.

    Those that stay keep place, power and counters, and have their errors cleared.
    """
    before = {node.name: node for node in snapshot.nodes} if snapshot else {}
    return [_drafted(spec, before.get(spec.name), lab_id, new_id) for spec in topology.nodes]


def _drafted(spec: NodeSpec, before: NodeRecord | None, lab_id: str, new_id: Callable[[], str]) -> NodeRecord:
    if before is None or (before.device, before.provider) != (spec.device, spec.provider):
        return NodeRecord(id=new_id(), lab_id=lab_id, name=spec.name, device=spec.device, provider=spec.provider)
    return before.changed(attention=before.attention + 1)


def inspected(
    nodes: Iterable[NodeRecord],
    topology: Topology,
    ground: Ground,
    concerned: frozenset[str],
    *,
    allow_privileged: bool,
    missing: Mapping[ImageRef, WireloomError] | None = None,
    secrets: Container[str] | None = None,
) -> tuple[list[NodeRecord], Findings]:
    """``nodes`` placed and checked: those of ``concerned`` that were never made may be refused.

    :param ground: the hosts that live, and what of them is taken by other labs.
    :param missing: images that a host has not and cannot fetch, as far as it was asked.
    :param secrets: names of those that users gave; ``None``: not known.
    """
    records = {node.name: node for node in nodes}
    specs = [spec for spec in topology.nodes if spec.name in records]
    facts, absent = ground.facts, missing or {}
    placement = placed_nodes(
        records,
        topology,
        ground,
        lambda spec, host: unsuited(Candidate(spec, host, records[spec.name].power, allow_privileged), facts, absent),
    )
    candidates = [
        _candidate(spec, placement.choices[spec.name], records[spec.name], allow_privileged) for spec in specs
    ]
    findings = check(
        candidates, facts, ground.reserved_mb, missing, secrets, overcommit=ground.options.overcommit_memory
    )
    findings.placement = placement.choices
    findings.warnings += _against_pins(placement, concerned)
    # What exists on a host stays intended whatever is wrong there now: leaving it out would destroy it.
    refusable = {name for name in concerned if not is_made(records[name])}
    findings.problems = {name: error for name, error in findings.problems.items() if name in refusable}
    home = Counter(choice.host for choice in placement.choices.values() if choice.host).most_common(1)
    fallback = home[0][0] if home else ""
    for spec in specs:
        if spec.name in concerned:
            host = placement.host(spec.name) or spec.host or fallback
            records[spec.name] = _placed(records[spec.name], host or "", findings, facts.get(host or ""))
    return list(records.values()), findings


def _candidate(spec: NodeSpec, choice: Choice, record: NodeRecord, allow_privileged: bool) -> Candidate:
    refusal = choice.error if choice.host is None else None
    return Candidate(spec, choice.host, record.power, allow_privileged, refusal)


def _against_pins(placement: Placement, concerned: frozenset[str]) -> list[str]:
    """Nodes that exist and stay where they are, though the topology names another host."""
    return [
        f"{name} stays on {choice.host}: {choice.error.message}"
        for name, choice in placement.choices.items()
        if choice.error is not None and choice.host is not None and name in concerned
    ]


def images_wanted(before: Iterable[NodeRecord], placed: Iterable[NodeRecord], topology: Topology) -> list[ImageRef]:
    """Images of nodes that could still be refused for want of them: placed, wanted, and never made."""
    made = {node.name for node in before if is_made(node)}
    specs = {spec.name: spec for spec in topology.nodes}
    return [
        ImageRef(node.host, node.provider, specs[node.name].image)
        for node in placed
        if node.host and node.problem is None and node.power == "on" and node.name in specs and node.name not in made
    ]


def _placed(record: NodeRecord, host: str, findings: Findings, facts: HostFacts | None) -> NodeRecord:
    problem = findings.problems.get(record.name)
    return record.changed(
        host=host,
        mgmt_ipv4=record.mgmt_ipv4 if host == record.host else None,
        problem=problem.to_wire() if problem else None,
        ports=record.ports if record.ports is not None else _first_ports(record.provider, facts),
    )


def _first_ports(provider: str, facts: HostFacts | None) -> int | None:
    """0 for a provider that fixes ports at creation, on the host as described by ``facts``."""
    offered = facts.providers if facts else ()
    return 0 if any(item.name == provider and item.ports_fixed for item in offered) else None


def with_ports(nodes: Iterable[NodeRecord], slices: Mapping[str, Slice]) -> list[NodeRecord]:
    """``nodes`` with the number of data ports that ``slices`` give them, where that number is to be kept."""
    given = {intent.id: data_ports(intent) for document in slices.values() for intent in document.nodes}
    return [
        node if node.ports is None else node.model_copy(update={"ports": given.get(node.id, node.ports)})
        for node in nodes
    ]


def acted_on(snapshot: LabSnapshot, names: Iterable[str]) -> frozenset[str]:
    """The names of the nodes that a verb concerns; none named means all. :raises NotFound:"""
    known = {node.name for node in snapshot.nodes}
    wanted = frozenset(names) or frozenset(known)
    unknown = sorted(wanted - known)
    if unknown:
        raise NotFound(
            f"lab {snapshot.lab.name} has no node {', '.join(unknown)}", hint=f"its nodes: {', '.join(sorted(known))}"
        )
    return wanted


def after_verb(snapshot: LabSnapshot, verb: ActionRequest, names: frozenset[str]) -> list[NodeRecord]:
    """All nodes of the lab, with power and counters as ``verb`` leaves those in ``names``."""
    return [_counted(node, verb) if node.name in names else node for node in snapshot.nodes]


def _counted(node: NodeRecord, verb: ActionRequest) -> NodeRecord:
    counters = {name: getattr(node, name) + 1 for name in _COUNTERS[verb.verb]}
    fresh_ports = verb.verb == "wipe" and node.ports is not None  # the next runtime may have another number
    return node.model_copy(
        update={**counters, "power": _POWER.get(verb.verb, node.power), "ports": 0 if fresh_ports else node.ports}
    )
