"""Check provider settings against the provider's JSON Schema: the part of the standard that our schemas use."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from wireloom.yamlfile import did_you_mean

__all__ = ["Finding", "check_settings"]

#: (path below the settings, message, suggestion, whether the key itself is wrong)
Finding = tuple[tuple[str | int, ...], str, str, bool]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_DEPTH: Final = 32


def check_settings(schema: Mapping[str, Any], value: Any) -> Iterator[Finding]:
    """Everything in ``value`` that ``schema`` does not allow."""
    yield from _check(_Schema(schema, schema), value, (), 0)


class _Schema:
    """One schema with the document that its references point into."""

    def __init__(self, root: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        self._root = root
        for _ in range(_DEPTH):
            reference = body.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                break
            target: Any = root
            for part in reference[2:].split("/"):
                target = target.get(part, {}) if isinstance(target, Mapping) else {}
            body = target if isinstance(target, Mapping) else {}
        self.body = body

    def sub(self, body: object) -> _Schema:
        return _Schema(self._root, body if isinstance(body, Mapping) else {})

    def property(self, key: str) -> _Schema | None:
        """The schema of ``key``; ``None`` when the key is not allowed."""
        if key in self.body.get("properties", {}):
            return self.sub(self.body["properties"][key])
        for pattern, body in self.body.get("patternProperties", {}).items():
            if re.search(pattern, key):
                return self.sub(body)
        rest = self.body.get("additionalProperties", True)
        return None if rest is False else self.sub(rest)


def _check(schema: _Schema, value: Any, path: tuple[str | int, ...], depth: int) -> Iterator[Finding]:
    if depth > _DEPTH:
        return
    choices = schema.body.get("anyOf") or schema.body.get("oneOf")
    if choices:
        attempts = [list(_check(schema.sub(choice), value, path, depth + 1)) for choice in choices]
        if all(attempts):
            # The alternative that fits deepest is the one that was meant.
            yield from max(attempts, key=lambda findings: max(len(finding[0]) for finding in findings))
        return
    if not _type_fits(schema.body.get("type"), value):
        expected = schema.body["type"]
        words = expected if isinstance(expected, str) else " or ".join(expected)
        yield path, f"{_shown(value)} has the wrong type", f"{words} is expected", False
        return
    yield from _check_bounds(schema.body, value, path)
    if isinstance(value, dict):
        yield from _check_object(schema, value, path, depth)
    elif isinstance(value, list):
        items, contained = schema.sub(schema.body.get("items")), schema.sub(schema.body.get("contains"))
        if value and all(any(_check(contained, item, path, depth + 1)) for item in value):
            yield path, "none of the entries is what one of them must be", "", False
        for position, item in enumerate(value):
            yield from _check(items, item, (*path, position), depth + 1)


def _type_fits(expected: object, value: Any) -> bool:
    if expected is None:
        return True
    names = [expected] if isinstance(expected, str) else list(expected) if isinstance(expected, list) else []
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES.get(name, (object,))) for name in names)


def _check_object(
    schema: _Schema, value: Mapping[str, Any], path: tuple[str | int, ...], depth: int
) -> Iterator[Finding]:
    for key in schema.body.get("required", ()):
        if key not in value:
            yield path, f"{key!r} is missing", f"add `{key}: …`", False
    names = schema.body.get("propertyNames", {})
    for key, item in value.items():
        found = schema.property(key)
        if found is None:
            known = schema.body.get("properties", {})
            yield (*path, key), f"unknown key {key!r}", did_you_mean(key, known), True
            continue
        if (choices := schema.sub(names).body.get("enum")) and key not in choices:
            yield (*path, key), f"unknown key {key!r}", did_you_mean(key, choices), True
            continue
        yield from _check(found, item, (*path, key), depth + 1)


def _check_bounds(body: Mapping[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    if "const" in body and value != body["const"]:
        yield path, f"{_shown(value)} is not {body['const']!r}", "", False
    if "enum" in body and value not in body["enum"]:
        yield path, f"{_shown(value)} is not allowed", did_you_mean(str(value), map(str, body["enum"])), False
    pattern = body.get("pattern")
    if isinstance(value, str) and pattern is not None and re.search(pattern, value) is None:
        yield path, f"{_shown(value)} does not have the form {pattern}", "", False
    if isinstance(value, int | float) and not isinstance(value, bool):
        for key, wrong, words in _LIMITS:
            if key in body and wrong(value, body[key]):
                yield path, f"must be {words} {body[key]}, not {value}", "", False
    if isinstance(value, list):
        low, high = body.get("minItems", 0), body.get("maxItems", len(value))
        if not low <= len(value) <= high:
            yield path, f"{len(value)} entries are {'too few' if len(value) < low else 'too many'}", "", False


_LIMITS: Final[tuple[tuple[str, Callable[[float, float], bool], str], ...]] = (
    ("minimum", operator.lt, "at least"),
    ("maximum", operator.gt, "at most"),
    ("exclusiveMinimum", operator.le, "greater than"),
    ("exclusiveMaximum", operator.ge, "less than"),
)


def _shown(value: Any) -> str:
    text = repr(str(value)) if isinstance(value, str) else "a list" if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:56]}…"
