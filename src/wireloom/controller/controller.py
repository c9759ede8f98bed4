"""The controller as the API sees it: its parts, joined, and the loops that keep them going."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from wireloom import __version__
from wireloom.controller.board import Board
from wireloom.controller.hub import Hub
from wireloom.controller.images import ImageCheck
from wireloom.controller.journal import Journal
from wireloom.controller.labs import LabService
from wireloom.controller.live import LiveState
from wireloom.controller.observer import Observer
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.publisher import Publisher
from wireloom.controller.questions import Questions
from wireloom.controller.store import Store
from wireloom.controller.tasks import KeyedLocks, Supervisor
from wireloom.controller.topologies import Topologies
from wireloom.devices import DeviceCatalogue
from wireloom.errors import NotFound, WireloomError
from wireloom.model.state import NodeState
from wireloom.model.views import DeviceView, HostView, LabView, OperationView, StatusView

__all__ = ["Controller"]

log = structlog.get_logger(__name__)

#: How long it can be asked how an operation ended.
REMEMBERED_OPERATIONS_S: Final = 7 * 24 * 3600.0


class Controller:
    """One controller process. Make it with :meth:`create`, then :meth:`start`; :meth:`stop` ends its loops."""

    def __init__(
        self,
        *,
        installation: str,
        store: Store,
        fabric: ControllerFabric,
        topologies: Topologies,
        privileged_permitted: bool,
        clock: Callable[[], float],
    ) -> None:
        locks = KeyedLocks()
        self.installation = installation
        self.hub = Hub()
        self.live = LiveState(clock)
        self.board = Board(live=self.live, hub=self.hub, clock=clock)
        self.journal = Journal(fabric=fabric, hub=self.hub, clock=clock)
        self.publisher = Publisher(
            installation=installation, fabric=fabric, store=store, board=self.board, live=self.live, locks=locks
        )
        self.questions = Questions(fabric=fabric, board=self.board, live=self.live)
        self.labs = LabService(
            store=store,
            topologies=topologies,
            board=self.board,
            live=self.live,
            publisher=self.publisher,
            journal=self.journal,
            images=ImageCheck(fabric),
            locks=locks,
            clock=clock,
            privileged_permitted=privileged_permitted,
        )
        self._observer = Observer(
            fabric=fabric,
            store=store,
            live=self.live,
            board=self.board,
            publisher=self.publisher,
            hub=self.hub,
            labs=self.labs,
        )
        self._store = store
        self._fabric = fabric
        self._topologies = topologies
        self._supervisor = Supervisor()
        self._clock = clock

    @classmethod
    async def create(
        cls,
        *,
        store: Store,
        fabric: ControllerFabric,
        devices: DeviceCatalogue,
        settings_schemas: Mapping[str, Mapping[str, Any]],
        domain: str = "wl",
        privileged_permitted: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> Controller:
        """A controller on an open store and a connected fabric, neither of which it closes.

        :param settings_schemas: JSON Schema of each provider's settings, by the provider's name.
        :param domain: DNS domain of the management networks.
        """
        installation = await store.installation()
        topologies = Topologies(
            devices=devices, installation=installation, settings_schemas=settings_schemas, domain=domain
        )
        return cls(
            installation=installation,
            store=store,
            fabric=fabric,
            topologies=topologies,
            privileged_permitted=privileged_permitted,
            clock=clock,
        )

    async def start(self) -> None:
        """Read the database, then observe and publish."""
        self.live.subnets |= await self._store.subnets()
        for snapshot in await self._store.snapshots():
            try:
                slices = await asyncio.to_thread(self._topologies.render, snapshot, self.live.subnets)
            except WireloomError as error:
                # A device file is gone, say: that lab stays as it is on its hosts, and the others go on.
                log.error("lab cannot be expanded", lab=snapshot.lab.name, error=str(error))
                slices = None
            self.board.put(snapshot, slices)
        await self._store.forget_operations(self._clock() - REMEMBERED_OPERATIONS_S)
        for operation in await self._store.running_operations():
            self.board.track(operation)
            self.board.refresh(operation.lab_id)
        self.publisher.start(self._supervisor)
        self._observer.start(self._supervisor)
        self.journal.start(self._supervisor)
        self._supervisor.start("save operations", self._save_operations)

    async def stop(self) -> None:
        """End all loops. Labs go on as they are."""
        await self._supervisor.close()

    # ---------------------------------------------------------------- answers

    def status(self) -> StatusView:
        """The installation at a glance."""
        views = self.board.views()
        nodes = [node for view in views for node in view.nodes]
        return StatusView(
            version=__version__,
            installation=self.installation,
            fabric=self._fabric.connected,
            hosts=tuple(self.hosts()),
            labs=len(views),
            nodes=len(nodes),
            running=sum(node.state is NodeState.RUNNING for node in nodes),
        )

    def hosts(self) -> list[HostView]:
        """Hosts by name."""
        return [self.live.hosts[name].view() for name in sorted(self.live.hosts)]

    def devices(self) -> list[DeviceView]:
        """The device catalogue by name."""
        return self._topologies.device_views()

    def lab(self, name: str) -> LabView:
        """:raises NotFound: no such lab."""
        return self.board.view(self.board.named(name).snapshot.lab.id)

    def topology(self, name: str) -> str:
        """Text of the lab's current revision. :raises NotFound: no such lab."""
        return self.board.named(name).snapshot.revision.topology

    async def operation(self, operation_id: str) -> OperationView:
        """:raises NotFound: no such operation."""
        record = self.board.operation(operation_id) or await self._store.operation(operation_id)
        if record is None:
            raise NotFound(f"there is no operation {operation_id}")
        return record.view()

    async def _save_operations(self) -> None:
        while True:
            record = await self.board.finished.get()
            try:
                await self._store.save_operation(record)
            except WireloomError as error:
                # At the next start it is found running, looked at again, and ends again.
                log.warning("operation not saved", operation=record.id, error=str(error))
