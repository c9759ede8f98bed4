"""The verbs on labs and nodes. Each reads, checks, and writes one edit of intent; agents do the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from wireloom.controller.board import Board
from wireloom.controller.configs.choices import kept_configs, superseded_configs, superseded_messages
from wireloom.controller.drafts import acted_on, after_verb, drafted_nodes, images_wanted, inspected
from wireloom.controller.edits import Edits, no_lab
from wireloom.controller.far_links import way_warnings
from wireloom.controller.images import ImageCheck, ImageFindings
from wireloom.controller.intents import links_at
from wireloom.controller.journal import Journal
from wireloom.controller.link_overrides import KeptOverrides, keep_overrides
from wireloom.controller.link_preflight import link_problems, refuse_new_problems
from wireloom.controller.live import LiveState
from wireloom.controller.moves.begin import moved_instead, with_moves_described
from wireloom.controller.placing import Grounds, placement_views
from wireloom.controller.preflight import Findings, ImageRef
from wireloom.controller.store import (
    LabRecord,
    LabSnapshot,
    NodeRecord,
    OperationTargets,
    RevisionRecord,
    Store,
)
from wireloom.controller.store.records import Goal, revision_digest
from wireloom.controller.topologies import Topologies
from wireloom.devices.describe import node_values
from wireloom.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.model.moves import MovePhase
from wireloom.model.slice import Slice
from wireloom.model.state import NodeState
from wireloom.model.topology import Topology
from wireloom.model.views import ActionRequest, DeployRequest, OperationView, PlanView

__all__ = ["LabService"]

log = structlog.get_logger(__name__)

#: How many times nodes look for other hosts because of images.
_IMAGE_ROUNDS: Final = 4


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
        edits: Edits,
        topologies: Topologies,
        board: Board,
        live: LiveState,
        journal: Journal,
        images: ImageCheck,
        secrets: Callable[[], Collection[str]],
        clock: Callable[[], float],
        grounds: Grounds,
        privileged_permitted: bool = False,
    ) -> None:
        self._store = store
        self._edits = edits
        self._topologies = topologies
        self._board = board
        self._live = live
        self._journal = journal
        self._images = images
        self._secrets = secrets
        self._clock = clock
        self._grounds = grounds
        self._privileged_permitted = privileged_permitted

    # ---------------------------------------------------------------- deploy and plan

    async def plan(self, request: DeployRequest) -> PlanView:
        """What :meth:`deploy` would change. :raises TopologyInvalid: :raises NotPermitted: :raises Conflict:"""
        topology = await self._parse(request)
        draft = await self._draft(topology, request, await self._store.snapshot(topology.name))
        has = self._edits.slices_of(draft.before)
        found = (*draft.findings.problems.values(), *link_problems(has, draft.slices, self._grounds.facts()))
        problems = tuple(problem.to_wire() for problem in found)
        changes = await asyncio.to_thread(
            self._topologies.describe, draft.before, draft.after, self._live.subnets, tuple(has.values())
        )
        changes = with_moves_described(changes, draft.before, draft.after)
        warnings = tuple(draft.findings.warnings)
        changed = {change.name for change in changes if change.kind == "node" and change.action != "remove"}
        profiles = {spec.name: node_values(spec) for spec in topology.nodes if spec.name in changed}
        return PlanView(
            lab=topology.name,
            changes=changes,
            problems=problems,
            warnings=warnings,
            profiles=profiles,
            placement=placement_views(draft.findings.placement),
        )

    async def deploy(self, request: DeployRequest) -> OperationView:
        """Create the lab or give it a new revision; what is deployed already changes nothing.

        A node that preflight refuses is left out, and is an error of the operation; others go ahead.

        :raises TopologyInvalid: with all mistakes. :raises NotPermitted: privileged nodes are not allowed here.
        :raises Conflict: the lab is being removed.
        :raises Unsupported: a host cannot have a link or segment as it is wanted.
        :raises WireloomError: preflight refused every node; ``details["problems"]`` has all of its errors.
        """
        topology = await self._parse(request)
        async with self._edits.hold(topology.name):
            before = await self._store.snapshot(topology.name)
            if before is not None and await self._is_deployed(request, before):
                return await self._deploy_again(before)
            draft = await self._draft(topology, request, before)
            self._refuse_hopeless(draft)
            has = self._edits.slices_of(before)
            refuse_new_problems(has, draft.slices, self._grounds.facts())
            targets = self._edits.running_targets(draft.after.nodes, draft.slices, has)
            hosts = {move.node_id: move.target for move in draft.after.moves if move.phase is MovePhase.QUEUED}
            targets = targets.model_copy(update={"hosts": hosts})
            operation = self._edits.operation(draft.after, "deploy", "running", targets)
            view = await self._edits.apply(draft.before, draft.after, operation, draft.slices, draft.superseded)
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
        self._edits.check_alive(before)
        same_text = before.revision.sha256 == revision_digest(request.topology, request.files)
        same_rights = before.lab.allow_privileged == request.allow_privileged
        if not (same_text and same_rights) or any(node.problem or not node.host for node in before.nodes):
            return False
        return await self._edits.render(before) == self._edits.slices_of(
            before
        )  # or device definitions have changed since

    async def _deploy_again(self, before: LabSnapshot) -> OperationView:
        """Nothing is new: no revision. Nodes that have failed get another chance, which is what the user wants."""
        failed = {
            node.name
            for node in self._board.view(before.lab.id).nodes
            if node.state is NodeState.FAILED and node.power == "on"
        }
        slices = self._edits.slices_of(before)
        targets = self._edits.running_targets(before.nodes, slices, slices)
        if failed:
            verb = ActionRequest(verb="start", nodes=tuple(failed))
            after = self._edits.next(before, after_verb(before, verb, frozenset(failed)))
            return await self._edits.apply(before, after, self._edits.operation(after, "deploy", "running", targets))
        operation = self._edits.operation(before, "deploy", "running", targets)
        return await self._edits.follow(operation)

    async def _draft(self, topology: Topology, request: DeployRequest, before: LabSnapshot | None) -> _Draft:
        if before is not None:
            self._edits.check_alive(before)
        lab_id = before.lab.id if before else self._edits.new_id()
        nodes = drafted_nodes(topology, before, lab_id, self._edits.new_id)
        everyone = frozenset(node.name for node in nodes)
        placed, findings = await self._inspected(nodes, topology, lab_id, everyone, request.allow_privileged)
        placed, moves = moved_instead(before, placed, topology, self._edits.new_move, self._live.alive)
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
            nat_subnets=before.nat_subnets if before else {},
            vnis=before.vnis if before else {},
            moves=moves,
        )
        slices = await self._edits.render(after)
        if before is not None and before.impairments:
            overrides = await self._kept_overrides(before, slices)
            findings.warnings += overrides.warnings
            after = after.model_copy(update={"impairments": dict(overrides.kept)})
            slices = await self._edits.render(after)
        findings.warnings += way_warnings(slices, self._grounds.facts())
        return _Draft(before=before, after=after, slices=slices, findings=findings, superseded=superseded)

    async def _kept_overrides(self, before: LabSnapshot, after: Mapping[str, Slice]) -> KeptOverrides:
        """What users set of links and goes on to hold. ``after``: slices that know nothing of it."""
        bare = await self._edits.render(before.model_copy(update={"impairments": {}}))
        return keep_overrides(before.impairments, bare, after)

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
        look = partial(
            inspected,
            nodes,
            topology,
            self._grounds.now(lab_id),
            concerned,
            allow_privileged=consent,
            secrets=self._secrets(),
        )
        placed, findings = look()
        missing: dict[ImageRef, WireloomError] = {}
        absent: set[ImageRef] = set()
        asked: set[ImageRef] = set()
        for _ in range(_IMAGE_ROUNDS):  # a node whose image a host cannot have goes to another, which is asked as well
            wanted = [ref for ref in images_wanted(nodes, placed, topology) if ref not in asked]
            images = await self._images.look(wanted) if wanted else ImageFindings()
            asked |= {*wanted}
            absent |= {*images.absent}
            if not images.missing:
                break
            missing |= images.missing
            placed, findings = look(missing=missing)
        coming = dict.fromkeys(ref for ref in images_wanted(nodes, placed, topology) if ref in absent)
        findings.warnings += [f"image {ref.image} is not on {ref.host} and is fetched first" for ref in coming]
        return placed, findings

    async def parse(self, request: DeployRequest) -> Topology:
        """What ``request`` describes. :raises TopologyInvalid: :raises NotPermitted:"""
        return await self._parse(request)

    async def inspect(
        self, nodes: list[NodeRecord], topology: Topology, lab_id: str, names: frozenset[str], consent: bool
    ) -> tuple[list[NodeRecord], Findings]:
        """``nodes``, those of ``names`` placed and checked; those that are somewhere stay there. Nothing is changed."""
        return await self._inspected(nodes, topology, lab_id, names, consent)

    @property
    def subnets(self) -> Mapping[str, str]:
        """Management subnet by host."""
        return self._live.subnets

    async def place_anew(self, lab: LabSnapshot, names: frozenset[str]) -> dict[str, NodeRecord]:
        """Where these nodes could be, were they new, as placed records; those that no host can take are left out.

        Nothing is changed. :raises TopologyInvalid: a device has changed since the lab was deployed.
        """
        topology = await asyncio.to_thread(self._topologies.parse_revision, lab.revision)
        fresh = {"host": "", "mgmt_ipv4": None}
        nodes = [node.model_copy(update=fresh) if node.name in names else node for node in lab.nodes]
        placed, _ = await self._inspected(nodes, topology, lab.lab.id, names, lab.lab.allow_privileged)
        return {node.name: node for node in placed if node.name in names and node.host and node.problem is None}

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
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            names = acted_on(before, request.nodes)
            nodes = after_verb(before, request, names)
            if request.verb in {"start", "restart"}:
                topology = await asyncio.to_thread(self._topologies.parse_revision, before.revision)
                consent = before.lab.allow_privileged
                nodes, _ = await self._inspected(nodes, topology, before.lab.id, names, consent)
            after = self._edits.next(before, nodes)
            made_next = {
                node.id for node in before.nodes if node.name in names and (request.verb == "wipe" or node.problem)
            }
            slices = await self._edits.render_kept(before, after, made_next)
            operation = self._edits.operation(
                after, told_as or request.verb, *self._goal(before, after, request, names)
            )
            view = await self._edits.apply(before, after, operation, slices)
            self._journal.tell(f"lab.{request.verb}", f"{request.verb}: {', '.join(sorted(names))}", lab=lab)
            return view

    def _goal(
        self, before: LabSnapshot, after: LabSnapshot, request: ActionRequest, names: frozenset[str]
    ) -> tuple[Goal, OperationTargets]:
        ids = frozenset(node.id for node in after.nodes if node.name in names)
        slices, named = self._edits.slices_of(before), tuple(dict.fromkeys(request.nodes))
        if request.verb == "stop" or not any(node.power == "on" for node in after.nodes if node.id in ids):
            return "stopped", OperationTargets(nodes=tuple(sorted(ids)), named=named)
        links = links_at(slices, ids)
        anew = ids if request.verb in {"restart", "wipe"} else frozenset[str]()
        return "running", OperationTargets(
            nodes=tuple(sorted(ids)), wires=links, started=self._edits.start_times(before.lab.id, anew), named=named
        )

    async def destroy(self, lab: str) -> OperationView:
        """Remove the lab; a lab that is being removed already gets another operation. :raises NotFound:"""
        async with self._edits.hold(lab):
            before = await self._store.snapshot(lab)
            if before is None:
                raise no_lab(lab)
            record = before.lab.model_copy(update={"removing": True, "generation": before.lab.generation + 1})
            after = before.model_copy(update={"lab": record})
            targets = OperationTargets(nodes=tuple(node.id for node in before.nodes))
            view = await self._edits.apply(before, after, self._edits.operation(after, "destroy", "absent", targets))
            self._journal.tell("lab.destroyed", "removal asked for", lab=lab)
            return view

    async def readdress(self, host: str) -> None:
        """The management network of ``host`` is another than before: give its nodes addresses in it."""
        for lab_id in self._board.lab_ids:
            known = self._board.snapshot(lab_id)
            if known is None or host not in known.hosts:
                continue
            async with self._edits.hold(known.lab.name):
                before = await self._store.snapshot_by_id(lab_id)
                if before is None or before.lab.removing:
                    continue
                after = self._edits.next(before, before.nodes)
                await self._edits.apply(
                    before, after, self._edits.operation(after, "readdress", "running", OperationTargets())
                )
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


def _only_waits(node: NodeRecord) -> bool:
    """Whether preflight refused the node for something that may come by itself."""
    return node.power == "on" and node.problem is not None and node.problem["code"] == Unavailable.code
