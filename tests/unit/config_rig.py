"""Routers that are not there: hosts of the controller's tests that answer questions about configurations."""

from __future__ import annotations

from controller_rig import Host

from wireloom.configs import digest
from wireloom.errors import GuestFailed
from wireloom.fabric.config_documents import (
    EXTRACT,
    HELD_CONFIG,
    LOAD,
    RELEASE_CONFIG,
    Done,
    Extracted,
    ExtractQuestion,
    HeldQuestion,
    LoadAnswer,
    LoadQuestion,
    ReleaseQuestion,
)
from wireloom.model.slice import NodeIntent
from wireloom.model.state import NodeStatus

TOPOLOGY = """\
name: pair
defaults: {device: cisco_iosv, provider: simulated}
nodes:
  a: {startup-config: "hostname a\\n!\\n"}
  b:
  host: {device: linux}
"""
FIRST = "version 15.9\nhostname a\nend\n"
SECOND = "version 15.9\nhostname a\nip domain name x\nend\n"


class Routers:
    """The agents' answers: each node's running configuration by name, and what is held of it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.running = {"a": FIRST, "b": "version 15.9\nhostname b\nend\n"}
        self.made_with: dict[str, int] = {}
        self.loaded: list[tuple[str, str]] = []
        self.held: dict[str, Extracted] = {}
        self.released: list[tuple[str, int]] = []
        self.time = 0.0
        plain = host._status

        def status(node: NodeIntent) -> NodeStatus:
            held = self.held.get(node.name)
            return plain(node).model_copy(update={"held_config": held.sha256 if held else ""})

        host._status = status  # type: ignore[method-assign]

    async def serve(self) -> None:
        fabric, name = self.host.fabric, self.host.name
        await fabric.serve(name, EXTRACT, self.extract)
        await fabric.serve(name, LOAD, self.load)
        await fabric.serve(name, HELD_CONFIG, self.hand_over)
        await fabric.serve(name, RELEASE_CONFIG, self.release)

    def name_of(self, node_id: str) -> str:
        return next(node.name for lab in self.host.slices.values() for node in lab.nodes if node.id == node_id)

    def reading(self, node: str) -> Extracted:
        self.time += 1
        text = self.running[node]
        return Extracted(
            text=text,
            sha256=digest(text),
            channel="serial",
            tried={"ssh session": "no answer"},
            taken_at=self.time,
            choice=self.made_with.get(node, 0),
        )

    async def extract(self, question: ExtractQuestion) -> Extracted:
        node = self.name_of(question.node_id)
        if node not in self.running:
            raise GuestFailed("no channel gave a configuration", node=node, details={"tried": {"serial": "silent"}})
        if question.adopt:
            self.adopt(question.node_id)
        return self.reading(node)

    def adopt(self, node_id: str) -> None:
        """The node counts as made with the user's last choice, as when it is made anew."""
        lab = next(iter(self.host.slices.values()))
        intent = next(node for node in lab.nodes if node.id == node_id)
        self.made_with[intent.name] = intent.config_choice

    async def load(self, question: LoadQuestion) -> LoadAnswer:
        node = self.name_of(question.node_id)
        self.loaded.append((node, question.text))
        self.running[node] = question.text
        self.adopt(question.node_id)
        return LoadAnswer(channel="ssh")

    async def hold(self, node: str) -> None:
        """An agent has read the configuration before a stop."""
        self.held[node] = self.reading(node)
        for lab_id in self.host.slices:
            await self.host.report(lab_id)

    async def hand_over(self, question: HeldQuestion) -> Extracted:
        return self.held[self.name_of(question.node_id)]

    async def release(self, question: ReleaseQuestion) -> Done:
        node = self.name_of(question.node_id)
        if self.held[node].sha256 == question.sha256:
            del self.held[node]
            self.released.append((node, question.revision))
        return Done()
