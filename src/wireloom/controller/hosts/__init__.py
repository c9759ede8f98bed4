"""Hosts of an installation: who belongs to it, how one joins, what goes when one is removed."""

from wireloom.controller.hosts.parts import HostParts
from wireloom.controller.hosts.registry import HostRegistry
from wireloom.controller.store.host_records import HostKey, HostRecord, JoinToken

__all__ = ["HostKey", "HostParts", "HostRecord", "HostRegistry", "JoinToken"]
