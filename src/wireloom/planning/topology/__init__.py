"""The topology file: reading with every mistake found at once, rewriting with comments kept, its JSON Schema."""

from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.planning.topology.parse import ParsedTopology, devices_named, parse_topology, startup_config_paths
from wireloom.planning.topology.rewrite import add_link, move_link, remove_link, set_link_state, set_position
from wireloom.planning.topology.rewrite_segments import add_segment, remove_segment

__all__ = [
    "Diagnostic",
    "ParsedTopology",
    "add_link",
    "add_segment",
    "devices_named",
    "format_diagnostics",
    "move_link",
    "parse_topology",
    "remove_link",
    "remove_segment",
    "set_link_state",
    "set_position",
    "startup_config_paths",
]
