"""A configuration of XML elements, as PAN-OS keeps it: just enough to read, change and print it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["Elements"]

_PART = re.compile(r"<\?.*?\?>|<!--.*?-->|<(/?)([\w.-]+)([^>]*?)(/?)>|([^<]+)", re.DOTALL)
#: Where the words of ``set`` commands begin.
_DEVICE = ("config", "devices", "entry localhost.localdomain")
_SHARED = frozenset({"mgt-config", "shared"})
#: Elements whose children are entries with names.
_LISTS = frozenset({"users", "entry", "interfaces", "zone", "virtual-router", "ethernet", "rules", "address", "vsys"})


class Elements:
    """Children by name (``entry NAME`` for named entries) and a text."""

    def __init__(self) -> None:
        self.children: dict[str, Elements] = {}
        self.value_text = ""
        self.attributes = ""

    def parse(self, text: str) -> None:
        """Read a document."""
        stack = [self]
        for closing, tag, attributes, empty, content in _PART.findall(text):
            if closing:
                stack.pop()
            elif tag:
                name = re.search(r'\bname="([^"]*)"', attributes)
                node = stack[-1].children.setdefault(f"{tag} {name[1]}" if name else tag, Elements())
                node.attributes = attributes.strip()
                if not empty:
                    stack.append(node)
            elif content.strip():
                stack[-1].value_text = content.strip()

    def at(self, path: Sequence[str]) -> Elements | None:
        """The element at ``path``."""
        node: Elements | None = self
        for name in path:
            node = None if node is None else node.children.get(name)
        return node

    def value(self, path: Sequence[str]) -> str:
        """The text at ``path``; empty when there is none."""
        node = self.at(path)
        return "" if node is None else node.value_text

    def set(self, path: Sequence[str], value: str) -> None:
        """Put a text at ``path``."""
        node = self
        for name in path:
            node = node.children.setdefault(name, Elements())
            if name.startswith("entry ") and not node.attributes:
                node.attributes = f'name="{name[6:]}"'
        node.value_text = value

    def set_words(self, words: Sequence[str]) -> None:
        """``set deviceconfig system hostname fw1``: the last word is the value."""
        self.set([*_base(words), *_named(words[:-1])], words[-1])

    def delete_words(self, words: Sequence[str]) -> None:
        """``delete deviceconfig system hostname``."""
        path = [*_base(words), *_named(words)]
        if (parent := self.at(path[:-1])) is not None:
            parent.children.pop(path[-1], None)

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The document, line by line."""
        for name, node in self.children.items():
            tag = name.split(" ")[0]
            attributes = f" {node.attributes}" if node.attributes else ""
            pad = "  " * depth
            if node.children:
                yield f"{pad}<{tag}{attributes}>"
                yield from node.lines(depth + 1)
                yield f"{pad}</{tag}>"
            elif node.value_text:
                yield f"{pad}<{tag}{attributes}>{node.value_text}</{tag}>"
            else:
                yield f"{pad}<{tag}{attributes}/>"

    def text(self) -> str:
        """The document."""
        return "\n".join(self.lines()) + "\n"

    def set_lines(self, path: str = "set") -> Iterator[str]:
        """The document as ``set`` commands."""
        for name, node in self.children.items():
            word = name.removeprefix("entry ")
            shown = path if word in {*_DEVICE, "localhost.localdomain"} else f"{path} {word}"
            if node.children:
                yield from node.set_lines(shown)
            else:
                yield f"{shown} {node.value_text}".rstrip()

    def copy(self) -> Elements:
        """An independent copy."""
        twin = Elements()
        twin.value_text, twin.attributes = self.value_text, self.attributes
        twin.children = {name: node.copy() for name, node in self.children.items()}
        return twin


def _base(words: Sequence[str]) -> tuple[str, ...]:
    return ("config",) if words[0] in _SHARED else _DEVICE


def _named(words: Sequence[str]) -> Iterator[str]:
    previous = ""
    for word in words:
        yield f"entry {word}" if previous in _LISTS else word
        previous = "" if previous in _LISTS else word
