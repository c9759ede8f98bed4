"""Changing the key of a host's agent while it is at work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from wireloom.controller.hosts.registry import HostRegistry
from wireloom.controller.journal import Journal
from wireloom.controller.ports import ControllerFabric
from wireloom.errors import Unavailable, Unsupported
from wireloom.fabric.logins import FabricLogins
from wireloom.fabric.renewal import ROTATE, RotateQuestion
from wireloom.model.host_views import HostDetails

__all__ = ["HostRotation"]


class HostRotation:
    """Asks agents for a new key. ``details``: of a host, as users see them."""

    def __init__(
        self,
        *,
        fabric: ControllerFabric,
        registry: HostRegistry,
        journal: Journal,
        logins: FabricLogins | None,
        details: Callable[[str], Awaitable[HostDetails]],
    ) -> None:
        self._fabric = fabric
        self._registry = registry
        self._journal = journal
        self._logins = logins
        self._details = details

    async def rotate(self, host: str) -> HostDetails:
        """Have the agent of ``host`` log in by a new key pair; the old key is refused from then on.

        :raises NotFound: no such host. :raises Unavailable: it does not answer. :raises Unsupported: its login is a
            password that is not ours to change.
        """
        view = self._registry.view(host)
        if self._logins is None:
            raise Unsupported("the fabric's logins are users and passwords of somebody else: change them there")
        if not view.alive:
            raise Unavailable(f"host {host} does not answer", hint="`wireloom hosts` shows who does")
        await self._fabric.call(host, ROTATE, RotateQuestion())
        self._journal.tell("host.rotated", f"host {host} has a new key")
        return await self._details(host)
