"""From a path in the data back to the place in the text."""

from __future__ import annotations

from dataclasses import dataclass

from wireloom.yamlfile.tree import Mapping, Mark, Node, Scalar, Sequence

__all__ = ["Path", "Place", "locate", "path_text"]

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: the value, its key (if it has one), and the path as far as it exists in the text."""

    node: Node
    key: Scalar | None
    path: Path

    @property
    def mark(self) -> Mark:
        """The value's start; an empty value has none of its own, so its key stands for it."""
        empty = isinstance(self.node, Scalar) and not self.node.text and not self.node.style
        return self.key.start if empty and self.key is not None else self.node.start


def locate(root: Node, path: Path) -> Place:
    """Follow ``path`` as far as it goes. Words that a list does not know (a long form's key) are passed over."""
    place = Place(root, None, ())
    for step in path:
        node = place.node
        if isinstance(node, Mapping) and str(step) in node.entries:
            entry = node.entries[str(step)]
            place = Place(entry.value, entry.key, (*place.path, str(step)))
        elif isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
            place = Place(node.items[step], None, (*place.path, step))
        elif isinstance(node, Scalar):
            break
    return place


def path_text(path: Path) -> str:
    """``nodes.r1.memory``, ``links[3]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
