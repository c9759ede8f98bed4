"""A configuration of statements in braces, as Junos keeps it; also entered by ``set`` and ``delete``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["Statements"]

_TOKEN = re.compile(r'/\*.*?\*/|#[^\n]*|"(?:\\.|[^"\\])*"|\[[^\]]*\]|[{};]|[^\s{};\[\]"]+', re.DOTALL)
#: Words whose rest is their value.
_LEAVES = frozenset(
    "host-name domain-name version class uid description address encrypted-password plain-text-password-value root-login"
    " protocol-version archive time-zone name-server destination next-hop members vlan-id router-id autonomous-system"
    " management-instance number-of-ports authentication-order full-name interface-mode local-as peer-as".split()
)
#: Words that name one of several blocks.
_KEYED = frozenset(
    "user unit area family group neighbor term instance fpc pic routing-instances policy-statement route file".split()
)


class Statements:
    """Blocks by name; a block without content is a statement."""

    def __init__(self) -> None:
        self.children: dict[str, Statements] = {}

    def parse(self, text: str) -> None:
        """Merge a configuration in braces. :raises ValueError: the braces do not fit."""
        stack: list[Statements] = [self]
        words: list[str] = []
        for token in _TOKEN.findall(text):
            if token.startswith(("/*", "#")):
                continue
            if token == "{":
                stack.append(stack[-1].children.setdefault(" ".join(words), Statements()))
                words = []
            elif token == ";":
                stack[-1].put(words)
                words = []
            elif token == "}":
                if len(stack) == 1:
                    raise ValueError("syntax error, unexpected '}'")
                stack.pop()
            else:
                words.append(token)
        if len(stack) > 1 or words:
            raise ValueError("syntax error, expecting ';' or '}'")

    def put(self, words: Sequence[str]) -> None:
        """One statement; a leaf's earlier value goes."""
        if not words or words[0] == "##":
            return
        if words[0] in _LEAVES:
            for old in [old for old in self.children if old.split(" ")[0] == words[0] and words[0] != "address"]:
                del self.children[old]
        self.children.setdefault(" ".join(words), Statements())

    def set(self, words: Sequence[str]) -> None:
        """``set system host-name r1``."""
        node = self
        while words:
            if words[0] in _LEAVES:
                node.put(words)
                return
            count = 2 if words[0] in _KEYED and len(words) > 1 else 1
            node = node.children.setdefault(" ".join(words[:count]), Statements())
            words = words[count:]

    def delete(self, words: Sequence[str]) -> None:
        """``delete system host-name``."""
        rest = " ".join(words)
        for name in list(self.children):
            if name == rest or name.startswith(f"{rest} "):
                del self.children[name]
            elif rest.startswith(f"{name} "):
                self.children[name].delete(rest[len(name) + 1 :].split(" "))

    def find(self, *path: str) -> Statements | None:
        """The block at ``path``."""
        node: Statements | None = self
        for name in path:
            node = None if node is None else node.children.get(name)
        return node

    def value(self, *path: str) -> str:
        """The value of the leaf at ``path``, unquoted; empty when there is none."""
        block = self.find(*path[:-1])
        for name in block.children if block is not None else ():
            if name.startswith(f"{path[-1]} "):
                return name[len(path[-1]) + 1 :].strip('"')
        return ""

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The text in braces."""
        for name, node in self.children.items():
            if node.children:
                yield "    " * depth + name + " {"
                yield from node.lines(depth + 1)
                yield "    " * depth + "}"
            else:
                secret = " ## SECRET-DATA" if name.split(" ")[0] == "encrypted-password" else ""
                yield "    " * depth + name + ";" + secret

    def set_lines(self, path: str = "set") -> Iterator[str]:
        """The text as ``set`` commands."""
        for name, node in self.children.items():
            if node.children:
                yield from node.set_lines(f"{path} {name}")
            else:
                yield f"{path} {name}"

    def copy(self) -> Statements:
        """An independent copy."""
        twin = Statements()
        twin.children = {name: node.copy() for name, node in self.children.items()}
        return twin
