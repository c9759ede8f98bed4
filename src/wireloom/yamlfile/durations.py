"""Lengths of time as people write them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from wireloom.yamlfile.values import wrong

__all__ = ["Duration"]

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")


def _seconds(value: Any) -> Any:
    """Seconds from a number of seconds or text with a unit."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise wrong(f"{value!r} is not a length of time", "write 90s, 5m, 2h or a number of seconds")
    return float(match.group(1)) * _UNITS[match.group(2)]


#: Seconds; up to 30 days.
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(gt=0, le=30 * 86400, allow_inf_nan=False),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*[smhd]?$"},
            ]
        }
    ),
]
