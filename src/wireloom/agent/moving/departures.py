"""Nodes that leave this host: kept, not started, and handed over to whoever shows the token of the move."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from wireloom.agent.folder import FolderStore
from wireloom.agent.library.waiting import deadline, in_thread
from wireloom.agent.moving.cargo import Cargo, CargoFile, Frame, cargo_of, frames_of
from wireloom.agent.world import World
from wireloom.errors import InternalError, NotFound, RuntimeFailed, Unavailable, WireloomError
from wireloom.model.moves import DepartureStatus
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.slice import Departure, Slice
from wireloom.model.state import RuntimePhase
from wireloom.planning.plan import LIVE_PHASES
from wireloom.providers.contract import Provider

__all__ = ["Departures", "Holding", "Parcel"]

log = structlog.get_logger(__name__)

_PACK_S: Final = 1800.0
_AGAIN_S: Final = 2.0

#: Holds a node for as long as the block lasts; see :meth:`wireloom.agent.runner.Runner.holding`.
Holding = Callable[[str], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Parcel:
    """What is carried of one node, and where it lies."""

    departure: Departure
    folder: Path
    cargo: Cargo

    def file(self, number: int) -> tuple[CargoFile, Path]:
        """:raises NotFound: there is no such file."""
        if not 0 <= number < len(self.cargo.files):
            raise NotFound("the move has no such file")
        entry = self.cargo.files[number]
        return entry, self.folder / entry.path

    def frames(self, number: int, start: int) -> tuple[Path, list[Frame]]:
        """Blocking. :raises NotFound: :raises OSError:"""
        _, path = self.file(number)
        return path, frames_of(path, start)


@dataclass
class _Leaving:
    departure: Departure
    lab_id: str
    parcel: Parcel | None = None
    error: WireloomError | None = None
    not_before: float = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Departures:
    """One per agent.

    :param url: where others reach this host's server; empty: nowhere.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        world: World,
        folders: FolderStore,
        is_busy: Callable[[str], bool],
        holding: Holding,
        wake: Callable[[], None],
        url: Callable[[], str] = lambda: "",
    ) -> None:
        self._providers = providers
        self._world = world
        self._folders = folders
        self._is_busy = is_busy
        self._holding = holding
        self._wake = wake
        self._url = url
        self._leaving: dict[str, _Leaving] = {}

    def look(self, slices: Mapping[str, Slice], unadopted: Callable[[str], bool] = lambda _: False) -> None:
        """Begin with what is new in ``slices``, and let go of what is over; returns at once.

        :param unadopted: whether a node, by its id, is still to come here itself.
        """
        wanted = {
            item.move: (lab.lab_id, item) for lab in slices.values() if not lab.removed for item in lab.departures
        }
        for move in self._leaving.keys() - wanted.keys():
            self._forget(move)
        for move, (lab_id, departure) in wanted.items():
            known = self._leaving.get(move)
            if known is None:
                known = self._leaving[move] = _Leaving(departure, lab_id)
            known.departure = departure
            idle = (known.task is None or known.task.done()) and time.monotonic() >= known.not_before
            if known.parcel is None and idle and not unadopted(departure.node_id) and self._rests(departure.node_id):
                known.task = asyncio.get_running_loop().create_task(self._pack(known), name=f"pack-{move}")

    def _rests(self, node_id: str) -> bool:
        runtime = self._world.runtimes.get(node_id)
        down = runtime is None or runtime.phase not in {*LIVE_PHASES, RuntimePhase.UNKNOWN}
        return down and not self._is_busy(node_id)

    def status(self, lab_id: str) -> tuple[DepartureStatus, ...]:
        """What is told of the lab's nodes that leave."""
        return tuple(
            DepartureStatus(
                move=move,
                node_id=item.departure.node_id,
                ready=item.parcel is not None,
                total=item.parcel.cargo.total if item.parcel else 0,
                url=f"{self._url()}/moves/{move}" if item.parcel is not None and self._url() else "",
                error=item.error.to_wire() if item.error else None,
            )
            for move, item in sorted(self._leaving.items())
            if item.lab_id == lab_id
        )

    def parcel(self, move: str, token: str) -> Parcel:
        """What is carried, for whoever shows the token. :raises NotFound: nobody may know of it, or not yet."""
        item = self._leaving.get(move)
        if item is None or item.parcel is None or not _same(token, item.departure.token):
            raise NotFound("there is no such move here")
        return item.parcel

    def packed(self) -> list[Parcel]:
        """All that can be fetched now."""
        return [
            replace(item.parcel, departure=item.departure) for item in self._leaving.values() if item.parcel is not None
        ]

    async def close(self) -> None:
        """Let go; what is packed is packed again by the next agent."""
        tasks = [item.task for item in self._leaving.values() if item.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, move: str) -> None:
        item = self._leaving.pop(move)
        if item.task is not None:
            item.task.cancel()

    async def _pack(self, item: _Leaving) -> None:
        """The supervisor's edge of one packing."""
        try:
            item.parcel = await self._packed(item.departure)
            item.error = None
        except WireloomError as error:
            item.error = error
        except OSError as error:
            item.error = RuntimeFailed(f"the host refused: {error}", node=item.departure.name)
        except Exception as error:  # nobody awaits this task
            log.exception("defect while a node is packed", node=item.departure.name)
            item.error = InternalError(f"defect: {error!r}", node=item.departure.name)
        self._wake()
        if item.error is not None:
            log.warning("node not packed", node=item.departure.name, error=item.error.to_wire())
            item.not_before = time.monotonic() + _AGAIN_S

    async def _packed(self, departure: Departure) -> Parcel:
        node_id = departure.node_id
        provider = self._providers.get(departure.provider)
        engine = self._world.capabilities.get(departure.provider)
        if provider is None or engine is None or not engine.available:
            raise Unavailable(f"provider {departure.provider} does not answer", node=departure.name)
        async with self._holding(node_id):
            runtime = self._world.runtimes.get(node_id)
            facts = await self._facts(provider, runtime, node_id)
            folder = self._folders.get(node_id)
            path = self._folders.root / node_id
            record = vars(folder.record) if folder is not None else {}
            cargo = await in_thread(cargo_of, path, dict(record), facts)
        return Parcel(departure, path, cargo)

    async def _facts(self, provider: Provider, runtime: RuntimeStatus | None, node_id: str) -> dict[str, str]:
        porter = provider.abilities.porter
        path = self._folders.root / node_id
        if porter is None or self._folders.get(node_id) is None:
            return {}
        async with deadline("packing what the node keeps", _PACK_S):
            return dict(await porter.pack(runtime.runtime_id if runtime else None, path))


def _same(shown: str, token: str) -> bool:
    return bool(token) and hmac.compare_digest(shown.encode(), token.encode())
