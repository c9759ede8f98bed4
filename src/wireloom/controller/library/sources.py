"""Hosts and nodes that images come from: what must be so before a host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wireloom.controller.board import Board
from wireloom.controller.live import LiveState
from wireloom.errors import Conflict, NotFound, Unavailable, Unsupported
from wireloom.model.state import NodeState

__all__ = ["Hosts", "SavedNode"]


@dataclass(frozen=True)
class SavedNode:
    """A stopped node, and what its image will be told to be of."""

    lab_id: str
    node_id: str
    host: str
    provider: str
    device: str
    image: str


class Hosts:
    """Reads what agents said last."""

    def __init__(self, live: LiveState, board: Board) -> None:
        self._live = live
        self._board = board

    def alive(self) -> frozenset[str]:
        return self._live.alive

    def need(self, host: str, provider: str) -> None:
        """See to it that ``host`` can be asked.

        :raises NotFound: no such host. :raises Unavailable: it is away. :raises Unsupported: it has no such engine.
        """
        if host not in self._live.hosts:
            raise NotFound(f"there is no host {host}", hint="`wireloom status` lists them")
        facts = self._live.facts(host)
        if facts is None:
            raise Unavailable(f"host {host} does not answer", hint="look at `wireloom status`")
        engine = next((item for item in facts.providers if item.name == provider), None)
        if engine is None:
            raise Unsupported(f"host {host} has no {provider}")
        if not engine.available:
            raise Unavailable(f"{provider} on host {host} does not answer: {engine.problem}")

    def puller(self) -> str:
        """A host whose engine fetches images. :raises Unavailable: there is none."""
        for host in sorted(self._live.alive):
            facts = self._live.facts(host)
            if facts and any(item.name == "docker" and item.available and item.pulls for item in facts.providers):
                return host
        raise Unavailable("no host is there whose engine fetches images", hint="look at `wireloom status`")

    def stopped_node(self, lab: str, name: str) -> SavedNode:
        """:raises NotFound: no such lab or node. :raises Conflict: it is not stopped. :raises Unavailable:"""
        picture = self._board.named(lab)
        node = next((node for node in picture.nodes.values() if node.intent.name == name), None)
        if node is None:
            raise NotFound(f"lab {lab} has no node {name}", hint=f"`wireloom inspect {lab}` lists them")
        if not node.alive:
            raise Unavailable(f"host {node.host} does not answer", hint="look at `wireloom status`", node=name)
        if node.intent.power != "off" or node.status is None or node.status.state is not NodeState.STOPPED:
            raise Conflict(
                f"{name} is not stopped, and its disk changes while it runs",
                node=name,
                hint=f"`wireloom stop {lab} {name}`",
            )
        intent = node.intent
        return SavedNode(picture.snapshot.lab.id, intent.id, node.host, intent.provider, intent.device, intent.image)

    def remembered(self, facts: Mapping[str, Any]) -> SavedNode:
        """A node that a job began to save, whatever has become of it since."""
        return SavedNode(**facts)
