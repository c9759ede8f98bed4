"""What nodes were deployed with, kept beside the generation that they were deployed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from pydantic import ValidationError
from sqlalchemy import Column, Select, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from wireloom.controller.store import tables
from wireloom.controller.store.records import Definitions
from wireloom.model.base import Value
from wireloom.model.dialogue import Cli
from wireloom.model.slice import NodeIntent

__all__ = ["PreparedDefinitions", "prepared", "read", "write"]

log = structlog.get_logger(__name__)

V = TypeVar("V", bound=Value)

#: Values of one statement; SQLite takes 999 in its oldest supported versions.
_BATCH: Final = 500
_NODES: Final = (tables.node_definitions, tables.node_definitions.c.node_id)
_CLIS: Final = (tables.cli_definitions, tables.cli_definitions.c.name)


class _Row(NamedTuple):
    sha256: str
    definition: dict[str, Any]


@dataclass(frozen=True)
class PreparedDefinitions:
    """Rows of a lab by node id, and by name of the command line."""

    nodes: Mapping[str, _Row]
    clis: Mapping[str, _Row]


async def read(connection: AsyncConnection, lab_id: str | None = None) -> dict[str, Definitions]:
    """Definitions by lab id, of one lab or of all.

    One that this version cannot read is left out: its node takes that of today.
    """
    found: dict[str, tuple[dict[str, NodeIntent], dict[str, Cli]]] = {}
    for row in await connection.execute(_of(tables.node_definitions, lab_id)):
        node = _validated(NodeIntent, row.definition, lab_id=row.lab_id, node_id=row.node_id)
        if node is not None:
            found.setdefault(row.lab_id, ({}, {}))[0][row.node_id] = node
    for row in await connection.execute(_of(tables.cli_definitions, lab_id)):
        cli = _validated(Cli, row.definition, lab_id=row.lab_id, cli=row.name)
        if cli is not None:
            found.setdefault(row.lab_id, ({}, {}))[1][row.name] = cli
    return {lab_id: Definitions(nodes=nodes, clis=clis) for lab_id, (nodes, clis) in found.items()}


def _of(table: Table, lab_id: str | None) -> Select[Any]:
    return select(table) if lab_id is None else select(table).where(table.c.lab_id == lab_id)


def _validated(kind: type[V], document: Any, **subject: str) -> V | None:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        log.warning("stored definition is another version's", problems=error.error_count(), **subject)
        return None


def prepared(definitions: Definitions) -> PreparedDefinitions:
    """What :func:`write` stores; takes a while for a large lab, and needs no database."""
    return PreparedDefinitions(
        nodes={node_id: _row(node) for node_id, node in definitions.nodes.items()},
        clis={name: _row(cli) for name, cli in definitions.clis.items()},
    )


def _row(value: Value) -> _Row:
    document = value.model_dump(mode="json")
    return _Row(hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest(), document)


async def write(connection: AsyncConnection, lab_id: str, definitions: PreparedDefinitions) -> None:
    """Have exactly ``definitions`` stored of a lab; rows that are right already are left alone."""
    await _write(connection, *_NODES, lab_id, definitions.nodes)
    await _write(connection, *_CLIS, lab_id, definitions.clis)


async def _write(
    connection: AsyncConnection, table: Table, key: Column[Any], lab_id: str, wanted: Mapping[str, _Row]
) -> None:
    rows = await connection.execute(select(key, table.c.sha256).where(table.c.lab_id == lab_id))
    stored = {row[0]: row.sha256 for row in rows}
    gone = [name for name, sha256 in stored.items() if name not in wanted or wanted[name].sha256 != sha256]
    for start in range(0, len(gone), _BATCH):
        batch = gone[start : start + _BATCH]
        await connection.execute(delete(table).where(table.c.lab_id == lab_id, key.in_(batch)))
    fresh = [
        {"lab_id": lab_id, key.name: name, **row._asdict()}
        for name, row in wanted.items()
        if stored.get(name) != row.sha256
    ]
    if fresh:
        await connection.execute(insert(table), fresh)
