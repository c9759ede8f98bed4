"""``wireloom validate``: the checks that need neither a controller nor a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wireloom.model.views import DeployRequest

__all__ = ["check"]


def check(request: DeployRequest) -> dict[str, Any]:
    """What the topology contains, with warnings about what is odd but allowed.

    :raises TopologyInvalid: with every mistake in ``details["diagnostics"]``.
    """
    from wireloom.devices import DeviceCatalogue
    from wireloom.planning.topology import parse_topology
    from wireloom.providers.docker.settings import DockerSettings
    from wireloom.providers.libvirt.settings import LibvirtSettings

    parsed = parse_topology(
        request.topology,
        source=request.source,
        files=request.files,
        devices=DeviceCatalogue.load(),
        settings_schemas={
            "docker": DockerSettings.model_json_schema(),
            "libvirt": LibvirtSettings.model_json_schema(),
        },
    )
    return {
        "lab": parsed.topology.name,
        "nodes": len(parsed.topology.nodes),
        "links": len(parsed.topology.links),
        "warnings": [item.model_dump(mode="json") for item in parsed.warnings],
    }
