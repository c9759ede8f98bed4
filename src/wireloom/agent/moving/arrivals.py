"""Nodes that come to this host: fetched ahead, beside the nodes' folders, and made the node's own when it is ours.

::

    <data>/arrivals/<move>/
        state.json      what is known of the transfer (see _State)
        node/           the node's folder as it will be; record.json is put there last

Making it the node's own is one rename, so whoever dies, there is the whole of it or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from wireloom.agent.folder import FolderStore, write_record
from wireloom.agent.library.waiting import deadline
from wireloom.agent.moving.cargo import Cargo, CargoFile, safe_path
from wireloom.agent.moving.fetch import Fetch, Line, Source
from wireloom.agent.world import World
from wireloom.errors import InternalError, RuntimeFailed, Unavailable, WireloomError
from wireloom.library.durable import flush_folder
from wireloom.model.base import Value
from wireloom.model.identity import Identity
from wireloom.model.moves import ArrivalStatus
from wireloom.model.slice import Arrival, Slice
from wireloom.planning.plan import NodeRecord
from wireloom.providers.contract import Provider
from wireloom.providers.newfile import check_room

__all__ = ["Arrivals"]

log = structlog.get_logger(__name__)

_FOLDER_MODE: Final = 0o700
_SETTLE_S: Final = 600.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
#: What belongs to no lab that we know is left alone for so long: intents may still be on their way.
_FORGOTTEN_S: Final = 600.0
#: How often it is told how far a transfer is.
_TELL_S: Final = 1.0

#: Has the image of a node that is to come made present.
BringImage = Callable[[Slice, Arrival], Awaitable[None]]


class _State(Value):
    """``offsets``: by number of the file, what need not be fetched again; ``whole``: everything is there, verified."""

    lab_id: str
    node_id: str
    total: int = 0
    offsets: dict[int, int] = {}
    whole: bool = False


@dataclass
class _Coming:
    lab: Slice
    arrival: Arrival
    state: _State
    done: int = 0
    error: WireloomError | None = None
    failures: int = 0
    not_before: float = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    fetch: Fetch | None = field(default=None, repr=False)


class Arrivals:
    """One per agent.

    :param root: for what is on its way; on the file system of the nodes' folders.
    :param adopted: told of a node whose folder has come.
    :param reach: an address of a controller's as it is reached from here.
    """

    def __init__(
        self,
        root: Path,
        *,
        providers: Mapping[str, Provider],
        world: World,
        folders: FolderStore,
        is_busy: Callable[[str], bool],
        holding: Callable[[str], AbstractAsyncContextManager[None]],
        bring: BringImage,
        wake: Callable[[], None],
        adopted: Callable[[str], None] = lambda _: None,
        reach: Callable[[str], str] = lambda url: url,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._root = root
        self._providers = providers
        self._world = world
        self._folders = folders
        self._is_busy = is_busy
        self._holding = holding
        self._bring = bring
        self._wake = wake
        self._adopted = adopted
        self._reach = reach
        self._trust = trust
        self._coming: dict[str, _Coming] = {}
        self._told_at = 0.0

    # ---------------------------------------------------------------- what is wanted

    def look(self, slices: Mapping[str, Slice]) -> None:
        """Begin with what is new in ``slices``, go on with what waits, let go of what is over; returns at once."""
        wanted = {item.move: (lab, item) for lab in slices.values() if not lab.removed for item in lab.arrivals}
        for move in self._coming.keys() - wanted.keys():
            self._end(self._coming.pop(move))
        for move, (lab, arrival) in wanted.items():
            known = self._coming.get(move)
            if known is None:
                known = self._coming[move] = _Coming(lab, arrival, self._read(lab, arrival))
            known.lab, known.arrival = lab, arrival
            idle = known.task is None or known.task.done()
            if idle and not self.has_come(arrival) and time.monotonic() >= known.not_before:
                known.task = asyncio.get_running_loop().create_task(self._carry(known), name=f"carry-{move}")

    async def sweep(self, slices: Mapping[str, Slice]) -> None:
        """Remove what is of no move any more."""
        wanted = {item.move for lab in slices.values() if not lab.removed for item in lab.arrivals}
        await asyncio.to_thread(self._sweep, wanted, frozenset(slices), time.time())

    def has_come(self, arrival: Arrival) -> bool:
        """Whether the node's folder is what came by this move."""
        folder = self._folders.get(arrival.node_id)
        return folder is not None and folder.record.arrived == arrival.move

    def unadopted(self, node_id: str) -> bool:
        """Whether a node is still to come here."""
        return any(
            item.arrival.node_id == node_id and not self.has_come(item.arrival) for item in self._coming.values()
        )

    def status(self, lab_id: str) -> tuple[ArrivalStatus, ...]:
        """What is told of the lab's nodes that come."""
        return tuple(
            ArrivalStatus(
                move=move,
                node_id=item.arrival.node_id,
                ready=item.state.whole or self.has_come(item.arrival),
                adopted=self.has_come(item.arrival),
                done=item.state.total if item.state.whole else min(item.done, item.state.total),
                total=item.state.total,
                error=item.error.to_wire() if item.error else None,
            )
            for move, item in sorted(self._coming.items())
            if item.lab.lab_id == lab_id
        )

    async def close(self) -> None:
        """Let go; what is on its way is gone on with by the next agent."""
        for item in self._coming.values():
            self._end(item)
        tasks = [item.task for item in self._coming.values() if item.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _end(item: _Coming) -> None:
        if item.fetch is not None:
            item.fetch.stop()
        if item.task is not None:
            item.task.cancel()

    # ---------------------------------------------------------------- one arrival

    async def _carry(self, item: _Coming) -> None:
        """The supervisor's edge of one arrival: as far as it goes now."""
        error: WireloomError | None = None
        try:
            if not item.state.whole:
                await self._fetch_all(item)
            await self._adopt(item)
        except WireloomError as failure:
            error = failure
        except OSError as failure:
            error = RuntimeFailed(f"the host refused: {failure}", hint="check the free space of the data folder")
        except Exception as failure:  # nobody awaits this task
            log.exception("defect while a node comes", node=item.arrival.name)
            error = InternalError(f"defect: {failure!r}")
        if error is not None:
            error.node = error.node or item.arrival.name
            log.warning("node not fetched", node=item.arrival.name, error=error.to_wire())
            pause = min(_FIRST_PAUSE_S * 2**item.failures, _LONGEST_PAUSE_S)
            item.failures, item.not_before = item.failures + 1, time.monotonic() + pause
        item.error = error
        self._wake()

    async def _fetch_all(self, item: _Coming) -> None:
        arrival = item.arrival
        provider = self._providers.get(arrival.provider)
        if provider is None:
            raise Unavailable(f"this host has no provider {arrival.provider}", node=arrival.name)
        await self._bring(item.lab, arrival)
        source = Source(self._lines(arrival))
        cargo = await asyncio.to_thread(source.cargo)
        item.state = item.state.model_copy(update={"total": cargo.total})
        stage = self._stage(arrival)
        node = stage / "node"
        await asyncio.to_thread(self._prepare, stage, cargo, item)
        item.fetch = Fetch(source, lambda count: self._count(item, count), dict(item.state.offsets))
        work = asyncio.ensure_future(asyncio.to_thread(self._fetch, item, item.fetch, cargo, node))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            item.fetch.stop()
            await asyncio.gather(work, return_exceptions=True)
            raise
        if provider.abilities.porter is not None and cargo.record:
            async with deadline("settling what the node keeps", _SETTLE_S):
                await provider.abilities.porter.settle(node, arrival.node.image, cargo.facts)
        await asyncio.to_thread(self._finish, item, cargo, node)

    def _lines(self, arrival: Arrival) -> list[Line]:
        urls = [arrival.url, self._reach(arrival.relay) if arrival.relay else ""]
        return [Line(url, arrival.token, self._trust) for url in urls if url]

    def _prepare(self, stage: Path, cargo: Cargo, item: _Coming) -> None:
        stage.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        check_room(stage, max(cargo.total - sum(item.state.offsets.values()), 0))
        node = stage / "node"
        node.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for entry in cargo.files:
            if entry.kind == "folder":
                safe_path(node, entry.path).mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        item.done = sum(min(item.state.offsets.get(number, 0), entry.data) for number, entry in enumerate(cargo.files))

    def _count(self, item: _Coming, count: int) -> None:
        """In a thread: only numbers change here."""
        item.done += count

    def _fetch(self, item: _Coming, fetch: Fetch, cargo: Cargo, node: Path) -> None:
        offsets = fetch.offsets

        def noted() -> None:
            item.state = item.state.model_copy(update={"offsets": dict(offsets)})
            self._write(item)

        for number, entry in enumerate(cargo.files):
            path = safe_path(node, entry.path)
            if entry.kind == "file":
                fetch.file(number, entry, path, noted)
            elif entry.kind == "link":
                path.unlink(missing_ok=True)
                path.symlink_to(entry.link)

    def _finish(self, item: _Coming, cargo: Cargo, node: Path) -> None:
        """Everything is there: give it its owners and its record, and note that, in this order."""
        for entry in reversed(cargo.files):
            _own(safe_path(node, entry.path), entry)
        node.chmod(0o755)
        write_record(node, self._identity(item), _arrived(cargo.record, item.arrival.move))
        flush_folder(node)
        item.state = item.state.model_copy(update={"whole": True})
        self._write(item)

    def _identity(self, item: _Coming) -> Identity:
        return item.lab.identity(item.arrival.node)

    async def _adopt(self, item: _Coming) -> None:
        """Make what came the node's own, if the node is ours now and nothing of an earlier stay is left."""
        arrival = item.arrival
        node_id = arrival.node_id
        if item.lab.node(node_id) is None or self._is_busy(node_id):
            return
        async with self._holding(node_id):
            if self._folders.get(node_id) is not None or node_id in self._world.runtimes or self._is_busy(node_id):
                return  # the plan removes it first
            await asyncio.to_thread(self._take_over, arrival)
            self._folders.take(node_id)
        self._adopted(node_id)
        log.info("node has come", node=arrival.name, source=arrival.host)

    def _take_over(self, arrival: Arrival) -> None:
        stage = self._stage(arrival)
        self._folders.root.mkdir(parents=True, exist_ok=True)
        target = self._folders.root / arrival.node_id
        if target.exists():  # no record is in it, or it would be known: a removal that was cut short
            shutil.rmtree(target)
        os.rename(stage / "node", target)
        flush_folder(self._folders.root)
        flush_folder(stage)

    # ---------------------------------------------------------------- files

    def _stage(self, arrival: Arrival) -> Path:
        return self._root / arrival.move

    def _read(self, lab: Slice, arrival: Arrival) -> _State:
        with contextlib.suppress(OSError, ValueError):
            state = _State.model_validate_json((self._stage(arrival) / "state.json").read_text())
            if not state.whole or (self._stage(arrival) / "node" / "record.json").exists() or self.has_come(arrival):
                return state
        return _State(lab_id=lab.lab_id, node_id=arrival.node_id)

    def _write(self, item: _Coming) -> None:
        path = self._stage(item.arrival) / "state.json"
        draft = path.with_suffix(".new")
        with draft.open("w") as file:
            file.write(item.state.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def _sweep(self, wanted: set[str], labs: frozenset[str], moment: float) -> None:
        if not self._root.is_dir():
            return
        for stage in self._root.iterdir():
            if stage.name in wanted:
                continue
            lab_id = ""
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                lab_id = json.loads((stage / "state.json").read_text())["lab_id"]
            with contextlib.suppress(OSError):
                if lab_id in labs or moment - stage.stat().st_mtime > _FORGOTTEN_S:
                    shutil.rmtree(stage)
        with contextlib.suppress(OSError):
            self._root.rmdir()  # it is empty, or stays


def _own(path: Path, entry: CargoFile) -> None:
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind != "link":
        path.chmod(entry.mode)
    if entry.kind == "folder":
        flush_folder(path)


def _arrived(record: dict[str, Any], move: str) -> NodeRecord:
    """What was remembered of the node elsewhere, without what was true of that host only."""
    kept = {name: record[name] for name in _KEPT if name in record}
    return NodeRecord(**kept, arrived=move)


_KEPT: Final = ("restarts", "attention", "incarnation", "provider", "config_choice", "loaded")
