"""The base of every value that crosses a process border."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Value"]


class Value(BaseModel):
    """An immutable, hashable-by-content value with a JSON form.

    Unknown fields are ignored on reading, so that processes one version apart understand each other.
    Files that people write are validated with their own strict rules in ``wireloom.planning``.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        ser_json_bytes="base64",
        val_json_bytes="base64",
        defer_build=True,  # validators are made at first use, so a command pays only for the few values it touches
    )
