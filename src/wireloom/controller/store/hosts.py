"""What the controller asks of its database about hosts: their records, the keys of their agents, tokens to join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import RowMapping, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.clock import database_time
from wireloom.controller.store.database import Database
from wireloom.controller.store.host_records import HostKey, HostRecord, JoinToken
from wireloom.errors import Conflict, NotFound, NotPermitted

__all__ = ["HostStore"]

_EDITABLE = frozenset({"labels", "cordoned", "cordon_reason", "draining"})


class HostStore:
    """Hosts of the installation. Each method is one transaction; safe for concurrent use."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # ---------------------------------------------------------------- records

    async def hosts(self) -> list[HostRecord]:
        """Every host, by name."""
        table = tables.hosts
        async with self._database.read() as connection:
            rows = await connection.execute(select(table).order_by(table.c.name))
            return [HostRecord.model_validate(dict(row)) for row in rows.mappings()]

    async def edit(self, host: str, **changes: Any) -> HostRecord:
        """Write some of ``labels``, ``cordoned``, ``cordon_reason``, ``draining``, and return the record as it is then.

        :raises NotFound: no such host.
        """
        if unknown := changes.keys() - _EDITABLE:
            raise ValueError(f"not editable: {', '.join(sorted(unknown))}")
        table = tables.hosts
        async with self._database.write() as connection:
            changed = await connection.execute(update(table).where(table.c.name == host).values(**changes))
            if changed.rowcount != 1:
                raise NotFound(f"there is no host {host}")
            return await _record(connection, host)

    async def remove(self, host: str) -> list[str]:
        """Forget ``host``: its keys, which are returned, are revoked, its tokens go, and no lab waits for it.

        Nodes there are nowhere then; their labs have a new generation, so no edit under way puts them back.
        """
        async with self._database.write() as connection:
            keys = await _revoke(connection, host, self._clock())
            await _give_up_nodes(connection, host)
            await connection.execute(delete(tables.lab_hosts).where(tables.lab_hosts.c.host == host))
            await connection.execute(delete(tables.hosts).where(tables.hosts.c.name == host))
            await connection.execute(delete(tables.join_tokens).where(tables.join_tokens.c.host == host))
            return keys

    # ---------------------------------------------------------------- keys

    async def keys(self, host: str | None = None) -> list[HostKey]:
        """Keys of agents, also revoked ones, the oldest first; of one host, or of all."""
        table = tables.host_keys
        async with self._database.read() as connection:
            wanted = select(table).order_by(table.c.issued_at, table.c.public_key)
            rows = await connection.execute(wanted if host is None else wanted.where(table.c.host == host))
            return [HostKey.model_validate(dict(row)) for row in rows.mappings()]

    async def revoked(self) -> list[str]:
        """Public keys that must not come in any more."""
        table = tables.host_keys
        async with self._database.read() as connection:
            rows = await connection.scalars(select(table.c.public_key).where(table.c.revoked_at.is_not(None)))
            return list(rows)

    async def removed_hosts(self) -> frozenset[str]:
        """Names that were of the installation and are no more."""
        table = tables.host_keys
        async with self._database.read() as connection:
            there = select(tables.hosts.c.name)
            return frozenset(await connection.scalars(select(table.c.host).where(table.c.host.not_in(there))))

    async def admit(self, host: str, public_key: str) -> None:
        """Remember ``public_key`` as a further one of ``host``, which has the right to renew its login; idempotent.

        :raises NotPermitted: the host was removed, or the key is revoked or another host's.
        """
        table = tables.host_keys
        async with self._database.write() as connection:
            rows = (await connection.execute(select(table).where(table.c.public_key == public_key))).mappings().all()
            known = next(iter(rows), None)
            if known is not None and (known["host"] != host or known["revoked_at"] is not None):
                raise NotPermitted("this key is not accepted any more", hint="join with a new token")
            await _keep_host(connection, host)
            if known is None:
                key = HostKey(public_key=public_key, host=host, token_id="", issued_at=self._clock())
                await _accept(connection, key)

    async def settle(self, host: str, public_key: str) -> None:
        """``host`` uses ``public_key`` now: every other key of its is revoked from here on; idempotent."""
        async with self._database.write() as connection:
            await _revoke(connection, host, self._clock(), keep=public_key)

    # ---------------------------------------------------------------- tokens

    async def add_token(self, token: JoinToken, life_s: float) -> JoinToken:
        """Keep a new token for ``life_s`` seconds of the database's clock, and forget those that ran out.

        :returns: the token with the times that are stored.
        """
        table = tables.join_tokens
        async with self._database.write() as connection:
            now = await database_time(connection)
            stored = token.model_copy(update={"created_at": now, "expires_at": now + life_s})
            await connection.execute(delete(table).where(table.c.expires_at < now))
            await connection.execute(insert(table).values(stored.model_dump()))
            return stored

    async def tokens(self) -> list[JoinToken]:
        """Tokens that have not run out, the oldest first, also used ones."""
        table = tables.join_tokens
        async with self._database.read() as connection:
            now = await database_time(connection)
            rows = await connection.execute(select(table).where(table.c.expires_at >= now).order_by(table.c.created_at))
            return [JoinToken.model_validate(dict(row)) for row in rows.mappings()]

    async def revoke_token(self, token_id: str) -> None:
        """:raises NotFound: no such token."""
        table = tables.join_tokens
        async with self._database.write() as connection:
            gone = await connection.execute(delete(table).where(table.c.id == token_id))
            if gone.rowcount != 1:
                raise NotFound(f"there is no token {token_id}")

    async def check_token(self, *, token_id: str, sha256: str) -> None:
        """:raises NotPermitted: the token is unknown, its secret is another, or it has run out."""
        async with self._database.read() as connection:
            await _token(connection, token_id, sha256, self._clock())

    async def join(self, *, token_id: str, sha256: str, host: str, public_key: str) -> list[str]:
        """Use up one use of a token: ``host`` is of the installation, and its agent has ``public_key``.

        The same host and key may do it again with the same token, which uses up nothing.

        :returns: keys of the host that were good until now and are revoked.
        :raises NotPermitted: the token is unknown, used up, has run out, or is made for another host.
        :raises Conflict: the name or the key is taken.
        """
        try:
            async with self._database.write() as connection:
                return await self._join(connection, token_id, sha256, host, public_key)
        except IntegrityError as error:
            raise Conflict(f"another host joined as {host} at the same moment", hint="try again") from error

    async def _join(
        self, connection: AsyncConnection, token_id: str, sha256: str, host: str, public_key: str
    ) -> list[str]:
        token = await _token(connection, token_id, sha256, await database_time(connection))
        if token.host not in ("", host):
            raise NotPermitted(
                f"this token is made for host {token.host}, not for {host}",
                hint=f'set `host = "{token.host}"` there, or make another token',
            )
        keys = tables.host_keys
        mine = (await connection.execute(select(keys).where(keys.c.public_key == public_key))).mappings()
        known = mine.one_or_none()
        if known is not None and _same(known, host, token_id):
            return []
        await _use_up(connection, token)
        return await self._admit(connection, token, host, public_key)

    async def _admit(self, connection: AsyncConnection, token: JoinToken, host: str, public_key: str) -> list[str]:
        table, now = tables.hosts, self._clock()
        there = (await connection.execute(select(exists().where(table.c.name == host)))).scalar_one()
        if there and token.host != host:
            raise Conflict(
                f"there is a host {host} already",
                hint=f"give this host another name, or, if it is the same machine, `wireloom host token {host}`",
            )
        revoked = await _revoke(connection, host, now)
        if there:
            values = {"joined_at": now, **({"labels": token.labels} if token.labels else {})}
            await connection.execute(update(table).where(table.c.name == host).values(**values))
        else:
            await connection.execute(
                insert(table).values(name=host, management_subnet="", labels=token.labels, joined_at=now)
            )
        await _accept(connection, HostKey(public_key=public_key, host=host, token_id=token.id, issued_at=now))
        return revoked


