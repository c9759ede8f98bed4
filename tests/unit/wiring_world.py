"""A host on which plans of links are carried out: the simulated data plane, with guests that shut their ports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.model.attachment import NamespaceAttachment, TapAttachment
from wireloom.model.identity import device_name, mac_address
from wireloom.model.impairment import Impairment
from wireloom.model.network import HostPort, PortAlias, PortPlan
from wireloom.model.runtime import Capabilities, RuntimeStatus
from wireloom.model.slice import NodeIntent, PlugIntent, PortIntent, PortRef, SegmentIntent, Slice, WireIntent
from wireloom.model.state import RuntimePhase
from wireloom.model.underlay import Encryption, FarEnd, Way
from wireloom.planning.plan import Observed
from wireloom.planning.wires import WirePlans, plan_wires

__all__ = [
    "CAPABILITIES",
    "LAN",
    "LOSSY",
    "MANAGEMENT",
    "ROUNDS",
    "SLOW",
    "World",
    "at_rest",
    "host_port",
    "make_node",
    "make_slice",
    "plug",
    "port_alias",
    "ref",
    "sees_carrier",
    "segment",
    "wire",
    "with_lab",
]

#: ``own``: ports in the guest's own namespace; ``hosted``: taps, carriers by the provider.
CAPABILITIES = {
    "own": Capabilities(name="own", attachments="gated", carrier="device"),
    "hosted": Capabilities(name="hosted", attachments="created", carrier="provider", ports_fixed=True),
}
ALIVE = frozenset({RuntimePhase.GATED, RuntimePhase.RUNNING, RuntimePhase.SUSPENDED})
MANAGEMENT = "wlmgmt"
ROUNDS = 5
SLOW = Impairment(delay_ms=50)
LOSSY = Impairment(loss=1)


def make_node(name: str, provider: str = "own", ports: int = 3, **changes: object) -> NodeIntent:
    """A node with a management port and ``ports`` others."""
    made = tuple(
        PortIntent(
            index=index,
            name=f"eth{index}",
            guest_name=f"eth{index}",
            device=device_name("p", name, index),
            mac=mac_address(name, index),
            role="data" if index else "mgmt",
        )
        for index in range(ports + 1)
    )
    intent = NodeIntent(id=f"id-{name}", name=name, device="d", provider=provider, image="i", ports=made)
    return intent.model_copy(update=changes)


def port_alias(lab: Slice, node: NodeIntent, port: PortIntent) -> PortAlias:
    return PortAlias(
        installation=lab.installation,
        lab_id=lab.lab_id,
        node_id=node.id,
        index=port.index,
        name=f"{lab.lab}/{node.name}/{port.name}",
    )


@dataclass
class World:
    """One host. ``phases``, ``shut`` (devices whose guest's side is down) and ``now`` are the test's to change.

    :ivar let_go: taps that their hypervisor has let go of.
    :ivar carriers: by node id and port index, of providers that make them.
    :ivar ways: to other hosts; ``far_ends``: what these told of their ends; see :class:`Observed`.
    """

    lab: Slice
    phases: dict[str, RuntimePhase] = field(default_factory=dict)
    shut: set[str] = field(default_factory=set)
    let_go: set[str] = field(default_factory=set)
    carriers: dict[str, dict[int, bool]] = field(default_factory=dict)
    bridges: frozenset[str] = frozenset()
    now: float = 1_000.0
    ways: dict[tuple[str, Encryption], Way] = field(default_factory=dict)
    far_ends: dict[tuple[str, str], FarEnd] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = SimulatedNetwork()
        self.plane = SimulatedDataPlane(self.lab.installation, self.network)

    def plant(self, node: NodeIntent, port: PortIntent, **changes: object) -> None:
        """A host port as it may be, whatever the lab says."""
        plan = self._port_plan(node, port)
        found = HostPort(
            device=port.device,
            alias=plan.alias,
            kind="tap" if node.provider == "hosted" else "veth",
            mtu=1500,
            up=True,
            carrier=True,
            segment=plan.segment,
        )
        self.network.plans[port.device] = plan
        self.network.ports[port.device] = found.model_copy(update=changes)

    async def observed(self) -> Observed:
        """What an agent would see, after the kernel did its own part."""
        self._settle()
        seen = await self.plane.observe()
        runtimes = {
            node.id: self._runtime(node) for node in self.lab.nodes if self.phases[node.id] is not RuntimePhase.ABSENT
        }
        network = seen.model_copy(update={"bridges": self.bridges})
        return Observed(
            runtimes=runtimes,
            network=network,
            capabilities=CAPABILITIES,
            ways=self.ways,
            far_ends=self.far_ends,
        )

    async def plan(self) -> WirePlans:
        return plan_wires(self.lab, await self.observed(), frozenset(), self.now)

    async def converge(self, rounds: int) -> int:
        """Plan and carry out until there is nothing to do; after how many rounds. Fails after ``rounds``."""
        for number in range(rounds + 1):
            plans = await self.plan()
            if plans.empty:
                return number
            await self.apply(plans)
        raise AssertionError(f"no rest after {rounds} rounds: {await self.plan()}")

    async def apply(self, plans: WirePlans) -> None:
        """As an agent does, in its order."""
        for segment in plans.segments:
            await self.plane.ensure_segment(segment)
        await self.plane.remove_ports(plans.unplug)
        await self._attach(plans)
        await self.plane.ensure_wires(plans.join)
        await self.plane.ensure_tunnels(plans.tunnels)
        await self.plane.remove_plugs(plans.detach)
        await self.plane.remove_wires(plans.cut)
        await self.plane.remove_tunnels(plans.untunnel)
        await self.plane.impair(plans.impair)
        await self.plane.set_carrier(dict(plans.device_carriers))
        for name in plans.drop_segments:
            await self.plane.remove_segment(name)
        for node in self.lab.nodes:
            missing = plans.plug.get(node.id, ())
            await self.plane.ensure_ports([self._port_plan(node, port) for port in node.ports if port.index in missing])
            self.carriers.setdefault(node.id, {}).update(plans.runtime_carriers.get(node.id, {}))

    async def _attach(self, plans: WirePlans) -> None:
        await self.plane.ensure_plugs(plans.attach)
        for plug in plans.attach:  # the simulated host knows no bridges of others
            port = self.network.ports.get(plug.device)
            if port is not None and plug.segment in self.bridges:
                changes = {"segment": plug.segment, "vlans": plug.vlans, "mtu": plug.mtu, "peer": None}
                self.network.ports[plug.device] = port.model_copy(update=changes)

    def carrier(self, node: NodeIntent, port: PortIntent) -> bool:
        """Whether the guest sees a carrier."""
        if node.provider == "hosted":
            return self.carriers.get(node.id, {}).get(port.index, True)
        found = self.network.ports.get(port.device)
        return found is not None and found.up

    def end(self, node: NodeIntent, phase: RuntimePhase) -> None:
        self.phases[node.id] = phase
        self._settle()

    def _settle(self) -> None:
        """What the kernel does by itself: ports in namespaces go with these, and carriers follow the other end."""
        for node in self.lab.nodes:
            phase = self.phases[node.id]
            for port in node.ports:
                found = self.network.ports.get(port.device)
                if found is None:
                    continue
                if found.kind == "veth" and phase not in {*ALIVE, RuntimePhase.UNKNOWN}:
                    self.network.delete(port.device)
                    continue
                if found.kind == "tap":
                    there = phase in ALIVE and port.device not in self.let_go
                else:
                    there = found.up and port.device not in self.shut
                self.network.ports[port.device] = found.model_copy(update={"carrier": there})

    def _runtime(self, node: NodeIntent) -> RuntimeStatus:
        hosted = node.provider == "hosted"
        carriers = {port.index: self.carrier(node, port) for port in node.ports} if hosted else {}
        return RuntimeStatus(
            runtime_id=f"rt-{node.name}",
            name=node.name,
            identity=self.lab.identity(node),
            incarnation=node.incarnation,
            spec_hash="",
            phase=self.phases[node.id],
            carriers=carriers,
        )

    def _port_plan(self, node: NodeIntent, port: PortIntent) -> PortPlan:
        hosted = node.provider == "hosted"
        attachment = TapAttachment() if hosted else NamespaceAttachment(netns=f"/run/{node.id}")
        return PortPlan(
            device=port.device,
            alias=port_alias(self.lab, node, port),
            attachment=attachment,
            guest_name=port.guest_name,
            mac=port.mac,
            segment=MANAGEMENT if port.role == "mgmt" else None,
            carrier=port.role == "mgmt",
        )


def with_lab(world: World, lab: Slice) -> World:
    """The same host with another intent."""
    other = replace(world, lab=lab)
    other.network, other.plane = world.network, world.plane
    other.phases = {node.id: world.phases.get(node.id, RuntimePhase.ABSENT) for node in lab.nodes}
    return other


def make_slice(*nodes: NodeIntent, **changes: object) -> Slice:
    return Slice(installation="inst", lab_id="lab-1", lab="lab", generation=1, nodes=nodes).model_copy(update=changes)


def ref(node: NodeIntent, index: int = 1) -> PortRef:
    return PortRef(node_id=node.id, index=index)


def wire(a: NodeIntent, b: NodeIntent, **changes: object) -> WireIntent:
    return WireIntent(id=f"{a.name}-{b.name}", a=ref(a), b=ref(b)).model_copy(update=changes)


def segment(name: str = "lan", kind: str = "switch", **changes: object) -> SegmentIntent:
    made = SegmentIntent(id=f"id-{name}", name=name, kind="switch", device=device_name("s", name))
    return made.model_copy(update={"kind": kind, **changes})


def plug(node: NodeIntent, into: SegmentIntent, **changes: object) -> PlugIntent:
    made = PlugIntent(id=f"{node.name}-{into.name}", port=ref(node), segment=into.id)
    return made.model_copy(update=changes)


async def at_rest(lab: Slice, **changes: object) -> World:
    """A host on which everything of ``lab`` runs and is as it should be."""
    world = World(lab, {node.id: RuntimePhase.RUNNING for node in lab.nodes}, **changes)  # type: ignore[arg-type]
    await world.converge(ROUNDS)
    return world


def host_port(world: World, node: NodeIntent, index: int = 1) -> HostPort:
    found = node.port(index)
    assert found is not None
    return world.network.ports[found.device]


def sees_carrier(world: World, node: NodeIntent, index: int = 1) -> bool:
    found = node.port(index)
    assert found is not None
    return world.carrier(node, found)


LAN = segment()
