"""Makes a lab again of what hosts have of it: runtimes that go on running, and disks.

The ids are in the labels of every runtime and in the folder of every node. With them, and with the lab's topology, the
lab is what it was; a runtime whose definition is the same is not touched at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from wireloom.controller.board import Board
from wireloom.controller.drafts import drafted_nodes
from wireloom.controller.edits import Edits
from wireloom.controller.intents import intents_by_id
from wireloom.controller.journal import Journal
from wireloom.controller.labs import LabService
from wireloom.controller.orphans.finds import Orphans
from wireloom.controller.store import LabRecord, LabSnapshot, NodeRecord, RevisionRecord, Store
from wireloom.controller.store.records import revision_digest
from wireloom.controller.topologies import Topologies
from wireloom.errors import Conflict, NotFound
from wireloom.model.orphans import AdoptedNode, AdoptRequest, AdoptView, Orphan
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.topology import Topology
from wireloom.model.views import DeployRequest

__all__ = ["Adoption"]

#: Kinds of remains that say which node they are of.
_OF_NODES: Final = frozenset({"runtime", "folder"})
#: As many data ports a node may have been made with; see :attr:`NodeRecord.ports`.
_MOST_PORTS: Final = 64


class Adoption:
    """One per controller."""

    def __init__(
        self,
        *,
        orphans: Orphans,
        labs: LabService,
        store: Store,
        edits: Edits,
        topologies: Topologies,
        board: Board,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self._orphans = orphans
        self._labs = labs
        self._store = store
        self._edits = edits
        self._topologies = topologies
        self._board = board
        self._journal = journal
        self._clock = clock

    async def adopt(self, request: AdoptRequest) -> AdoptView:
        """Make the lab that ``request.topology`` describes of what hosts have of it; nodes without remains are new.

        :raises TopologyInvalid: :raises NotPermitted: as of a deployment.
        :raises NotFound: no host that answers has anything of such a lab.
        :raises Conflict: there is a lab of that name; or the remains are of several labs, of a node twice, of nodes
            that the topology does not have, or has with another provider.
        """
        deploy = DeployRequest(
            topology=request.topology,
            files=request.files,
            source=request.source,
            allow_privileged=request.allow_privileged,
        )
        topology = await self._labs.parse(deploy)
        async with self._edits.hold(topology.name):
            if await self._store.snapshot(topology.name) is not None:
                raise Conflict(
                    f"there is a lab {topology.name}",
                    hint="destroy it first, or give the topology another name and say the id of the lost lab",
                )
            remains = await self._remains(topology, request.lab_id)
            lab_id = next(iter(remains.values())).lab_id
            snapshot = await self._snapshot(topology, deploy, lab_id, remains)
            snapshot = await asyncio.to_thread(self._with_ports, snapshot, remains)
            slices = await self._edits.render(snapshot)
            nodes = tuple(_outcomes(snapshot, slices, remains))
            if request.dry_run:
                return AdoptView(lab=topology.name, lab_id=lab_id, nodes=nodes)
            targets = self._edits.running_targets(snapshot.nodes, slices, {})
            operation = self._edits.operation(snapshot, "adopt", "running", targets)
            view = await self._edits.apply(None, snapshot, operation, slices)
            kept = sum(node.outcome == "kept" for node in nodes)
            message = f"adopted: {kept} of {len(nodes)} nodes go on as they are"
            self._journal.tell("lab.adopted", message, lab=topology.name)
            return AdoptView(lab=topology.name, lab_id=lab_id, nodes=nodes, operation=view)

    async def _remains(self, topology: Topology, lab_id: str) -> dict[str, Orphan]:
        """What there is of the lab's nodes, by their names."""
        view = await self._orphans.discover()
        lost = [item for find in view.hosts for item in find.found if item.why == "no-lab" and item.kind in _OF_NODES]
        named = [item for item in lost if item.lab_id and item.lab == topology.name]
        ours = [item for item in lost if item.lab_id == lab_id] if lab_id else named
        if not ours:
            away = ", ".join(find.host for find in view.hosts if find.error is not None)
            hint = f"these hosts did not answer: {away}" if away else "`wireloom discover` lists what there is"
            raise NotFound(f"no host has anything of a lab {lab_id or topology.name} that is lost", hint=hint)
        several = sorted({item.lab_id for item in ours})
        if len(several) > 1:
            raise Conflict(
                f"there are remains of {len(several)} labs of that name",
                hint=f"say which one by its id: {', '.join(several)}",
                details={"labs": several},
            )
        _check_nodes(topology, ours)
        return {item.node: item for item in ours}

    async def _snapshot(
        self, topology: Topology, request: DeployRequest, lab_id: str, remains: Mapping[str, Orphan]
    ) -> LabSnapshot:
        drafted = drafted_nodes(topology, None, lab_id, self._edits.new_id)
        nodes = [_as_found(node, remains.get(node.name)) for node in drafted]
        everyone = frozenset(node.name for node in nodes)
        placed, _ = await self._labs.inspect(nodes, topology, lab_id, everyone, request.allow_privileged)
        now = self._clock()
        revision = RevisionRecord(
            lab_id=lab_id,
            number=1,
            topology=request.topology,
            files=request.files,
            source=request.source,
            sha256=revision_digest(request.topology, request.files),
            created_at=now,
        )
        lab = LabRecord(
            id=lab_id,
            name=topology.name,
            created_at=now,
            generation=1,
            revision=1,
            allow_privileged=request.allow_privileged,
        )
        hosts = tuple(sorted({node.host for node in placed if node.host}))
        return LabSnapshot(lab=lab, revision=revision, nodes=tuple(placed), hosts=hosts)

    def _with_ports(self, snapshot: LabSnapshot, remains: Mapping[str, Orphan]) -> LabSnapshot:
        """With the number of ports that each runtime was made with, where that number was to be remembered."""
        hashes = {item.node_id: item.spec_hash for item in remains.values() if item.spec_hash}
        unsure = {node.id for node in snapshot.nodes if node.ports is not None and node.id in hashes}
        for ports in range(_MOST_PORTS + 1):
            snapshot = _with_number(snapshot, unsure, ports)
            found = {intent.id: intent.spec_hash() for intent in self._intents(snapshot) if intent.id in unsure}
            unsure -= {node_id for node_id, digest in found.items() if digest == hashes[node_id]}
            if not unsure:
                return snapshot
        return _with_number(snapshot, unsure, 0)  # made of something else: as if it were new

    def _intents(self, snapshot: LabSnapshot) -> Iterable[NodeIntent]:
        return intents_by_id(self._topologies.render(snapshot, self._labs.subnets)).values()


