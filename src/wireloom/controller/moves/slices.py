"""What moves make of a lab's slices. Pure.

Slices are rendered with each node where its record says. Moves then take the power from those that leave, and tell
both hosts of what is carried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from wireloom.controller.store.records import LabSnapshot, MoveRecord
from wireloom.model.moves import MovePhase
from wireloom.model.slice import Arrival, Departure, NodeIntent, Slice
from wireloom.model.state import SliceStatus

__all__ = ["with_transfers", "without_leaving_power"]


def without_leaving_power(snapshot: LabSnapshot, slices: Mapping[str, Slice]) -> dict[str, Slice]:
    """``slices`` with nodes that leave off where they are, and what hosts must keep or fetch beside their nodes."""
    moves = [move for move in snapshot.moves if _holds(move, snapshot)]
    leaving = {move.node_id for move in moves if move.phase in {MovePhase.LEAVING, MovePhase.CARRYING}}
    intents = {node.id: node for document in slices.values() for node in document.nodes}
    result = {host: _off(document, leaving) for host, document in slices.items()}
    departures: dict[str, list[Departure]] = defaultdict(list)
    arrivals: dict[str, list[Arrival]] = defaultdict(list)
    for move in moves:
        node = intents.get(move.node_id)
        if node is None or move.phase not in {MovePhase.LEAVING, MovePhase.CARRYING, MovePhase.ARRIVING}:
            continue
        departures[move.source].append(_departure(move, node))
        if move.phase is not MovePhase.LEAVING:
            arrivals[move.target].append(_arrival(move, node))
    for host in {*departures, *arrivals}:
        document = result.get(host) or _empty(snapshot, result)
        if document is not None:
            result[host] = document.model_copy(
                update={
                    "removed": False,
                    "departures": tuple(departures.get(host, ())),
                    "arrivals": tuple(arrivals.get(host, ())),
                }
            )
    return result


def with_transfers(document: Slice, statuses: Mapping[str, SliceStatus], relay: Callable[[str], str]) -> Slice:
    """``document`` of a host with what the other hosts told of where they serve what is to be carried.

    :param relay: where a controller passes on what belongs to a move, by its id.
    """
    if not (document.departures or document.arrivals):
        return document
    told = {item.move: item for status in statuses.values() for item in status.departures}
    arrivals = []
    for arrival in document.arrivals:
        said = told.get(arrival.move)
        known = {"url": said.url, "total": said.total} if said is not None else {}
        arrivals.append(arrival.model_copy(update={"relay": relay(arrival.move), **known}))
    departures = tuple(item.model_copy(update={"relay": relay(item.move)}) for item in document.departures)
    return document.model_copy(update={"departures": departures, "arrivals": tuple(arrivals)})


def _holds(move: MoveRecord, snapshot: LabSnapshot) -> bool:
    """Whether the move is what the lab's node is about now; somebody else may have given it another place."""
    node = next((node for node in snapshot.nodes if node.id == move.node_id), None)
    place = move.target if move.phase is MovePhase.ARRIVING else move.source
    return node is not None and node.host == place and not snapshot.lab.removing


def _off(document: Slice, leaving: Iterable[str]) -> Slice:
    gone = frozenset(leaving)
    if not any(node.id in gone for node in document.nodes):
        return document
    nodes = tuple(node.model_copy(update={"power": "off"}) if node.id in gone else node for node in document.nodes)
    return document.model_copy(update={"nodes": nodes})


def _departure(move: MoveRecord, node: NodeIntent) -> Departure:
    return Departure(
        move=move.id, node_id=node.id, name=node.name, provider=node.provider, host=move.target, token=move.token
    )


def _arrival(move: MoveRecord, node: NodeIntent) -> Arrival:
    return Arrival(
        move=move.id,
        node_id=node.id,
        name=node.name,
        provider=node.provider,
        host=move.source,
        token=move.token,
        node=node,
    )


def _empty(snapshot: LabSnapshot, slices: Mapping[str, Slice]) -> Slice | None:
    """A slice without nodes, for a host that has nothing of the lab but what is carried."""
    like = next(iter(slices.values()), None)
    if like is None:
        return None
    return Slice(installation=like.installation, lab_id=like.lab_id, lab=like.lab, generation=snapshot.lab.generation)
