"""Removing a host: what it would mean, and doing it. The host itself need not be there.

The database comes first: from then on the host is of the installation no more, whatever else is interrupted. What has
to follow (cutting off its login, forgetting what it told) is done again at every start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sized
from typing import Final, Protocol

import structlog

from wireloom.controller.board import Board
from wireloom.controller.hosts.registry import HostRegistry
from wireloom.controller.journal import Journal
from wireloom.controller.live import LiveState
from wireloom.controller.picture import LabPicture, NodePicture
from wireloom.controller.store import Store
from wireloom.controller.store.host_records import HostKey
from wireloom.controller.tasks import KeyedLocks
from wireloom.errors import Conflict, WireloomError
from wireloom.fabric.documents import EventLevel
from wireloom.fabric.logins import FabricLogins
from wireloom.model.host_views import HostDetails, HostKeyView, HostLab, LostNode, RemovalPreview
from wireloom.model.images import PresenceState
from wireloom.model.state import NodeState
from wireloom.model.views import HostUse

__all__ = ["HostRemoval", "HostTraces"]

log = structlog.get_logger(__name__)

ForgetHost = Callable[[str], Awaitable[None]]
#: Has a lab, by its id, rendered and published as it is stored now.
Reload = Callable[[str], Awaitable[None]]


class HostTraces(Protocol):
    """What the fabric holds of a host."""

    async def delete_intent(self, host: str, lab_id: str) -> None: ...

    async def delete_observation(self, host: str, lab_id: str) -> None: ...

    async def delete_host(self, host: str) -> None: ...


class HostRemoval:
    """Details of hosts, previews, removals.

    :param own_host: the host that this controller stands on; it cannot be removed while its agent is there.
    :param forget_images: has the image library wait for nothing more of a host. :param reload: renders and publishes
        a lab anew.
    """

    def __init__(
        self,
        *,
        store: Store,
        registry: HostRegistry,
        live: LiveState,
        board: Board,
        locks: KeyedLocks,
        journal: Journal,
        fabric: HostTraces,
        logins: FabricLogins | None,
        own_host: str,
        forget_images: ForgetHost,
        reload: Reload,
    ) -> None:
        self._store: Final = store
        self._registry = registry
        self._live = live
        self._board = board
        self._locks = locks
        self._journal = journal
        self._fabric = fabric
        self._logins = logins
        self._own_host = own_host
        self._forget_images = forget_images
        self._reload = reload

    async def start(self) -> None:
        """Finish removals that were interrupted."""
        for host in sorted(self._registry.removed):
            await self._forget(host)

    # ---------------------------------------------------------------- looking

    async def details(self, host: str) -> HostDetails:
        """A host with what is on it. :raises NotFound: no such host."""
        view = self._registry.view(host)
        labs = tuple(_host_lab(picture, host) for picture in self._labs_on(host))
        keys = await self._store.hosts.keys(host)
        return HostDetails(
            host=view.model_copy(update={"use": _use(labs)}),
            labs=labs,
            keys=tuple(HostKeyView.model_validate(key.model_dump()) for key in keys),
        )

    async def preview(self, host: str) -> RemovalPreview:
        """What removing ``host`` means; changes nothing. :raises NotFound: no such host."""
        self._registry.record(host)
        pictures = list(self._labs_on(host))
        alive = host in self._live.alive
        nodes = tuple(lost for picture in pictures for lost in _lost_nodes(picture, host))
        preview = RemovalPreview(
            host=host,
            alive=alive,
            labs=tuple(picture.snapshot.lab.name for picture in pictures),
            nodes=nodes,
            wires=tuple(wire for picture in pictures for wire in _wires(picture, host)),
            images=self._only_there(host),
            refusals=(*self._never(host, await self._store.hosts.keys(host)), *_needed(host, pictures)),
        )
        return preview.model_copy(update={"consequences": tuple(_consequences(preview))})

    def _labs_on(self, host: str) -> Iterator[LabPicture]:
        """Labs that may have something there, by name."""
        snapshots = [lab for key in self._board.lab_ids if (lab := self._board.snapshot(key)) is not None]
        for snapshot in sorted(snapshots, key=lambda lab: lab.lab.name):
            if host in snapshot.hosts or any(node.host == host for node in snapshot.nodes):
                yield self._board.picture(snapshot.lab.id)

    def _never(self, host: str, keys: list[HostKey]) -> tuple[str, ...]:
        """Why it cannot be removed at all as it is."""
        if host == self._own_host and host in self._live.alive:
            return ("the controller stands on it",)
        if host in self._live.alive and not any(key.revoked_at is None for key in keys):
            return ("its agent is there, and its login is not ours to revoke",)
        return ()

    def _only_there(self, host: str) -> tuple[str, ...]:
        """Images that no other host has; the library keeps their files all the same."""
        having: dict[str, set[str]] = defaultdict(set)
        for name, seen in self._live.hosts.items():
            for entry in () if seen.shelf is None else seen.shelf.entries:
                if entry.state is PresenceState.PRESENT:
                    having[entry.name].add(name)
        return tuple(sorted(image for image, hosts in having.items() if hosts == {host}))

    # ---------------------------------------------------------------- doing

    async def remove(self, host: str, *, force: bool = False) -> RemovalPreview:
        """Remove ``host``; its agent is cut off at once, and refused when it comes back.

        :param force: also while labs have nodes there, which they lose.
        :raises NotFound: no such host. :raises Conflict: labs have nodes there, or its agent cannot be cut off.
        """
        preview = await self.preview(host)
        never = self._never(host, await self._store.hosts.keys(host))
        if never or (preview.refusals and not force):
            raise Conflict(
                f"host {host} is needed: {'; '.join(preview.refusals)}",
                hint="stop its agent first"
                if never
                else f"move its nodes away with `wireloom host drain {host}`, or give them up with --force",
                details={"preview": preview.model_dump(mode="json")},
            )
        concerned = [picture.snapshot.lab.id for picture in self._labs_on(host)]
        await self._store.hosts.remove(host)
        self._live.forget_host(host)
        await self._registry.load()
        self._registry.written(host)
        await self._cut_off(host)
        await self._forget(host)
        for lab_id in concerned:
            await self._show_without(host, lab_id)
        self._journal.tell("host.removed", f"host {host} was removed", level=EventLevel.WARNING)
        return preview

    async def _cut_off(self, host: str) -> None:
        if self._logins is None:
            return
        try:
            await self._logins.enforce()
        except WireloomError as error:  # it is told again and again until the servers know it
            log.warning("login not cut off yet", host=host, error=str(error))

    async def _forget(self, host: str) -> None:
        """Nothing that it told is held against anybody, here or on the fabric; idempotent."""
        seen = self._live.labs_seen_on(host)
        self._live.forget_host(host)
        for lab_id in seen:
            self._live.set_status(host, lab_id, None)
        await self._forget_images(host)
        try:
            for lab_id in {*seen, *self._board.lab_ids}:
                await self._fabric.delete_intent(host, lab_id)
                await self._fabric.delete_observation(host, lab_id)
            await self._fabric.delete_host(host)
        except WireloomError as error:  # nobody may read it any more, and the next start tries again
            log.warning("the fabric still holds something of a removed host", host=host, error=str(error))

    async def _show_without(self, host: str, lab_id: str) -> None:
        """A lab as it is now that the host is none of its hosts."""
        known = self._board.snapshot(lab_id)
        if known is None:
            return
        async with self._locks.hold(known.lab.name):
            snapshot = await self._store.snapshot_by_id(lab_id)
            if snapshot is not None:
                slices = self._board.picture(lab_id).slices
                self._board.put(snapshot, {name: slices[name] for name in slices if name != host})
        await self._reload(lab_id)


def _needed(host: str, pictures: list[LabPicture]) -> Iterator[str]:
    for picture in pictures:
        lab, count = picture.snapshot.lab.name, sum(node.host == host for node in picture.snapshot.nodes)
        nodes = f"{count} node{'' if count == 1 else 's'}"
        yield f"lab {lab} has {nodes} there" if count else f"lab {lab} may still have something there"


def _there(picture: LabPicture, host: str) -> list[NodePicture]:
    return [node for node in picture.nodes.values() if node.host == host]


def _host_lab(picture: LabPicture, host: str) -> HostLab:
    nodes = _there(picture, host)
    taking = [node.intent for node in nodes if node.intent.power == "on"]
    return HostLab(
        lab=picture.snapshot.lab.name,
        nodes=len(nodes),
        running=sum(_state(node) is NodeState.RUNNING for node in nodes),
        cpus=sum(intent.cpu for intent in taking),
        memory_mb=sum(intent.memory_mb for intent in taking),
    )


def _use(labs: tuple[HostLab, ...]) -> HostUse:
    return HostUse(
        labs=tuple(lab.lab for lab in labs),
        nodes=sum(lab.nodes for lab in labs),
        running=sum(lab.running for lab in labs),
        cpus=sum(lab.cpus for lab in labs),
        memory_mb=sum(lab.memory_mb for lab in labs),
    )


def _state(node: NodePicture) -> NodeState:
    return node.status.state if node.status is not None and node.alive else NodeState.UNKNOWN


def _lost_nodes(picture: LabPicture, host: str) -> Iterator[LostNode]:
    for node in _there(picture, host):
        what = ["its disk and files"]
        if node.intent.stored_config is None:
            what.append("its configuration, of which nothing is stored")
        else:
            what.append("what was configured since it was stored")
        yield LostNode(lab=picture.snapshot.lab.name, node=node.intent.name, state=_state(node).value, what=tuple(what))


def _wires(picture: LabPicture, host: str) -> Iterator[str]:
    for link in picture.links.values():
        if any(end.host == host for end in link.ends):
            yield f"{picture.snapshot.lab.name}: {link.a} -- {link.b}"


def _consequences(preview: RemovalPreview) -> Iterator[str]:
    yield "its agent is cut off at once, and refused when it comes back"
    if preview.nodes:
        yield f"given up with disks and files: {_count(preview.nodes, 'node')} of {', '.join(preview.labs)}"
        yield "deploying these labs again places their nodes on other hosts, as new ones"
    if preview.wires:
        yield f"without an end: {_count(preview.wires, 'link')}"
    if preview.images:
        yield f"on no other host: {_count(preview.images, 'image')}; the library still has the files"
    if preview.alive:
        yield "what runs there goes on until somebody stops it: `wireloom down --destroy-labs` or a reboot"


def _count(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"
