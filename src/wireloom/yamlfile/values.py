"""Values that people write in more than one way, with the JSON Schema of each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from wireloom.yamlfile.tree import WrittenFloat, WrittenInt

__all__ = ["Cpu", "Disk", "Memory", "Text", "TextMap", "Word", "plain", "wrong"]

#: MiB by unit. In lab files MB and MiB are used for the same thing: a machine of "512MB" has 512 MiB.
_UNITS: Final = {
    **dict.fromkeys(("", "M", "MB", "MIB"), 1),
    **dict.fromkeys(("G", "GB", "GIB"), 2**10),
    **dict.fromkeys(("T", "TB", "TIB"), 2**20),
}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def wrong(message: str, suggestion: str = "") -> PydanticCustomError:
    """An error for a validator to raise: a message and what to write instead."""
    # Braces would be read as a template of pydantic's.
    return PydanticCustomError("written", "{message}", {"message": message, "suggestion": suggestion})


def _memory(value: Any) -> Any:
    """MiB from a number of MiB or text with a unit."""
    if not isinstance(value, str):
        return value
    match = _MEMORY.fullmatch(value.strip())
    unit = match.group(2).upper() if match else None
    if match is None or unit not in _UNITS:
        raise wrong(f"{value!r} is not an amount of memory", "write 512MB, 2GiB or a number of MiB")
    return round(float(match.group(1)) * _UNITS[unit])


def _disk(value: Any) -> Any:
    """GiB from a number of GiB or text with a unit."""
    if not isinstance(value, str):
        return value
    match = _MEMORY.fullmatch(value.strip())
    unit = match.group(2).upper() if match else None
    if match is None or not unit or unit not in _UNITS:
        raise wrong(f"{value!r} is not the size of a disk", "write 20GB or a number of GiB")
    return float(match.group(1)) * _UNITS[unit] / 1024


def _text(value: Any) -> Any:
    """Numbers and booleans as they were written, for places where only text makes sense."""
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.written
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _text_map(value: Any) -> Any:
    """``KEY: value`` pairs; also a list of ``KEY=value``."""
    if not isinstance(value, list):
        return value
    pairs: dict[str, str] = {}
    for item in value:
        key, separator, text = str(item).partition("=")
        if not separator:
            raise wrong(f"{item!r} has no value", f"write `{item}: value` or `- {item}=value`")
        pairs[key] = text
    return pairs


#: MiB; up to 16 TiB, more than any host has.
Memory = Annotated[
    int,
    BeforeValidator(_memory),
    Field(ge=4, le=16 * 2**20),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "integer", "minimum": 4},
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*([MmGgTt]([Ii]?[Bb])?)?$"},
            ]
        }
    ),
]
#: GiB; 0: as the image has it.
Disk = Annotated[
    float,
    BeforeValidator(_disk),
    Field(ge=0, le=64 * 2**10, allow_inf_nan=False),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*[MmGgTt]([Ii]?[Bb])?$"},
            ]
        }
    ),
]
#: Cores.
Cpu = Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)]
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]
#: Text by which something is named; a number is taken as it is written.
Word = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
TextMap = Annotated[
    dict[str, Text],
    BeforeValidator(_text_map),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
                {"type": "array", "items": {"type": "string", "pattern": "="}},
            ]
        }
    ),
]


def plain(value: Any) -> Any:
    """``value`` without what it remembers of its writing, for data that leaves the file's reader."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str | bool) or value is None:
        return str(value) if isinstance(value, str) else value
    return int(value) if isinstance(value, int) else float(value)
