"""Change YAML text at exact places and leave every other character as it was, comments included.

A :class:`Splice` gathers insertions and replacements against one text. Places come from the tree, so the style around
a change (block or flow, indentation, line ends) is kept. What it is asked to do and cannot do in the style at hand
shows when the result is read back; see :mod:`wireloom.planning.topology.rewrite`.
"""

from __future__ import annotations

import json
import re
from typing import Final

from wireloom.errors import Unsupported
from wireloom.yamlfile.tree import Entry, Mapping, Node, Scalar, Sequence

__all__ = ["Splice", "quoted", "unsupported"]

_SAFE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)?")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def quoted(text: str) -> str:
    """``text`` as a scalar that means this text in flow and block style, for every reader of YAML."""
    if _SAFE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text)


class Splice:
    """Edits of one text, applied together by :meth:`result`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._edits: list[tuple[int, int, str]] = []
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def result(self) -> str:
        """The text with all edits, which must not overlap."""
        text = self._text
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def replace(self, start: int, end: int, new: str) -> None:
        self._edits.append((start, end, new))

    def set_value(self, entry: Entry, new: str) -> None:
        """Replace the value of ``entry`` by the one-line text ``new``."""
        if entry.alias is not None:
            self.replace(entry.alias[0].offset, entry.alias[1].offset, new)
        elif _is_empty(entry.value):
            colon = self._find(":", entry.key.end.offset)
            self.replace(colon + 1, colon + 1, f" {new}")
        else:
            self.replace(entry.value.start.offset, self._content_end(entry.value), new)

    def add_key(self, mapping: Mapping, key: str, new: str, *, after_first: bool = False) -> None:
        """Add ``key: new`` at the end, or (``after_first``) below the first key when that takes one line."""
        pair = f"{key}: {new}"
        if mapping.flow:
            self._add_flow(mapping, pair, self._entry_end(mapping.written[-1]) if mapping.written else None)
            return
        first = mapping.written[0]
        indent = " " * (first.key.start.column - 1)
        entry = mapping.written[-1]
        if after_first and "\n" not in self._text[first.key.start.offset : self._entry_end(first)].rstrip():
            entry = first
        self._add_line(self._entry_end(entry), indent + pair)

    def add_list(self, mapping: Mapping, key: str, item: str) -> None:
        """Add ``key`` at the end, with a list of one item."""
        if mapping.flow:
            self.add_key(mapping, key, f"[{item}]")
            return
        indent = " " * (mapping.written[0].key.start.column - 1)
        end = self._entry_end(mapping.written[-1])
        self._add_line(end, f"{indent}{key}:{self._newline}{indent}  - {item}")

    def add_item(self, sequence: Sequence, new: str) -> None:
        """Add an item at the end."""
        ends = [self._item_span(sequence, index)[1] for index in range(len(sequence.items))]
        if sequence.flow:
            self._add_flow(sequence, new, ends[-1] if ends else None)
        else:
            self._add_line(ends[-1], " " * self._dash_column(sequence) + f"- {new}")

    def add_list_below(self, entry: Entry, item: str) -> None:
        """Give ``entry``, which has no value, a list of one item on the next line."""
        if not _is_empty(entry.value):
            self.replace(entry.value.start.offset, entry.value.end.offset, "")
        indent = " " * (entry.key.start.column + 1)
        colon = self._find(":", entry.key.end.offset)
        self._add_line(colon + 1, f"{indent}- {item}")

    def remove_item(self, owner: Entry, sequence: Sequence, index: int) -> None:
        """Remove an item; the last one leaves ``[]`` behind."""
        if not sequence.flow:
            self._remove_lines(self._dash(sequence, index), self._item_span(sequence, index)[1])
            if len(sequence.items) == 1:
                colon = self._find(":", owner.key.end.offset)
                self.replace(colon + 1, colon + 1, " []")
        else:
            spans = [self._item_span(sequence, number) for number in range(len(sequence.items))]
            self._remove_flow(sequence, spans, index)

    def add_entry(self, mapping: Mapping, key: str, name: str, new: str) -> None:
        """Add ``key`` at the end, with a mapping that has the one entry ``name``."""
        if mapping.flow:
            self.add_key(mapping, key, f"{{{name}: {new}}}")
            return
        indent = " " * (mapping.written[0].key.start.column - 1)
        self._add_line(self._entry_end(mapping.written[-1]), f"{indent}{key}:{self._newline}{indent}  {name}: {new}")

    def add_entry_below(self, entry: Entry, name: str, new: str) -> None:
        """Give ``entry``, which has no value, a mapping of one entry on the next line."""
        if not _is_empty(entry.value):
            self.replace(entry.value.start.offset, entry.value.end.offset, "")
        indent = " " * (entry.key.start.column + 1)
        self._add_line(self._find(":", entry.key.end.offset) + 1, f"{indent}{name}: {new}")

    def remove_key(self, mapping: Mapping, key: str, owner: Entry | None = None) -> None:
        """Remove a key of a mapping with its value; the last one leaves ``{}`` behind as the value of ``owner``."""
        entry = mapping.entries[key]
        index = next((i for i, found in enumerate(mapping.written) if found is entry), None)
        if index is None:
            raise unsupported()  # it is merged in from elsewhere
        start, end = entry.key.start.offset, self._entry_end(entry)
        alone = len(mapping.written) == 1
        if mapping.flow:
            spans = [(found.key.start.offset, self._entry_end(found)) for found in mapping.written]
            self._remove_flow(mapping, spans, index)
        elif self._text[self._text.rfind("\n", 0, start) + 1 : start].strip() or (alone and owner is None):
            raise unsupported()  # the key is on a line with something else
        else:
            self._remove_lines(start, end)
            if alone and owner is not None:
                colon = self._find(":", owner.key.end.offset)
                self.replace(colon + 1, colon + 1, " {}")

    def replace_item(self, sequence: Sequence, index: int, new: str) -> None:
        start, end = self._item_span(sequence, index)
        self.replace(start, end, new)

    def item_text(self, sequence: Sequence, index: int) -> str:
        """An item as it is written."""
        start, end = self._item_span(sequence, index)
        return self._text[start:end]

    # Places.

    def _item_span(self, sequence: Sequence, index: int) -> tuple[int, int]:
        alias = sequence.aliases[index]
        if alias is not None:
            return alias[0].offset, alias[1].offset
        item = sequence.items[index]
        return item.start.offset, self._content_end(item)

    def _entry_end(self, entry: Entry) -> int:
        if entry.alias is not None:
            return entry.alias[1].offset
        if _is_empty(entry.value):
            return self._find(":", entry.key.end.offset) + 1
        return self._content_end(entry.value)

    def _content_end(self, node: Node) -> int:
        """Where a node's own text ends; the parser's end of a block lies beyond comments that follow it."""
        if isinstance(node, Scalar) or node.flow:
            return node.end.offset
        if isinstance(node, Mapping):
            return self._entry_end(node.written[-1])
        return self._item_span(node, len(node.items) - 1)[1]

    def _dash(self, sequence: Sequence, index: int) -> int:
        """Offset of the dash of a block item: all dashes stand in one column."""
        if index == 0:
            return self._first_dash(sequence)
        column = self._dash_column(sequence)
        at = self._next_line(self._item_span(sequence, index - 1)[1])
        while self._at(at + column) != "-" or self._text[at : at + column].strip():
            at = self._line_after(at)
        return at + column

    def _first_dash(self, sequence: Sequence) -> int:
        """A list with an anchor or a tag starts there, and its first dash is on one of the next lines."""
        at = sequence.start.offset
        while self._at(at) != "-":
            at = self._line_after(at)
            at += len(self._text[at:]) - len(self._text[at:].lstrip(" "))
        return at

    def _dash_column(self, sequence: Sequence) -> int:
        dash = self._first_dash(sequence)
        return dash - (self._text.rfind("\n", 0, dash) + 1)

    def _next_line(self, offset: int) -> int:
        """Start of the line after a content's end; a block scalar's end is at the start of that line already."""
        return offset if offset > 0 and self._text[offset - 1] == "\n" else self._line_after(offset)

    def _line_after(self, offset: int) -> int:
        """Start of the next line."""
        end = self._text.find("\n", offset)
        return len(self._text) if end < 0 else end + 1

    def _comma(self, offset: int) -> int:
        """The comma that follows an item in flow style, past white space and comments."""
        while self._at(offset) != ",":
            offset = self._find("\n", offset) if self._at(offset) == "#" else offset + 1
        return offset

    def _find(self, character: str, offset: int) -> int:
        found = self._text.find(character, offset)
        if found < 0:
            raise unsupported()
        return found

    def _at(self, offset: int) -> str:
        if offset >= len(self._text):
            raise unsupported()
        return self._text[offset]

    # Shapes of edits.

    def _add_flow(self, node: Mapping | Sequence, new: str, last_end: int | None) -> None:
        if last_end is None:
            inside = node.end.offset - 1
            self.replace(inside, inside, new)
        else:
            self.replace(last_end, last_end, f", {new}")

    def _remove_flow(self, node: Mapping | Sequence, spans: list[tuple[int, int]], index: int) -> None:
        """Remove the entry at ``index`` of a flow collection with its comma."""
        start, end = spans[index]
        if len(spans) == 1:
            self.replace(node.start.offset + 1, node.end.offset - 1, "")
        elif index + 1 < len(spans):
            comma = self._comma(end)
            rest = self._text[comma + 1 :]
            self.replace(start, comma + 1 + len(rest) - len(rest.lstrip(" ")), "")
        else:
            comma = self._comma(spans[index - 1][1])
            between = self._text[comma + 1 : start]
            self.replace(comma, start if between.isspace() and "\n" not in between else comma + 1, "")
            self.replace(start, end, "")

    def _add_line(self, after: int, line: str) -> None:
        at = self._next_line(after)
        if at == len(self._text) and not self._text.endswith("\n"):
            self.replace(at, at, self._newline + line + self._newline)
        else:
            self.replace(at, at, line + self._newline)

    def _remove_lines(self, start: int, end: int) -> None:
        first = self._text.rfind("\n", 0, start) + 1
        self.replace(first, self._next_line(end), "")


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and not node.text and not node.style


def unsupported() -> Unsupported:
    """The refusal of an edit that the file's style does not allow."""
    return Unsupported(
        "this file is written in a way that cannot be edited automatically", hint="edit it by hand and deploy it again"
    )