def _with_number(snapshot: LabSnapshot, nodes: Container[str], ports: int) -> LabSnapshot:
    changed = [node.model_copy(update={"ports": ports}) if node.id in nodes else node for node in snapshot.nodes]
    return snapshot.model_copy(update={"nodes": tuple(changed)})


def _check_nodes(topology: Topology, remains: Iterable[Orphan]) -> None:
    """:raises Conflict: what would have to go, or to run twice."""
    places: dict[str, str] = {}
    for item in remains:
        spec = topology.node(item.node)
        if spec is None:
            raise Conflict(
                f"{item.host} has {item.kind} {item.name} of a node {item.node} that the topology does not have",
                hint="add it to the topology, or remove it with `wireloom prune`; then adopt",
            )
        if item.provider and spec.provider != item.provider:
            raise Conflict(
                f"node {item.node} was made by {item.provider}, and is of {spec.provider} in the topology",
                hint="correct the topology, or remove it with `wireloom prune`; then adopt",
                node=item.node,
            )
        if item.node in places:
            raise Conflict(
                f"there is a node {item.node} on {places[item.node]} and on {item.host}",
                hint="remove one of them with `wireloom prune`; then adopt",
                node=item.node,
            )
        places[item.node] = item.host


def _as_found(node: NodeRecord, found: Orphan | None) -> NodeRecord:
    if found is None:
        return node
    return node.model_copy(update={"id": found.node_id, "host": found.host, "incarnation": max(found.incarnation, 1)})


def _outcomes(
    snapshot: LabSnapshot, slices: Mapping[str, Slice], remains: Mapping[str, Orphan]
) -> Iterable[AdoptedNode]:
    intents = intents_by_id(slices)
    for node in snapshot.nodes:
        found, intent = remains.get(node.name), intents.get(node.id)
        detail = str(node.problem.get("message", "")) if node.problem else ""
        if found is None:
            yield AdoptedNode(name=node.name, host=node.host, outcome="new", detail=detail)
        elif found.kind == "folder":
            yield AdoptedNode(name=node.name, host=node.host, outcome="disk", detail=detail)
        elif intent is not None and intent.spec_hash() == found.spec_hash:
            yield AdoptedNode(name=node.name, host=node.host, outcome="kept", detail=detail)
        else:
            yield AdoptedNode(
                name=node.name, host=node.host, outcome="remade", detail=detail or "its definition is another"
            )
