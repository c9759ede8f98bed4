"""Numbers of tunnels: one for each link between hosts, that no other link of the installation has.

A number that was given up is free only when nobody can use it any more; until then nobody else gets it, and the link
that had it gets it back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.records import LabEdit
from wireloom.errors import CapacityExceeded

__all__ = ["VNI_MOST", "free", "leases", "pair_secret", "write"]

#: The largest number that a tunnel can have; 0 is none.
VNI_MOST: Final = 2**24 - 1
#: Rows of one statement.
_BATCH: Final = 400
#: Draws of one number that others take at the same moment, before somebody is told.
_TRIES: Final = 20

T = TypeVar("T")
Draw = Callable[[], int]


def _random() -> int:
    """Not the next free one: another installation on the same underlay draws from the same range."""
    return 1 + secrets.randbelow(VNI_MOST)


async def leases(connection: AsyncConnection, lab_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """By id of the link: numbers that a lab has, and generations from which on others were given up."""
    table = tables.vni_leases
    rows = (await connection.execute(select(table).where(table.c.lab_id == lab_id).order_by(table.c.link_id))).all()
    held = {row.link_id: int(row.vni) for row in rows if row.released is None}
    return held, {row.link_id: int(row.released) for row in rows if row.released is not None}


async def write(connection: AsyncConnection, edit: LabEdit, draw: Draw = _random) -> None:
    """Have each link of ``edit`` that needs one have a number.

    :raises CapacityExceeded: there are not that many left.
    """
    if edit.tunnelled is None:
        return
    table = tables.vni_leases
    held, released = await leases(connection, edit.lab.id)
    own = table.c.lab_id == edit.lab.id
    for links in _batches(edit.tunnelled & released.keys()):
        await connection.execute(update(table).where(own, table.c.link_id.in_(links)).values(released=None))
    for links in _batches(held.keys() - edit.tunnelled):
        values = {"released": edit.lab.generation}
        await connection.execute(update(table).where(own, table.c.link_id.in_(links)).values(values))
    await _lease(connection, edit.lab.id, sorted(edit.tunnelled - held.keys() - released.keys()), draw)


async def _lease(connection: AsyncConnection, lab_id: str, links: Collection[str], draw: Draw) -> None:
    if not links:
        return
    table = tables.vni_leases
    used = int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
    if used + len(links) > VNI_MOST:
        raise CapacityExceeded(
            f"{len(links)} links between hosts need a number each, and only {VNI_MOST - used} of {VNI_MOST} are left",
            hint="put nodes that are linked on one host, or destroy other labs",
        )
    waiting = list(links)
    for _ in range(_TRIES):
        numbers = _distinct(len(waiting), draw)
        for vnis in _batches(numbers):
            taken = await connection.scalars(select(table.c.vni).where(table.c.vni.in_(vnis)))
            numbers -= set(taken)
        pairs = zip(sorted(numbers), waiting, strict=False)  # in one order, or two controllers wait for each other
        rows = [{"vni": vni, "link_id": link, "lab_id": lab_id} for vni, link in pairs]
        try:
            async with connection.begin_nested():
                if rows:
                    await connection.execute(insert(table), rows)
        except IntegrityError:  # another controller was quicker with one of them
            continue
        waiting = waiting[len(rows) :]
        if not waiting:
            return
    raise CapacityExceeded("no free numbers for links between hosts were found", hint="try again")


def _distinct(count: int, draw: Draw) -> set[int]:
    return {draw() for _ in range(count)}


def _batches(values: Iterable[T]) -> Iterable[list[T]]:
    found = list(values)
    return (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))


async def free(connection: AsyncConnection, lab_id: str, generation: int) -> int:
    """Let go of numbers that were given up by ``generation``, which all hosts of the lab have reached; how many."""
    table = tables.vni_leases
    gone = await connection.execute(delete(table).where(table.c.lab_id == lab_id, table.c.released <= generation))
    return int(gone.rowcount)


async def pair_secret(connection: AsyncConnection) -> bytes:
    """What the secrets of pairs of hosts are made from; made at the first call, and the same for ever."""
    table = tables.installation
    mine = update(table).where(table.c.pair_secret.is_(None)).values(pair_secret=secrets.token_hex(32))
    await connection.execute(mine)
    return bytes.fromhex((await connection.execute(select(table.c.pair_secret))).scalar_one())
