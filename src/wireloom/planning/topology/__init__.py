"""The topology file: reading with every mistake found at once, rewriting with comments kept, its JSON Schema."""

from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.planning.topology.parse import ParsedTopology, devices_named, parse_topology, startup_config_paths
from wireloom.planning.topology.rewrite import add_link, remove_link, set_link_state, set_position

__all__ = [
    "Diagnostic",
    "ParsedTopology",
    "add_link",
    "devices_named",
    "format_diagnostics",
    "parse_topology",
    "remove_link",
    "set_link_state",
    "set_position",
    "startup_config_paths",
]
