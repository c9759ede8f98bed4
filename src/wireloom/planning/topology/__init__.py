"""The topology file: reading with every mistake found at once, rewriting with comments kept, its JSON Schema."""

from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.planning.topology.parse import ParsedTopology, parse_topology, startup_config_paths

__all__ = [
    "Diagnostic",
    "ParsedTopology",
    "format_diagnostics",
    "parse_topology",
    "startup_config_paths",
]
