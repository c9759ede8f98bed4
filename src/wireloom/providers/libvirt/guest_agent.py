"""The agent inside a guest, asked whether the guest is well."""

from __future__ import annotations

from functools import partial
from typing import Final
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu

from wireloom.errors import NotFound
from wireloom.providers.contract import Health
from wireloom.providers.libvirt.connection import Connections
from wireloom.providers.libvirt.render import AGENT_CHANNEL

__all__ = ["GuestAgentHealth"]

_PING: Final = '{"execute": "guest-ping"}'
_ANSWER_S: Final = 3
_CALL_S: Final = 10.0
#: What libvirt says when the agent is not there (yet), does not answer, or its guest has ended meanwhile.
_SILENT: Final = frozenset(
    {
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_ERR_AGENT_UNSYNCED,
        libvirt.VIR_ERR_OPERATION_INVALID,
    }
)


class GuestAgentHealth:
    """A :class:`~wireloom.providers.contract.HealthCheck`: a guest is healthy when its agent answers."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def health(self, runtime_id: str) -> Health:
        # The answer may take seconds, for which the connection of quick calls must not wait.
        return await self._connections.power(partial(_health, uuid=runtime_id), timeout_s=_CALL_S)


def _health(connection: libvirt.virConnect, uuid: str) -> Health:
    """In libvirt's thread."""
    try:
        domain = connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise NotFound(f"there is no virtual machine {uuid}") from error
        raise
    if not _has_agent_channel(domain.XMLDesc()):
        return "unknown"
    try:
        libvirt_qemu.qemuAgentCommand(domain, _PING, _ANSWER_S, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _SILENT:
            return "unhealthy"
        raise
    return "healthy"


def _has_agent_channel(xml: str) -> bool:
    root = ET.fromstring(xml)  # noqa: S314 (from libvirt)
    return any(target.get("name") == AGENT_CHANNEL for target in root.iterfind("devices/channel/target"))
