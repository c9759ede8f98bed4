"""What is stored of a lab's links and segments beside its topology: impairments, and leased subnets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.addresses import overlapping
from wireloom.controller.store import tables
from wireloom.controller.store.records import LabEdit
from wireloom.errors import Conflict
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.planning.nat import choose_subnet

__all__ = ["end_impairments", "impairments", "nat_subnets", "next_end", "write"]


async def impairments(connection: AsyncConnection, lab_id: str) -> dict[str, LinkImpairment]:
    """What users set by verbs, by id of the link."""
    table = tables.link_impairments
    rows = await connection.execute(select(table.c.link_id, table.c.impairment).where(table.c.lab_id == lab_id))
    return {row.link_id: _read(row.impairment) for row in rows}


def _read(stored: dict[str, Any]) -> LinkImpairment:
    """What a row says. An earlier form, which has ``until``, took the place of the topology's impairment as a whole."""
    found = LinkImpairment.model_validate(stored)
    if "until" not in stored:
        return found
    return found.model_copy(
        update={"forward": found.forward or Impairment(), "backward": found.backward or Impairment()}
    )


def _values(value: LinkImpairment) -> dict[str, Any]:
    """The reverse of :func:`_read`, with the moment from when on it is not true any more."""
    return {"impairment": value.model_dump(mode="json"), "until": min(value.ends, default=None)}


async def nat_subnets(connection: AsyncConnection, lab_id: str) -> dict[str, str]:
    """Subnet of each segment of a lab that has address translation, by id of the segment."""
    table = tables.nat_leases
    rows = await connection.execute(select(table.c.segment_id, table.c.subnet).where(table.c.lab_id == lab_id))
    return {row.segment_id: row.subnet for row in rows}


async def next_end(connection: AsyncConnection) -> float | None:
    """When the next impairment ends by itself, UNIX seconds."""
    found = (await connection.execute(select(func.min(tables.link_impairments.c.until)))).scalar_one()
    return None if found is None else float(found)


async def end_impairments(connection: AsyncConnection, now: float) -> list[str]:
    """Forget directions of impairments whose time is over; ids of the labs that had any."""
    table = tables.link_impairments
    rows = (await connection.execute(select(table).where(table.c.until <= now))).all()
    for row in rows:
        own = (table.c.lab_id == row.lab_id) & (table.c.link_id == row.link_id)
        left = _read(row.impairment).at(now)
        if left == LinkImpairment():
            await connection.execute(delete(table).where(own))
        else:
            await connection.execute(update(table).where(own).values(_values(left)))
    return sorted({row.lab_id for row in rows})


async def write(connection: AsyncConnection, edit: LabEdit) -> None:
    """Have what ``edit`` says, and nothing else, stored of its lab."""
    await _write_impairments(connection, edit)
    await _write_leases(connection, edit)


async def _write_impairments(connection: AsyncConnection, edit: LabEdit) -> None:
    if await impairments(connection, edit.lab.id) == edit.impairments:
        return
    table = tables.link_impairments
    await connection.execute(delete(table).where(table.c.lab_id == edit.lab.id))
    rows = [
        {"lab_id": edit.lab.id, "link_id": link_id, **_values(value)} for link_id, value in edit.impairments.items()
    ]
    if rows:
        await connection.execute(insert(table), rows)


async def _write_leases(connection: AsyncConnection, edit: LabEdit) -> None:
    table = tables.nat_leases
    held = await nat_subnets(connection, edit.lab.id)
    if not held and not edit.nat_segments:
        return
    rows = await connection.execute(select(table.c.subnet, table.c.lab_id).where(table.c.lab_id != edit.lab.id))
    owners = {row.subnet: f"lab {await _lab_name(connection, row.lab_id)}" for row in rows.all()}
    owners |= {subnet: f"the management network of host {host}" for host, subnet in edit.subnets.items()}
    leases = _leases(edit, held, owners)
    if leases == held:
        return
    await connection.execute(delete(table).where(table.c.lab_id == edit.lab.id))
    if leases:
        values = [{"subnet": subnet, "segment_id": key, "lab_id": edit.lab.id} for key, subnet in leases.items()]
        await connection.execute(insert(table), values)


def _leases(edit: LabEdit, held: Mapping[str, str], owners: Mapping[str, str]) -> dict[str, str]:
    """A subnet for each segment of ``edit``: what users want first, then what was ``held``, then what is free.

    :param owners: subnets that are in use elsewhere → by whom.
    """
    taken = dict(owners)
    leases: dict[str, str] = {}
    for segment_id, wanted in edit.nat_segments.items():
        if not wanted:
            continue
        other = overlapping(wanted, taken)
        if other is not None:
            raise Conflict(
                f"subnet {wanted} overlaps {other}, which is that of {taken[other]}",
                hint="choose another one, or leave `subnet` out and have one chosen",
                details={"subnet": wanted, "overlaps": other},
            )
        leases[segment_id] = wanted
        taken[wanted] = f"another segment of lab {edit.lab.name}"
    for segment_id, wanted in edit.nat_segments.items():
        if wanted:
            continue
        before = held.get(segment_id)
        kept = before is not None and overlapping(before, taken) is None
        leases[segment_id] = before if kept and before is not None else choose_subnet(segment_id, taken)
        taken[leases[segment_id]] = f"another segment of lab {edit.lab.name}"
    return leases


async def _lab_name(connection: AsyncConnection, lab_id: str) -> str:
    row = await connection.execute(select(tables.labs.c.name).where(tables.labs.c.id == lab_id))
    return str(row.scalar_one())
