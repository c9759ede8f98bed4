"""Text of a topology file to a :class:`~wireloom.model.topology.Topology`, or to all of its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.model.diagnostic import Diagnostic
from wireloom.model.topology import HostLoss, Topology
from wireloom.planning.leases import SHORTEST_LOSS_S
from wireloom.planning.topology.fields import TopologyFields
from wireloom.planning.topology.images import NO_IMAGES, LibraryImages
from wireloom.planning.topology.links import read_links
from wireloom.planning.topology.names import check_name
from wireloom.planning.topology.nodes import NodeReader, check_cycles, check_waits
from wireloom.planning.topology.segments import read_segments
from wireloom.yamlfile import Bound, bind, read_yaml

__all__ = ["ParsedTopology", "devices_named", "parse_topology", "startup_config_paths"]

_SHOWN: Final = 3


@dataclass(frozen=True)
class ParsedTopology:
    """A valid topology, with what is odd but allowed."""

    topology: Topology
    warnings: tuple[Diagnostic, ...] = ()


def parse_topology(
    text: str,
    *,
    source: str = "topology.yml",
    files: Mapping[str, str] | None = None,
    devices: DeviceCatalogue,
    settings_schemas: Mapping[str, Mapping[str, Any]] | None = None,
    images: LibraryImages | None = NO_IMAGES,
) -> ParsedTopology:
    """Read and check a topology.

    :param source: name of the file, for diagnostics.
    :param files: startup configurations by path as written in the topology (see :func:`startup_config_paths`).
    :param settings_schemas: JSON Schema of the settings of each provider; settings of a provider that is not in
        it are not checked.
    :param images: what the image library says; ``None``: nobody asked, so a device without an image may have one.
    :raises TopologyInvalid: with all mistakes at once in ``details["diagnostics"]``.
    """
    bound = bind(TopologyFields, read_yaml(text, file=source), what="a topology")
    topology = _read(bound, files or {}, devices, settings_schemas or {}, images)
    diagnostics = bound.sorted_diagnostics()
    errors = [item for item in diagnostics if item.severity == "error"]
    if errors or topology is None:
        raise _invalid(source, errors)
    return ParsedTopology(topology, tuple(item for item in diagnostics if item.severity == "warning"))


def startup_config_paths(text: str, *, source: str = "topology.yml") -> tuple[str, ...]:
    """Paths of startup configurations that a topology names, as written, each once; a client sends these files.

    Works on files with mistakes too: what cannot be understood names no file.
    """
    bound = bind(TopologyFields, read_yaml(text, file=source), what="a topology")
    if bound.value is None:
        return ()
    holders = [bound.value.defaults, *(bound.value.nodes or {}).values()]
    startups = (holder.startup_config for holder in holders if holder is not None)
    return tuple(dict.fromkeys(item.path for item in startups if item is not None and item.path is not None))


def devices_named(text: str, *, source: str = "topology.yml") -> tuple[str, ...]:
    """Devices that a topology names, as written, each once. Works on files with mistakes too."""
    bound = bind(TopologyFields, read_yaml(text, file=source), what="a topology")
    if bound.value is None:
        return ()
    holders = [bound.value.defaults, *(bound.value.nodes or {}).values()]
    return tuple(dict.fromkeys(holder.device for holder in holders if holder is not None and holder.device is not None))


def _read(
    bound: Bound[TopologyFields],
    files: Mapping[str, str],
    devices: DeviceCatalogue,
    schemas: Mapping[str, Mapping[str, Any]],
    images: LibraryImages | None,
) -> Topology | None:
    fields = bound.value
    if fields is None:
        return None
    if fields.name is None:
        if not bound.flagged("name"):
            bound.report((), "the lab has no name", "begin with `name: my-lab`")
    else:
        check_name(bound, ("name",), fields.name, "lab")
    if not fields.nodes and not bound.flagged("nodes"):
        bound.report(("nodes",), "the lab has no nodes", "add `nodes:` with at least one node")
    reader = NodeReader(bound, fields, files, devices, schemas, images=images)
    nodes = reader.read_all()
    check_cycles(bound, fields)
    check_waits(bound, nodes, devices)
    segments = read_segments(bound, fields)
    links, plugs = read_links(bound, fields, reader.readable, segments)
    return Topology(
        name=fields.name or "",
        description=fields.description or "",
        nodes=nodes,
        links=links,
        segments=tuple(segment for segment in segments.values() if segment is not None),
        plugs=plugs,
        on_host_loss=_host_loss(bound, fields),
        link_encryption=fields.link_encryption,
    )


def _host_loss(bound: Bound[TopologyFields], fields: TopologyFields) -> HostLoss:
    said = fields.on_host_loss
    after = said.restart_elsewhere_after if said is not None else None
    if after is not None and after < SHORTEST_LOSS_S:
        message = f"{after:g} s is too short to tell a lost host from a slow one"
        bound.report(("on-host-loss", "restart-elsewhere-after"), message, f"write {SHORTEST_LOSS_S:g}s or more")
        return HostLoss()
    return HostLoss(restart_elsewhere_after_s=after)


def _invalid(source: str, errors: list[Diagnostic]) -> TopologyInvalid:
    count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    shown = "; ".join(f"line {item.line}: {item.message}" for item in errors[:_SHOWN])
    more = "; …" if len(errors) > _SHOWN else ""
    return TopologyInvalid(
        f"{source} has {count}: {shown}{more}",
        hint=errors[0].suggestion if len(errors) == 1 else "",
        details={"diagnostics": [item.model_dump(mode="json") for item in errors]},
    )
