"""What edits of a topology's text have in common: finding links by their ends, and checking the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from wireloom.devices import DeviceCatalogue
from wireloom.errors import NotFound, TopologyInvalid
from wireloom.yamlfile import Entry, Mapping, Node, Scalar, Sequence, read_yaml
from wireloom.yamlfile.splice import quoted, unsupported

__all__ = ["Ends", "Found", "read_root", "verified", "written"]

_SOURCE: Final = "topology.yml"

#: The entry of ``links``, its list, and the index of a link in it.
Found = tuple[Entry, Sequence, int]


class Ends:
    """The links of a file, found by their ends.

    :param devices: lets ends be compared as ports, however they are written; else as text.
    """

    def __init__(self, root: Mapping, devices: DeviceCatalogue | None) -> None:
        self._root = root
        self._devices = devices

    def find(self, a: str, b: str) -> Found | None:
        wanted = {self._port(a), self._port(b)}
        return next((found for found, item in self._links() if self._ports(item) == wanted), None)

    def get(self, a: str, b: str) -> Found:
        """:raises NotFound: there is no such link."""
        found = self.find(a, b)
        if found is None:
            raise NotFound(f"there is no link {a} -- {b}")
        return found

    def with_end(self, end: str) -> list[Found]:
        """All links that have this end: one for a port, any number for a segment."""
        return [found for found, item in self._links() if self._port(end) in self._ports(item)]

    def side(self, item: Node, end: str) -> int:
        """Which of the two ends of a link's item is ``end``."""
        return [self._port(text) for text in _end_texts(item)].index(self._port(end))

    def _links(self) -> Iterator[tuple[Found, Node]]:
        entry = self._root.entries.get("links")
        if entry is not None and isinstance(entry.value, Sequence):
            for index, item in enumerate(entry.value.items):
                yield (entry, entry.value, index), item

    def _ports(self, item: Node) -> set[tuple[str, str | int]]:
        return {self._port(text) for text in _end_texts(item)}

    def _port(self, text: str) -> tuple[str, str | int]:
        """A key for comparing: the port's index where its device is known, else its name in any case."""
        node, _, port = (part.strip() for part in text.partition(":"))
        device = None if self._devices is None or not port else self._devices.find(self._device_of(node))
        index = None if device is None else device.ports.index_of(port)
        return node, port.casefold() if index is None else index

    def _device_of(self, node: str) -> str:
        nodes, defaults = self._root.get("nodes"), self._root.get("defaults")
        body = nodes.get(node) if isinstance(nodes, Mapping) else None
        for holder in (body, defaults):
            device = holder.get("device") if isinstance(holder, Mapping) else None
            if isinstance(device, Scalar):
                return device.text
        return ""


def _end_texts(item: Node) -> list[str]:
    ends = item.get("endpoints") if isinstance(item, Mapping) else item
    return [end.text for end in ends.items if isinstance(end, Scalar)] if isinstance(ends, Sequence) else []


def read_root(text: str) -> Mapping:
    """:raises TopologyInvalid: the text is not a topology."""
    document = read_yaml(text, file=_SOURCE)
    if document.diagnostics or not isinstance(document.root, Mapping):
        message = document.diagnostics[0].message if document.diagnostics else "this is not a topology"
        details = {"diagnostics": [item.model_dump(mode="json") for item in document.diagnostics]}
        raise TopologyInvalid(f"the topology cannot be edited: {message}", details=details)
    return document.root


def verified(before: Mapping, after: str, meant: Callable[[dict[str, Any]], None]) -> str:
    """``after``, when it says what ``before`` said with ``meant`` applied.

    :raises Unsupported: it does not: the file is written in a way that the edit cannot handle.
    """
    expected = before.data()
    meant(expected)
    document = read_yaml(after, file=_SOURCE)
    if document.diagnostics or document.root is None or document.root.data() != expected:
        raise unsupported()
    return after


def written(value: Any) -> str:
    """``value`` on one line, as YAML that means the same to every reader."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(str(key))}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)
