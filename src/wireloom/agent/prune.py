"""Orphans: one rule for both technologies. What carries our labels on this host and belongs to no lab is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

from wireloom.agent.folder import FolderStore
from wireloom.agent.housekeeping import Found, HostHousekeeping, removed
from wireloom.agent.network import HostNetwork
from wireloom.agent.runner import Runner
from wireloom.agent.world import World
from wireloom.errors import Conflict, Unavailable, WireloomError
from wireloom.fabric.documents import PruneAnswer, PruneQuestion
from wireloom.model.identity import Identity
from wireloom.model.network import PortAlias, SegmentAlias
from wireloom.model.orphans import Orphan, Trouble
from wireloom.model.slice import Slice
from wireloom.planning.plan import LIVE_PHASES

__all__ = ["Pruner"]


#: What a prune never touches.
_OTHERS: Final = "other-installation"
#: Bytes that ``st_blocks`` counts in.
_BLOCK: Final = 512


class Pruner:
    """Finds and removes orphans; an error with one of them does not keep the others from going.

    :param intended: ids of the labs that this host has intents for: these are the reconciler's, whatever anybody says.
    :param is_busy: whether an action is at work on a node.
    :param housekeeping: knows of what no lab ever had.
    """

    def __init__(
        self,
        *,
        world: World,
        network: HostNetwork,
        folders: FolderStore,
        runner: Runner,
        intended: Callable[[], Collection[str]],
        is_busy: Callable[[str], bool],
        housekeeping: HostHousekeeping | None = None,
    ) -> None:
        self._housekeeping = housekeeping
        self._intended = intended
        self._is_busy = is_busy
        self._world = world
        self._network = network
        self._folders = folders
        self._runner = runner

    async def answer(self, question: PruneQuestion) -> PruneAnswer:
        """What the question asks for; what cannot be looked at is told, and hides nothing else."""
        found, troubles = await self._look(question.labs)
        if question.all and self._housekeeping is not None:
            more, others = await self._housekeeping.look()
            found += more
            troubles += [trouble for trouble in others if trouble.source not in {item.source for item in troubles}]
        orphans = [
            await removed(item) if not question.dry_run and _is_asked_for(item.orphan, question) else item.orphan
            for item in found
        ]
        return PruneAnswer(orphans=tuple(orphans), troubles=tuple(troubles))

    async def prune(self, wanted_labs: Collection[str], *, dry_run: bool) -> PruneAnswer:
        """:param wanted_labs: ids of the labs that exist anywhere."""
        return await self.answer(PruneQuestion(labs=tuple(wanted_labs), dry_run=dry_run))

    async def _look(self, wanted_labs: Collection[str]) -> tuple[list[Found], list[Trouble]]:
        await self._world.resync()
        troubles = [
            Trouble(source=name, error=Unavailable(engine.problem or f"provider {name} does not answer").to_wire())
            for name, engine in sorted(self._world.capabilities.items())
            if not engine.available
        ]
        try:
            await self._network.refresh(force=True)
        except WireloomError as error:
            troubles.append(Trouble(source="network", error=error.to_wire()))
        found = [
            *await self._nodes(wanted_labs),
            *self._ports(wanted_labs),
            *self._segments(wanted_labs),
            *await self._nameless_folders(),
        ]
        return found, troubles

    def _is_orphan(self, lab_id: str, node_id: str, wanted_labs: Collection[str] = ()) -> bool:
        return lab_id not in wanted_labs and lab_id not in self._intended() and not self._is_busy(node_id)

    def _claim(self, lab_id: str, node_id: str) -> None:
        """Others went before this one and took their time: an intent may have come meanwhile.

        :raises Conflict: it is no orphan any more.
        """
        if not self._is_orphan(lab_id, node_id):
            raise Conflict("it has come to belong to a lab meanwhile")

    async def _nodes(self, wanted_labs: Collection[str]) -> list[Found]:
        found = []
        owners = {node_id: status.identity for node_id, status in self._world.runtimes.items()}
        owners |= {node_id: folder.identity for node_id, folder in self._folders.all().items()}
        for node_id, identity in sorted(owners.items()):
            if not self._is_orphan(identity.lab_id, node_id, wanted_labs):
                continue
            runtime = self._world.runtimes.get(node_id)
            folder = self._folders.get(node_id)
            orphan = Orphan(
                kind="runtime" if runtime else "folder",
                provider=self._world.provider_of(node_id) or (folder.record.provider if folder else ""),
                id=runtime.runtime_id if runtime else node_id,
                name=runtime.name if runtime else str(self._folders.root / node_id),
                lab=identity.lab,
                node=identity.node,
                lab_id=identity.lab_id,
                node_id=node_id,
                installation=identity.installation,
                size=await asyncio.to_thread(_bytes_in, self._folders.root / node_id),
                running=runtime is not None and runtime.phase in LIVE_PHASES,
                incarnation=runtime.incarnation if runtime else folder.record.incarnation if folder else 0,
                spec_hash=runtime.spec_hash if runtime else "",
            )
            found.append(Found(orphan, partial(self._remove_node, identity)))
        return found

    async def _remove_node(self, identity: Identity) -> None:
        node_id = identity.node_id
        self._claim(identity.lab_id, node_id)
        folder = self._folders.get(node_id)
        provider = self._world.provider_of(node_id) or (folder.record.provider if folder else "")
        engine = self._world.capabilities.get(provider)
        if provider and (engine is None or not engine.available):
            raise Unavailable(f"provider {provider} is not available, and may hold its runtime")
        lab = Slice(
            installation=identity.installation, lab_id=identity.lab_id, lab=identity.lab, generation=0, removed=True
        )
        await self._runner.remove(lab, identity, self._world.runtimes.get(node_id), self._world.provider_of(node_id))
        self._world.enter("", node_id, None)

    def _ports(self, wanted_labs: Collection[str]) -> list[Found]:
        covered = self._world.runtimes.keys() | self._folders.all().keys()
        found = []
        for device, port in sorted(self._network.ports.items()):
            alias = port.alias
            if alias.node_id in covered or not self._is_orphan(alias.lab_id, alias.node_id, wanted_labs):
                continue
            lab, _, rest = alias.name.partition("/")
            tunnel = f"joined to {port.tunnel.remote or 'another host'}" if port.tunnel is not None else ""
            orphan = Orphan(
                kind="port",
                id=device,
                name=device,
                lab=lab,
                node=rest.partition("/")[0],
                lab_id=alias.lab_id,
                node_id=alias.node_id,
                detail=tunnel,
            )
            found.append(Found(orphan, partial(self._remove_port, device, alias)))
        return found

    async def _remove_port(self, device: str, alias: PortAlias) -> None:
        self._claim(alias.lab_id, alias.node_id)
        await self._network.unplug([device])

    def _segments(self, wanted_labs: Collection[str]) -> list[Found]:
        """Segments of labs; the host's own have no lab."""
        found = []
        for device, segment in sorted(self._network.state.segments.items()):
            alias = SegmentAlias.parse(segment.alias)
            if alias is None or not alias.lab_id or not self._is_orphan(alias.lab_id, "", wanted_labs):
                continue
            lab = alias.name.partition("/")[0]
            orphan = Orphan(kind="segment", id=device, name=device, lab=lab, lab_id=alias.lab_id)
            found.append(Found(orphan, partial(self._remove_segment, device, alias.lab_id)))
        return found

    async def _remove_segment(self, device: str, lab_id: str) -> None:
        self._claim(lab_id, "")
        await self._network.remove_segment(device)

    async def _nameless_folders(self) -> list[Found]:
        return [
            Found(
                Orphan(kind="folder", id=path.name, name=str(path), size=await asyncio.to_thread(_bytes_in, path)),
                partial(self._remove_folder, path),
            )
            for path in await asyncio.to_thread(self._folders.unknown)
        ]

    async def _remove_folder(self, path: Path) -> None:
        if not self._folders.is_unknown(path):
            raise Conflict("it has come to belong to a node meanwhile")
        await asyncio.to_thread(self._folders.remove, path.name)


def _is_asked_for(orphan: Orphan, question: PruneQuestion) -> bool:
    if question.only and orphan.key not in question.only:
        return False
    return orphan.why != _OTHERS and (question.images or orphan.why != "unused")


def _bytes_in(folder: Path) -> int:
    """Bytes on the disk of all that is in ``folder``; files may come and go meanwhile."""
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            facts = path.lstat()
        except OSError:
            continue
        total += facts.st_blocks * _BLOCK
    return total
