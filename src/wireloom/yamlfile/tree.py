"""Text to a tree of YAML nodes with positions, within bounds that no hostile text can break.

Built on the event stream of ruamel.yaml with a stack of our own: no recursion on the way in, duplicate keys are seen,
aliases are shared (never copied), and both the depth and the size *after* following aliases are limited. Values follow
the core schema of YAML 1.2: ``yes`` and ``on`` are words, ``1:30`` is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from wireloom.model.diagnostic import Diagnostic

__all__ = ["BlockText", "Document", "Entry", "Mapping", "Mark", "Node", "Scalar", "Sequence", "read_yaml"]

MAX_TEXT: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 48
MAX_NODES: Final = 400_000

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_BASED_INT = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_CORE_TAGS = frozenset({"str", "int", "float", "bool", "null", "seq", "map"})


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text: 1-based line and column, 0-based offset in characters."""

    line: int
    column: int
    offset: int


class WrittenInt(int):
    """A number that remembers how it was written, for fields that want text (``VERSION: 010``)."""

    written: str


class WrittenFloat(float):
    """See :class:`WrittenInt`; ``1.10`` stays ``1.10``."""

    written: str


class BlockText(str):
    """Text of a block scalar (``|`` or ``>``): meant as content, never as the name of a file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    start: Mark
    end: Mark
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar(_Base):
    """A leaf. ``value`` is what the text means."""

    text: str
    style: str  # "" plain, "'" or '"' quoted, "|" or ">" block
    value: str | int | float | bool | None

    def data(self) -> Any:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence(_Base):
    """A list. ``aliases`` holds, for each item, the span of ``*name`` when it is written elsewhere."""

    items: tuple[Node, ...]
    flow: bool
    aliases: tuple[tuple[Mark, Mark] | None, ...] = ()

    def data(self) -> list[Any]:
        return [item.data() for item in self.items]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping. ``alias`` is the span of ``*name`` when the value is written elsewhere."""

    key: Scalar
    value: Node
    alias: tuple[Mark, Mark] | None = None

    @property
    def name(self) -> str:
        return self.key.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping(_Base):
    """``written`` holds the entries as they stand in the text, ``entries`` those after merging ``<<``."""

    written: tuple[Entry, ...]
    entries: dict[str, Entry]
    flow: bool

    def get(self, name: str) -> Node | None:
        entry = self.entries.get(name)
        return None if entry is None else entry.value

    def data(self) -> dict[str, Any]:
        return {name: entry.value.data() for name, entry in self.entries.items()}


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Document:
    """What :func:`read_yaml` found. ``root`` is ``None`` when the text cannot be read at all.

    :ivar outgrown: because it is larger, deeper, or by its aliases more than is read.
    """

    file: str
    text: str
    root: Node | None
    diagnostics: tuple[Diagnostic, ...]
    outgrown: bool = False


def read_yaml(text: str, *, file: str) -> Document:
    """Read one YAML document. Mistakes of the syntax are diagnostics; nothing is raised for any text."""
    if len(text) > MAX_TEXT:
        message = f"the file is larger than {MAX_TEXT // 1024 // 1024} MiB"
        finding = Diagnostic(file=file, line=1, column=1, path="", message=message)
        return Document(file, text, None, (finding,), outgrown=True)
    builder = _Builder(file)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
            if builder.fatal:
                return Document(file, text, None, tuple(builder.diagnostics), outgrown=builder.outgrown)
    except MarkedYAMLError as error:
        builder.syntax_error(error)
        return Document(file, text, None, tuple(builder.diagnostics))
    except (YAMLError, ValueError, OverflowError) as error:  # bad characters and escapes, numbers out of range
        reason = str(error).splitlines()[0] if str(error) else "unreadable text"
        builder.report(Mark(1, 1, 0), f"this is not YAML: {reason}", fatal=True)
        return Document(file, text, None, tuple(builder.diagnostics))
    in_order = sorted(builder.diagnostics, key=lambda item: (item.line, item.column))
    return Document(file, text, builder.root, tuple(in_order))


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    start: Mark
    flow: bool
    mapping: bool
    anchor: str | None
    children: list[tuple[Node, tuple[Mark, Mark] | None]] = field(default_factory=list)


