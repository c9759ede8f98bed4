"""The management network of a host: one bridge for every technology, with NAT, DHCP and DNS."""

from wireloom.agent.management.entries import NodeEntry
from wireloom.agent.management.network import ManagementNetwork, segment_name

__all__ = ["ManagementNetwork", "NodeEntry", "segment_name"]
