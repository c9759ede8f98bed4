"""Repository functions: what the controller asks of its database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.addresses import free_addresses, holds
from wireloom.controller.store import configs, definitions, links, moves, tables, tunnels
from wireloom.controller.store.configs import ConfigStore
from wireloom.controller.store.database import Database
from wireloom.controller.store.hosts import HostStore
from wireloom.controller.store.image_work import ImageWork
from wireloom.controller.store.images import ImageStore
from wireloom.controller.store.leases import LeaseStore
from wireloom.controller.store.records import (
    Definitions,
    LabEdit,
    LabRecord,
    LabSnapshot,
    NodeRecord,
    OperationRecord,
    RevisionRecord,
)
from wireloom.errors import Conflict
from wireloom.model.views import OperationState

__all__ = ["Store"]


class Store:
    """The controller's truth. Each method is one transaction; safe for concurrent use."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        #: Configurations of nodes.
        self.configs = ConfigStore(database, clock)
        #: Hosts, the keys of their agents, tokens to join.
        self.hosts = HostStore(database, clock)
        #: Images of the library.
        self.images = ImageStore(database, clock)
        #: Jobs of the library, and uploads to it.
        self.image_work = ImageWork(database, clock)
        #: Controllers, and which of them leads which lab.
        self.leases = LeaseStore(database)

    @classmethod
    async def open(cls, url: str) -> Store:
        """Open the database at SQLAlchemy ``url``, its schema brought up to date.

        :raises Unavailable: it cannot be opened now. :raises Unsupported: it is damaged, or another version's.
        """
        return cls(await Database.open(url))

    async def close(self) -> None:
        await self._database.close()

    # ---------------------------------------------------------------- installation and hosts

    async def installation(self) -> str:
        """The id of this installation, made at the first call and the same for ever."""
        async with self._database.write() as connection:
            found = (await connection.execute(select(tables.installation.c.id))).scalar_one_or_none()
            if found is not None:
                return str(found)
            made = token_hex(6)
            await connection.execute(insert(tables.installation).values(id=made, created_at=self._clock()))
            return made

    async def subnets(self) -> dict[str, str]:
        """Management subnet by host, as last told by its agent."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(tables.hosts.c.name, tables.hosts.c.management_subnet))
            return {row.name: row.management_subnet for row in rows if row.management_subnet}

    async def remember_subnet(self, host: str, subnet: str) -> None:
        """Keep what ``host`` says of its management network."""
        async with self._database.write() as connection:
            table = tables.hosts
            changed = await connection.execute(
                update(table).where(table.c.name == host).values(management_subnet=subnet)
            )
            if changed.rowcount == 0:
                await connection.execute(insert(table).values(name=host, management_subnet=subnet))

    # ---------------------------------------------------------------- labs

    async def snapshots(self) -> list[LabSnapshot]:
        """Every lab with its current revision and nodes."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(tables.labs).order_by(tables.labs.c.name))).mappings().all()
            return [await _snapshot(connection, row) for row in rows]

    async def snapshot(self, name: str) -> LabSnapshot | None:
        """The lab called ``name``."""
        return await self._snapshot_where(tables.labs.c.name == name)

    async def snapshot_by_id(self, lab_id: str) -> LabSnapshot | None:
        """The lab with this id."""
        return await self._snapshot_where(tables.labs.c.id == lab_id)

    async def _snapshot_where(self, condition: Any) -> LabSnapshot | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(tables.labs).where(condition))).mappings().one_or_none()
            return None if row is None else await _snapshot(connection, row)

    async def apply(self, edit: LabEdit) -> LabSnapshot:
        """Write one change of intent, all of it or nothing, and return the lab as it is then.

        :raises Conflict: another change came first, the lab's name is taken, or a subnet overlaps another one.
        :raises CapacityExceeded: a host has no management address left, or there is no subnet or tunnel left.
        """
        deployed = None
        if edit.definitions is not None:
            deployed = await asyncio.to_thread(definitions.prepared, edit.definitions)
        try:
            async with self._database.write() as connection:
                await _write_lab(connection, edit)
                if edit.revision is not None:
                    await connection.execute(insert(tables.revisions).values(edit.revision.model_dump()))
                await _write_nodes(connection, edit)
                await configs.supersede(connection, edit)
                await links.write(connection, edit)
                await tunnels.write(connection, edit)
                if deployed is not None:
                    await definitions.write(connection, edit.lab.id, deployed)
                await moves.write(connection, edit)
                if edit.operation is not None:
                    await connection.execute(insert(tables.operations).values(edit.operation.model_dump(mode="json")))
                row = await connection.execute(select(tables.labs).where(tables.labs.c.id == edit.lab.id))
                return await _snapshot(connection, row.mappings().one())
        except IntegrityError as error:
            raise Conflict(
                f"lab {edit.lab.name} changed at the same moment", hint="try again", details={"lab": edit.lab.name}
            ) from error

    async def host_is_empty(self, lab_id: str, host: str) -> None:
        """``host`` holds nothing of the lab any more."""
        table = tables.lab_hosts
        async with self._database.write() as connection:
            await connection.execute(delete(table).where(table.c.lab_id == lab_id, table.c.host == host))

    async def free_tunnels(self, lab_id: str, generation: int) -> LabSnapshot | None:
        """All hosts of a lab have reached ``generation``: what they had to give up by then others may have.

        :return: the lab as it is then, where that changed anything.
        """
        async with self._database.write() as connection:
            freed = await tunnels.free(connection, lab_id, generation)
        return await self.snapshot_by_id(lab_id) if freed else None

    async def pair_secret(self) -> bytes:
        """What the secrets of pairs of hosts are made from. The installation has its id by then."""
        async with self._database.write() as connection:
            return await tunnels.pair_secret(connection)

    async def definitions(self, lab_id: str | None = None) -> dict[str, Definitions]:
        """What nodes were deployed with, by lab id; of one lab, or of all."""
        async with self._database.read() as connection:
            return await definitions.read(connection, lab_id)

    async def generations(self) -> dict[str, int]:
        """Which generation each lab has, by its id."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(tables.labs.c.id, tables.labs.c.generation))
            return {row.id: int(row.generation) for row in rows}

    async def end_impairments(self, now: float) -> list[str]:
        """Forget impairments whose time is over; ids of the labs that had any."""
        async with self._database.write() as connection:
            return await links.end_impairments(connection, now)

    async def next_end(self) -> float | None:
        """When the next impairment ends by itself, UNIX seconds."""
        async with self._database.read() as connection:
            return await links.next_end(connection)

    async def delete_lab(self, lab_id: str) -> bool:
        """Forget a lab that is being removed and that no host holds; whether it was there and is gone now."""
        labs, held = tables.labs, tables.lab_hosts
        async with self._database.write() as connection:
            gone = await connection.execute(
                delete(labs).where(
                    labs.c.id == lab_id,
                    labs.c.removing,
                    ~select(held.c.host).where(held.c.lab_id == lab_id).exists(),
                )
            )
            return gone.rowcount == 1

    # ---------------------------------------------------------------- operations

    async def operation(self, operation_id: str) -> OperationRecord | None:
        table = tables.operations
        async with self._database.read() as connection:
            row = (await connection.execute(select(table).where(table.c.id == operation_id))).mappings().one_or_none()
            return None if row is None else OperationRecord.model_validate(dict(row))

    async def running_operations(self) -> list[OperationRecord]:
        """Operations that were not finished when last written, oldest first."""
        table = tables.operations
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(table).where(table.c.state == OperationState.RUNNING.value).order_by(table.c.created_at)
            )
            return [OperationRecord.model_validate(dict(row)) for row in rows.mappings()]

    async def add_operation(self, record: OperationRecord) -> None:
        """Keep an operation that changes nothing of its lab."""
        async with self._database.write() as connection:
            await connection.execute(insert(tables.operations).values(record.model_dump(mode="json")))

    async def save_operation(self, record: OperationRecord) -> None:
        """Write progress or the end of an operation."""
        table = tables.operations
        values = record.model_dump(mode="json", include={"state", "done", "total", "errors", "finished_at"})
        async with self._database.write() as connection:
            running = table.c.state == OperationState.RUNNING.value  # another controller may have ended it
            await connection.execute(update(table).where(table.c.id == record.id, running).values(values))

    async def forget_operations(self, before: float) -> None:
        """Delete operations that ended before the UNIX time ``before``."""
        table = tables.operations
        async with self._database.write() as connection:
            await connection.execute(delete(table).where(table.c.finished_at < before))


async def _snapshot(connection: AsyncConnection, lab_row: RowMapping) -> LabSnapshot:
    lab = LabRecord.model_validate(dict(lab_row))
    revisions, nodes, held = tables.revisions, tables.nodes, tables.lab_hosts
    revision = await connection.execute(
        select(revisions).where(revisions.c.lab_id == lab.id, revisions.c.number == lab.revision)
    )
    node_rows = await connection.execute(select(nodes).where(nodes.c.lab_id == lab.id).order_by(nodes.c.name))
    vnis, released = await tunnels.leases(connection, lab.id)
    host_rows = await connection.execute(select(held.c.host).where(held.c.lab_id == lab.id).order_by(held.c.host))
    return LabSnapshot(
        lab=lab,
        revision=RevisionRecord.model_validate(dict(revision.mappings().one())),
        nodes=tuple(NodeRecord.model_validate(dict(row)) for row in node_rows.mappings()),
        hosts=tuple(host_rows.scalars()),
        configs=await configs.active_configs(connection, lab.id),
        impairments=await links.impairments(connection, lab.id),
        nat_subnets=await links.nat_subnets(connection, lab.id),
        vnis=vnis,
        released=released,
        moves=await moves.read(connection, lab.id),
    )


async def _write_lab(connection: AsyncConnection, edit: LabEdit) -> None:
    labs = tables.labs
    values = edit.lab.model_dump()
    if edit.expected_generation is None:
        await connection.execute(insert(labs).values(values))
        return
    changed = await connection.execute(
        update(labs).where(labs.c.id == edit.lab.id, labs.c.generation == edit.expected_generation).values(values)
    )
    if changed.rowcount != 1:
        raise Conflict(
            f"lab {edit.lab.name} changed at the same moment", hint="try again", details={"lab": edit.lab.name}
        )


async def _write_nodes(connection: AsyncConnection, edit: LabEdit) -> None:
    """Replace the lab's nodes. Rows go first, so that addresses and names of leaving nodes are free again."""
    table = tables.nodes
    await connection.execute(delete(table).where(table.c.lab_id == edit.lab.id))
    placed = await _with_addresses(connection, edit.nodes, edit.subnets)
    if placed:
        await connection.execute(insert(table), [node.model_dump() for node in placed])
    held = tables.lab_hosts
    known = set(await connection.scalars(select(held.c.host).where(held.c.lab_id == edit.lab.id)))
    added = {node.host for node in placed if node.host and node.problem is None} - known
    if added:
        await connection.execute(insert(held), [{"lab_id": edit.lab.id, "host": host} for host in sorted(added)])


