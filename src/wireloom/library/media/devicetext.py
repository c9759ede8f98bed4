"""Device files as text, made of what media say: templates, patterns and names that came from outside are made safe."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

__all__ = ["as_pattern", "as_template", "as_yaml", "compact", "device_name", "is_safe_pattern"]

#: What definitions write where the node's name belongs.
_HOSTNAME: Final = "inserthostname-here"
_OPENING: Final = re.compile(r"\{(?=[{%#])|\{(?=" + _HOSTNAME + ")")
_META: Final = re.compile(r"([\\.^$*+?{}\[\]|()])")
#: A repeated group with a repetition in it: what makes patterns take for ever.
_NESTED: Final = re.compile(r"\([^()]*[*+}][^()]*\)\s*[*+{]")
_WIDTH: Final = 118
_LONGEST_NAME: Final = 63


def as_template(text: str) -> str:
    """``text`` as a template that gives it back, with the node's name where it has the platform's mark for one."""
    plain = _OPENING.sub("{{ '{' }}", text)
    plain = plain.replace("\r", "{{ '\\r' }}")  # the language makes line feeds of all line ends
    return plain.replace(_HOSTNAME, "{{ hostname }}")


def as_pattern(text: str) -> str:
    """A regex that finds ``text``."""
    return _META.sub(r"\\\1", text)


def is_safe_pattern(text: str) -> bool:
    """Whether ``text`` is a regex that does not run in circles."""
    try:
        re.compile(text)
    except re.error:
        return False
    return _NESTED.search(text) is None


def device_name(wanted: str, prefix: str, taken: Collection[str]) -> str:
    """A name for a device like ``wanted`` that no other one has; ``taken`` in small letters."""
    plain = re.sub(r"[^a-z0-9_.-]+", "-", wanted.casefold()).strip("-._")[: _LONGEST_NAME - 8] or "device"
    for name in (plain, f"{prefix}-{plain}"[:_LONGEST_NAME]):
        if name not in taken:
            return name
    numbered = (f"{prefix}-{plain}"[: _LONGEST_NAME - 5] + f"-{number}" for number in range(2, 10_000))
    return next(name for name in numbered if name not in taken)


def compact(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without what is empty; ``None``, numbers and ``False`` stay."""
    return {key: value for key, value in values.items() if value not in ("", [], {}, ())}


def as_yaml(device: Mapping[str, Any], comments: Iterable[str] = ()) -> str:
    """A device file; ``comments`` stand at its top."""
    writer = YAML()
    writer.width = _WIDTH
    writer.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    for comment in comments:
        out.writelines(f"# {line}\n" for line in comment.splitlines())
    writer.dump(_plain(device), out)
    return out.getvalue()


def _plain(value: Any) -> Any:
    """Blocks for texts of several lines, and only the types that YAML has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        # A block has no escapes: what needs one is written in quotes.
        block = "\n" in value and all(letter.isprintable() or letter in "\n\t" for letter in value)
        return LiteralScalarString(value) if block else str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
