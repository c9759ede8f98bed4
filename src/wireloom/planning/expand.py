"""From a topology to the slices of its hosts: every node fully resolved, every port and link named.

Pure: ids, placement, addresses and counters are given. Ports of a node follow from what is linked:

* A provider that adds ports to a live runtime gets the management port and the linked ports, no more.
* A provider that fixes ports at creation gets ports 1…N without gaps, because a guest finds its NICs by position.
  N is what the node was made with (:attr:`NodeCounters.ports`) as long as that is enough, so a link added on a spare
  port or a link removed changes nothing of the runtime. When it is not enough, N grows to the highest linked port
  plus the spares. Without a memory (``ports`` is ``None``) N is rounded up to a multiple of the spares, which is stable
  too but may leave no spare.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from wireloom.devices import DeviceCatalogue
from wireloom.model.base import Value
from wireloom.model.device import Device, Extract, ProviderSupport, Readiness
from wireloom.model.dialogue import Cli
from wireloom.model.identity import device_name, mac_address
from wireloom.model.impairment import LinkImpairment
from wireloom.model.slice import Management, NodeIntent, PortIntent, Slice, StoredConfig
from wireloom.model.topology import NodeSpec, Topology
from wireloom.model.underlay import Encryption
from wireloom.planning.expand_links import HostLinks, expand_links, link_id, plug_id, segment_id
from wireloom.planning.leases import lease_s
from wireloom.planning.remembered import Latest, Remembered

__all__ = [
    "Expansion",
    "NodeCounters",
    "data_ports",
    "expand",
    "link_id",
    "node_intents",
    "plug_id",
    "ports_made",
    "segment_id",
    "used_clis",
]


class NodeCounters(Value):
    """What the controller remembers of a node beside its topology; see :mod:`wireloom.model.slice`.

    :ivar ports: data ports that the node was last given (``data_ports`` of its intent); 0 for a node that was never
        made or was wiped, ``None`` where nobody remembers.
    """

    power: Literal["on", "off"] = "on"
    incarnation: int = 1
    restarts: int = 0
    attention: int = 0
    ports: int | None = None


_NO_COUNTERS = NodeCounters()


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """What is known outside the topology when it is expanded.

    :ivar ids: node name → node id. :ivar host_of: node name → host; a node without one is left out.
    :ivar mgmt: host → its management network; ``mgmt_ipv4``: node name → address in it.
    :ivar link_overrides: link or plug id → whether the user wants it up, where that differs from the topology.
    :ivar impairments: link or plug id → what the user set by a verb; each direction that it says something of takes
        the place of the topology's.
    :ivar nat_subnets: segment id → the subnet leased to it, where the topology names none. Without a lease one is
        chosen that depends on nothing but the segment and what else this lab uses.
    :ivar vnis: link id → number of the tunnel leased to it; one between hosts without a lease is not joined yet.
    :ivar encryption: what hides the frames of links between hosts.
    :ivar spare_providers: providers whose ports are fixed at creation (``Capabilities.ports_fixed``).
    :ivar allow_privileged: the user who deploys may run privileged nodes.
    :ivar remembered: what the last expansion of the lab made; it makes this one faster, and changes nothing of it.
    :ivar stored_configs: node name → the active revision of its stored configuration.
    :ivar chosen: names of the nodes whose configuration was chosen by the user (:attr:`NodeIntent.config_chosen`).
    :ivar choices: node name → number of the user's last choice (:attr:`NodeIntent.config_choice`).
    """

    installation: str
    lab_id: str
    generation: int
    devices: DeviceCatalogue
    ids: Mapping[str, str]
    host_of: Mapping[str, str]
    mgmt: Mapping[str, Management] = field(default_factory=dict)
    mgmt_ipv4: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[str, NodeCounters] = field(default_factory=dict)
    link_overrides: Mapping[str, bool] = field(default_factory=dict)
    impairments: Mapping[str, LinkImpairment] = field(default_factory=dict)
    nat_subnets: Mapping[str, str] = field(default_factory=dict)
    vnis: Mapping[str, int] = field(default_factory=dict)
    encryption: Encryption = "none"
    spare_providers: frozenset[str] = frozenset()
    allow_privileged: bool = False
    remembered: Remembered | None = None
    stored_configs: Mapping[str, StoredConfig] = field(default_factory=dict)
    chosen: frozenset[str] = frozenset()
    choices: Mapping[str, int] = field(default_factory=dict)


def expand(topology: Topology, known: Expansion) -> dict[str, Slice]:
    """The slice of each host that runs a node of the lab.

    :raises Unsupported: a segment between two hosts.
    :raises NotFound: a device that the catalogue no longer has.
    """
    nodes: dict[str, list[NodeIntent]] = {}
    for name, intent in node_intents(topology, known, remembered=known.remembered).items():
        if name in known.host_of:
            nodes.setdefault(known.host_of[name], []).append(intent)
    links = _links(topology, known)
    return {
        host: Slice(
            installation=known.installation,
            lab_id=known.lab_id,
            lab=topology.name,
            generation=known.generation,
            management=known.mgmt.get(host),
            nodes=tuple(members),
            wires=tuple(links[host].wires),
            segments=tuple(links[host].segments),
            plugs=tuple(links[host].plugs),
            clis=used_clis(members, known.devices),
            lease_s=lease_s(topology.on_host_loss.restart_elsewhere_after_s),
        )
        for host, members in nodes.items()
    }


def _links(topology: Topology, known: Expansion) -> Mapping[str, HostLinks]:
    """Links and segments by host; those of last time where nothing that they depend on has changed."""
    if known.remembered is None:
        return expand_links(topology, known)
    devices = tuple(dict.fromkeys((spec.name, spec.device) for spec in topology.nodes))
    inputs = (
        topology.links,
        topology.plugs,
        topology.segments,
        topology.link_encryption,
        devices,
        known.devices,
        known.installation,
        known.lab_id,
        known.ids,
        known.host_of,
        known.mgmt,
        known.link_overrides,
        known.impairments,
        known.nat_subnets,
        known.vnis,
        known.encryption,
    )
    return known.remembered.links.get(inputs, lambda: expand_links(topology, known))


def used_clis(nodes: Iterable[NodeIntent], devices: DeviceCatalogue) -> dict[str, Cli]:
    """The command lines of ``nodes``, by name."""
    found = (devices.get(node.device).cli for node in nodes)
    return {cli.name: cli for cli in found if cli is not None}


def node_intents(
    topology: Topology, known: Expansion, only: Collection[str] | None = None, *, remembered: Remembered | None = None
) -> dict[str, NodeIntent]:
    """Every node of ``topology`` that has an id (and is one of ``only``), by name, as an agent gets it."""
    if only is not None and not only:
        return {}
    ports = remembered.ports if remembered is not None else Latest[Mapping[str, frozenset[int]]]()
    used = ports.get((topology.links, topology.plugs), lambda: _used_ports(topology))
    return {
        spec.name: _remembered_intent(spec, used.get(spec.name, frozenset()), known, remembered)
        for spec in topology.nodes
        if spec.name in known.ids and (only is None or spec.name in only)
    }


def _used_ports(topology: Topology) -> dict[str, frozenset[int]]:
    """Indexes of linked ports, by node."""
    used: dict[str, set[int]] = {}
    ends = [end for link in topology.links for end in (link.a, link.b)] + [plug.end for plug in topology.plugs]
    for end in ends:
        used.setdefault(end.node, set()).add(end.index)
    return {name: frozenset(indexes) for name, indexes in used.items()}


def _remembered_intent(
    spec: NodeSpec, used: frozenset[int], known: Expansion, remembered: Remembered | None
) -> NodeIntent:
    if remembered is None:
        return _intent(spec, used, known)
    name = spec.name
    counters = known.counters.get(name, _NO_COUNTERS)
    inputs = (
        spec,
        used,
        known.installation,
        known.devices,
        known.ids[name],
        known.mgmt_ipv4.get(name),
        known.stored_configs.get(name),
        known.choices.get(name, 0),
        name in known.chosen,
        known.allow_privileged,
        known.spare_providers,
        tuple(known.ids.get(other) for other in spec.depends_on) if spec.depends_on else (),
        counters.power,
        counters.incarnation,
        counters.restarts,
        counters.ports,
    )
    return remembered.node(name, inputs, counters.attention, lambda: _intent(spec, used, known))


def _intent(spec: NodeSpec, used: frozenset[int], known: Expansion) -> NodeIntent:
    device = known.devices.get(spec.device)
    support = device.on(spec.provider)
    counters = known.counters.get(spec.name, NodeCounters())
    fixed = spec.provider in known.spare_providers
    return NodeIntent(
        id=known.ids[spec.name],
        name=spec.name,
        device=spec.device,
        provider=spec.provider,
        image=spec.image,
        power=counters.power,
        incarnation=counters.incarnation,
        restarts=counters.restarts,
        attention=counters.attention,
        restart_policy=spec.restart,
        depends_on={known.ids[name]: condition for name, condition in spec.depends_on.items() if name in known.ids},
        cpu=spec.cpu,
        memory_mb=spec.memory_mb,
        disk_gb=spec.disk_gb,
        env=spec.env,
        env_templates=_env_templates(spec, support),
        binds=spec.binds,
        labels=spec.labels,
        settings=spec.settings,
        ports=tuple(_ports(spec, used, device, known)),
        ports_fixed=fixed,
        mgmt_ipv4=known.mgmt_ipv4.get(spec.name) if spec.management else None,
        startup_config=spec.startup_config,
        startup_template=spec.startup_template,
        stored_config=known.stored_configs.get(spec.name),
        config_chosen=spec.name in known.chosen,
        config_choice=known.choices.get(spec.name, 0),
        extract_on_stop=spec.extract_on_stop,
        day0=support.day0 or (),
        console=support.console or (),
        ready=support.ready or Readiness(),
        run=support.run or (),
        extract=support.extract or Extract(),
        load=support.load or (),
        cli=device.cli.name if device.cli else "",
        access=device.access,
        post_boot=(*(support.post_boot or ()), *spec.exec),
        stop_grace_s=device.stop_grace_s,
        secrets=device.secrets,
        link_down=device.link_down,
        privileged_allowed=known.allow_privileged,
    )


def _env_templates(spec: NodeSpec, support: ProviderSupport) -> tuple[str, ...]:
    return tuple(name for name, text in support.env.items() if "{" in text and spec.env.get(name) == text)


def data_ports(node: NodeIntent) -> int:
    """How many data ports ``node`` declares; to be remembered as :attr:`NodeCounters.ports`."""
    return sum(1 for port in node.ports if port.index > 0)


def ports_made(used: int, spares: int, remembered: int | None, limit: int) -> int:
    """How many data ports a runtime with fixed ports gets, when ``used`` is the highest linked one.

    Never fewer than ``used`` nor more than ``limit`` (a device with fewer ports than links is refused earlier).
    """
    if remembered is None:
        block = max(spares, 1)
        wanted = max(-(-used // block) * block, spares)
    elif remembered > 0 and used <= remembered:
        wanted = remembered
    else:
        wanted = used + spares
    return max(used, min(wanted, limit))


def _ports(spec: NodeSpec, used: frozenset[int], device: Device, known: Expansion) -> Iterator[PortIntent]:
    if spec.provider not in known.spare_providers:
        if spec.management:
            yield _port(spec, device, known, 0, "mgmt")
        for index in sorted(used):
            yield _port(spec, device, known, index, "data")
        return
    if device.ports.management is not None:
        # Off the management network the NIC stays, unplugged: the guest counts NICs by position.
        yield _port(spec, device, known, 0, "mgmt" if spec.management else "spare")
    hardware = device.hardware_on(spec.provider)
    for number in range(1, hardware.reserved_ports + 1):
        yield _port(spec, device, known, -number, "reserved")
    remembered = known.counters.get(spec.name, NodeCounters()).ports
    made = ports_made(max(used, default=0), spec.spare_ports, remembered, device.ports.limit)
    total = max(made, hardware.min_ports)
    for index in range(1, total + 1):
        yield _port(spec, device, known, index, "data" if index in used else "spare")


def _port(
    spec: NodeSpec, device: Device, known: Expansion, index: int, role: Literal["mgmt", "data", "spare", "reserved"]
) -> PortIntent:
    node_id = known.ids[spec.name]
    reserved = role == "reserved"
    return PortIntent(
        index=index,
        name=f"reserved{-index}" if reserved else device.ports.display(index),
        guest_name=f"reserved{-index}" if reserved else device.ports.kernel(index),
        device=device_name("p", known.installation, node_id, index),
        mac=mac_address(known.installation, node_id, index),
        role=role,
        position=_position(index, device, spec.provider),
    )


def _position(index: int, device: Device, provider: str) -> int:
    """Where the guest finds the NIC: management, what is reserved, then data."""
    management = 0 if device.ports.management is None else 1
    if index < 0:
        return management - index - 1
    return index if index == 0 else management + device.hardware_on(provider).reserved_ports + index - 1
