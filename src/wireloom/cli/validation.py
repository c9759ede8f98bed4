"""``wireloom validate``: the checks that need neither a controller nor a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wireloom.model.views import DeployRequest
    from wireloom.paths import Paths

__all__ = ["check"]


def check(request: DeployRequest, paths: Paths) -> dict[str, Any]:
    """What the topology contains, with warnings about what is odd but allowed.

    :param paths: of the local installation, whose own devices count too.
    :raises TopologyInvalid: with every mistake in ``details["diagnostics"]``.
    """
    from wireloom.app import settings_schemas
    from wireloom.devices import DeviceFolder
    from wireloom.planning.topology import devices_named, parse_topology

    parsed = parse_topology(
        request.topology,
        source=request.source,
        files=request.files,
        devices=DeviceFolder(paths.device_folder).catalogue_for(devices_named(request.topology)),
        settings_schemas=settings_schemas(),
        images=None,
    )
    return {
        "lab": parsed.topology.name,
        "nodes": len(parsed.topology.nodes),
        "links": len(parsed.topology.links) + len(parsed.topology.plugs),
        "segments": [segment.name for segment in parsed.topology.segments],
        "warnings": [item.model_dump(mode="json") for item in parsed.warnings],
    }