def _same(row: RowMapping, host: str, token_id: str) -> bool:
    return row["host"] == host and row["token_id"] == token_id and row["revoked_at"] is None


async def _give_up_nodes(connection: AsyncConnection, host: str) -> None:
    labs, nodes = tables.labs, tables.nodes
    concerned = select(nodes.c.lab_id).where(nodes.c.host == host)
    await connection.execute(update(labs).where(labs.c.id.in_(concerned)).values(generation=labs.c.generation + 1))
    await connection.execute(update(nodes).where(nodes.c.host == host).values(host="", mgmt_ipv4=None))


async def _record(connection: AsyncConnection, host: str) -> HostRecord:
    row = await connection.execute(select(tables.hosts).where(tables.hosts.c.name == host))
    return HostRecord.model_validate(dict(row.mappings().one()))


async def _token(connection: AsyncConnection, token_id: str, sha256: str, now: float) -> JoinToken:
    """The token, if its secret is right and its time has not come. :raises NotPermitted:"""
    table = tables.join_tokens
    row = (await connection.execute(select(table).where(table.c.id == token_id))).mappings().one_or_none()
    if row is None or row["sha256"] != sha256:
        raise NotPermitted("this token is not known", hint="make one on the controller with `wireloom host token`")
    token = JoinToken.model_validate(dict(row))
    if token.expires_at < now:
        raise NotPermitted("this token has run out", hint="make a new one with `wireloom host token`")
    return token


async def _use_up(connection: AsyncConnection, token: JoinToken) -> None:
    table = tables.join_tokens
    used = await connection.execute(
        update(table).where(table.c.id == token.id, table.c.uses_left > 0).values(uses_left=table.c.uses_left - 1)
    )
    if used.rowcount != 1:
        raise NotPermitted("this token is used up", hint="make a new one with `wireloom host token`")


async def _keep_host(connection: AsyncConnection, host: str) -> None:
    """Have a row of ``host``, which may never have been heard of. :raises NotPermitted: it was removed."""
    hosts, keys = tables.hosts, tables.host_keys
    if (await connection.execute(select(exists().where(hosts.c.name == host)))).scalar_one():
        return
    if (await connection.execute(select(exists().where(keys.c.host == host)))).scalar_one():
        raise NotPermitted(f"host {host} was removed", hint=f"to take it back: `wireloom host token {host}`")
    await connection.execute(insert(hosts).values(name=host, management_subnet="", labels={}))


async def _accept(connection: AsyncConnection, key: HostKey) -> HostKey:
    try:
        await connection.execute(insert(tables.host_keys).values(key.model_dump()))
    except IntegrityError as error:
        raise Conflict(
            "this key is known already", hint="delete the agent's key file, so that it makes a new pair"
        ) from error
    return key


async def _revoke(connection: AsyncConnection, host: str, now: float, *, keep: str = "") -> list[str]:
    table = tables.host_keys
    good = (table.c.host == host) & table.c.revoked_at.is_(None) & (table.c.public_key != keep)
    keys = list((await connection.scalars(select(table.c.public_key).where(good))).all())
    await connection.execute(update(table).where(good).values(revoked_at=now))
    return keys
