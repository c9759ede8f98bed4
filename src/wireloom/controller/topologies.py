"""Topologies of stored labs: reading with a small memory, expanding to slices, rewriting links."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from wireloom.controller.addresses import management
from wireloom.controller.moves.slices import without_leaving_power
from wireloom.controller.store.records import LabSnapshot, RevisionRecord, revision_digest
from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.model.link_views import LinkRequest, SegmentRequest
from wireloom.model.slice import Slice
from wireloom.model.topology import Topology
from wireloom.model.underlay import Encryption
from wireloom.model.views import ChangeView
from wireloom.planning.changes import describe_changes
from wireloom.planning.expand import Expansion, NodeCounters, expand
from wireloom.planning.remembered import Remembered, sharing_parts
from wireloom.planning.topology import parse_topology
from wireloom.planning.topology.images import NO_IMAGES, LibraryImages
from wireloom.planning.topology.rewrite import add_link, move_link, remove_link, set_link_state
from wireloom.planning.topology.rewrite_segments import add_segment, remove_segment

__all__ = ["Topologies"]

REMEMBERED: Final = 64
#: Labs of which the parts of the last rendering are kept.
REMEMBERED_LABS: Final = 8


class Topologies:
    """Everything that depends on devices, images and topology text. Safe to call from several threads.

    :param settings_schemas: JSON Schema of each provider's settings.
    :param domain: DNS domain of the management networks. :param encryption: of links between hosts.
    """

    def __init__(
        self,
        *,
        devices: DeviceCatalogue,
        installation: str,
        settings_schemas: Mapping[str, Mapping[str, Any]],
        domain: str,
        encryption: Encryption = "none",
    ) -> None:
        self._encryption: Encryption = encryption
        self._devices = devices
        self._installation = installation
        self._schemas = settings_schemas
        self._domain = domain
        self._images = NO_IMAGES
        self._parsed: OrderedDict[str, Topology] = OrderedDict()
        self._remembered: OrderedDict[str, Remembered] = OrderedDict()

    @property
    def devices(self) -> DeviceCatalogue:
        """The catalogue in use."""
        return self._devices

    def use(self, devices: DeviceCatalogue) -> None:
        """Another catalogue from now on; topologies are read again with it when they are next needed."""
        self._devices = devices
        self._parsed.clear()

    @property
    def images(self) -> LibraryImages:
        """What the image library says of nodes."""
        return self._images

    def use_images(self, images: LibraryImages) -> None:
        """The image library says another thing from now on; see :meth:`use`."""
        if images != self._images:
            self._images = images
            self._parsed.clear()

    def parse(self, text: str, *, source: str, files: Mapping[str, str]) -> Topology:
        """:raises TopologyInvalid: with all mistakes."""
        digest = revision_digest(text, dict(files))
        known = self._parsed.get(digest)
        if known is not None:
            return known
        devices, images = self._devices, self._images
        topology = parse_topology(
            text, source=source, files=files, devices=devices, settings_schemas=self._schemas, images=images
        ).topology
        if devices is not self._devices or images is not self._images:
            return topology  # something was exchanged meanwhile: what was read with the old one is not kept
        alike = next((known for known in reversed(self._parsed.values()) if known.name == topology.name), None)
        if alike is not None:
            topology = sharing_parts(topology, alike)
        self._parsed[digest] = topology
        while len(self._parsed) > REMEMBERED:
            self._parsed.popitem(last=False)
        return topology

    def broken_by(
        self, devices: DeviceCatalogue, revision: RevisionRecord, images: LibraryImages | None = None
    ) -> TopologyInvalid | None:
        """What would be wrong with a stored revision, which is valid now, if ``devices`` were the catalogue.

        :param images: what the image library would say; ``None``: what it says now.
        """
        try:
            self.parse_revision(revision)
        except TopologyInvalid:
            return None
        try:
            parse_topology(
                revision.topology,
                source=revision.source,
                files=revision.files,
                devices=devices,
                settings_schemas=self._schemas,
                images=self._images if images is None else images,
            )
        except TopologyInvalid as error:
            return error
        return None

    def parse_revision(self, revision: RevisionRecord) -> Topology:
        """A stored revision. :raises TopologyInvalid: it was valid once, but a device has changed since."""
        return self.parse(revision.topology, source=revision.source, files=revision.files)

    def render(self, snapshot: LabSnapshot, subnets: Mapping[str, str]) -> dict[str, Slice]:
        """The slices of a lab by host, those of refused nodes included.

        A host that may hold something of the lab and shall not any more gets one that asks for its removal. Nodes that
        move are off until they have arrived.
        """
        slices: dict[str, Slice] = {}
        if not snapshot.lab.removing:
            slices = expand(self.parse_revision(snapshot.revision), self._expansion(snapshot, subnets))
        for host in snapshot.hosts:
            slices.setdefault(host, self._removal(snapshot))
        return without_leaving_power(snapshot, slices)

    def describe(
        self,
        before: LabSnapshot | None,
        after: LabSnapshot,
        subnets: Mapping[str, str],
        deployed: Iterable[Slice],
    ) -> tuple[ChangeView, ...]:
        """What would change from ``before``, of which hosts have ``deployed``, to ``after``."""
        old = self.parse_revision(before.revision) if before else None
        hosts = {node.name: node.host for node in before.nodes if node.host} if before else {}
        new = self.parse_revision(after.revision)
        known = self._expansion(after, subnets)
        return describe_changes(old, new, known, old_host_of=hosts, deployed=deployed)

    def rewrite_link(self, revision: RevisionRecord, request: LinkRequest) -> str:
        """The topology's text with one link added, removed, moved, raised or lowered; comments stay.

        :raises NotFound: there is no such link. :raises Conflict: it is there already.
        :raises Unsupported: the file's way of writing links cannot be edited.
        """
        text, a, b = revision.topology, request.a, request.b
        match request.verb:
            case "add":
                return add_link(
                    text,
                    a,
                    b,
                    request.mtu,
                    vlan=request.vlan,
                    trunk=request.trunk,
                    native=request.native,
                    devices=self._devices,
                )
            case "remove":
                return remove_link(text, a, b, devices=self._devices)
            case "move":
                return move_link(text, a, b, request.to, devices=self._devices)
            case "up" | "down":
                return set_link_state(text, a, b, request.verb == "up", devices=self._devices)

    def rewrite_segment(self, revision: RevisionRecord, request: SegmentRequest) -> str:
        """The topology's text with one segment more, or one less with the links into it; comments stay.

        :raises NotFound: there is no such segment. :raises Conflict: there is one already.
        :raises Unsupported: the file's way of writing segments or links cannot be edited.
        """
        if request.verb == "remove":
            return remove_segment(revision.topology, request.name)
        return add_segment(revision.topology, **request.model_dump(exclude={"verb"}))

    def nat_segments(self, revision: RevisionRecord, slices: Mapping[str, Slice]) -> dict[str, str]:
        """Segments of ``slices`` with address translation, by id, with the subnets that their topology names."""
        topology = self.parse_revision(revision)
        wanted = {segment.name: segment.subnet for segment in topology.segments if segment.kind == "nat"}
        found = (segment for document in slices.values() for segment in document.segments)
        return {segment.id: wanted[segment.name] for segment in found if segment.kind == "nat"}

    def _expansion(self, snapshot: LabSnapshot, subnets: Mapping[str, str]) -> Expansion:
        nodes = snapshot.nodes
        return Expansion(
            installation=self._installation,
            lab_id=snapshot.lab.id,
            generation=snapshot.lab.generation,
            devices=self._devices,
            ids={node.name: node.id for node in nodes},
            host_of={node.name: node.host for node in nodes},
            mgmt={host: management(subnet, self._domain) for host, subnet in subnets.items()},
            mgmt_ipv4={node.name: node.mgmt_ipv4 for node in nodes if node.mgmt_ipv4 is not None},
            counters={
                node.name: NodeCounters(
                    power=node.power,
                    incarnation=node.incarnation,
                    restarts=node.restarts,
                    attention=node.attention,
                    ports=node.ports,
                )
                for node in nodes
            },
            spare_providers=frozenset(node.provider for node in nodes if node.ports is not None),
            allow_privileged=snapshot.lab.allow_privileged,
            stored_configs={
                node.name: config.stored
                for node in nodes
                if (config := snapshot.configs.get(node.id)) is not None and config.stored is not None
            },
            chosen=frozenset(
                node.name for node in nodes if node.id in snapshot.configs and snapshot.configs[node.id].by_user
            ),
            choices={node.name: snapshot.configs[node.id].choice for node in nodes if node.id in snapshot.configs},
            impairments=snapshot.impairments,
            nat_subnets=snapshot.nat_subnets,
            vnis=snapshot.vnis,
            encryption=self._encryption,
            remembered=self._remembered_of(snapshot.lab.id),
        )

    def _remembered_of(self, lab_id: str) -> Remembered:
        """What the last rendering of this lab made; of a few labs, those that were asked for last."""
        found = self._remembered.pop(lab_id, None) or Remembered()
        self._remembered[lab_id] = found
        while len(self._remembered) > REMEMBERED_LABS:
            self._remembered.popitem(last=False)
        return found

    def _removal(self, snapshot: LabSnapshot) -> Slice:
        return Slice(
            installation=self._installation,
            lab_id=snapshot.lab.id,
            lab=snapshot.lab.name,
            generation=snapshot.lab.generation,
            removed=True,
        )
