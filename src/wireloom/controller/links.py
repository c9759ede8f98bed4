"""The verbs on links and segments. Each is one edit: a new revision of the topology, or what is kept beside it.

Links are added, moved and removed by rewriting the topology's text, comments kept. Impairments are not written into
it: they hold beside it, win over it, and go with their link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from wireloom.controller.board import Board
from wireloom.controller.edits import Edits
from wireloom.controller.intents import changed_links, changed_segments, intents_by_id, links_by_id, takes_new_runtime
from wireloom.controller.journal import Journal
from wireloom.controller.link_ends import FoundLink, LinkFinder
from wireloom.controller.link_preflight import refuse_new_problems
from wireloom.controller.link_timer import LinkTimer
from wireloom.controller.live import LiveState
from wireloom.controller.picture import LabPicture
from wireloom.controller.store import LabSnapshot, OperationTargets
from wireloom.controller.topologies import Topologies
from wireloom.errors import Conflict, InvalidInput, NotFound
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.link_views import (
    ClearRequest,
    ImpairRequest,
    LinkEnds,
    LinkRequest,
    Parts,
    SegmentRequest,
)
from wireloom.model.presets import PRESETS, Preset
from wireloom.model.slice import PlugIntent, Slice, WireIntent
from wireloom.model.views import OperationView
from wireloom.planning.expand import data_ports

__all__ = ["LinkService"]


@dataclass(frozen=True)
class _Edit:
    """A lab before and after a verb, and what to call it."""

    before: LabSnapshot
    after: LabSnapshot
    slices: Mapping[str, Slice]
    verb: str
    told: str


class LinkService:
    """Use cases of links. Every verb answers with the operation that follows it; see :class:`LabService`."""

    def __init__(
        self,
        *,
        edits: Edits,
        topologies: Topologies,
        board: Board,
        live: LiveState,
        journal: Journal,
        timer: LinkTimer,
        clock: Callable[[], float],
    ) -> None:
        self._timer = timer
        self._edits = edits
        self._topologies = topologies
        self._board = board
        self._live = live
        self._journal = journal
        self._clock = clock

    # ---------------------------------------------------------------- verbs

    async def link(self, lab: str, request: LinkRequest) -> OperationView:
        """Add, remove, move, raise or lower one link.

        A link that is moved is the same to its users: what impairs it goes with it.

        :raises NotFound: no such lab or link. :raises TopologyInvalid:
        :raises Conflict: a port is in use, or a machine that runs has no NIC for it and ``restart`` is not given.
        :raises Unsupported: the host cannot make such a link.
        """
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            text = await asyncio.to_thread(self._topologies.rewrite_link, before.revision, request)
            after = self._edits.next(before, before.nodes, text=text)
            slices = await self._edits.render_kept(before, after)
            moved = self._with_moved_impairment(before, after, slices, request) if request.verb == "move" else after
            if moved is not after:
                after, slices = moved, await self._edits.render_kept(before, moved)
            end = f" to {request.to}" if request.to else ""
            edit = _Edit(before, after, slices, f"link-{request.verb}", f"{request.a} -- {request.b}{end}")
            return await self._apply(edit, restart=request.restart)

    async def segment(self, lab: str, request: SegmentRequest) -> OperationView:
        """Add a segment, or remove one with the links to it.

        :raises NotFound: :raises Conflict: the name is taken. :raises TopologyInvalid: :raises Unsupported:
        """
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            text = await asyncio.to_thread(self._topologies.rewrite_segment, before.revision, request)
            after = self._edits.next(before, before.nodes, text=text)
            slices = await self._edits.render_kept(before, after)
            return await self._apply(_Edit(before, after, slices, f"segment-{request.verb}", request.name))

    async def impair(self, lab: str, request: ImpairRequest) -> OperationView:
        """Impair a link; no revision.

        :raises NotFound: no such lab, link or preset. :raises InvalidInput: the parts do not go together.
        :raises Unsupported: the host's kernel lacks what it takes; the error names it.
        """
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            found = self._find(before, request)
            held = before.impairments.get(found.intent.id, LinkImpairment())
            wanted = _impaired(found, held, request, self._clock())
            view = await self._set_impairments(before, {found.intent.id: wanted}, "link-impair", _name(request))
            self._timer.wake()
            return view

    async def clear(self, lab: str, request: ClearRequest) -> OperationView:
        """Take away what impairs a link, or all links of the lab, be it set by a verb or in the topology.

        :raises NotFound: no such lab or link.
        """
        async with self._edits.hold(lab):
            before = await self._edits.existing(lab)
            links = links_by_id(self._edits.slices_of(before))
            if request.a:
                intent = self._find(before, LinkEnds(a=request.a, b=request.b)).intent
                links = {intent.id: intent}
            unimpaired = await self._unimpaired(before, links)
            told = f"{request.a} -- {request.b}" if request.a else "all links"
            return await self._set_impairments(before, unimpaired, "link-clear", told)

    def presets(self) -> list[Preset]:
        """Kinds of lines that people know."""
        return list(PRESETS.values())

    async def _unimpaired(
        self, before: LabSnapshot, links: Mapping[str, WireIntent | PlugIntent]
    ) -> dict[str, LinkImpairment | None]:
        """What to store so that nothing impairs ``links``: nothing, or the word that the topology does not hold."""
        bare = before.model_copy(update={"impairments": {}})
        by_topology = links_by_id(await self._edits.render(bare))
        return {link_id: _whole_over(by_topology[link_id].impairment) for link_id in links if link_id in by_topology}

    async def _set_impairments(
        self, before: LabSnapshot, changes: Mapping[str, LinkImpairment | None], verb: str, told: str
    ) -> OperationView:
        merged = {**before.impairments, **changes}
        impairments = {link_id: value for link_id, value in merged.items() if value is not None}
        after = self._edits.next(before, before.nodes, impairments=impairments)
        slices = await self._edits.render_kept(before, after)
        return await self._apply(_Edit(before, after, slices, verb, told))

    # ---------------------------------------------------------------- inside

    def _find(self, before: LabSnapshot, ends: LinkEnds) -> FoundLink:
        return LinkFinder(self._board.picture(before.lab.id), self._topologies.devices).find(ends.a, ends.b)

    def _with_moved_impairment(
        self, before: LabSnapshot, after: LabSnapshot, slices: Mapping[str, Slice], request: LinkRequest
    ) -> LabSnapshot:
        """``after`` with what impaired the link before on the one that took its place, as seen from the end that stays.

        The topology may write the two links in different directions.
        """
        old = self._find(before, request)
        impairment = before.impairments.get(old.intent.id)
        if impairment is None:
            return after
        new = LinkFinder(LabPicture(after, slices), self._topologies.devices).find(request.a, request.to)
        seen = impairment if old.turned == new.turned else impairment.turned()
        return after.model_copy(update={"impairments": {**before.impairments, new.intent.id: seen}})

    async def _apply(self, edit: _Edit, *, restart: bool = False) -> OperationView:
        """Refuse what cannot be, or write it."""
        has = self._edits.slices_of(edit.before)
        facts = {name: facts for name in self._live.alive if (facts := self._live.facts(name)) is not None}
        refuse_new_problems(has, edit.slices, facts)
        anew = _made_anew(has, edit.slices)
        if anew and not restart:
            raise _no_nics_left(anew, has, edit.slices)
        targets = OperationTargets(
            nodes=tuple(anew),
            wires=changed_links(has, edit.slices),
            segments=changed_segments(has, edit.slices),
            started=self._edits.start_times(edit.before.lab.id, anew),
        )
        operation = self._edits.operation(edit.after, edit.verb, "linked", targets)
        view = await self._edits.apply(edit.before, edit.after, operation, edit.slices)
        self._journal.tell(edit.verb.replace("-", ".", 1), edit.told, lab=edit.before.lab.name)
        return view


def _made_anew(before: Mapping[str, Slice], after: Mapping[str, Slice]) -> list[str]:
    """Ids of nodes that are on and whose runtime cannot serve any more."""
    old = intents_by_id(before)
    return [
        node_id
        for node_id, node in intents_by_id(after).items()
        if node_id in old and node.power == "on" and takes_new_runtime(old[node_id], node)
    ]


def _no_nics_left(anew: Iterable[str], before: Mapping[str, Slice], after: Mapping[str, Slice]) -> Conflict:
    old, new = intents_by_id(before), intents_by_id(after)
    nodes = {new[node_id].name: (data_ports(old[node_id]), data_ports(new[node_id])) for node_id in anew}
    names = ", ".join(nodes)
    has = ", ".join(f"{name} was made with {made}" for name, (made, _) in nodes.items())
    return Conflict(
        f"there is no NIC left for this link: {has}",
        node=next(iter(nodes)) if len(nodes) == 1 else None,
        hint=f"`--restart` powers {names} off and on again with more NICs; disks stay",
        details={"nodes": list(nodes), "nics": {name: {"made": a, "needed": b} for name, (a, b) in nodes.items()}},
    )


def _name(ends: LinkEnds) -> str:
    return f"{ends.a} -- {ends.b}"


def _impaired(found: FoundLink, held: LinkImpairment, request: ImpairRequest, now: float) -> LinkImpairment:
    """What shall hold beside the topology, turned as this writes the link.

    :param held: what holds now. The direction that is not asked for keeps it, and with it its own end in time.
    """
    present = held.at(now).turned() if found.turned else held.at(now)
    asked = _both_ways(request)
    until = None if request.for_s is None else now + request.for_s
    update: dict[str, Impairment | float | None] = {}
    if request.direction in ("forward", "both"):
        update |= {"forward": asked.forward, "forward_until": until}
    if request.direction in ("backward", "both"):
        update |= {"backward": asked.backward, "backward_until": until}
    wanted = present.model_copy(update=update)
    return wanted.turned() if found.turned else wanted


def _whole_over(declared: LinkImpairment) -> LinkImpairment | None:
    """What makes a link whole that its topology impairs; ``None``: it does not."""
    whole = LinkImpairment(
        forward=Impairment() if declared.forward else None, backward=Impairment() if declared.backward else None
    )
    return None if whole == LinkImpairment() else whole


def _both_ways(request: ImpairRequest) -> LinkImpairment:
    base = _preset(request.preset).impairment if request.preset else LinkImpairment()
    return LinkImpairment(forward=_merged(base.forward, request.parts), backward=_merged(base.backward, request.parts))


def _preset(name: str) -> Preset:
    found = PRESETS.get(name)
    if found is None:
        raise NotFound(f"there is no preset {name}", hint=f"presets: {', '.join(PRESETS)}")
    return found


def _merged(base: Impairment | None, parts: Parts) -> Impairment:
    """``base`` with ``parts`` in the place of its own. :raises InvalidInput: they do not go together."""
    values = (base or Impairment()).model_dump() | parts.model_dump(exclude_none=True)
    try:
        return Impairment.model_validate(values)
    except ValidationError as error:
        problems = [_problem(item["loc"], item["msg"]) for item in error.errors()]
        raise InvalidInput(f"the link cannot be impaired so: {'; '.join(problems)}") from error


def _problem(where: Iterable[int | str], message: str) -> str:
    part = "".join(f"{name}: " for name in where)
    return f"{part}{message.removeprefix('Value error, ')}"