class _Builder:
    """Events in, a tree out."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.diagnostics: list[Diagnostic] = []
        self.fatal = False
        self.outgrown = False
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0
        self._nodes = 0

    def report(self, mark: Mark, message: str, suggestion: str = "", *, fatal: bool = False) -> None:
        self.fatal = self.fatal or fatal
        self.diagnostics.append(
            Diagnostic(
                file=self.file, line=mark.line, column=mark.column, path="", message=message, suggestion=suggestion
            )
        )

    def outgrow(self, mark: Mark, message: str) -> None:
        self.outgrown = True
        self.report(mark, message, fatal=True)

    def syntax_error(self, error: MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        place = Mark(1, 1, 0) if mark is None else Mark(mark.line + 1, mark.column + 1, 0)
        what = ", ".join(part for part in (error.context, error.problem) if part) or "unreadable text"
        hint = "use spaces, not tabs, to indent" if "'\\t'" in what else ""
        self.report(place, f"this is not YAML: {what}", hint, fatal=True)

    def take(self, event: Event) -> None:
        start = _mark(event.start_mark)
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self.report(start, "a second document begins here", "keep one document a file", fatal=True)
        elif isinstance(event, ScalarEvent):
            self._place(self._scalar(event, start), event.anchor)
        elif isinstance(event, AliasEvent):
            self._alias(event, start)
        elif isinstance(event, SequenceStartEvent | MappingStartEvent):
            self._begin(event, start)
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            self._finish(_mark(event.end_mark))

    def _begin(self, event: SequenceStartEvent | MappingStartEvent, start: Mark) -> None:
        if len(self._open) >= MAX_DEPTH:
            self.outgrow(start, f"nested more than {MAX_DEPTH} levels deep")
            return
        self._check_tag(event.tag, start)
        mapping = isinstance(event, MappingStartEvent)
        self._open.append(_Open(start, bool(event.flow_style), mapping, event.anchor))

    def _finish(self, end: Mark) -> None:
        opened = self._open.pop()
        children = [child for child, _ in opened.children]
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if size > MAX_NODES or height > MAX_DEPTH:
            self.outgrow(opened.start, "this grows too large when its aliases are followed")
            return
        node: Node
        if opened.mapping:
            node = self._mapping(opened, end, size, height)
        else:
            node = Sequence(
                start=opened.start,
                end=end,
                size=size,
                height=height,
                items=tuple(children),
                flow=opened.flow,
                aliases=tuple(alias for _, alias in opened.children),
            )
        self._place(node, opened.anchor)

    def _place(self, node: Node, anchor: str | None, alias: tuple[Mark, Mark] | None = None) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self.outgrow(node.start, f"more than {MAX_NODES} values")
            return
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].children.append((node, alias))
        else:
            self.root = node

    def _alias(self, event: AliasEvent, start: Mark) -> None:
        target = self._anchors.get(event.anchor)
        if target is None:
            self.report(start, f"alias *{event.anchor} has no anchor before it", fatal=True)
            return
        self._place(target, None, (start, _mark(event.end_mark)))

    def _scalar(self, event: ScalarEvent, start: Mark) -> Scalar:
        self._check_tag(event.tag, start)
        style = event.style or ""
        as_text = bool(style) or event.tag in {"!", "tag:yaml.org,2002:str"}
        value = BlockText(event.value) if style in {"|", ">"} else event.value if as_text else _meaning(event.value)
        return Scalar(start=start, end=_mark(event.end_mark), text=event.value, style=style, value=value)

    def _check_tag(self, tag: object, mark: Mark) -> None:
        if tag is None or str(tag) == "!":
            return
        head, _, name = str(tag).rpartition(":")
        if head != "tag:yaml.org,2002" or name not in _CORE_TAGS:
            self.report(mark, f"the tag {str(tag)!r} has no meaning here", "leave it out")

    def _mapping(self, opened: _Open, end: Mark, size: int, height: int) -> Mapping:
        written: list[Entry] = []
        merges: list[Entry] = []
        seen: dict[str, Entry] = {}
        pairs = iter(opened.children)
        for (key, _), (value, alias) in zip(pairs, pairs, strict=False):
            if not isinstance(key, Scalar):
                self.report(key.start, "a key must be a plain word", "put quotes around it")
                continue
            entry = Entry(key, value, alias)
            written.append(entry)
            if key.text == "<<" and not key.style:
                merges.append(entry)
            elif key.text in seen:
                first = seen[key.text].key.start
                message = f"{key.text!r} is given twice, first at line {first.line}, column {first.column}"
                self.report(key.start, message, "keep one of them")
            else:
                seen[key.text] = entry
        for merge in merges:
            for source in self._merge_sources(merge):
                seen = {**source.entries, **seen}
        return Mapping(
            start=opened.start,
            end=end,
            size=size,
            height=height,
            written=tuple(written),
            entries=seen,
            flow=opened.flow,
        )

    def _merge_sources(self, merge: Entry) -> Iterator[Mapping]:
        items = merge.value.items if isinstance(merge.value, Sequence) else (merge.value,)
        for item in items:
            if isinstance(item, Mapping):
                yield item
            else:
                self.report(merge.key.start, "'<<' takes a mapping or a list of mappings")


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1, mark.index)


def _meaning(text: str) -> str | int | float | bool | None:
    """What a plain scalar means in the core schema of YAML 1.2."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text) or _BASED_INT.fullmatch(text):
        integer = WrittenInt(int(text, 10) if _INT.fullmatch(text) else int(text, 0))
        integer.written = text
        return integer
    if _FLOAT.fullmatch(text):
        number = WrittenFloat(text)
        number.written = text
        return number
    return text
