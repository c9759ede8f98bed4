"""A configuration of indented lines, as Cisco's and Arista's systems keep it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["Tree"]

#: Lines of which there is one: what begins the same is replaced.
_SINGLE = re.compile(
    r"^(hostname|switchname|domain name|ip domain[- ]name|ip domain lookup|enable (secret|password)|banner \S+|version"
    r"|boot nxos|description|ip(v4)? address|nameif|security-level|switchport( mode| access vlan)?|mtu"
    r"|username \S+|login local|exec-timeout|router-id|crypto key generate|ssh server v2|logging \S+"
    r"|mgmt-vrf|vrf forwarding|transport input|no aaa root|spanning-tree mode)(?= |$)"
)
_TOGGLES = frozenset({"shutdown", "switchport", "login local", "ip routing", "aaa new-model"})


class Tree:
    """Lines with children, in the order in which they came."""

    def __init__(self) -> None:
        self.children: dict[str, Tree] = {}

    def at(self, path: Sequence[str]) -> Tree:
        """The node at ``path``, made where it is missing."""
        node = self
        for line in path:
            node = node.children.setdefault(line, Tree())
        return node

    def enter(self, path: Sequence[str], line: str) -> None:
        """Put ``line`` below ``path``: replace, add or take away, as a command line does."""
        node = self.at(path)
        negated = line.removeprefix("no ") if line.startswith("no ") else None
        if negated is not None:
            node.remove(negated)
            if negated in _TOGGLES or negated.startswith(("ip domain", "aaa root")):
                node.children[line] = Tree()
            return
        if line in _TOGGLES:
            node.children.pop(f"no {line}", None)
        elif (single := _SINGLE.match(line)) is not None:
            node.replace(single[1], line)
        node.children.setdefault(line, Tree())

    def replace(self, beginning: str, line: str) -> None:
        """Put ``line`` in the place of the one that begins the same."""
        kept = {}
        for old, node in self.children.items():
            begins = old == beginning or old.startswith(f"{beginning} ")
            kept[line if begins else old] = node
        self.children = kept

    def remove(self, line: str) -> None:
        """Take ``line`` away, and what it begins."""
        for old in [old for old in self.children if old == line or old.startswith(f"{line} ")]:
            del self.children[old]

    def copy(self) -> Tree:
        """An independent tree of the same content."""
        twin = Tree()
        twin.children = {line: node.copy() for line, node in self.children.items()}
        return twin

    def lines(self, depth: int = 0, indent: str = " ") -> Iterator[str]:
        """The text, line by line."""
        for line, node in self.children.items():
            yield indent * depth + line
            yield from node.lines(depth + 1, indent)
            if depth == 0 and node.children:
                yield "!"

    def values(self, pattern: str) -> Iterator[re.Match[str]]:
        """What ``pattern`` finds in the lines of the top level."""
        for line in self.children:
            if (found := re.match(pattern, line)) is not None:
                yield found
