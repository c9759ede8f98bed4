"""Which controller leads which lab, by the clock of the database: all controllers have that one in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.clock import database_time
from wireloom.controller.store.database import Database
from wireloom.errors import Conflict

__all__ = ["INSTALLATION", "LeaseStore"]

#: The lab that stands for what is no lab's.
INSTALLATION: Final = ""
#: Advisory lock of PostgreSQL: those who hand out the lead are one after the other.
_LOCK: Final = 0x776C0003


class LeaseStore:
    """Each method is one short transaction, which waits for no other writer. Safe for concurrent use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def shared(self) -> bool:
        """Whether other controllers may be at work on this database."""
        return self._database.shared

    async def renew(self, controller: str, url: str, lease_s: float) -> Mapping[str, int]:
        """Be at work for ``lease_s`` seconds more, and take the labs that nobody leads any more.

        :returns: labs that ``controller`` leads now, with their terms.
        :raises Conflict: another one renews at the same moment. :raises Unavailable:
        """
        try:
            async with self._database.write_urgently() as connection:
                await self._lock(connection)
                now = await database_time(connection)
                await _be_at_work(connection, controller, url, now + lease_s)
                await _take(connection, controller, now)
                return await _led(connection, controller)
        except IntegrityError as error:
            raise Conflict("the lead changed at the same moment", hint="try again") from error

    async def leave(self, controller: str) -> None:
        """Lead nothing any more: others take it at once."""
        async with self._database.write_urgently() as connection:
            await self._lock(connection)
            await connection.execute(delete(tables.controllers).where(tables.controllers.c.id == controller))

    async def controllers(self) -> dict[str, str]:
        """Addresses of the controllers at work, by id."""
        table = tables.controllers
        async with self._database.read() as connection:
            now = await database_time(connection)
            rows = await connection.execute(select(table).where(table.c.lease_until >= now).order_by(table.c.id))
            return {row.id: row.url for row in rows}

    async def _lock(self, connection: AsyncConnection) -> None:
        if self._database.shared:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


async def _be_at_work(connection: AsyncConnection, controller: str, url: str, until: float) -> None:
    table = tables.controllers
    changed = await connection.execute(update(table).where(table.c.id == controller).values(url=url, lease_until=until))
    if changed.rowcount == 0:
        await connection.execute(insert(table).values(id=controller, url=url, lease_until=until))


async def _take(connection: AsyncConnection, controller: str, now: float) -> None:
    """Lead what no controller at work leads; forget labs that have gone, and controllers that are at work no more."""
    workers, leases, labs = tables.controllers, tables.lab_leases, tables.labs
    await connection.execute(delete(workers).where(workers.c.lease_until < now))
    free = leases.c.controller_id.not_in(select(workers.c.id))
    await connection.execute(update(leases).where(free).values(controller_id=controller, term=leases.c.term + 1))
    known = set(await connection.scalars(select(leases.c.lab_id)))
    wanted = {*(await connection.scalars(select(labs.c.id))), INSTALLATION}
    for lab_id in sorted(wanted - known):
        await connection.execute(insert(leases).values(lab_id=lab_id, controller_id=controller, term=1))
    for lab_id in sorted(known - wanted):
        await connection.execute(delete(leases).where(leases.c.lab_id == lab_id))


async def _led(connection: AsyncConnection, controller: str) -> dict[str, int]:
    table = tables.lab_leases
    rows = await connection.execute(select(table).where(table.c.controller_id == controller))
    return {row.lab_id: int(row.term) for row in rows}