async def _with_addresses(
    connection: AsyncConnection, nodes: Iterable[NodeRecord], subnets: dict[str, str]
) -> Sequence[NodeRecord]:
    """``nodes`` with a management address each; those that have a fitting one keep it."""
    table = tables.nodes
    rows = await connection.execute(
        select(table.c.host, table.c.mgmt_ipv4).where(table.c.host.in_(list(subnets)), table.c.mgmt_ipv4.is_not(None))
    )
    taken: dict[str, set[str]] = {host: set() for host in subnets}
    for host, address in rows:
        taken[host].add(address)
    keeping: list[NodeRecord] = []
    asking: list[NodeRecord] = []
    for node in nodes:
        subnet = subnets.get(node.host)
        keeps = subnet is None or (node.mgmt_ipv4 is not None and holds(subnet, node.mgmt_ipv4))
        (keeping if keeps and node.mgmt_ipv4 not in taken.get(node.host, set()) else asking).append(node)
    for node in keeping:
        if node.mgmt_ipv4 is not None and node.host in taken:
            taken[node.host].add(node.mgmt_ipv4)
    free = {host: free_addresses(subnet, taken[host]) for host, subnet in subnets.items()}
    return [*keeping, *(node.model_copy(update={"mgmt_ipv4": next(free[node.host])}) for node in asking)]
