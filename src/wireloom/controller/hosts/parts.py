"""What a controller does about hosts, put together."""

from __future__ import annotations

from collections.abc import Iterator

from wireloom.controller.board import Board
from wireloom.controller.hosts.joining import Joining
from wireloom.controller.hosts.registry import HostRegistry
from wireloom.controller.hosts.removal import ForgetHost, HostRemoval, Reload
from wireloom.controller.hosts.rotation import HostRotation
from wireloom.controller.hosts.usage import LabOnHosts, use_by_host
from wireloom.controller.hub import Hub
from wireloom.controller.journal import Journal
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import Store
from wireloom.controller.tasks import KeyedLocks
from wireloom.fabric.logins import FabricLogins
from wireloom.model.views import HostUse, HostView, StreamMessage

__all__ = ["HostParts"]


class HostParts:
    """``joining``: tokens and what they buy; ``removal``: details, previews, removals; ``rotation``: new keys."""

    def __init__(
        self,
        *,
        installation: str,
        store: Store,
        registry: HostRegistry,
        live: LiveState,
        board: Board,
        hub: Hub,
        locks: KeyedLocks,
        journal: Journal,
        fabric: ControllerFabric,
        logins: FabricLogins | None,
        own_host: str,
        forget_images: ForgetHost,
        reload: Reload,
    ) -> None:
        self.joining = Joining(
            installation=installation,
            store=store.hosts,
            registry=registry,
            journal=journal,
            logins=logins,
        )
        self.removal = HostRemoval(
            store=store,
            registry=registry,
            live=live,
            board=board,
            locks=locks,
            journal=journal,
            fabric=fabric,
            logins=logins,
            own_host=own_host,
            forget_images=forget_images,
            reload=reload,
        )
        self.rotation = HostRotation(
            fabric=fabric, registry=registry, journal=journal, logins=logins, details=self.removal.details
        )
        self._registry = registry
        self._board = board
        self._hub = hub
        registry.on_change(self._tell)

    def views(self) -> list[HostView]:
        """All hosts by name, with what labs take of them."""
        used = use_by_host(self._labs())
        return [view.model_copy(update={"use": used.get(view.host, HostUse())}) for view in self._registry.views()]

    def _labs(self) -> Iterator[LabOnHosts]:
        for lab_id in self._board.lab_ids:
            picture = self._board.picture(lab_id)
            yield LabOnHosts(picture.snapshot.lab.name, picture.slices, picture.statuses)

    def _tell(self, host: str) -> None:
        """Readers of the stream hear of labels, cordons, joins and removals as of everything else."""
        if host in self._registry.names():
            view = self._registry.view(host).model_dump(mode="json")
            self._hub.publish(StreamMessage(type="host", data=view))
        else:
            self._hub.publish(StreamMessage(type="host-removed", data={"host": host}))
