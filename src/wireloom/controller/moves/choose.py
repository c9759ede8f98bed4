"""Where a node can move to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from wireloom.controller.live import LiveState
from wireloom.controller.preflight import Findings
from wireloom.controller.store import LabSnapshot, NodeRecord
from wireloom.controller.topologies import Topologies
from wireloom.errors import CapacityExceeded, Conflict, NotFound, Unavailable, Unsupported, WireloomError
from wireloom.model.topology import Topology

__all__ = ["Choice", "Chooser", "Inspect"]


class Inspect(Protocol):
    """See :meth:`wireloom.controller.labs.LabService.inspect`."""

    def __call__(
        self, nodes: list[NodeRecord], topology: Topology, lab_id: str, names: frozenset[str], consent: bool
    ) -> Awaitable[tuple[list[NodeRecord], Findings]]: ...


@dataclass(frozen=True)
class Choice:
    """Where a node goes, and what that means; or why it cannot."""

    host: str = ""
    reason: str = ""
    error: WireloomError | None = None


class Chooser:
    """Finds hosts for nodes that exist already.

    :param closed: why a host takes no nodes, in words; empty: it does.
    """

    def __init__(
        self, *, inspect: Inspect, topologies: Topologies, live: LiveState, closed: Callable[[str], str]
    ) -> None:
        self._inspect = inspect
        self._topologies = topologies
        self._live = live
        self._closed = closed

    async def choose(self, lab: LabSnapshot, names: frozenset[str], host: str) -> dict[str, Choice]:
        """A choice for each of these nodes of ``lab``; ``host`` empty: the best of the others.

        :raises NotFound: no such host. :raises TopologyInvalid: a device has changed since the lab was deployed.
        """
        if host and host not in self._live.hosts:
            raise NotFound(f"there is no host {host}", hint="`wireloom hosts` lists them")
        topology = await asyncio.to_thread(self._topologies.parse_revision, lab.revision)
        choices = {}
        taken: dict[str, str] = {}  # what was chosen counts for those that come after
        for name in sorted(names):
            node = lab.node(name)
            if node is not None:
                choices[name] = await self._choice(lab, topology, node, host, taken)
                if choices[name].host:
                    taken[name] = choices[name].host
        return choices

    async def _choice(
        self, lab: LabSnapshot, topology: Topology, node: NodeRecord, host: str, taken: dict[str, str]
    ) -> Choice:
        pin = next((spec.host or "" for spec in topology.nodes if spec.name == node.name), "")
        problem = self._obstacle(node, host, pin)
        if problem is not None:
            return Choice(error=problem)
        first: WireloomError | None = None
        for candidate in [host] if host else self._others(node):
            error = self._cannot(node, candidate) or await self._refused(lab, topology, node, candidate, taken)
            if error is None:
                return Choice(candidate, f"moves from {node.host} to {candidate}: it is stopped while it is carried")
            first = first or error
        nobody = CapacityExceeded(
            f"no other host can take {node.name}", hint=str(first) if first else "let another host join", node=node.name
        )
        return Choice(error=first if host and first is not None else nobody)

    def _obstacle(self, node: NodeRecord, host: str, pin: str) -> WireloomError | None:
        if not node.host or node.problem is not None:
            return Conflict(f"{node.name} is on no host", hint="deploy the lab first", node=node.name)
        if host == node.host:
            return Conflict(f"{node.name} is on {host} already", node=node.name)
        if pin and pin != host:
            return Conflict(
                f"the topology says that {node.name} is on {pin}",
                hint="change or remove `host:` of the node, and deploy",
                node=node.name,
            )
        source = self._live.facts(node.host)
        offered = {item.name: item for item in source.providers} if source is not None else {}
        if node.provider in offered and not offered[node.provider].moves:
            return Unsupported(f"what nodes of provider {node.provider} keep cannot be carried", node=node.name)
        return None

    def _others(self, node: NodeRecord) -> list[str]:
        """Hosts that take nodes, those with most free memory first."""

        def room(name: str) -> tuple[int, str]:
            facts = self._live.facts(name)
            return (-(facts.memory_mb if facts is not None else 0), name)

        return sorted((name for name in self._live.alive if name != node.host and not self._closed(name)), key=room)

    def _cannot(self, node: NodeRecord, host: str) -> WireloomError | None:
        facts = self._live.facts(host)
        if facts is None:
            return Unavailable(f"host {host} does not answer", hint="is its agent running?", node=node.name)
        closed = self._closed(host)
        if closed:
            return Conflict(
                f"{host} takes no nodes: {closed}", hint="`wireloom host uncordon` opens it", node=node.name
            )
        offered = next((item for item in facts.providers if item.name == node.provider), None)
        if offered is None or not offered.available:
            return Unsupported(f"host {host} has no provider {node.provider}", node=node.name)
        if not offered.moves:
            return Unsupported(f"the agent of host {host} is too old to take nodes of others", node=node.name)
        return None

    async def _refused(
        self, lab: LabSnapshot, topology: Topology, node: NodeRecord, host: str, taken: dict[str, str]
    ) -> WireloomError | None:
        """What preflight says of the node on ``host``, as if it were new."""
        specs = tuple(
            spec.model_copy(update={"host": host}) if spec.name == node.name else spec for spec in topology.nodes
        )
        pinned = topology.model_copy(update={"nodes": specs})
        records = [
            other.model_copy(update={"host": "", "mgmt_ipv4": None})
            if other.id == node.id
            else other.model_copy(update={"host": taken.get(other.name, other.host)})
            for other in lab.nodes
        ]
        placed, findings = await self._inspect(
            records, pinned, lab.lab.id, frozenset({node.name}), lab.lab.allow_privileged
        )
        found = findings.problems.get(node.name)
        if found is not None:
            return found
        chosen = next(item for item in placed if item.id == node.id)
        return None if chosen.host == host else CapacityExceeded(f"host {host} has no room", node=node.name)
