"""Which labs this controller leads: loops that write act for those alone. Verbs are served by every controller.

A lead is a lease in the database, by the database's clock. It is renewed often; who cannot renew it stops by its own
monotonic clock before the database's says that another one may begin, so that no lab has two leaders. The time of a
lease is counted from before the renewal was asked for, so no clock of two machines is compared.

With SQLite there is one controller, which leads everything and asks nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Final

import structlog

from wireloom.controller.store.leases import INSTALLATION, LeaseStore
from wireloom.controller.tasks import Supervisor
from wireloom.errors import WireloomError

__all__ = ["INSTALLATION", "Leadership"]

log = structlog.get_logger(__name__)

#: A lead holds so long without a renewal, by the database's clock.
LEASE_S: Final = 1.5
RENEW_S: Final = 0.4
#: It ends earlier by this at the leader itself: what it began then is over when another one begins.
MARGIN_S: Final = 0.3
#: How long one renewal may take.
_RENEWAL_S: Final = 1.0

#: Called with the id of a lab; :data:`INSTALLATION` for what is no lab's.
Gained = Callable[[str], Awaitable[None]]
Lost = Callable[[str], None]


class Leadership:
    """One per controller process.

    :param leases: where leads are kept. :param url: where the others reach this controller.
    :param monotonic: seconds by a clock that never jumps.
    :ivar id: of this controller, new with every start: a controller that comes back is another one.
    """

    def __init__(
        self,
        leases: LeaseStore,
        *,
        url: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: token_hex(6),
    ) -> None:
        self._leases = leases
        self._monotonic = monotonic
        self.url = url
        self.id = new_id()
        self.alone = not leases.shared
        self._until = 0.0
        self._terms: dict[str, int] = {}  # what the database says
        self._ready: set[str] = set()  # labs that were read anew since they were gained
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._gained: list[Gained] = []
        self._leading: list[Lost] = []
        self._lost: list[Lost] = []

    # ---------------------------------------------------------------- asking

    def leads(self, lab_id: str = INSTALLATION) -> bool:
        """Whether this controller is the one that acts for a lab now; by default: for what is no lab's."""
        if self.alone:
            return True
        return lab_id in self._ready and self._monotonic() < self._until

    def on_gained(self, callback: Gained) -> None:
        """Have ``callback`` awaited for every lab before it is led; when it fails, it is called again soon."""
        self._gained.append(callback)

    def on_leading(self, callback: Lost) -> None:
        """Call ``callback`` when a lab is led from now on."""
        self._leading.append(callback)

    def on_lost(self, callback: Lost) -> None:
        """Call ``callback`` when a lab is led no more."""
        self._lost.append(callback)

    # ---------------------------------------------------------------- keeping

    async def start(self, supervisor: Supervisor) -> None:
        """Lead what nobody leads, and keep the lead. :raises WireloomError: the database does not answer."""
        if self.alone:
            return
        await self.renew()
        supervisor.start("keep the lead", self._run)

    async def stop(self) -> None:
        """Hand everything over to the others at once."""
        if self.alone:
            return
        self._drop_all()
        try:
            async with asyncio.timeout(_RENEWAL_S):
                await self._leases.leave(self.id)
        except (WireloomError, TimeoutError) as error:
            log.warning("lead not handed over; it ends by itself", error=str(error))

    async def _run(self) -> None:
        while True:
            begun = self._monotonic()
            try:
                async with asyncio.timeout(_RENEWAL_S):
                    await self.renew()
            except (WireloomError, TimeoutError) as error:
                log.warning("lead not renewed", error=str(error) or "the database does not answer in time")
            if self._monotonic() >= self._until and self._terms:
                log.warning("the lead has ended: it was not renewed in time")
                self._drop_all()
            await asyncio.sleep(max(RENEW_S - (self._monotonic() - begun), 0.05))

    async def renew(self) -> None:
        """Renew once. :raises WireloomError: it was not renewed."""
        begun = self._monotonic()
        if begun >= self._until:
            self._drop_all()  # others may have led meanwhile: all is read anew
        terms = dict(await self._leases.renew(self.id, self.url, LEASE_S))
        for lab_id in [key for key, term in self._terms.items() if terms.get(key) != term]:
            self._drop(lab_id)
        self._until = begun + LEASE_S - MARGIN_S
        for lab_id, term in terms.items():
            self._terms[lab_id] = term
            if lab_id not in self._ready and lab_id not in self._preparing:
                task = asyncio.create_task(self._prepare(lab_id), name=f"take the lead of {lab_id or 'the rest'}")
                self._preparing[lab_id] = task
                task.add_done_callback(lambda done, key=lab_id: self._prepared(key, done))  # type: ignore[misc]

    async def _prepare(self, lab_id: str) -> None:
        for callback in self._gained:
            await callback(lab_id)
        self._ready.add(lab_id)
        for listener in self._leading:
            listener(lab_id)

    def _prepared(self, lab_id: str, task: asyncio.Task[None]) -> None:
        if self._preparing.get(lab_id) is task:
            del self._preparing[lab_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("lead not taken yet", lab_id=lab_id, error=str(error))  # the next renewal tries again

    def _drop(self, lab_id: str) -> None:
        self._terms.pop(lab_id, None)
        if (task := self._preparing.pop(lab_id, None)) is not None:
            task.cancel()
        if lab_id in self._ready:
            self._ready.discard(lab_id)
            for callback in self._lost:
                callback(lab_id)

    def _drop_all(self) -> None:
        self._until = 0.0
        for lab_id in list(self._terms):
            self._drop(lab_id)
