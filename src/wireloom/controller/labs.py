"""The verbs on labs. Each reads, checks, and writes one edit of intent; agents do the rest.

No verb performs a step of a lifecycle. A verb holds the lab's lock from reading to writing, so that two verbs on one
lab are one after the other, and the database refuses an edit that was computed from an older generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from secrets import token_hex

import structlog

from wireloom.controller.board import Board
from wireloom.controller.configs.choices import kept_configs, superseded_configs, superseded_messages
from wireloom.controller.drafts import acted_on, after_verb, drafted_nodes, images_wanted, inspected, with_ports
from wireloom.controller.images import ImageCheck
from wireloom.controller.intents import (
    changed_wires,
    intents_by_id,
    keeping_definitions,
    takes_new_runtime,
    wires_at,
)
from wireloom.controller.journal import Journal
from wireloom.controller.live import LiveState
from wireloom.controller.preflight import Findings
from wireloom.controller.publisher import Publisher
from wireloom.controller.store import (
    LabEdit,
    LabRecord,
    LabSnapshot,
    NodeRecord,
    OperationRecord,
    OperationTargets,
    RevisionRecord,
    Store,
)
from wireloom.controller.store.records import Goal, revision_digest
from wireloom.controller.tasks import KeyedLocks
from wireloom.controller.topologies import Topologies
from wireloom.devices.describe import node_values
from wireloom.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from wireloom.fabric.documents import EventLevel, HostFacts
from wireloom.model.slice import Slice
from wireloom.model.state import NodeState
from wireloom.model.topology import Topology
from wireloom.model.views import ActionRequest, DeployRequest, LinkRequest, OperationView, PlanView

__all__ = ["LabService"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Draft:
    """A lab as it would be: an edit without its operation, and what the edit comes from."""

    before: LabSnapshot | None
    after: LabSnapshot
    slices: Mapping[str, Slice]
    findings: Findings
    superseded: frozenset[str]


class LabService:
    """Use cases. Every verb answers with the operation that follows it; it ends when agents have reached the goal."""

    def __init__(
        self,
        *,
        store: Store,
        topologies: Topologies,
        board: Board,
        live: LiveState,
        publisher: Publisher,
        journal: Journal,
        images: ImageCheck,
        locks: KeyedLocks,
        clock: Callable[[], float],
        privileged_permitted: bool = False,
        new_id: Callable[[], str] = lambda: token_hex(6),
    ) -> None:
        self._store = store
        self._topologies = topologies
        self._board = board
        self._live = live
        self._publisher = publisher
        self._journal = journal
        self._images = images
        self._locks = locks
        self._clock = clock
        self._privileged_permitted = privileged_permitted
        self._new_id = new_id

    # ---------------------------------------------------------------- deploy and plan

    async def plan(self, request: DeployRequest) -> PlanView:
        """What :meth:`deploy` would change. :raises TopologyInvalid: :raises NotPermitted: :raises Conflict:"""
        topology = await self._parse(request)
        draft = await self._draft(topology, request, await self._store.snapshot(topology.name))
        problems = tuple(problem.to_wire() for problem in draft.findings.problems.values())
        deployed = tuple(self._slices_of(draft.before).values())
        changes = await asyncio.to_thread(
            self._topologies.describe, draft.before, draft.after, self._live.subnets, deployed
        )
        warnings = tuple(draft.findings.warnings)
        changed = {change.name for change in changes if change.kind == "node" and change.action != "remove"}
        profiles = {spec.name: node_values(spec) for spec in topology.nodes if spec.name in changed}
        return PlanView(lab=topology.name, changes=changes, problems=problems, warnings=warnings, profiles=profiles)

    async def deploy(self, request: DeployRequest) -> OperationView:
        """Create the lab or give it a new revision; what is deployed already changes nothing.

        A node that preflight refuses is left out, and is an error of the operation; others go ahead.

        :raises TopologyInvalid: with all mistakes. :raises NotPermitted: privileged nodes are not allowed here.
        :raises Conflict: the lab is being removed.
        :raises WireloomError: preflight refused every node; ``details["problems"]`` has all of its errors.
        """
        topology = await self._parse(request)
        async with self._locks.hold(topology.name):
            before = await self._store.snapshot(topology.name)
            if before is not None and await self._is_deployed(request, before):
                return await self._deploy_again(before)
            draft = await self._draft(topology, request, before)
            self._refuse_hopeless(draft)
            targets = self._running_targets(draft.after.nodes, draft.slices, self._slices_of(before))
            operation = self._operation(draft.after, "deploy", "running", targets)
            view = await self._apply(draft.before, draft.after, operation, draft.slices, draft.superseded)
            self._tell_of_deploy(draft)
            return view

    async def _parse(self, request: DeployRequest) -> Topology:
        if request.allow_privileged and not self._privileged_permitted:
            raise NotPermitted(
                "privileged nodes are not allowed on this installation",
                hint="an administrator can set `allow_privileged`",
            )
        return await asyncio.to_thread(
            self._topologies.parse, request.topology, source=request.source, files=request.files
        )

    async def _is_deployed(self, request: DeployRequest, before: LabSnapshot) -> bool:
        self._check_alive(before)
        same_text = before.revision.sha256 == revision_digest(request.topology, request.files)
        same_rights = before.lab.allow_privileged == request.allow_privileged
        if not (same_text and same_rights) or any(node.problem for node in before.nodes):
            return False
        return await self._render(before) == self._slices_of(before)  # or device definitions have changed since

    async def _deploy_again(self, before: LabSnapshot) -> OperationView:
        """Nothing is new: no revision. Nodes that have failed get another chance, which is what the user wants."""
        failed = {
            node.name
            for node in self._board.view(before.lab.id).nodes
            if node.state is NodeState.FAILED and node.power == "on"
        }
        slices = self._slices_of(before)
        targets = self._running_targets(before.nodes, slices, slices)
        if failed:
            verb = ActionRequest(verb="start", nodes=tuple(failed))
            after = self._next(before, after_verb(before, verb, frozenset(failed)))
            return await self._apply(before, after, self._operation(after, "deploy", "running", targets))
        operation = self._operation(before, "deploy", "running", targets)
        await self._store.add_operation(operation)
        self._board.track(operation)
        self._board.refresh(before.lab.id)
        return self._current(operation)

    async def _draft(self, topology: Topology, request: DeployRequest, before: LabSnapshot | None) -> _Draft:
        if before is not None:
            self._check_alive(before)
        lab_id = before.lab.id if before else self._new_id()
        nodes = drafted_nodes(topology, before, lab_id, self._new_id)
        everyone = frozenset(node.name for node in nodes)
        placed, findings = await self._inspected(nodes, topology, lab_id, everyone, request.allow_privileged)
        lab = LabRecord(
            id=lab_id,
            name=topology.name,
            created_at=before.lab.created_at if before else self._clock(),
            generation=before.lab.generation + 1 if before else 1,
            revision=before.lab.revision if before else 0,
            allow_privileged=request.allow_privileged,
        )
        revision = self._revision(request, lab, before)
        lab = lab.model_copy(update={"revision": revision.number})
        hosts = {node.host for node in placed if node.host} | set(before.hosts if before else ())
        superseded = await asyncio.to_thread(self._superseded, topology, before, nodes)
        after = LabSnapshot(
            lab=lab,
            revision=revision,
            nodes=tuple(placed),
            hosts=tuple(sorted(hosts)),
            configs=kept_configs(before, superseded),
        )
        slices = await self._render(after)
        return _Draft(before=before, after=after, slices=slices, findings=findings, superseded=superseded)

    def _superseded(
        self, topology: Topology, before: LabSnapshot | None, nodes: Iterable[NodeRecord]
    ) -> frozenset[str]:
        """Nodes that ``topology`` gives another configuration than they were deployed with; see ``LabEdit``."""
        if before is None:
            return frozenset()
        return superseded_configs(self._topologies.parse_revision(before.revision), topology, before, nodes)

    async def _inspected(
        self, nodes: list[NodeRecord], topology: Topology, lab_id: str, concerned: frozenset[str], consent: bool
    ) -> tuple[list[NodeRecord], Findings]:
        """``nodes`` placed and checked, what their hosts say of images included."""
        facts, reserved = self._facts(), self._reserved_mb(lab_id)
        placed, findings = inspected(nodes, topology, facts, reserved, concerned, allow_privileged=consent)
        wanted = images_wanted(nodes, placed, topology)
        if wanted:
            images = await self._images.look(wanted)
            if images.missing:
                placed, findings = inspected(
                    nodes, topology, facts, reserved, concerned, allow_privileged=consent, missing=images.missing
                )
            findings.warnings += [
                f"image {ref.image} is not on {ref.host} and is fetched first" for ref in images.absent
            ]
        return placed, findings

    def _revision(self, request: DeployRequest, lab: LabRecord, before: LabSnapshot | None) -> RevisionRecord:
        """The lab's current revision if it has the same content, else the next one."""
        digest = revision_digest(request.topology, request.files)
        if before is not None and before.revision.sha256 == digest:
            return before.revision
        return RevisionRecord(
            lab_id=lab.id,
            number=lab.revision + 1,
            topology=request.topology,
            files=request.files,
            source=request.source,
            sha256=digest,
            created_at=self._clock(),
        )

    def _refuse_hopeless(self, draft: _Draft) -> None:
        """Nothing could run at all: refuse before anything is stored."""
        problems = list(draft.findings.problems.values())
        if draft.before is not None or len(problems) < len(draft.after.nodes):
            return
        first = problems[0]
        raise type(first)(
            first.message if len(problems) == 1 else f"no node can run: {first}",
            hint=first.hint,
            node=first.node if len(problems) == 1 else None,
            details={"problems": [problem.to_wire() for problem in problems]},
        )

    def _tell_of_deploy(self, draft: _Draft) -> None:
        lab = draft.after.lab
        self._journal.tell("lab.deployed", f"revision {lab.revision} deployed", lab=lab.name)
        for message in superseded_messages(draft.before, draft.superseded):
            self._journal.tell("config.superseded", message, lab=lab.name, level=EventLevel.WARNING)
        for problem in draft.findings.problems.values():
            self._journal.tell("node.refused", str(problem), lab=lab.name, level=EventLevel.ERROR)
        for warning in draft.findings.warnings:
            self._journal.tell("lab.warning", warning, lab=lab.name, level=EventLevel.WARNING)

    # ---------------------------------------------------------------- nodes, links, removal

    async def act(self, lab: str, request: ActionRequest, *, told_as: str = "") -> OperationView:
        """Start, stop, restart or wipe nodes.

        :param told_as: verb of the operation, where this is how another one is done.
        :raises NotFound: :raises Conflict: :raises InvalidInput:
        """
        if request.verb == "wipe" and not request.nodes:
            raise InvalidInput("name the nodes to wipe", hint="a wipe deletes disks, so it is never for all at once")
        async with self._locks.hold(lab):
            before = await self._existing(lab)
            names = acted_on(before, request.nodes)
            nodes = after_verb(before, request, names)
            if request.verb in {"start", "restart"}:
                topology = await asyncio.to_thread(self._topologies.parse_revision, before.revision)
                consent = before.lab.allow_privileged
                nodes, _ = await self._inspected(nodes, topology, before.lab.id, names, consent)
            after = self._next(before, nodes)
            made_next = {
                node.id for node in before.nodes if node.name in names and (request.verb == "wipe" or node.problem)
            }
            slices = await self._render_kept(before, after, made_next)
            operation = self._operation(after, told_as or request.verb, *self._goal(before, after, request, names))
            view = await self._apply(before, after, operation, slices)
            self._journal.tell(f"lab.{request.verb}", f"{request.verb}: {', '.join(sorted(names))}", lab=lab)
            return view

    def _goal(
        self, before: LabSnapshot, after: LabSnapshot, request: ActionRequest, names: frozenset[str]
    ) -> tuple[Goal, OperationTargets]:
        ids = frozenset(node.id for node in after.nodes if node.name in names)
        slices, named = self._slices_of(before), tuple(dict.fromkeys(request.nodes))
        if request.verb == "stop" or not any(node.power == "on" for node in after.nodes if node.id in ids):
            return "stopped", OperationTargets(nodes=tuple(sorted(ids)), named=named)
        wires = wires_at(slices, ids)
        anew = ids if request.verb in {"restart", "wipe"} else frozenset[str]()
        return "running", OperationTargets(
            nodes=tuple(sorted(ids)), wires=wires, started=self._start_times(before.lab.id, anew), named=named
        )

    async def link(self, lab: str, request: LinkRequest) -> OperationView:
        """Add, remove, raise or lower one link, by rewriting the topology's text.

        :raises NotFound: no such lab or link. :raises Conflict: a port is in use. :raises TopologyInvalid:
        """
        async with self._locks.hold(lab):
            before = await self._existing(lab)
            text = await asyncio.to_thread(self._topologies.rewrite_link, before.revision, request)
            after = self._next(before, before.nodes, text=text)
            slices = await self._render_kept(before, after)
            wires = changed_wires(self._slices_of(before), slices)
            operation = self._operation(after, f"link-{request.verb}", "linked", OperationTargets(wires=wires))
            view = await self._apply(before, after, operation, slices)
            self._journal.tell(f"link.{request.verb}", f"{request.a} -- {request.b}", lab=lab)
            return view

    async def destroy(self, lab: str) -> OperationView:
        """Remove the lab; a lab that is being removed already gets another operation. :raises NotFound:"""
        async with self._locks.hold(lab):
            before = await self._store.snapshot(lab)
            if before is None:
                raise _no_lab(lab)
            record = before.lab.model_copy(update={"removing": True, "generation": before.lab.generation + 1})
            after = before.model_copy(update={"lab": record})
            targets = OperationTargets(nodes=tuple(node.id for node in before.nodes))
            view = await self._apply(before, after, self._operation(after, "destroy", "absent", targets))
            self._journal.tell("lab.destroyed", "removal asked for", lab=lab)
            return view

    async def readdress(self, host: str) -> None:
        """The management network of ``host`` is another than before: give its nodes addresses in it."""
        for lab_id in self._board.lab_ids:
            known = self._board.snapshot(lab_id)
            if known is None or host not in known.hosts:
                continue
            async with self._locks.hold(known.lab.name):
                before = await self._store.snapshot_by_id(lab_id)
                if before is None or before.lab.removing:
                    continue
                after = self._next(before, before.nodes)
                await self._apply(before, after, self._operation(after, "readdress", "running", OperationTargets()))
                self._journal.tell("lab.readdressed", f"management addresses on {host} changed", lab=before.lab.name)

    async def retry_refused(self) -> None:
        """An engine came: start the nodes that preflight refused only because something was not available."""
        for lab_id in self._board.lab_ids:
            known = self._board.snapshot(lab_id)
            waiting = tuple(node.name for node in known.nodes if _only_waits(node)) if known is not None else ()
            if known is None or not waiting:
                continue
            try:
                await self.act(known.lab.name, ActionRequest(verb="start", nodes=waiting))
            except (Conflict, NotFound):  # the lab or its nodes are going or have gone
                log.info("refused nodes not tried again", lab=known.lab.name)

    # ---------------------------------------------------------------- inside

    async def _existing(self, lab: str) -> LabSnapshot:
        snapshot = await self._store.snapshot(lab)
        if snapshot is None:
            raise _no_lab(lab)
        self._check_alive(snapshot)
        return snapshot

    def _check_alive(self, snapshot: LabSnapshot) -> None:
        if snapshot.lab.removing:
            raise Conflict(
                f"lab {snapshot.lab.name} is being removed", hint="wait until `wireloom labs` lists it no more"
            )

    def _next(self, before: LabSnapshot, nodes: Iterable[NodeRecord], *, text: str | None = None) -> LabSnapshot:
        """The lab one generation on, and with another ``text`` one revision on."""
        changed = text is not None and text != before.revision.topology
        lab = before.lab.model_copy(
            update={"generation": before.lab.generation + 1, "revision": before.lab.revision + changed}
        )
        revision = before.revision
        if changed and text is not None:
            revision = revision.model_copy(
                update={
                    "number": lab.revision,
                    "topology": text,
                    "sha256": revision_digest(text, revision.files),
                    "created_at": self._clock(),
                }
            )
        return before.model_copy(update={"lab": lab, "revision": revision, "nodes": tuple(nodes)})

    async def _apply(
        self,
        before: LabSnapshot | None,
        after: LabSnapshot,
        operation: OperationRecord,
        slices: Mapping[str, Slice] | None = None,
        superseded: frozenset[str] = frozenset(),
    ) -> OperationView:
        """Write ``after`` (whose ``slices`` may be known already), and let all who follow it know."""
        if slices is None:
            slices = await self._render_kept(before, after)
        new_revision = before is None or before.lab.revision != after.lab.revision
        edit = LabEdit(
            lab=after.lab,
            expected_generation=before.lab.generation if before else None,
            revision=after.revision if new_revision else None,
            nodes=tuple(with_ports(after.nodes, slices)),
            subnets=dict(self._live.subnets),
            superseded=superseded,
            operation=operation,
        )
        stored = await self._store.apply(edit)
        if _addresses(stored) != _addresses(after) or set(stored.hosts) != slices.keys():
            slices = keeping_definitions(slices, await self._render(stored))
        self._board.put(stored, slices, operation)
        self._publisher.wake(after.lab.id)
        return self._current(operation)

    def _current(self, operation: OperationRecord) -> OperationView:
        return (self._board.operation(operation.id) or operation).view()

    def _operation(self, snapshot: LabSnapshot, verb: str, goal: Goal, targets: OperationTargets) -> OperationRecord:
        return OperationRecord(
            id=self._new_id(),
            lab_id=snapshot.lab.id,
            lab=snapshot.lab.name,
            verb=verb,
            goal=goal,
            generation=snapshot.lab.generation,
            targets=targets,
            total=len(targets.nodes) + len(targets.wires),
            created_at=self._clock(),
        )

    def _running_targets(
        self, nodes: Iterable[NodeRecord], slices: Mapping[str, Slice], before: Mapping[str, Slice]
    ) -> OperationTargets:
        """All nodes that shall be on and all wires; nodes that must be made anew wait for another start."""
        wanted = tuple(node for node in nodes if node.power == "on")
        old, new = intents_by_id(before), intents_by_id(slices)
        anew = frozenset(
            node_id for node_id, intent in new.items() if node_id in old and takes_new_runtime(old[node_id], intent)
        )
        lab_ids = {node.lab_id for node in wanted}
        started = self._start_times(lab_ids.pop(), anew) if lab_ids else {}
        wires = tuple(wire.id for document in slices.values() for wire in document.wires)
        return OperationTargets(nodes=tuple(node.id for node in wanted), wires=wires, started=started)

    def _start_times(self, lab_id: str, node_ids: Iterable[str]) -> dict[str, float | None]:
        seen = {node.id: node.started_at for status in self._live.statuses(lab_id).values() for node in status.nodes}
        return {node_id: seen.get(node_id) for node_id in node_ids}

    def _slices_of(self, snapshot: LabSnapshot | None) -> Mapping[str, Slice]:
        return self._board.picture(snapshot.lab.id).slices if snapshot else {}

    def _facts(self) -> dict[str, HostFacts]:
        return {name: facts for name in self._live.alive if (facts := self._live.facts(name)) is not None}

    async def _render_kept(
        self, before: LabSnapshot | None, after: LabSnapshot, anew: Collection[str] = ()
    ) -> dict[str, Slice]:
        """``after``, with nodes (but those of ``anew``) defined as they were deployed, whatever devices say today."""
        return keeping_definitions(self._slices_of(before), await self._render(after), anew=anew)

    async def _render(self, snapshot: LabSnapshot) -> dict[str, Slice]:
        return await asyncio.to_thread(self._topologies.render, snapshot, self._live.subnets)

    def _reserved_mb(self, but_lab: str) -> dict[str, int]:
        """Memory of powered-on nodes of all other labs, by host."""
        reserved: dict[str, int] = {}
        for lab_id in self._board.lab_ids:
            for host, document in (self._board.intents(lab_id) or {}).items() if lab_id != but_lab else ():
                total = sum(node.memory_mb for node in document.nodes if node.power == "on")
                reserved[host] = reserved.get(host, 0) + total
        return reserved


def _no_lab(name: str) -> NotFound:
    return NotFound(f"no lab is called {name}", hint="`wireloom labs` lists them")


def _addresses(snapshot: LabSnapshot) -> dict[str, str | None]:
    return {node.id: node.mgmt_ipv4 for node in snapshot.nodes}


def _only_waits(node: NodeRecord) -> bool:
    """Whether preflight refused the node for something that may come by itself."""
    return node.power == "on" and node.problem is not None and node.problem["code"] == Unavailable.code
