"""Rows of nodes that move."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.records import LabEdit, MoveRecord
from wireloom.model.moves import MovePhase

__all__ = ["read", "write"]

#: In these the target holds something of the node.
_AT_TARGET: Final = frozenset({MovePhase.CARRYING, MovePhase.ARRIVING})


async def read(connection: AsyncConnection, lab_id: str) -> tuple[MoveRecord, ...]:
    """All moves of a lab's nodes, the oldest first."""
    table = tables.moves
    rows = await connection.execute(
        select(table).where(table.c.lab_id == lab_id).order_by(table.c.created_at, table.c.id)
    )
    return tuple(MoveRecord.model_validate(dict(row)) for row in rows.mappings())


async def write(connection: AsyncConnection, edit: LabEdit) -> None:
    """Moves as the edit has them, without those of nodes that are gone; their targets may hold something of the lab.

    The rows of the lab's nodes are written before.
    """
    table, held = tables.moves, tables.lab_hosts
    known = await read(connection, edit.lab.id)
    nodes = {node.id for node in edit.nodes}
    wanted = [move for move in (known if edit.moves is None else edit.moves) if move.node_id in nodes]
    if edit.lab.removing:
        wanted = []
    if tuple(wanted) != known:
        await connection.execute(delete(table).where(table.c.lab_id == edit.lab.id))
        if wanted:
            await connection.execute(insert(table), [move.model_dump(mode="json") for move in wanted])
    hosts = set(await connection.scalars(select(held.c.host).where(held.c.lab_id == edit.lab.id)))
    added = {move.target for move in wanted if move.phase in _AT_TARGET} - hosts
    if added:
        await connection.execute(insert(held), [{"lab_id": edit.lab.id, "host": host} for host in sorted(added)])
