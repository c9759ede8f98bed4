"""The image library as the rest of the controller has it: its parts, joined, and the loops that keep them going."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wireloom.controller.board import Board
from wireloom.controller.hub import Hub
from wireloom.controller.journal import Journal
from wireloom.controller.library.catalogue import Catalogue, Planner
from wireloom.controller.library.check import LibraryCheck
from wireloom.controller.library.collect import Collector
from wireloom.controller.library.distribution import Distribution
from wireloom.controller.library.engine_images import engine_images
from wireloom.controller.library.exports import Exports
from wireloom.controller.library.imports import Imports
from wireloom.controller.library.intake import Intake
from wireloom.controller.library.jobs import ImageJobs
from wireloom.controller.library.media_intake import MediaIntake, MediaTools
from wireloom.controller.library.removals import Removals
from wireloom.controller.library.secrets import Secrets
from wireloom.controller.library.shelves import Shelves
from wireloom.controller.library.soundness import Soundness
from wireloom.controller.library.sources import Hosts
from wireloom.controller.library.threads import Threads
from wireloom.controller.library.tokens import BlobTokens
from wireloom.controller.library.tools import Tools
from wireloom.controller.library.uploads import Uploads
from wireloom.controller.library.urls import UrlFetcher
from wireloom.controller.library.uses import Uses
from wireloom.controller.library.verify import Verifier
from wireloom.controller.live import LiveState
from wireloom.controller.ports import ControllerFabric
from wireloom.controller.store import Store
from wireloom.controller.store.image_work import ImageWork
from wireloom.controller.tasks import KeyedLocks, Supervisor
from wireloom.controller.token import ensure_token
from wireloom.controller.topologies import Topologies
from wireloom.errors import NotFound, WireloomError
from wireloom.library.blobs import BlobStore
from wireloom.model.device import Device
from wireloom.model.images import AdoptRequest, EngineImageView, ImageUse, ImageView, JobState
from wireloom.model.slice import Slice
from wireloom.model.views import StreamMessage
from wireloom.planning.topology.images import LibraryImages

__all__ = ["AddDevice", "ImageLibrary", "LibraryFolder", "LibraryOptions"]

AddDevice = Callable[[str, str], Awaitable[str]]

#: Threads that read, convert and write whole files of the library, whatever else the controller does in threads; and
#: those that put pieces of uploads on the disk, which wait for no whole file.
THREADS: Final = 4
UPLOAD_THREADS: Final = 2


@dataclass(frozen=True)
class LibraryOptions:
    """:ivar folder: where it keeps its files. :ivar secrets: where secrets of nodes are kept.

    :ivar references: folder of the reference images, on one of which images of IOL are built.
    :ivar own_host: the host that the controller is on, by its agent's name.
    :ivar keep_days: days that unfinished uploads and files of no image stay.
    :ivar verify_days: days after which a stored file is read again; 0: never.
    """

    folder: Path
    secrets: Path
    references: Path
    own_host: str = ""
    keep_days: float = 7
    verify_days: float = 7


@dataclass(frozen=True)
class LibraryFolder:
    """The opened folder of a library, and the secret in it that tokens are made of."""

    options: LibraryOptions
    blobs: BlobStore
    secret: str

    @classmethod
    def open(cls, options: LibraryOptions) -> LibraryFolder:
        """Make what is not there. Blocking. :raises NotPermitted: others can read the secret."""
        options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        options.folder.chmod(0o700)
        return cls(options, BlobStore(options.folder / "blobs"), ensure_token(options.folder / "secret"))

    def below(self, name: str) -> Path:
        """A folder of that name in it, on the same file system as the stored files."""
        return self.options.folder / name


class ImageLibrary:
    """:ivar catalogue: what there is. :ivar distribution: which host has what. :ivar jobs: what is being brought in.

    :ivar imports: how it is brought in. :ivar uploads: what comes over the network. :ivar blobs: the stored files.
    :ivar collector: what nothing needs.
    :ivar verifier: whether they are what they were. :ivar check: what preflight is told.
    :ivar secrets: licences and the like, which nodes are given.

    :param add_device: stores a device file (YAML, and its name for diagnostics), and returns the device's name.
    :param secret_changed: is told the name of each secret that was given or taken away.
    """

    def __init__(
        self,
        folder: LibraryFolder,
        *,
        store: Store,
        fabric: ControllerFabric,
        hub: Hub,
        live: LiveState,
        board: Board,
        journal: Journal,
        topologies: Topologies,
        locks: KeyedLocks,
        clock: Callable[[], float],
        add_device: AddDevice,
        secret_changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        options = folder.options
        self.blobs = folder.blobs
        self._store = store
        self._fabric = fabric
        self._live = live
        self._board = board
        self._topologies = topologies
        self._supervisor = Supervisor()
        self._threads = Threads(THREADS)
        self._upload_threads = Threads(UPLOAD_THREADS, "uploads")
        self.secrets = Secrets(options.secrets, secret_changed)
        self._make_work(folder, store.image_work, hub, journal, clock)
        self._shelves = Shelves(live, self.known_hosts)
        removals = Removals(store.images, self._shelves, clock)
        self._uses = Uses(board, self._jobs_using)
        self.catalogue = Catalogue(
            store=store.images,
            blobs=self.blobs,
            removals=removals,
            shelves=self._shelves,
            uses=self._uses,
            planner=Planner(device=self._device, use=topologies.use_images, broken=self._broken),
            hub=hub,
            journal=journal,
            known_hosts=self.known_hosts,
            settled=locks.settled,
            clock=clock,
        )
        self.distribution = Distribution(
            fabric=fabric,
            store=store.images,
            catalogue=self.catalogue,
            removals=removals,
            shelves=self._shelves,
            live=live,
            tokens=BlobTokens(folder.secret, self.known_hosts),
            known_hosts=self.known_hosts,
        )
        self.check = LibraryCheck(self.catalogue, self._shelves, own_host=options.own_host)
        self._make_keepers(folder, clock)
        self._make_imports(folder, fabric, clock, add_device)

    def _make_work(
        self, folder: LibraryFolder, store: ImageWork, hub: Hub, journal: Journal, clock: Callable[[], float]
    ) -> None:
        self.jobs = ImageJobs(
            store=store,
            folder=folder.below("jobs"),
            hub=hub,
            journal=journal,
            clock=clock,
            keep_days=folder.options.keep_days,
        )
        self.uploads = Uploads(
            store=store,
            folder=folder.below("uploads"),
            threads=self._upload_threads,
            readers=self._threads,
            clock=clock,
            keep_days=folder.options.keep_days,
        )

    def _make_keepers(self, folder: LibraryFolder, clock: Callable[[], float]) -> None:
        aside = folder.below("damaged")
        self.verifier = Verifier(
            catalogue=self.catalogue,
            blobs=self.blobs,
            shelves=self._shelves,
            threads=self._threads,
            aside=aside,
            days=folder.options.verify_days,
            mend=self._mend,
            clock=clock,
        )
        self.collector = Collector(
            catalogue=self.catalogue,
            blobs=self.blobs,
            aside=aside,
            keep_days=folder.options.keep_days,
            tidy=self._tidy,
            working_since=self._working_since,
            clock=clock,
        )

    def _make_imports(
        self,
        folder: LibraryFolder,
        fabric: ControllerFabric,
        clock: Callable[[], float],
        add_device: AddDevice,
    ) -> None:
        tools = Tools()
        exports = Exports(fabric=fabric, uploads=self.uploads, url=lambda: self.distribution.url)
        hosts = Hosts(self._live, self._board)
        intake = Intake(
            blobs=self.blobs,
            catalogue=self.catalogue,
            devices=self._devices,
            tools=tools,
            threads=self._threads,
            clock=clock,
            base_folder=folder.options.references,
        )
        media = MediaIntake(
            intake=intake,
            catalogue=self.catalogue,
            blobs=self.blobs,
            devices=self._devices,
            add_device=add_device,
            tools=MediaTools(),
            threads=self._threads,
        )
        self.imports = Imports(
            jobs=self.jobs,
            uploads=self.uploads,
            urls=UrlFetcher(self._threads),
            exports=exports,
            intake=intake,
            media=media,
            soundness=Soundness(catalogue=self.catalogue, fabric=fabric, check=self.verifier.check, alive=hosts.alive),
            catalogue=self.catalogue,
            blobs=self.blobs,
            hosts=hosts,
            threads=self._threads,
            tools=tools,
            known_device=lambda name: self._topologies.devices.get(name).name,
        )
        self.imports.serve()

    # ---------------------------------------------------------------- life

    async def load(self) -> None:
        """Read what is stored; before labs are read, whose nodes may mean images of it."""
        await self.secrets.load()
        await self.catalogue.load()
        await self.distribution.load()

    async def start(self, *, alone: bool = True, first: bool = True) -> None:
        """Carry on what was not finished, and work for ever.

        :param alone: no other controller ever uses the same files; else nothing is taken away of itself, because what
            nobody here knows may be another's. :param first: no other controller is at work now.
        """
        if alone:
            await self._threads.run(self.blobs.sweep, time.time())  # what a kill left half; nothing is on its way yet
            await self.uploads.start()
        await self.jobs.start(resume=first)
        self.distribution.start(self._supervisor)
        self.verifier.start(self._supervisor)
        if alone:
            self.collector.start(self._supervisor)

    async def stop(self) -> None:
        """Cut off what runs, to be carried on at the next start. Idempotent."""
        self.verifier.stop()
        await self.jobs.stop()
        await self.uploads.stop()
        await self._supervisor.close()
        self._threads.close()
        self._upload_threads.close()

    async def engine_images(self, host: str = "") -> list[EngineImageView]:
        """What ``host`` has, or every host that is here.

        :raises NotFound: no such host. :raises Unavailable: the one host does not answer.
        """
        if host and host not in self.known_hosts():
            raise NotFound(f"there is no host {host}", hint="`wireloom status` lists them")
        return await engine_images(self._fabric, self.catalogue, [host] if host else self._live.alive)

    # ---------------------------------------------------------------- asked by the controller

    def known_hosts(self) -> frozenset[str]:
        """All hosts of the installation, those that are away too."""
        return frozenset(self._live.subnets) | frozenset(self._live.hosts)

    def complete(self, document: Slice) -> Slice:
        """``document`` with what its host is told beside the intent: exactly which images, and secrets of nodes."""
        return self.secrets.fill(self.catalogue.pinned(document))

    def labs_using(self, image: ImageView) -> list[str]:
        """Ids of the labs with a node of it."""
        return self._uses.labs_using(image)

    def greeting(self) -> list[StreamMessage]:
        """Images and jobs as they are now, in messages for a new reader."""
        images = [StreamMessage(type="image", data=view.model_dump(mode="json")) for view in self.catalogue.all()]
        jobs = [StreamMessage(type="job", data=view.model_dump(mode="json")) for view in self.jobs.all()]
        return [*images, *jobs]

    # ---------------------------------------------------------------- what the parts ask of others

    def _devices(self) -> Iterable[Device]:
        return self._topologies.devices

    def _device(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        device = self._topologies.devices.find(name)
        return None if device is None else (device.name, tuple(device.providers))

    async def _broken(self, images: LibraryImages) -> Mapping[str, WireloomError]:
        """Labs whose topologies would not be valid with other defaults → what would be wrong."""
        found: dict[str, WireloomError] = {}
        for lab_id in self._board.lab_ids:
            lab = self._board.snapshot(lab_id)
            if lab is None or lab.lab.removing:
                continue
            devices = self._topologies.devices
            reason = await asyncio.to_thread(self._topologies.broken_by, devices, lab.revision, images)
            if reason is not None:
                found[lab.lab.name] = reason
        return found

    def _jobs_using(self, image_id: str) -> list[ImageUse]:
        """Work that has not ended and whose request names the image."""
        live = self.jobs.unfinished()
        return [ImageUse(kind="job", name=view.id) for view, request in live if image_id in request.values()]

    def _working_since(self) -> float | None:
        """When the oldest job began that may have files on their way into the store."""
        working = {JobState.WAITING, JobState.RUNNING}
        return min((view.created_at for view, _ in self.jobs.unfinished() if view.state in working), default=None)

    async def _tidy(self) -> None:
        await self.jobs.tend()
        await self.uploads.expire()

    async def _mend(self, image: ImageView, host: str) -> None:
        """Have ``host`` send what the library has lost; the catalogue takes it up as the image that it was."""
        request = AdoptRequest(host=host, provider=image.provider, image=image.name, name=image.name)
        await self.imports.adopt(request)
