"""The device catalogue while the controller runs: read again, added to, hidden from, without a restart."""

from __future__ import annotations

import asyncio

import structlog

from wireloom.controller.board import Board
from wireloom.controller.picture import LabPicture
from wireloom.controller.topologies import Topologies
from wireloom.devices.describe import device_details, device_view, node_values, purposes
from wireloom.devices.folder import Change, DeviceFolder
from wireloom.errors import Conflict, NotFound, Unsupported
from wireloom.model.device import Device
from wireloom.model.device_views import (
    DeviceDetails,
    DeviceFileRequest,
    DeviceFileView,
    DeviceView,
    FileKind,
    NodeProfile,
    PortView,
)
from wireloom.model.diagnostic import Diagnostic
from wireloom.model.provenance import Origin

__all__ = ["DeviceService"]

log = structlog.get_logger(__name__)


class DeviceService:
    """Use cases on devices. A change holds for what is deployed or made anew from then on; other nodes are not touched.

    :param folder: where the user's own files are; ``None``: this controller keeps none.
    """

    def __init__(self, *, topologies: Topologies, board: Board, folder: DeviceFolder | None) -> None:
        self._topologies = topologies
        self._board = board
        self._folder = folder
        self._lock = asyncio.Lock()

    def views(self) -> list[DeviceView]:
        """All devices, hidden ones too, by name."""
        devices = self._topologies.devices
        return sorted((self._device_view(device) for device in devices), key=lambda view: view.name)

    def details(self, name: str) -> DeviceDetails:
        """:raises NotFound: no such device."""
        details = device_details(self._topologies.devices, name)
        chosen = {f"providers.{key}.image": image for key, image in self._library_images(details.device.name).items()}
        origin = Origin(layer="library")
        values = tuple(
            value.model_copy(update={"value": chosen[value.path], "origin": origin}) if value.path in chosen else value
            for value in details.values
        )
        return details.model_copy(update={"device": self._with_images(details.device), "values": values})

    def problems(self) -> list[Diagnostic]:
        """Mistakes in files of the user, which are left out."""
        return list(self._topologies.devices.problems)

    async def node_profile(self, lab: str, node: str) -> NodeProfile:
        """What a node is made of, and where each value comes from. :raises NotFound: no such lab or node."""
        picture = self._board.named(lab)
        topology = await asyncio.to_thread(self._topologies.parse_revision, picture.snapshot.revision)
        spec = topology.node(node)
        if spec is None:
            names = ", ".join(item.name for item in topology.nodes)
            raise NotFound(f"lab {lab} has no node {node}", hint=f"its nodes: {names}")
        devices = self._topologies.devices
        place = next((item for item in picture.nodes.values() if item.intent.name == node), None)
        pending = await asyncio.to_thread(self._pending, picture)
        return NodeProfile(
            node=spec.name,
            device=spec.device,
            provider=spec.provider,
            image=spec.image,
            host=place.host if place else "",
            values=node_values(spec),
            purposes=purposes(devices.get(spec.device).on(spec.provider), devices.rule(spec.provider)),
            needs=tuple(dict.fromkeys((*spec.needs, *spec.image_needs))),
            ports=tuple(PortView.model_validate(port.model_dump()) for port in (place.intent.ports if place else ())),
            pending=pending.get(node, ()),
        )

    def _pending(self, picture: LabPicture) -> dict[str, tuple[str, ...]]:
        """By node, what deploying the lab again would change."""
        lab = picture.snapshot
        changes = self._topologies.describe(lab, lab, {}, tuple(picture.slices.values()))
        return {change.name: change.reasons for change in changes if change.kind == "node"}

    async def add(self, request: DeviceFileRequest) -> DeviceFileView:
        """Store a file, or check it.

        :raises InvalidInput: with every mistake in ``details["diagnostics"]``.
        :raises Conflict: a lab that is there would not be valid with it.
        """
        folder = self._own()
        async with self._lock:
            change = await asyncio.to_thread(folder.addition, request.text, kind=request.kind, source=request.source)
            await self._refuse_breaking(change)
            if not request.dry_run:
                await self._apply(folder, change)
        return self._view(change.name, request.kind)

    async def add_text(self, text: str, source: str) -> str:
        """Store a device that came with an image. :raises InvalidInput: :raises Conflict: a lab would break."""
        return (await self.add(DeviceFileRequest(text=text, source=source))).name

    async def remove(self, name: str, kind: FileKind) -> DeviceFileView:
        """Remove an own file. :raises NotFound: there is none. :raises Conflict: a lab or another file needs it."""
        folder = self._own()
        async with self._lock:
            change = await asyncio.to_thread(folder.removal, name, kind=kind)
            await self._refuse_breaking(change)
            await self._apply(folder, change)
        return self._view(name, kind)

    async def set_hidden(self, name: str, hidden: bool) -> DeviceView:
        """Hide a device from lists, or show it. :raises NotFound: no such device."""
        folder = self._own()
        async with self._lock:
            await asyncio.to_thread(folder.set_hidden, name, hidden)
            await self._read(folder)
        return self._device_view(self._topologies.devices.get(name))

    async def reload(self) -> list[Diagnostic]:
        """Read all files again, and say which are left out for their mistakes."""
        folder = self._own()
        async with self._lock:
            await self._read(folder)
        return self.problems()

    async def _read(self, folder: DeviceFolder) -> None:
        catalogue = await asyncio.to_thread(folder.catalogue)
        self._topologies.use(catalogue)
        log.info("devices read", devices=len(catalogue), problems=len(catalogue.problems))

    async def _apply(self, folder: DeviceFolder, change: Change) -> None:
        await asyncio.to_thread(folder.apply, change)
        await self._read(folder)

    async def _refuse_breaking(self, change: Change) -> None:
        """A lab that is valid must stay so: its topology is read again with every verb."""
        snapshots = (self._board.snapshot(lab_id) for lab_id in self._board.lab_ids)
        labs = {item.lab.name: item.revision for item in snapshots if item is not None and not item.lab.removing}
        for lab, revision in labs.items():
            reason = await asyncio.to_thread(self._topologies.broken_by, change.catalogue, revision)
            if reason is not None:
                raise Conflict(
                    f"lab {lab} could not go on: {reason.message}",
                    hint="destroy or change the lab first",
                    details=reason.details,
                )

    def _own(self) -> DeviceFolder:
        if self._folder is None:
            raise Unsupported("this controller keeps no devices of its own")
        return self._folder

    def _view(self, name: str, kind: FileKind) -> DeviceFileView:
        device = None if kind == "cli" else self._topologies.devices.find(name)
        return DeviceFileView(name=name, kind=kind, device=None if device is None else self._device_view(device))

    def _device_view(self, device: Device) -> DeviceView:
        return self._with_images(device_view(self._topologies.devices, device))

    def _with_images(self, view: DeviceView) -> DeviceView:
        """``view`` with the images that nodes of the device take now, whoever says so."""
        return view.model_copy(update={"images": view.images | self._library_images(view.name)})

    def _library_images(self, device: str) -> dict[str, str]:
        """By provider, the image of the library that is the device's default."""
        defaults = self._topologies.images.defaults
        return {provider: image for (name, provider), image in defaults.items() if name == device}
