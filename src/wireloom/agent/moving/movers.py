"""Moves as an agent sees them, put together: what leaves, what comes, and the ways between."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from aiohttp import web

from wireloom.agent.folder import FolderStore
from wireloom.agent.library.waiting import in_thread
from wireloom.agent.moving.arrivals import Arrivals, BringImage
from wireloom.agent.moving.cargo import cargo_of
from wireloom.agent.moving.departures import Departures
from wireloom.agent.moving.relay import Sender
from wireloom.agent.moving.server import DepartureServer
from wireloom.agent.world import World
from wireloom.fabric.connection import Fabric
from wireloom.fabric.methods import CARGO
from wireloom.fabric.move_documents import CargoAnswer, CargoQuestion
from wireloom.model.moves import ArrivalStatus, DepartureStatus
from wireloom.model.slice import Slice
from wireloom.providers.contract import Provider

__all__ = ["Movers"]

#: How soon what could not be done is tried again, and progress is told.
_LOOK_S: Final = 0.5
_SWEEP_S: Final = 60.0


class Movers:
    """One per agent. Slices are read as they are; :meth:`look` is called when they, or nodes, changed.

    :param wake: something is to be told, or planned. :param url: where other hosts reach this one; empty: nowhere.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        providers: Mapping[str, Provider],
        world: World,
        folders: FolderStore,
        slices: Mapping[str, Slice],
        is_busy: Callable[[str], bool],
        holding: Callable[[str], AbstractAsyncContextManager[None]],
        bring: BringImage,
        wake: Callable[[], None],
        adopted: Callable[[str], None] = lambda _: None,
        reach: Callable[[str], str] = lambda url: url,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        url: Callable[[], str] = lambda: "",
    ) -> None:
        self._slices = slices
        self._folders = folders
        self._reach = reach
        self._trust = trust
        self._wake = wake
        self.departures = Departures(
            providers=providers,
            world=world,
            folders=folders,
            is_busy=is_busy,
            holding=holding,
            wake=self.look,
            url=url,
        )
        self.arrivals = Arrivals(
            data_dir / "arrivals",
            providers=providers,
            world=world,
            folders=folders,
            is_busy=is_busy,
            holding=holding,
            bring=bring,
            wake=self.look,
            adopted=adopted,
            reach=reach,
            trust=trust,
        )
        self._server = DepartureServer(self.departures)
        self._senders: dict[tuple[str, str], asyncio.Task[None]] = {}  # by move and controller
        self._due = asyncio.Event()

    async def serve(self, fabric: Fabric, host: str) -> None:
        """Begin to answer for ``host``."""
        await fabric.serve(host, CARGO, self._cargo)

    async def _cargo(self, question: CargoQuestion) -> CargoAnswer:
        sizes = {}
        for node_id in question.nodes:
            folder = self._folders.get(node_id)
            if folder is not None:
                cargo = await in_thread(cargo_of, folder.path, {}, {})
                sizes[node_id] = cargo.total
        return CargoAnswer(sizes=sizes)

    def look(self) -> None:
        """Something changed: look soon."""
        self._due.set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """What another host asks for; ``None``: it is nothing of ours."""
        return await self._server.answer(request)

    def departure_statuses(self, lab_id: str) -> tuple[DepartureStatus, ...]:
        return self.departures.status(lab_id)

    def arrival_statuses(self, lab_id: str) -> tuple[ArrivalStatus, ...]:
        return self.arrivals.status(lab_id)

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What has to run for as long as the agent does."""
        return {"moves": self.run}

    async def run(self) -> None:
        """Look after moves for ever."""
        swept = -_SWEEP_S
        told: object = None
        while True:
            self._due.clear()
            slices = dict(self._slices)
            self.departures.look(slices, self.arrivals.unadopted)
            self.arrivals.look(slices)
            self._look_at_senders()
            moment = asyncio.get_running_loop().time()
            if moment - swept >= _SWEEP_S:
                swept = moment
                await self.arrivals.sweep(slices)
            said = self._said(slices)
            if said != told:
                told = said
                self._wake()
            moving = any(lab.departures or lab.arrivals for lab in slices.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S if moving else _SWEEP_S):
                    await self._due.wait()

    def _said(self, slices: Mapping[str, Slice]) -> object:
        return [(self.departures.status(lab_id), self.arrivals.status(lab_id)) for lab_id in slices]

    def _look_at_senders(self) -> None:
        packed = {
            (parcel.departure.move, parcel.departure.relay): parcel
            for parcel in self.departures.packed()
            if parcel.departure.relay
        }
        for key in self._senders.keys() - packed.keys():
            self._senders.pop(key).cancel()
        for key, parcel in packed.items():
            if key not in self._senders or self._senders[key].done():
                sender = Sender(parcel, self._reach, self._trust)
                self._senders[key] = asyncio.get_running_loop().create_task(sender.run(), name=f"relay-{key[0]}")

    async def close(self) -> None:
        """Let go; the next agent goes on."""
        senders = list(self._senders.values())
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await self.departures.close()
        await self.arrivals.close()
