"""The database's clock: the one that all controllers of an installation have in common."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["database_time"]

_SQL: Final = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}


async def database_time(connection: AsyncConnection) -> float:
    """UNIX seconds as the database has them at this moment."""
    return float((await connection.execute(text(_SQL[connection.dialect.name]))).scalar_one())
