"""Small edits of a topology file's text: what is not concerned stays as it was, character by character.

Every edit is read back and compared with what was meant; a file written in a way that an edit cannot handle
is refused, never damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wireloom.devices import DeviceCatalogue
from wireloom.errors import Conflict, NotFound, TopologyInvalid
from wireloom.yamlfile import Entry, Mapping, Node, Scalar, Sequence, did_you_mean, read_yaml
from wireloom.yamlfile.splice import Splice, quoted, unsupported

__all__ = ["add_link", "remove_link", "set_link_state", "set_position"]

_SOURCE: Final = "topology.yml"


def add_link(text: str, a: str, b: str, mtu: int | None = None, *, devices: DeviceCatalogue | None = None) -> str:
    """Add the link between ``a`` and ``b`` (``node:interface``).

    :param devices: lets ends be compared as ports, however they are written; else as text.
    :raises Conflict: it is there already. :raises TopologyInvalid: the text is not a topology.
    :raises Unsupported: the file's way of writing links cannot be edited.
    """
    root = _root(text)
    same = _Ends(root, devices)
    if same.find(a, b) is not None:
        raise Conflict(f"the link {a} -- {b} is there already")
    item = f"[{quoted(a)}, {quoted(b)}]"
    if mtu is not None:
        item = f"{{endpoints: {item}, mtu: {mtu}}}"
    splice = Splice(text)
    entry = root.entries.get("links")
    if entry is None:
        splice.add_list(root, "links", item)
    elif isinstance(entry.value, Sequence) and (entry.value.items or entry.value.flow):
        splice.add_item(entry.value, item)
    else:
        splice.add_list_below(entry, item)

    def meant(data: dict[str, Any]) -> None:
        new: Any = [a, b] if mtu is None else {"endpoints": [a, b], "mtu": mtu}
        data["links"] = [*(data.get("links") or []), new]

    return _verified(root, splice.result(), meant)


def remove_link(text: str, a: str, b: str, *, devices: DeviceCatalogue | None = None) -> str:
    """Remove the link between ``a`` and ``b``, whichever end comes first. :raises NotFound: there is none."""
    root = _root(text)
    entry, links, index = _Ends(root, devices).get(a, b)
    splice = Splice(text)
    splice.remove_item(entry, links, index)

    def meant(data: dict[str, Any]) -> None:
        del data["links"][index]

    return _verified(root, splice.result(), meant)


def set_link_state(text: str, a: str, b: str, up: bool, *, devices: DeviceCatalogue | None = None) -> str:
    """Declare the link between ``a`` and ``b`` up or down. :raises NotFound: there is none."""
    root = _root(text)
    _, links, index = _Ends(root, devices).get(a, b)
    item = links.items[index]
    written = item.entries.get("down") if isinstance(item, Mapping) else None
    if up and written is None:
        return text
    word = "false" if up else "true"
    splice = Splice(text)
    if links.aliases[index] is not None:
        key = "<<" if isinstance(item, Mapping) else "endpoints"
        splice.replace_item(links, index, f"{{{key}: {splice.item_text(links, index)}, down: {word}}}")
    elif isinstance(item, Mapping) and written is not None and written in item.written:
        splice.set_value(written, word)
    elif isinstance(item, Mapping):
        splice.add_key(item, "down", word)
    else:
        splice.replace_item(links, index, f"{{endpoints: {_flow_ends(item)}, down: {word}}}")

    def meant(data: dict[str, Any]) -> None:
        link = data["links"][index]
        data["links"][index] = {**(link if isinstance(link, dict) else {"endpoints": link}), "down": not up}

    return _verified(root, splice.result(), meant)


def set_position(text: str, node: str, x: float, y: float) -> str:
    """Say where the studio draws ``node``. :raises NotFound: there is no such node."""
    root = _root(text)
    nodes = root.get("nodes")
    entry = nodes.entries.get(node) if isinstance(nodes, Mapping) else None
    if entry is None:
        known = nodes.entries if isinstance(nodes, Mapping) else ()
        raise NotFound(f"there is no node {node!r}", hint=did_you_mean(node, known))
    position = [_number(x), _number(y)]
    value = f"[{position[0]}, {position[1]}]"
    splice = Splice(text)
    body = entry.value
    written = body.entries.get("position") if isinstance(body, Mapping) else None
    if entry.alias is not None:
        alias = text[entry.alias[0].offset : entry.alias[1].offset]
        splice.set_value(entry, f"{{<<: {alias}, position: {value}}}")
    elif isinstance(body, Mapping) and written is not None and written in body.written:
        splice.set_value(written, value)
    elif isinstance(body, Mapping):
        splice.add_key(body, "position", value, after_first=True)
    else:
        splice.set_value(entry, f"{{position: {value}}}")

    def meant(data: dict[str, Any]) -> None:
        data["nodes"][node] = {**(data["nodes"][node] or {}), "position": position}

    return _verified(root, splice.result(), meant)


class _Ends:
    """The links of a file, found by their ends."""

    def __init__(self, root: Mapping, devices: DeviceCatalogue | None) -> None:
        self._root = root
        self._devices = devices

    def find(self, a: str, b: str) -> tuple[Entry, Sequence, int] | None:
        entry = self._root.entries.get("links")
        if entry is None or not isinstance(entry.value, Sequence):
            return None
        wanted = {self._port(a), self._port(b)}
        for index, item in enumerate(entry.value.items):
            if self._ports(item) == wanted:
                return entry, entry.value, index
        return None

    def get(self, a: str, b: str) -> tuple[Entry, Sequence, int]:
        found = self.find(a, b)
        if found is None:
            raise NotFound(f"there is no link {a} -- {b}")
        return found

    def _ports(self, item: Node) -> set[tuple[str, str | int]] | None:
        ends = item.get("endpoints") if isinstance(item, Mapping) else item
        if not isinstance(ends, Sequence):
            return None
        return {self._port(end.text) for end in ends.items if isinstance(end, Scalar)}

    def _port(self, written: str) -> tuple[str, str | int]:
        """A key for comparing: the port's index where its device is known, else its name in any case."""
        node, _, port = (part.strip() for part in written.partition(":"))
        device = None if self._devices is None else self._devices.find(self._device_of(node))
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


def _root(text: str) -> Mapping:
    document = read_yaml(text, file=_SOURCE)
    if document.diagnostics or not isinstance(document.root, Mapping):
        message = document.diagnostics[0].message if document.diagnostics else "this is not a topology"
        details = {"diagnostics": [item.model_dump(mode="json") for item in document.diagnostics]}
        raise TopologyInvalid(f"the topology cannot be edited: {message}", details=details)
    return document.root


def _flow_ends(item: Node) -> str:
    ends = item.items if isinstance(item, Sequence) else ()
    return "[" + ", ".join(quoted(end.text) for end in ends if isinstance(end, Scalar)) + "]"


def _number(value: float) -> int | float:
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def _verified(before: Mapping, after: str, meant: Callable[[dict[str, Any]], None]) -> str:
    """``after``, when it says what ``before`` said with ``meant`` applied."""
    expected = before.data()
    meant(expected)
    document = read_yaml(after, file=_SOURCE)
    if document.diagnostics or document.root is None or document.root.data() != expected:
        raise unsupported()
    return after
