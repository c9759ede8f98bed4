"""The machine of a move: tables, and that no order of events lets a node run twice, or lose what it has."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.controller.moves.begin import moved_instead, started_again, with_move, without_moves
from wireloom.controller.moves.phases import Seen, next_step, seen_of, startable
from wireloom.controller.moves.slices import without_leaving_power
from wireloom.controller.store.records import LabRecord, LabSnapshot, MoveRecord, NodeRecord, RevisionRecord
from wireloom.errors import ImageMissing, Unavailable
from wireloom.model.moves import ArrivalStatus, DepartureStatus, MovePhase
from wireloom.model.slice import NodeIntent, Slice
from wireloom.model.state import SliceStatus
from wireloom.model.topology import NodeSpec, Topology
from wireloom.planning.plan import NodeRecord as Remembered
from wireloom.planning.plan import Observed, Verb, moves_of, plan

NODE = NodeRecord(id="n1", lab_id="l1", name="n", device="d", provider="p", host="h1")
MOVE = MoveRecord(id="m1", lab_id="l1", node_id="n1", source="h1", target="h2", reason="user", token="t")  # noqa: S106
INTENT = NodeIntent(id="n1", name="n", device="d", provider="p", image="i")
GONE = DepartureStatus(move="m1", node_id="n1", ready=True)
COME = ArrivalStatus(move="m1", node_id="n1", ready=True)


def at(phase: MovePhase, host: str = "h1") -> tuple[MoveRecord, NodeRecord]:
    return MOVE.model_copy(update={"phase": phase}), NODE.model_copy(update={"host": host})


@pytest.mark.parametrize(
    ("phase", "host", "seen", "kind", "then"),
    [
        (MovePhase.QUEUED, "h1", Seen(), None, None),
        (MovePhase.LEAVING, "h1", Seen(), None, None),
        (MovePhase.LEAVING, "h1", Seen(departure=GONE), "go", MovePhase.CARRYING),
        (MovePhase.LEAVING, "h1", Seen(departure=GONE, away_s=61), "undo", None),
        (MovePhase.CARRYING, "h1", Seen(departure=GONE), None, None),
        (MovePhase.CARRYING, "h1", Seen(departure=GONE, arrival=COME), "go", MovePhase.ARRIVING),
        (MovePhase.CARRYING, "h1", Seen(away_s=61), "undo", None),
        (MovePhase.ARRIVING, "h2", Seen(arrival=COME), None, None),
        (MovePhase.ARRIVING, "h2", Seen(away_s=1000), None, None),
        (MovePhase.ARRIVING, "h2", Seen(arrival=COME.model_copy(update={"adopted": True})), "end", None),
        (MovePhase.CARRYING, "h3", Seen(arrival=COME), "end", None),
        (MovePhase.ARRIVING, "h3", Seen(arrival=COME), "end", None),
        (MovePhase.UNDONE, "h1", Seen(arrival=COME), None, None),
    ],
)
def test_what_is_due(phase: MovePhase, host: str, seen: Seen, kind: str | None, then: MovePhase | None) -> None:
    step = next_step(*at(phase, host), seen)
    assert (step.kind if step else None) == kind
    if then is not None:
        assert step is not None
        assert step.phase is then


def test_what_cannot_be_had_is_undone_and_what_may_come_is_waited_for() -> None:
    for error, kind in ((ImageMissing("gone"), "undo"), (Unavailable("later"), None)):
        seen = Seen(departure=GONE, arrival=ArrivalStatus(move="m1", node_id="n1", error=error.to_wire()))
        step = next_step(*at(MovePhase.CARRYING), seen)
        assert (step.kind if step else None) == kind


def test_a_node_leaves_only_from_where_it_has_come() -> None:
    earlier = MOVE.model_copy(update={"id": "m0", "source": "h0", "target": "h1", "phase": MovePhase.ARRIVING})
    assert next_step(*at(MovePhase.LEAVING), Seen(departure=GONE), [earlier]) is None


def test_a_host_takes_part_in_few_moves_at_a_time() -> None:
    moves = [MOVE.model_copy(update={"id": f"m{i}", "node_id": f"n{i}"}) for i in range(5)]
    assert [move.id for move in startable(moves, frozenset({"h1", "h2"}), 2)] == ["m0", "m1"]
    moves[0] = moves[0].model_copy(update={"phase": MovePhase.CARRYING})
    assert [move.id for move in startable(moves, frozenset({"h1", "h2"}), 2)] == ["m1"]
    assert startable(moves, frozenset({"h1"}), 2) == []


def test_a_new_place_becomes_a_move_from_the_old_one() -> None:
    before = snapshot(NODE)
    topology = Topology(name="lab", nodes=(spec(host="h2"),))
    placed = [NODE.model_copy(update={"host": "h2", "mgmt_ipv4": None})]
    nodes, moves = moved_instead(before, placed, topology, new_move, {"h1", "h2"})
    assert [node.host for node in nodes] == ["h1"]
    assert [(move.source, move.target, move.reason) for move in moves] == [("h1", "h2", "topology")]
    again = before.model_copy(update={"moves": moves})
    assert moved_instead(again, placed, topology, new_move, {"h1", "h2"})[1] == moves, "it is on its way already"
    back = Topology(name="lab", nodes=(spec(host="h1"),))
    assert moved_instead(again, [NODE], back, new_move, {"h1", "h2"})[1] == ()


def test_a_node_whose_host_is_away_moves_only_where_the_topology_says() -> None:
    placed = [NODE.model_copy(update={"host": "h2"})]
    free = Topology(name="lab", nodes=(spec(),))
    assert moved_instead(snapshot(NODE), placed, free, new_move, {"h2"})[1] == ()
    pinned = Topology(name="lab", nodes=(spec(host="h2"),))
    assert len(moved_instead(snapshot(NODE), placed, pinned, new_move, {"h2"})[1]) == 1


# ---------------------------------------------------------------------- agents


def test_a_host_keeps_what_leaves_and_removes_what_is_older_than_what_comes() -> None:
    (leaving,) = slices_at(MovePhase.CARRYING)["h1"].departures
    empty = Slice(installation="i", lab_id="l1", lab="lab", generation=1, departures=(leaving,))
    known = {"n1": Remembered(provider="p")}
    assert plan(empty, Observed(records=known), 0).empty, "its folder is kept without the node"
    document = slices_at(MovePhase.ARRIVING)["h2"]
    assert [action.verb for action in plan(document, observed(known), 0).nodes] == [Verb.REMOVE]
    nothing = plan(document, observed({}), 0)
    assert not nothing.nodes
    assert nothing.waiting, "it waits for what is carried"
    come = {"n1": Remembered(provider="p", arrived="m1")}
    assert [action.verb for action in plan(document, observed(come), 0).nodes] == [Verb.UP]
    assert moves_of(document, come).coming == frozenset()


def observed(records: dict[str, Remembered]) -> Observed:
    from wireloom.model.runtime import Capabilities

    return Observed(records=records, capabilities={"p": Capabilities(name="p")})


# ---------------------------------------------------------------------- every order of events


@dataclass
class Machine:
    """A host that gets its slices late, and says what it is late too. What it has outlives its agent."""

    name: str
    slice: Slice | None = None
    running: bool = False
    stored: bool = False
    staged: bool = False
    arrived: str = ""
    status: SliceStatus | None = None

    def look(self, source_packed: bool) -> None:
        """As an agent does: the plan, then what is carried."""
        document = self.slice
        if document is None:
            return
        node = None if document.removed else document.node("n1")
        moving = moves_of(document, {"n1": Remembered(arrived=self.arrived)} if self.stored else {})
        if node is None and "n1" not in moving.leaving:
            self.running = self.stored = False
            self.arrived = ""
        elif "n1" in moving.leaving:
            self.running = False
        elif "n1" in moving.coming:
            if self.stored:
                self.stored = self.running = False
            elif self.staged:
                self.stored, self.staged, self.arrived = True, False, document.arrivals[0].move
        elif node is not None and node.power == "on":
            self.running = True  # with nothing of what it had, where that is not here
        elif node is not None and node.power == "off":
            self.running = False
        fetching = document.arrivals and document.arrivals[0].move != self.arrived
        self.staged = bool(document.arrivals) and (self.staged or bool(fetching and source_packed))

    def report(self) -> None:
        document = self.slice
        if document is None:
            return
        self.status = SliceStatus(
            host=self.name,
            lab_id="l1",
            lab="lab",
            generation=document.generation,
            observed_at=0,
            departures=tuple(
                DepartureStatus(move=item.move, node_id="n1", ready=not self.running) for item in document.departures
            ),
            arrivals=tuple(
                ArrivalStatus(
                    move=item.move,
                    node_id="n1",
                    ready=self.staged or self.arrived == item.move,
                    adopted=self.arrived == item.move,
                )
                for item in document.arrivals
            ),
        )

    def packed(self) -> bool:
        return self.slice is not None and bool(self.slice.departures) and self.stored and not self.running


@dataclass
class World:
    lab: LabSnapshot
    hosts: dict[str, Machine] = field(default_factory=lambda: {name: Machine(name) for name in ("h1", "h2")})
    number: int = 0

    def act(self, action: str) -> None:
        verb, _, host = action.partition(" ")
        if verb == "deliver":
            self.hosts[host].slice = render(self.lab).get(host)
        elif verb == "look":
            other = self.hosts["h1" if host == "h2" else "h2"]
            self.hosts[host].look(other.packed())
        elif verb == "report":
            self.hosts[host].report()
        elif verb == "turn":
            for part in ("deliver", "look", "report"):
                self.act(f"{part} {host}")
        elif verb == "step":
            self.step()
        elif verb == "abort":
            kept = without_moves(self.lab.moves, "n1")
            if kept != self.lab.moves:
                self.lab = self.lab.model_copy(
                    update={"moves": kept, "nodes": tuple(started_again(node) for node in self.lab.nodes)}
                )
        elif verb == "move" and not self.lab.moves:
            self.number += 1
            source = self.lab.nodes[0].host
            new = MOVE.model_copy(
                update={
                    "id": f"m{self.number}",
                    "source": source,
                    "target": "h2" if source == "h1" else "h1",
                    "phase": MovePhase.LEAVING,
                }
            )
            self.lab = self.lab.model_copy(update={"moves": with_move(self.lab.moves, new)})
        self.check()

    def step(self) -> None:
        for move in self.lab.moves:
            statuses = {name: host.status for name, host in self.hosts.items() if host.status is not None}
            due = next_step(move, self.lab.nodes[0], seen_of(move, statuses))
            if due is None:
                continue
            moves, node = self.lab.moves, self.lab.nodes[0]
            if due.kind == "end":
                moves = ()
            elif due.kind == "go":
                moves = (move.model_copy(update={"phase": due.phase}),)
                if due.phase is MovePhase.ARRIVING:
                    node = node.model_copy(update={"host": move.target})
            self.lab = self.lab.model_copy(update={"moves": moves, "nodes": (node,)})

    def check(self) -> None:
        assert sum(host.running for host in self.hosts.values()) <= 1, "it runs twice"
        assert any(host.stored or host.staged for host in self.hosts.values()), "what it had is lost"

    def settle(self) -> None:
        for _ in range(12):
            for action in ("deliver h1", "deliver h2", "look h1", "look h2", "look h1", "look h2"):
                self.act(action)
            for action in ("report h1", "report h2", "step"):
                self.act(action)


ACTIONS = [f"{verb} {host}" for verb in ("deliver", "look", "report", "turn", "turn") for host in ("h1", "h2")]


#: What would carry the node over if nothing came between.
STRAIGHT = ["move", "turn h1", "step", "turn h2", "step", "turn h2", "turn h1", "step", "turn h1"]
BETWEEN = st.lists(st.sampled_from([*ACTIONS, "step", "step", "move", "abort"]), max_size=4)


@settings(max_examples=400)
@given(st.lists(BETWEEN, min_size=len(STRAIGHT), max_size=len(STRAIGHT)), st.sets(st.integers(0, len(STRAIGHT) - 1)))
def test_no_order_of_events_makes_a_node_run_twice_or_loses_what_it_has(
    between: list[list[str]], missing: set[int]
) -> None:
    actions = [
        action
        for position, (expected, others) in enumerate(zip(STRAIGHT, between, strict=True))
        for action in (*others, *([] if position in missing else [expected]))
    ]
    world = World(snapshot(NODE))
    world.hosts["h1"] = Machine("h1", render(world.lab)["h1"], running=True, stored=True)
    for action in actions:
        world.act(action)
    world.settle()
    home = world.lab.nodes[0].host
    assert not world.lab.moves
    assert [name for name, host in world.hosts.items() if host.running] == [home]
    assert [name for name, host in world.hosts.items() if host.stored or host.staged] == [home]


# ---------------------------------------------------------------------- helpers


def spec(**changes: object) -> NodeSpec:
    values = {"name": "n", "device": "d", "provider": "p", "image": "i", "cpu": 1, "memory_mb": 64, **changes}
    return NodeSpec.model_validate(values)


def new_move(node: NodeRecord, target: str, reason: object) -> MoveRecord:
    return MOVE.model_copy(update={"source": node.host, "target": target, "reason": reason})


def snapshot(node: NodeRecord, *moves: MoveRecord) -> LabSnapshot:
    lab = LabRecord(id="l1", name="lab", created_at=0, generation=1, revision=1)
    revision = RevisionRecord(lab_id="l1", number=1, topology="", sha256="", created_at=0)
    return LabSnapshot(lab=lab, revision=revision, nodes=(node,), hosts=("h1", "h2"), moves=moves)


def render(lab: LabSnapshot) -> dict[str, Slice]:
    """As the controller does: each node where its record says, removal elsewhere, then the moves."""
    documents = {}
    for host in ("h1", "h2"):
        here = lab.nodes[0].host == host
        documents[host] = Slice(
            installation="i",
            lab_id="l1",
            lab="lab",
            generation=lab.lab.generation,
            removed=not here,
            nodes=(INTENT,) if here else (),
        )
    return without_leaving_power(lab, documents)


def slices_at(phase: MovePhase) -> dict[str, Slice]:
    move, node = at(phase, "h2" if phase is MovePhase.ARRIVING else "h1")
    return render(snapshot(node, move))
