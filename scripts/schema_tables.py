"""Tables of keys for the reference pages, made from a JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["cell", "sections"]


def sections(schema: Mapping[str, Any], title: str, titles: Mapping[str, str], *, level: int = 3) -> Iterator[str]:
    """A section for the file itself, and one for each of its parts that ``titles`` has a heading for."""
    yield _section(title, schema, titles, level)
    parts: Mapping[str, Any] = schema.get("$defs", {})
    for name in sorted(parts, key=lambda name: titles.get(name, name).strip("`")):
        if name in titles:
            yield _section(titles[name], parts[name], titles, level)


def cell(text: str) -> str:
    """``text`` as it may stand in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _section(title: str, schema: Mapping[str, Any], titles: Mapping[str, str], level: int) -> str:
    required = schema.get("required", ())
    lines = [
        f"\n{'#' * level} {title}\n\n{_first_line(schema)}\n\n",
        "| key | value | meaning |\n| --- | --- | --- |\n",
    ]
    for key, body in schema["properties"].items():
        needed = " (required)" if key in required else ""
        default = body.get("default")
        plain = default not in (None, "", [], {}) and not isinstance(default, dict)
        suffix = f"; default `{json.dumps(default)}`" if plain else ""
        lines.append(f"| `{key}`{needed} | {cell(_kind(body, titles))} | {cell(_first_line(body) + suffix)} |\n")
    return "".join(lines)


def _first_line(body: Mapping[str, Any]) -> str:
    return next(iter(body.get("description", "").splitlines()), "")


def _kind(body: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """A few words for what a schema takes; its title where it has one."""
    if "title" in body:
        return str(body["title"])
    choices = body.get("oneOf") or body.get("anyOf")
    if choices:
        return " or ".join(dict.fromkeys(_kind(choice, titles) for choice in choices))
    if "enum" in body:
        return ", ".join(f"`{value}`" for value in body["enum"])
    if "$ref" in body:
        name = body["$ref"].rpartition("/")[2]
        return titles.get(name, "mapping").removeprefix("An entry of ").lower()
    kind = body.get("type", "anything")
    if isinstance(kind, list):
        return "text"
    if kind == "array":
        return f"list of {_kind(body.get('items', {}), titles)}"
    if kind == "object":
        rest = body.get("additionalProperties")
        return f"name: {_kind(rest, titles)}" if isinstance(rest, dict) and rest else "mapping"
    words = {"string": "text", "null": "nothing", "integer": "whole number", "boolean": "true or false"}
    return words.get(kind, str(kind)) + _bounds(body)


def _bounds(body: Mapping[str, Any]) -> str:
    low, high = body.get("minimum"), body.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return "" if low is None else f", at least {low}"
