"""The base of every value that crosses a process border."""

from __future__ import annotations

from typing import Any, Self

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

    def changed(self, **fields: Any) -> Self:
        """This value with other ``fields``, which are not checked: :meth:`model_copy`, several times as fast."""
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", {**self.__dict__, **fields})
        object.__setattr__(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__ | fields.keys())
        object.__setattr__(copy, "__pydantic_extra__", None)
        object.__setattr__(copy, "__pydantic_private__", None)
        return copy
