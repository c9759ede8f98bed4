"""Orphans: one rule for both technologies. What carries our labels on this host and belongs to no lab is one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from wireloom.agent.folder import FolderStore
from wireloom.agent.network import HostNetwork
from wireloom.agent.runner import Runner
from wireloom.agent.world import World
from wireloom.errors import WireloomError
from wireloom.fabric.documents import Orphan, PruneAnswer
from wireloom.model.identity import Identity
from wireloom.model.slice import Slice

__all__ = ["Pruner"]


@dataclass(frozen=True)
class _Found:
    orphan: Orphan
    remove: Callable[[], Awaitable[None]]


class Pruner:
    """Finds and removes orphans; an error with one of them does not keep the others from going."""

    def __init__(self, *, world: World, network: HostNetwork, folders: FolderStore, runner: Runner) -> None:
        self._world = world
        self._network = network
        self._folders = folders
        self._runner = runner

    async def prune(self, wanted_labs: Collection[str], *, dry_run: bool) -> PruneAnswer:
        """:param wanted_labs: ids of the labs that exist anywhere."""
        await self._world.resync()
        await self._network.refresh(force=True)
        found = [*self._nodes(wanted_labs), *self._ports(wanted_labs), *self._nameless_folders()]
        if dry_run:
            return PruneAnswer(orphans=tuple(item.orphan for item in found))
        return PruneAnswer(orphans=tuple([await self._remove(item) for item in found]))

    async def _remove(self, item: _Found) -> Orphan:
        try:
            await item.remove()
        except WireloomError as error:
            return item.orphan.model_copy(update={"error": error.to_wire()})
        return item.orphan.model_copy(update={"removed": True})

    def _nodes(self, wanted_labs: Collection[str]) -> list[_Found]:
        found = []
        owners = {node_id: status.identity for node_id, status in self._world.runtimes.items()}
        owners |= {node_id: folder.identity for node_id, folder in self._folders.all().items()}
        for node_id, identity in sorted(owners.items()):
            if identity.lab_id in wanted_labs:
                continue
            runtime = self._world.runtimes.get(node_id)
            orphan = Orphan(
                kind="runtime" if runtime else "folder",
                provider=self._world.provider_of(node_id) or "",
                id=runtime.runtime_id if runtime else node_id,
                name=runtime.name if runtime else str(self._folders.root / node_id),
                lab=identity.lab,
                node=identity.node,
            )
            found.append(_Found(orphan, lambda identity=identity: self._remove_node(identity)))  # type: ignore[misc]
        return found

    async def _remove_node(self, identity: Identity) -> None:
        lab = Slice(
            installation=identity.installation, lab_id=identity.lab_id, lab=identity.lab, generation=0, removed=True
        )
        runtime = self._world.runtimes.get(identity.node_id)
        await self._runner.remove(lab, identity, runtime, self._world.provider_of(identity.node_id))
        self._world.enter("", identity.node_id, None)

    def _ports(self, wanted_labs: Collection[str]) -> list[_Found]:
        covered = self._world.runtimes.keys() | self._folders.all().keys()
        found = []
        for device, port in sorted(self._network.ports.items()):
            if port.alias.lab_id in wanted_labs or port.alias.node_id in covered:
                continue
            lab, _, rest = port.alias.name.partition("/")
            orphan = Orphan(kind="port", id=device, name=device, lab=lab, node=rest.partition("/")[0])
            found.append(_Found(orphan, lambda device=device: self._network.unplug([device])))  # type: ignore[misc]
        return found

    def _nameless_folders(self) -> list[_Found]:
        return [
            _Found(
                Orphan(kind="folder", id=path.name, name=str(path)),
                lambda path=path: asyncio.to_thread(shutil.rmtree, path, True),  # type: ignore[misc]
            )
            for path in self._folders.unknown()
        ]
