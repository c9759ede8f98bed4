"""The controller as the API sees it: its parts, joined, and the loops that keep them going."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import structlog

from wireloom import __version__
from wireloom.controller.board import Board
from wireloom.controller.captures import CaptureQuestions
from wireloom.controller.configs.keeper import ConfigKeeper
from wireloom.controller.configs.library import ConfigLibrary
from wireloom.controller.configs.lookup import Lookup
from wireloom.controller.configs.workers import ConfigWorkers
from wireloom.controller.devices import DeviceService
from wireloom.controller.edits import Edits
from wireloom.controller.hosts import HostParts, HostRegistry
from wireloom.controller.hub import Hub
from wireloom.controller.images import ImageCheck
from wireloom.controller.journal import Journal
from wireloom.controller.labs import LabService
from wireloom.controller.leadership import INSTALLATION, Leadership
from wireloom.controller.library.library import ImageLibrary, LibraryFolder, LibraryOptions
from wireloom.controller.link_questions import LinkQuestions
from wireloom.controller.link_timer import LinkTimer
from wireloom.controller.links import LinkService
from wireloom.controller.live import LiveState
from wireloom.controller.moves.choose import Chooser
from wireloom.controller.moves.service import MoveService
from wireloom.controller.moves.slices import with_transfers
from wireloom.controller.observer import Observer
from wireloom.controller.operations import save_operations
from wireloom.controller.orphans import Adoption, Orphans
from wireloom.controller.peers import PeerKeeper
from wireloom.controller.placing import Grounds
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.publisher import Publisher
from wireloom.controller.questions import Questions
from wireloom.controller.recovery import LeaseKeeper, LostNodes, Recovery
from wireloom.controller.rendering import Renderer
from wireloom.controller.replicas import Replicas
from wireloom.controller.store import Store
from wireloom.controller.tasks import KeyedLocks, Supervisor
from wireloom.controller.topologies import Topologies
from wireloom.devices import DeviceCatalogue, DeviceFolder
from wireloom.errors import NotFound
from wireloom.fabric.logins import FabricLogins
from wireloom.model.images import ImageView
from wireloom.model.slice import Slice
from wireloom.model.state import NodeState
from wireloom.model.underlay import Encryption
from wireloom.model.views import HostView, LabView, OperationView, StatusView, StreamMessage
from wireloom.planning.placement import USUAL, PlacementOptions

__all__ = ["Controller"]

log = structlog.get_logger(__name__)

#: How long it can be asked how an operation ended.
REMEMBERED_OPERATIONS_S: Final = 7 * 24 * 3600.0


class Controller:
    """One controller process. Make it with :meth:`create`, then :meth:`start`; :meth:`stop` ends its loops.

    :ivar library: the image library. :ivar registry: the hosts. :ivar host_parts: joining and removing them.
    """

    def __init__(
        self,
        *,
        installation: str,
        store: Store,
        fabric: ControllerFabric,
        topologies: Topologies,
        device_folder: DeviceFolder | None,
        privileged_permitted: bool,
        clock: Callable[[], float],
        library: LibraryFolder,
        config_keep: int = 0,
        config_keep_days: float = 0,
        logins: FabricLogins | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        orphan_grace_s: float = 0,
        placement: PlacementOptions = USUAL,
    ) -> None:
        self._store, self._fabric, self._topologies = store, fabric, topologies
        self._clock, self._monotonic = clock, monotonic
        self._locks = KeyedLocks()
        self._supervisor = Supervisor()
        self.installation = installation
        self.hub = Hub()
        self.live = LiveState(clock)
        self.leadership = Leadership(store.leases, monotonic=monotonic)
        self.registry = HostRegistry(store.hosts, self.live)
        self.board = Board(live=self.live, hub=self.hub, clock=clock)
        self.journal = Journal(fabric=fabric, hub=self.hub, clock=clock, ahead_s=self.live.ahead_s)
        self.devices = DeviceService(topologies=topologies, board=self.board, folder=device_folder)
        self._make_library(library)
        self._make_labs(privileged_permitted, placement)
        self._make_links_and_questions()
        self._make_configs(keep=config_keep, keep_days=config_keep_days)
        self._make_recovery_and_moves()
        self._make_orphans(orphan_grace_s)
        self._make_hosts(library.options.own_host, logins)
        self._make_observer()
        self._make_replicas()

    def _make_labs(self, privileged_permitted: bool, placement: PlacementOptions) -> None:
        self.peers = PeerKeeper(
            fabric=self._fabric, store=self._store, board=self.board, live=self.live, leads=self.leadership.leads
        )
        self.publisher = Publisher(
            installation=self.installation,
            fabric=self._fabric,
            store=self._store,
            board=self.board,
            live=self.live,
            locks=self._locks,
            complete=self._complete,
            given=self.peers.wake,
            leads=self.leadership.leads,
        )
        self._renderer = Renderer(
            store=self._store,
            topologies=self._topologies,
            board=self.board,
            live=self.live,
            locks=self._locks,
            wake=self.publisher.wake,
        )
        self._edits = Edits(
            store=self._store,
            topologies=self._topologies,
            board=self.board,
            live=self.live,
            publisher=self.publisher,
            locks=self._locks,
            clock=self._clock,
        )
        self.labs = LabService(
            store=self._store,
            edits=self._edits,
            topologies=self._topologies,
            board=self.board,
            live=self.live,
            journal=self.journal,
            images=ImageCheck(self._fabric, self.library.check),
            secrets=self.library.secrets.names,
            clock=self._clock,
            grounds=Grounds(live=self.live, board=self.board, registry=self.registry, options=placement),
            privileged_permitted=privileged_permitted,
        )

    def _make_recovery_and_moves(self) -> None:
        self.leases = LeaseKeeper(
            fabric=self._fabric, board=self.board, live=self.live, leads=self.leadership.leads, clock=self._monotonic
        )
        lost = LostNodes(
            store=self._store, edits=self._edits, topologies=self._topologies, place_anew=self.labs.place_anew
        )
        self.recovery = Recovery(
            keeper=self.leases,
            board=self.board,
            journal=self.journal,
            give_away=lost.give_away,
            clock=self._monotonic,
        )
        self.moves = MoveService(
            store=self._store,
            fabric=self._fabric,
            edits=self._edits,
            board=self.board,
            live=self.live,
            journal=self.journal,
            chooser=Chooser(
                inspect=self.labs.inspect, topologies=self._topologies, live=self.live, closed=self.registry.closed
            ),
            draining=lambda: self.registry.draining,
            leads=self.leadership.leads,
            clock=self._clock,
            monotonic=self._monotonic,
        )

    def _make_orphans(self, grace_s: float) -> None:
        self.orphans = Orphans(
            fabric=self._fabric,
            board=self.board,
            live=self.live,
            registry=self.registry,
            journal=self.journal,
            grace_s=grace_s,
            clock=self._monotonic,
            leads=self.leadership.leads,
        )
        self.adoption = Adoption(
            orphans=self.orphans,
            labs=self.labs,
            store=self._store,
            edits=self._edits,
            topologies=self._topologies,
            board=self.board,
            journal=self.journal,
            clock=self._clock,
        )

    def _make_hosts(self, own_host: str, logins: FabricLogins | None) -> None:
        self.host_parts = HostParts(
            installation=self.installation,
            store=self._store,
            registry=self.registry,
            live=self.live,
            board=self.board,
            hub=self.hub,
            locks=self._locks,
            journal=self.journal,
            fabric=self._fabric,
            logins=logins,
            own_host=own_host,
            forget_images=self.library.distribution.forget_host,
            reload=self._renderer.reload,
        )

    def _make_library(self, folder: LibraryFolder) -> None:
        self.library = ImageLibrary(
            folder,
            store=self._store,
            fabric=self._fabric,
            hub=self.hub,
            live=self.live,
            board=self.board,
            journal=self.journal,
            topologies=self._topologies,
            locks=self._locks,
            clock=self._clock,
            add_device=self.devices.add_text,
            secret_changed=lambda name: self._renderer.secret_changed(name),  # noqa: PLW0108 - it is made later
        )
        self.library.catalogue.on_change(self._publish_image)

    def _complete(self, document: Slice) -> Slice:
        """What a host is told with a slice: images, secrets, and where what is carried is to be had."""
        url = self.library.distribution.url
        statuses = self.live.statuses(document.lab_id)
        return with_transfers(
            self.library.complete(document), statuses, lambda move: f"{url}/moves/{move}" if url else ""
        )

    def _publish_image(self, image: ImageView) -> None:
        """An image came, changed or went: labs with nodes of it are told."""
        for lab_id in self.library.labs_using(image):
            self.publisher.wake(lab_id)

    def _make_links_and_questions(self) -> None:
        self._link_timer = LinkTimer(
            store=self._store, reload=self._renderer.reload, clock=self._clock, leads=self.leadership.leads
        )
        self.links = LinkService(
            edits=self._edits,
            topologies=self._topologies,
            board=self.board,
            live=self.live,
            journal=self.journal,
            timer=self._link_timer,
            clock=self._clock,
        )
        fabric, topologies = self._fabric, self._topologies
        self.questions = Questions(fabric=fabric, board=self.board, live=self.live)
        self.captures = CaptureQuestions(fabric=fabric, board=self.board, live=self.live, topologies=topologies)
        self.link_questions = LinkQuestions(fabric=fabric, board=self.board, live=self.live, topologies=topologies)

    def _make_configs(self, *, keep: int, keep_days: float) -> None:
        lookup = Lookup(self.board, self._store.configs)
        self.config_workers = ConfigWorkers(
            store=self._store,
            fabric=self._fabric,
            board=self.board,
            live=self.live,
            lookup=lookup,
            journal=self.journal,
            act=self.labs.act,
            reload=self._renderer.reload,
            clock=self._clock,
        )
        self.configs = ConfigLibrary(
            store=self._store.configs,
            board=self.board,
            lookup=lookup,
            journal=self.journal,
            read_now=self.config_workers.read_now,
            reload=self._renderer.reload,
            clock=self._clock,
        )
        self._config_keeper = ConfigKeeper(
            store=self._store.configs,
            fabric=self._fabric,
            board=self.board,
            workers=self.config_workers,
            journal=self.journal,
            reload=self._renderer.reload,
            clock=self._clock,
            keep=keep,
            keep_days=keep_days,
            leads=self.leadership.leads,
        )

    def _make_observer(self) -> None:
        self._observer = Observer(
            fabric=self._fabric,
            store=self._store,
            live=self.live,
            board=self.board,
            publisher=self.publisher,
            hub=self.hub,
            labs=self.labs,
            on_observed=self._observed,
            on_beat=self.leases.heard,
            journal=self.journal,
            on_host=self._on_host,
            is_removed=lambda host: host in self.registry.removed,
            leads=self.leadership.leads,
        )

    def _make_replicas(self) -> None:
        self.replicas = Replicas(
            leadership=self.leadership,
            store=self._store,
            fabric=self._fabric,
            board=self.board,
            live=self.live,
            registry=self.registry,
            topologies=self._topologies,
            locks=self._locks,
            clock=self._clock,
            told=self.publisher.wake,
            is_ours=lambda operation: operation in self.config_workers.begun,
        )
        self.library.distribution.leads = self.leadership.leads
        self.leadership.on_leading(self._leading)

    def _leading(self, lab_id: str) -> None:
        """This controller acts for a lab, or for what is no lab's, from now on."""
        if lab_id == INSTALLATION:
            self.peers.gained()
            self.library.distribution.rewrite()
            self.publisher.resync()
            self._link_timer.wake()
            return
        self.publisher.gained(lab_id)
        self._observed(lab_id)

    def _observed(self, lab_id: str) -> None:
        self._config_keeper.observed(lab_id)
        self.moves.wake(lab_id)

    def _on_host(self, host: str) -> None:
        self.moves.wake()
        self.library.distribution.host_changed(host)
        self.peers.wake()

    @classmethod
    async def create(
        cls,
        *,
        store: Store,
        fabric: ControllerFabric,
        devices: DeviceCatalogue,
        settings_schemas: Mapping[str, Mapping[str, Any]],
        library: LibraryOptions,
        device_folder: DeviceFolder | None = None,
        domain: str = "wl",
        encryption: Encryption = "none",
        privileged_permitted: bool = False,
        clock: Callable[[], float] = time.time,
        config_keep: int = 0,
        config_keep_days: float = 0,
        logins: FabricLogins | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        orphan_grace_s: float = 0,
        placement: PlacementOptions = USUAL,
    ) -> Controller:
        """A controller on an open store and a connected fabric, neither of which it closes.

        :param device_folder: where the user's own devices are kept; ``devices`` was read with it.
        :param settings_schemas: JSON Schema of each provider's settings, by the provider's name.
        :param library: where images are kept, and for how long.
        :param domain: DNS domain of the management networks. :param encryption: of links between hosts.
        :param config_keep: revisions of a node's configuration that stay whatever their age (0: all);
            ``config_keep_days``: days after which further ones go.
        :param monotonic: seconds by a clock that never jumps.
        :param orphan_grace_s: after so many seconds what no lab wants is removed by itself; 0: never.
        :param placement: how far hosts may be filled.
        :param logins: signs the logins of hosts; ``None``: none can join.
        """
        installation = await store.installation()
        topologies = Topologies(
            devices=devices,
            installation=installation,
            settings_schemas=settings_schemas,
            domain=domain,
            encryption=encryption,
        )
        return cls(
            installation=installation,
            store=store,
            fabric=fabric,
            topologies=topologies,
            device_folder=device_folder,
            privileged_permitted=privileged_permitted,
            clock=clock,
            library=await asyncio.to_thread(LibraryFolder.open, library),
            config_keep=config_keep,
            config_keep_days=config_keep_days,
            logins=logins,
            monotonic=monotonic,
            orphan_grace_s=orphan_grace_s,
            placement=placement,
        )

    async def start(self) -> None:
        """Read the database, then observe and publish."""
        self.live.subnets |= await self._store.subnets()
        await self.registry.load()
        await self.library.load()
        await self._renderer.load()
        await self._store.forget_operations(self._clock() - REMEMBERED_OPERATIONS_S)
        first = not await self._store.leases.controllers()
        await self.library.start(alone=self.leadership.alone, first=first)
        await self.host_parts.removal.start()
        if self.leadership.alone:  # else what others have begun is theirs
            await self.config_workers.start()
        for operation in await self._store.running_operations():
            self.board.track(operation)
            self.board.refresh(operation.lab_id)
        await self.replicas.start(self._supervisor)
        await self.leadership.start(self._supervisor)
        self.publisher.start(self._supervisor)
        self.peers.start(self._supervisor)
        self._observer.start(self._supervisor)
        self.journal.start(self._supervisor)
        self._config_keeper.start(self._supervisor)
        self._link_timer.start(self._supervisor)
        self.recovery.start(self._supervisor)
        self.moves.start(self._supervisor)
        self.orphans.start(self._supervisor)
        self._supervisor.start("save operations", partial(save_operations, self.board, self._store))

    async def stop(self) -> None:
        """End all loops. Labs go on as they are."""
        await self.config_workers.close()
        await self.library.stop()
        await self._supervisor.close()
        await self.leadership.stop()

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

    def greeting(self, lab: str | None = None) -> list[StreamMessage]:
        """Everything as it is now, in messages for a new reader (of one lab, who is not told of images)."""
        return [*self.board.greeting(lab), *(self.library.greeting() if lab is None else ())]

    def hosts(self) -> list[HostView]:
        """Hosts by name."""
        return self.host_parts.views()

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
