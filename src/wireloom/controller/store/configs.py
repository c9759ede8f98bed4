"""What the controller asks of its database about configurations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from sqlalchemy import RowMapping, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.configs import digest
from wireloom.configs.policy import follows
from wireloom.controller.store import tables
from wireloom.controller.store.config_records import (
    ActiveConfig,
    Added,
    ConfigNode,
    ConfigRevision,
    NewConfig,
    NodeKey,
)
from wireloom.controller.store.database import Database
from wireloom.controller.store.records import LabEdit
from wireloom.errors import CapacityExceeded, Conflict, NotFound
from wireloom.model.config_views import ConfigPolicy
from wireloom.model.slice import StoredConfig

__all__ = ["MAX_ACTIVE_BYTES", "ConfigStore", "active_configs", "supersede"]

#: Of all nodes of a lab together: a slice with them and their topology's own texts is one message of the fabric.
MAX_ACTIVE_BYTES: Final = 4 * 1024 * 1024

#: The largest integer that every database takes.
_LARGEST_NUMBER: Final = 2**31 - 1

_EXTRACTS = frozenset({"extract", "stop", "schedule"})


class ConfigStore:
    """Configurations by node id. Each method is one transaction; safe for concurrent use."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # ---------------------------------------------------------------- reading

    async def node(self, node_id: str) -> ConfigNode | None:
        async with self._database.read() as connection:
            return await _node(connection, node_id)

    async def nodes(self, *, lab: str | None = None) -> list[ConfigNode]:
        """Every node that something is stored of (of the labs that have or had this name), in no order."""
        table = tables.config_nodes
        query = select(table) if lab is None else select(table).where(table.c.lab == lab)
        async with self._database.read() as connection:
            return [_config_node(row) for row in (await connection.execute(query)).mappings()]

    async def revisions(self, node_id: str) -> list[ConfigRevision]:
        """All revisions of a node, newest first."""
        table = tables.config_revisions
        async with self._database.read() as connection:
            rows = await connection.execute(
                _revisions().where(table.c.node_id == node_id).order_by(table.c.number.desc())
            )
            return [_revision(row) for row in rows.mappings()]

    async def latest(self, *, lab: str | None = None) -> dict[str, tuple[ConfigRevision, int]]:
        """The newest revision and the number of revisions of each node, by node id."""
        table, nodes = tables.config_revisions, tables.config_nodes
        newest = select(
            table.c.node_id, func.max(table.c.number).label("number"), func.count().label("count")
        ).group_by(table.c.node_id)
        if lab is not None:
            newest = newest.where(table.c.node_id.in_(select(nodes.c.node_id).where(nodes.c.lab == lab)))
        last = newest.subquery()
        query = _revisions(last.c.count).join(
            last, (last.c.node_id == table.c.node_id) & (last.c.number == table.c.number)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
            return {row["node_id"]: (_revision(row), int(row["count"])) for row in rows}

    async def text(self, node_id: str, number: int) -> tuple[ConfigRevision, str]:
        """One revision with its text. :raises NotFound:"""
        async with self._database.read() as connection:
            revision = await _existing(connection, node_id, number)
            texts = tables.config_texts
            content = await connection.execute(select(texts.c.content).where(texts.c.sha256 == revision.sha256))
            return revision, str(content.scalar_one())

    # ---------------------------------------------------------------- writing

    async def add(self, key: NodeKey, config: NewConfig, *, by_user: bool) -> Added:
        """Store a configuration as the newest revision of a node, unless the newest has the same text.

        It becomes the active one where :func:`wireloom.configs.policy.follows` says so and its text is another than
        that of the active one. What was stored before under the same hash and time is found again, and changes nothing.

        :raises Conflict: another revision came at the same moment.
        """
        try:
            async with self._database.write() as connection:
                return await self._add(connection, key, config, by_user=by_user)
        except IntegrityError as error:
            raise _simultaneous(key) from error

    async def _add(self, connection: AsyncConnection, key: NodeKey, config: NewConfig, *, by_user: bool) -> Added:
        node = await _ensured(connection, key)
        sha256 = await _keep_text(connection, config.text)
        again = await _stored_before(connection, node, sha256, config.taken_at)
        if again is not None:
            return Added(revision=again, is_new=False, activated=False)
        changes: dict[str, Any] = {**key.model_dump(exclude={"node_id"})}
        if config.origin in _EXTRACTS:
            changes["extracted_at"] = self._clock()
        newest = await _newest(connection, node.node_id)
        is_new = newest is None or newest.sha256 != sha256
        if newest is None or is_new:
            newest = await self._insert(connection, key, config, node.last_number + 1, sha256)
            changes["last_number"] = newest.number
        differs = node.active is None or node.chosen != sha256
        wanted = differs and follows(by_user=by_user, chosen=node.choice, made_with=config.choice)
        activated = wanted and await _has_room(connection, key, newest.size)
        if activated:
            changes |= {"active": newest.number, "origin": "extract", "chosen": sha256}
        await _change(connection, node.node_id, changes)
        return Added(revision=newest, is_new=is_new, activated=activated, no_room=wanted and not activated)

    async def upload(self, key: NodeKey, config: NewConfig, *, activate: bool) -> ConfigRevision:
        """Store a configuration of the user's, always as a new revision.

        :raises Conflict: another revision came at the same moment.
        :raises CapacityExceeded: it is too large to become active beside those of the lab's other nodes.
        """
        try:
            async with self._database.write() as connection:
                node = await _ensured(connection, key)
                sha256 = await _keep_text(connection, config.text)
                revision = await self._insert(connection, key, config, node.last_number + 1, sha256)
                changes: dict[str, Any] = {"last_number": revision.number}
                if activate:
                    await _need_room(connection, key, revision.size)
                    changes |= _choice(node, revision.number, sha256)
                await _change(connection, node.node_id, changes)
                return revision
        except IntegrityError as error:
            raise _simultaneous(key) from error

    async def _insert(
        self, connection: AsyncConnection, key: NodeKey, config: NewConfig, number: int, sha256: str
    ) -> ConfigRevision:
        revision = ConfigRevision(
            **config.model_dump(exclude={"text", "choice"}),
            node_id=key.node_id,
            lab=key.lab,
            node=key.node,
            number=number,
            sha256=sha256,
            size=len(config.text.encode()),
            created_at=self._clock(),
        )
        await connection.execute(insert(tables.config_revisions).values(revision.model_dump(exclude={"size"})))
        return revision

    async def choose(self, key: NodeKey, number: int | None, *, used: bool = False) -> ConfigNode:
        """The user wants revision ``number``; ``None``: the topology's own. ``used``: the node runs with it already.

        :raises NotFound: there is no such revision.
        :raises CapacityExceeded: it is too large to become active beside those of the lab's other nodes.
        """
        async with self._database.write() as connection:
            node = await _ensured(connection, key)
            chosen = ""
            if number is not None:
                revision = await _existing(connection, key.node_id, number)
                await _need_room(connection, key, revision.size)
                chosen = revision.sha256
            changes = _choice(node, number, chosen)
            await _change(connection, key.node_id, {**changes, "choice": node.choice} if used else changes)
            return await _ensured(connection, key)

    async def delete(self, node_id: str, numbers: Collection[int]) -> None:
        """Delete revisions and the texts that nobody else has.

        :raises NotFound: one of them is not there. :raises Conflict: one of them is active.
        """
        async with self._database.write() as connection:
            node = await _node(connection, node_id)
            for number in numbers:
                await _existing(connection, node_id, number)
                if node is not None and node.active == number:
                    raise Conflict(
                        f"revision {number} is the active one",
                        node=node.node,
                        hint="activate another one first, or `--none`",
                    )
            await _delete(connection, node_id, numbers)

    async def forget(self, node_id: str) -> None:
        """Delete everything that is stored of a node, which no longer exists."""
        revisions, nodes = tables.config_revisions, tables.config_nodes
        async with self._database.write() as connection:
            numbers = await connection.scalars(select(revisions.c.number).where(revisions.c.node_id == node_id))
            await _delete(connection, node_id, list(numbers))
            await connection.execute(delete(nodes).where(nodes.c.node_id == node_id))

    # ---------------------------------------------------------------- policies

    async def policies(self) -> dict[str, ConfigPolicy]:
        """What labs do by themselves, by lab id."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(tables.config_policies))).mappings()
            return {row["lab_id"]: ConfigPolicy.model_validate(dict(row)) for row in rows}

    async def set_policy(self, lab_id: str, policy: ConfigPolicy) -> None:
        """:raises NotFound: the lab is gone."""
        table = tables.config_policies
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(table).where(table.c.lab_id == lab_id))
                await connection.execute(insert(table).values(lab_id=lab_id, **policy.model_dump()))
        except IntegrityError as error:
            raise NotFound("the lab is gone") from error


# -------------------------------------------------------------------- used by the store of labs


async def active_configs(connection: AsyncConnection, lab_id: str) -> dict[str, ActiveConfig]:
    """What the nodes of a lab are made with next, by node id."""
    nodes, revisions, texts = tables.config_nodes, tables.config_revisions, tables.config_texts
    rows = await connection.execute(
        select(nodes.c.node_id, nodes.c.active, nodes.c.origin, nodes.c.choice, texts.c.sha256, texts.c.content)
        .outerjoin(revisions, (revisions.c.node_id == nodes.c.node_id) & (revisions.c.number == nodes.c.active))
        .outerjoin(texts, texts.c.sha256 == revisions.c.sha256)
        .where(nodes.c.lab_id == lab_id, nodes.c.origin != "")
    )
    return {row.node_id: _active(row) for row in rows}


def _active(row: Any) -> ActiveConfig:
    has_text = row.active is not None and row.content is not None
    stored = StoredConfig(revision=row.active, sha256=row.sha256, text=row.content) if has_text else None
    return ActiveConfig(stored=stored, by_user=row.origin in {"user", "topology"}, choice=row.choice)


async def supersede(connection: AsyncConnection, edit: LabEdit) -> None:
    """The topology's configuration takes the place of the active revisions of the nodes that ``edit`` names."""
    for node in edit.nodes:
        if node.id in edit.superseded:
            names = {"lab_id": edit.lab.id, "lab": edit.lab.name, "node": node.name, "device": node.device}
            known = await _ensured(connection, NodeKey(node_id=node.id, **names))
            await _change(connection, node.id, {**_choice(known, None, ""), "origin": "topology"})


# -------------------------------------------------------------------- inside


def _choice(node: ConfigNode, number: int | None, sha256: str) -> dict[str, Any]:
    """What changes of ``node`` when the user chooses."""
    return {"active": number, "origin": "user", "chosen": sha256, "choice": node.choice + 1}


def _revisions(*more: Any) -> Select[Any]:
    table, texts = tables.config_revisions, tables.config_texts
    return select(table, texts.c.size, *more).join(texts, texts.c.sha256 == table.c.sha256)


def _revision(row: RowMapping) -> ConfigRevision:
    return ConfigRevision.model_validate(dict(row))


def _config_node(row: RowMapping) -> ConfigNode:
    return ConfigNode.model_validate(dict(row))


async def _node(connection: AsyncConnection, node_id: str) -> ConfigNode | None:
    table = tables.config_nodes
    row = (await connection.execute(select(table).where(table.c.node_id == node_id))).mappings().one_or_none()
    return None if row is None else _config_node(row)


async def _ensured(connection: AsyncConnection, key: NodeKey) -> ConfigNode:
    found = await _node(connection, key.node_id)
    if found is None:
        found = ConfigNode(**key.model_dump())
        await connection.execute(insert(tables.config_nodes).values(found.model_dump()))
    return found


async def _change(connection: AsyncConnection, node_id: str, changes: Mapping[str, Any]) -> None:
    table = tables.config_nodes
    await connection.execute(update(table).where(table.c.node_id == node_id).values(**changes))


async def _has_room(connection: AsyncConnection, key: NodeKey, size: int) -> bool:
    """Whether a text of ``size`` bytes can be active beside those of the lab's other nodes."""
    nodes, revisions, texts = tables.config_nodes, tables.config_revisions, tables.config_texts
    others = (
        select(func.sum(texts.c.size))
        .join(revisions, revisions.c.sha256 == texts.c.sha256)
        .join(nodes, (nodes.c.node_id == revisions.c.node_id) & (nodes.c.active == revisions.c.number))
        .where(nodes.c.lab_id == key.lab_id, nodes.c.node_id != key.node_id)
        .where(nodes.c.node_id.in_(select(tables.nodes.c.id)))
    )
    return size + int((await connection.execute(others)).scalar_one() or 0) <= MAX_ACTIVE_BYTES


async def _need_room(connection: AsyncConnection, key: NodeKey, size: int) -> None:
    if not await _has_room(connection, key, size):
        raise CapacityExceeded(
            f"the active configurations of lab {key.lab} would be larger than {MAX_ACTIVE_BYTES >> 20} MiB together",
            node=key.node,
            hint="give other nodes back to their topology with `wireloom configs activate --none`",
        )


async def _newest(connection: AsyncConnection, node_id: str) -> ConfigRevision | None:
    table = tables.config_revisions
    rows = await connection.execute(
        _revisions().where(table.c.node_id == node_id).order_by(table.c.number.desc()).limit(1)
    )
    row = rows.mappings().one_or_none()
    return None if row is None else _revision(row)


async def _existing(connection: AsyncConnection, node_id: str, number: int) -> ConfigRevision:
    table = tables.config_revisions
    row = None
    if number <= _LARGEST_NUMBER:
        rows = await connection.execute(_revisions().where(table.c.node_id == node_id, table.c.number == number))
        row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no revision {number}", hint="`wireloom configs list` shows which there are")
    return _revision(row)


async def _stored_before(
    connection: AsyncConnection, node: ConfigNode, sha256: str, taken_at: float
) -> ConfigRevision | None:
    """The revision by which this very reading was stored already."""
    table = tables.config_revisions
    rows = await connection.execute(
        _revisions().where(table.c.node_id == node.node_id, table.c.sha256 == sha256, table.c.taken_at == taken_at)
    )
    row = rows.mappings().first()
    return None if row is None else _revision(row)


async def _keep_text(connection: AsyncConnection, text: str) -> str:
    """Have ``text`` stored, and return its hash."""
    table, sha256 = tables.config_texts, digest(text)
    found = await connection.execute(select(table.c.sha256).where(table.c.sha256 == sha256))
    if found.scalar_one_or_none() is None:
        await connection.execute(insert(table).values(sha256=sha256, size=len(text.encode()), content=text))
    return sha256


async def _delete(connection: AsyncConnection, node_id: str, numbers: Collection[int]) -> None:
    revisions, texts = tables.config_revisions, tables.config_texts
    await connection.execute(
        delete(revisions).where(revisions.c.node_id == node_id, revisions.c.number.in_(list(numbers)))
    )
    used = select(revisions.c.sha256).where(revisions.c.sha256 == texts.c.sha256)
    await connection.execute(delete(texts).where(~used.exists()))


def _simultaneous(key: NodeKey) -> Conflict:
    return Conflict("another revision was stored at the same moment", node=key.node, hint="try again")
