"""Random rewiring on the real kernel, by an agent: after each step exactly the declared pairs can talk.

Nodes are simulated, their namespaces and taps are real. Hypothesis chooses what is added, removed, moved, switched
off and on, impaired, shut by a guest, restarted or killed, and in what order. While the agent works, guests go on
talking, and nobody may hear what belongs to him neither before nor after. At the end nothing may be left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from agent_rig import Agent, make_node
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from wiring_rig import DESTINATIONS, Heard, Port, RealHost, Talk, quiet

from wireloom.dataplane.kernel import KernelDataPlane
from wireloom.dataplane.ovs import OvsDataPlane
from wireloom.model.identity import device_name, mac_address
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.slice import NodeIntent, PlugIntent, PortRef, RestartPolicy, SegmentIntent, Slice, WireIntent
from wireloom.model.vlans import Vlans
from wireloom.testing.guests import run_command

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(280)]

LAB: Final = "lab-1"
#: Node → provider: two are like containers, two like machines.
NODES: Final = {"c1": "alpha", "c2": "alpha", "m1": "beta", "m2": "beta"}
PORTS: Final = (1, 2, 3)
EVERY_PORT: Final[tuple[Port, ...]] = tuple(itertools.product(NODES, PORTS))
SEGMENTS: Final = ("lan", "core")
TAGGED: Final = "core"
VLANS: Final = (1, 20)
UNIMPAIRED: Final = LinkImpairment()
#: What every kernel can do: rates so high that no frame of ours waits.
IMPAIRMENTS: Final = (
    UNIMPAIRED,
    LinkImpairment(forward=Impairment(rate_kbit=100_000)),
    LinkImpairment(forward=Impairment(rate_kbit=200_000), backward=Impairment(rate_kbit=50_000, limit=100)),
)
SETTLE_S: Final = 8.0
#: For a long run: WIRELOOM_TEST_WIRINGS=100.
EXAMPLES: Final = int(os.environ.get("WIRELOOM_TEST_WIRINGS", "5"))


@dataclass
class Link:
    """What the model knows of a link: a wire between two ports, or the plug of one port in a segment."""

    ends: tuple[Port, ...]
    segment: str = ""
    vlan: int = 0
    up: bool = True
    impairment: LinkImpairment = UNIMPAIRED


class Wiring(RuleBasedStateMachine):
    """The model beside a whole agent."""

    factory: ClassVar[Any]
    #: Whether the segment "core" has VLANs; the kernel of this host may not know any.
    tagged: ClassVar[bool]
    #: Whether what a node sends to a segment can be impaired; the data plane refuses it otherwise.
    impairs_plugs: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="wlt-wiring-")
        self._loop = asyncio.Runner()
        self.host = RealHost(Path(self._folder.name), self.factory)
        self.life = contextlib.AsyncExitStack()
        self.agent: Agent | None = None
        self.generation = 0
        self.links: dict[str, Link] = {}
        self.nodes = {name: _node(self.host, name) for name in NODES}
        self.shut: set[Port] = set()
        self.talk = Talk()
        self.before: set[tuple[Port, Port]] = set()
        self.numbers = itertools.count()

    # -- steps ---------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self._do(self._start_agent())
        self._apply()

    @precondition(lambda self: len(self._free()) > 1)
    @rule(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        ends = data.draw(st.lists(st.sampled_from(self._free()), min_size=2, max_size=2, unique=True))
        self._add(Link(tuple(ends)))
        self._apply()

    @precondition(lambda self: self._free())
    @rule(data=st.data(), segment=st.sampled_from(SEGMENTS), vlan=st.sampled_from(VLANS))
    def plug(self, data: st.DataObject, segment: str, vlan: int) -> None:
        in_vlan = vlan if self.tagged and segment == TAGGED else 0
        self._add(Link((data.draw(st.sampled_from(self._free())),), segment, in_vlan))
        self._apply()

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        del self.links[self._some_link(data)]
        self._apply()

    @precondition(lambda self: self.links and self._free())
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """One end of a link goes to another port, in one edit."""
        name = self._some_link(data)
        target = data.draw(st.sampled_from(self._free()))
        link = self.links.pop(name)
        self._add(replace(link, ends=(target, *link.ends[1:])))
        self._apply()

    @precondition(lambda self: sum(not link.segment for link in self.links.values()) > 1)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        """Two wires exchange their ends, in one edit."""
        wires = [name for name, link in self.links.items() if not link.segment]
        one, other = data.draw(st.lists(st.sampled_from(wires), min_size=2, max_size=2, unique=True))
        first, second = self.links.pop(one), self.links.pop(other)
        self._add(replace(first, ends=(first.ends[0], second.ends[1])))
        self._add(replace(second, ends=(second.ends[0], first.ends[1])))
        self._apply()

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def pull_or_plug_the_cable(self, data: st.DataObject) -> None:
        link = self.links[self._some_link(data)]
        link.up = not link.up
        self._apply()

    @precondition(lambda self: self.links)
    @rule(data=st.data(), impairment=st.sampled_from(IMPAIRMENTS))
    def impair(self, data: st.DataObject, impairment: LinkImpairment) -> None:
        """Or make it whole again."""
        link = self.links[self._some_link(data)]
        both_ways = not link.segment or self.impairs_plugs
        link.impairment = impairment if both_ways else impairment.model_copy(update={"forward": None})
        self._apply()

    @precondition(lambda self: self._doors())
    @rule(data=st.data())
    def shut_or_open_a_port(self, data: st.DataObject) -> None:
        """A guest does that by itself; whoever is at the other end of the cable sees it."""
        port = data.draw(st.sampled_from(self._doors()))
        self.shut ^= {port}
        self._do(self.host.shut(port, port in self.shut))
        self._apply()

    @rule(name=st.sampled_from(sorted(NODES)))
    def switch(self, name: str) -> None:
        """Off, or on again."""
        node = self.nodes[name]
        self._booted(name)
        self.nodes[name] = node.model_copy(update={"power": "off" if node.power == "on" else "on"})
        self._apply()

    @rule(name=st.sampled_from(sorted(NODES)))
    def restart(self, name: str) -> None:
        node = self.nodes[name]
        self._booted(name)
        self.nodes[name] = node.model_copy(update={"restarts": node.restarts + 1})
        self._apply()

    @precondition(lambda self: any(node.power == "on" for node in self.nodes.values()))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A node ends by itself, and its agent starts it again."""
        name = data.draw(st.sampled_from([name for name, node in self.nodes.items() if node.power == "on"]))
        self.host.worlds[NODES[name]].crash(name)
        self._booted(name)
        # Every verb of a user forgives failures: else the node would wait ever longer.
        self.nodes[name] = self.nodes[name].model_copy(update={"attention": self.nodes[name].attention + 1})
        self._apply()

    @precondition(lambda self: self._doors())
    @rule(data=st.data())
    def somebody_deletes_a_device(self, data: st.DataObject) -> None:
        """The agent makes it anew, in the running guest."""
        port = data.draw(st.sampled_from(self._doors()))
        self.shut -= {port}
        self._do(run_command("ip", "link", "del", device_name("p", self.host.installation, *port)))
        self._apply()

    @rule()
    def restart_agent(self) -> None:
        self._do(self._kill_agent())
        self._do(self._start_agent())
        self._apply()

    @precondition(lambda self: self.links and len(self._free()) > 1)
    @rule(data=st.data(), name=st.sampled_from(sorted(NODES)))
    def edit_while_the_agent_is_dead(self, data: st.DataObject, name: str) -> None:
        """A node crashes, a link goes, another comes; then the agent is there again."""
        self._do(self._kill_agent())
        if self.nodes[name].power == "on":
            self.host.worlds[NODES[name]].crash(name)
            self._booted(name)
        del self.links[self._some_link(data)]
        ends = data.draw(st.lists(st.sampled_from(self._free()), min_size=2, max_size=2, unique=True))
        self._add(Link(tuple(ends)))
        self._do(self._start_agent())
        self._apply()

    def teardown(self) -> None:
        try:
            self._do(self._end())
        finally:
            self._loop.close()
            self._folder.cleanup()

    # -- the model -----------------------------------------------------------------------------------------

    def _free(self) -> list[Port]:
        taken = {end for link in self.links.values() for end in link.ends}
        return [port for port in EVERY_PORT if port not in taken]

    def _some_link(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.links)))

    def _add(self, link: Link) -> None:
        self.links[f"link-{next(self.numbers):04d}"] = link

    def _doors(self) -> list[Port]:
        """Ports whose guests can shut them so that we see it."""
        return [port for port in EVERY_PORT if NODES[port[0]] == "alpha" and self.nodes[port[0]].power == "on"]

    def _booted(self, name: str) -> None:
        """A guest that boots has all its ports open."""
        self.shut = {port for port in self.shut if port[0] != name}

    def _alive(self, port: Port) -> bool:
        return self.nodes[port[0]].power == "on" and port not in self.shut

    def _pairs(self) -> Iterator[tuple[Port, Port]]:
        """(speaker, listener) for all that can talk."""
        media = {(link.segment, link.vlan) for link in self.links.values() if link.segment}
        for medium in media:
            plugs = [link.ends[0] for link in self.links.values() if (link.segment, link.vlan) == medium and link.up]
            yield from itertools.permutations([port for port in plugs if self._alive(port)], 2)
        for link in self.links.values():
            if not link.segment and link.up and all(self._alive(end) for end in link.ends):
                yield from itertools.permutations(link.ends, 2)

    def _heard(self) -> Heard:
        return Counter({(*pair, destination): 1 for pair in self._pairs() for destination in DESTINATIONS})

    def _carriers(self) -> dict[Port, bool]:
        lit = {end for link in self.links.values() if link.up and all(map(self._alive, link.ends)) for end in link.ends}
        return {port: port in lit for port in EVERY_PORT if self.nodes[port[0]].power == "on"}

    def _slice(self, *, removed: bool = False) -> Slice:
        wires = [(name, link) for name, link in self.links.items() if not link.segment]
        plugs = [(name, link) for name, link in self.links.items() if link.segment]
        used = {link.segment for _, link in plugs}
        return Slice(
            installation=self.host.installation,
            lab_id=LAB,
            lab="lab",
            generation=self.generation,
            removed=removed,
            nodes=tuple(self.nodes.values()),
            wires=tuple(
                WireIntent(id=name, a=_ref(link.ends[0]), b=_ref(link.ends[1]), up=link.up, impairment=link.impairment)
                for name, link in wires
            ),
            segments=tuple(
                SegmentIntent(
                    id=name,
                    name=name,
                    kind="switch",
                    device=device_name("s", self.host.installation, name),
                    tagging="802.1q" if self.tagged and name == TAGGED else "none",
                )
                for name in SEGMENTS
                if name in used
            ),
            plugs=tuple(
                PlugIntent(
                    id=name,
                    port=_ref(link.ends[0]),
                    segment=link.segment,
                    vlans=Vlans.access(link.vlan) if link.vlan else None,
                    up=link.up,
                    impairment=link.impairment,
                )
                for name, link in plugs
            ),
        )

    # -- the agent -----------------------------------------------------------------------------------------

    def _do(self, doing: Coroutine[Any, Any, None]) -> None:
        self._loop.run(doing)

    async def _start_agent(self) -> None:
        agent = Agent(self.host)
        if self.generation:
            agent.reconciler.set_slice(LAB, self._slice())
        await self.life.enter_async_context(agent.alive())
        self.life.push_async_callback(agent.network.dataplane.close)
        self.agent = agent

    async def _kill_agent(self) -> None:
        await self.life.aclose()
        self.agent = None

    def _apply(self) -> None:
        """Hand the model to the agent, and hold the kernel against it."""
        self.generation += 1
        self._do(self._settle())

    async def _settle(self) -> None:
        assert self.agent is not None
        self.agent.reconciler.set_slice(LAB, self._slice())
        expected, carriers = self._heard(), self._carriers()
        heard: Heard = Counter()
        found: dict[Port, bool] = {}
        settled = False
        self.talk.pairs.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not settled or (heard, found) != (expected, carriers):
                    guests = await self.host.speakers()
                    self.talk.speak(guests)
                    await asyncio.sleep(0.005)
                    self.talk.listen(guests)
                    settled = quiet(self.agent, LAB) and self._are_as_they_should()
                    if settled:
                        heard = await self.talk.converse(await self.host.speakers(), expected)
                        found = self.host.carriers()
        assert settled, f"the agent does not come to rest: {self.agent.reports.statuses.get(LAB)}"
        leaked = self.talk.pairs - self.before - set(self._pairs())
        assert leaked == set(), "while it was rewired, frames were heard where they belong neither before nor after"
        self.before = set(self._pairs())
        assert found == carriers, "guests see other cables than were declared"
        assert heard - expected == Counter(), "frames were heard that should not have been"
        assert expected - heard == Counter(), "frames were not heard that should have been"

    def _are_as_they_should(self) -> bool:
        running = {runtime.spec.identity.node for _, runtime in self.host.runtimes()}
        return running == {name for name, node in self.nodes.items() if node.power == "on"}

    async def _end(self) -> None:
        """The lab goes, and with it everything on the host."""
        if self.agent is not None:
            self.generation += 1
            self.agent.reconciler.set_slice(LAB, self._slice(removed=True))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    while self.host.debris() or not quiet(self.agent, LAB):  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.01)
        left = self.host.debris()
        await self._scrub()
        await self._kill_agent()
        assert left == []

    async def _scrub(self) -> None:
        """A run that failed leaves the host clean all the same."""
        for world in self.host.worlds.values():
            for runtime in list(world.runtimes.values()):
                world.remove(runtime)
        plane = self.host.dataplane()
        state = await plane.observe()
        await plane.remove_ports(list(state.ports))
        for segment in state.segments:
            await plane.remove_segment(segment)
        await plane.close()


def _ref(port: Port) -> PortRef:
    return PortRef(node_id=f"id-{port[0]}", index=port[1])


def _node(host: RealHost, name: str) -> NodeIntent:
    """A node whose host devices are this run's own."""
    made = make_node(name, NODES[name], restart_policy=RestartPolicy.ALWAYS)
    template = made.ports[1]
    ports = tuple(
        template.model_copy(
            update={
                "index": index,
                "name": f"eth{index}",
                "guest_name": f"eth{index}",
                "device": device_name("p", host.installation, name, index),
                "mac": mac_address(host.installation, name, index),
            }
        )
        for index in PORTS
    )
    return made.model_copy(update={"ports": ports})


class KernelWiring(Wiring):
    factory = KernelDataPlane
    tagged = False
    impairs_plugs = True


class OvsWiring(Wiring):
    factory = OvsDataPlane
    tagged = True
    impairs_plugs = False


RANDOM: Final = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    # A step that is tried again is no cheaper than the first time: a long example says enough.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

TestKernel = KernelWiring.TestCase
TestKernel.settings = RANDOM
TestOvs = OvsWiring.TestCase
TestOvs.settings = RANDOM
