"""Whether a local installation is healthy: supervisor, controller, fabric and agent, in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wireloom.errors import WireloomError

if TYPE_CHECKING:
    from wireloom.paths import Paths

__all__ = ["unhealthy_reason"]

ASK_TIMEOUT_S: Final = 3.0


async def unhealthy_reason(paths: Paths, host: str) -> str:
    """Why the installation is not healthy yet, in words; empty when it is."""
    from wireloom.client import Client, find_endpoint

    try:
        # Only the files of this installation count: the environment may name another controller.
        async with Client(find_endpoint({}, paths), timeout_s=ASK_TIMEOUT_S) as client:
            status = await client.status()
    except WireloomError as error:
        return error.message
    if not status.fabric:
        return "the controller has no fabric"
    if not any(found.host == host and found.alive for found in status.hosts):
        return f"the agent of host {host} has not reported"
    return ""
