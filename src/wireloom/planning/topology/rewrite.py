"""Small edits of a topology file's text: what is not concerned stays as it was, character by character.

Every edit is read back and compared with what was meant; a file written in a way that an edit cannot handle
is refused, never damaged.
"""

from __future__ import annotations

from typing import Any, Final

from wireloom.devices import DeviceCatalogue
from wireloom.errors import Conflict, NotFound
from wireloom.planning.topology.editing import Ends, read_root, verified, written
from wireloom.yamlfile import Mapping, Node, Scalar, Sequence, did_you_mean
from wireloom.yamlfile.splice import Splice, quoted

__all__ = ["add_link", "move_link", "remove_link", "set_link_state", "set_position"]

#: What only links into segments say, and what only links between ports say.
_INTO_SEGMENT: Final = ("vlan", "trunk", "native")
_BETWEEN_PORTS: Final = ("mtu",)


def add_link(
    text: str,
    a: str,
    b: str,
    mtu: int | None = None,
    *,
    vlan: int | None = None,
    trunk: tuple[str, ...] = (),
    native: int | None = None,
    devices: DeviceCatalogue | None = None,
) -> str:
    """Add the link between ``a`` and ``b``: each ``node:interface``, or one of them the name of a segment.

    :param trunk: VLANs as in a file: ``10``, ``20-29``.
    :param devices: lets ends be compared as ports, however they are written; else as text.
    :raises Conflict: it is there already. :raises TopologyInvalid: the text is not a topology.
    :raises Unsupported: the file's way of writing links cannot be edited.
    """
    root = read_root(text)
    if Ends(root, devices).find(a, b) is not None:
        raise Conflict(f"the link {a} -- {b} is there already")
    vlans = [int(item) if item.strip().isdecimal() else item for item in trunk]
    said = {"mtu": mtu, "vlan": vlan, "trunk": vlans or None, "native": native}
    more = {key: value for key, value in said.items() if value is not None}
    new: Any = {"endpoints": [a, b], **more} if more else [a, b]
    splice = Splice(text)
    entry = root.entries.get("links")
    if entry is None:
        splice.add_list(root, "links", written(new))
    elif isinstance(entry.value, Sequence) and (entry.value.items or entry.value.flow):
        splice.add_item(entry.value, written(new))
    else:
        splice.add_list_below(entry, written(new))

    def meant(data: dict[str, Any]) -> None:
        data["links"] = [*(data.get("links") or []), new]

    return verified(root, splice.result(), meant)


def remove_link(text: str, a: str, b: str, *, devices: DeviceCatalogue | None = None) -> str:
    """Remove the link between ``a`` and ``b``, whichever end comes first. :raises NotFound: there is none."""
    root = read_root(text)
    entry, links, index = Ends(root, devices).get(a, b)
    splice = Splice(text)
    splice.remove_item(entry, links, index)

    def meant(data: dict[str, Any]) -> None:
        del data["links"][index]

    return verified(root, splice.result(), meant)


def move_link(text: str, a: str, b: str, to: str, *, devices: DeviceCatalogue | None = None) -> str:
    """Let the link between ``a`` and ``b`` go from ``a`` to ``to``; what else it says stays, as far as it still fits.

    :raises NotFound: there is no such link. :raises Conflict: there is one from ``a`` to ``to`` already.
    :raises Unsupported: the file's way of writing links cannot be edited.
    """
    root = read_root(text)
    ends = Ends(root, devices)
    _, links, index = ends.get(a, b)
    if ends.find(a, to) is not None:
        raise Conflict(f"the link {a} -- {to} is there already")
    item = links.items[index]
    side = ends.side(item, b)
    unfit = _INTO_SEGMENT if _is_port(a) and _is_port(to) else _BETWEEN_PORTS
    dropped = [key for key in unfit if isinstance(item, Mapping) and key in item.entries]
    splice = Splice(text)
    if links.aliases[index] is not None:
        splice.replace_item(links, index, written(_moved(item.data(), side, to, dropped)))
    else:
        _move_end(splice, item, side, to)
        for key in dropped:
            assert isinstance(item, Mapping)  # noqa: S101 - only mappings have keys
            splice.remove_key(item, key)

    def meant(data: dict[str, Any]) -> None:
        data["links"][index] = _moved(data["links"][index], side, to, dropped)

    return verified(root, splice.result(), meant)


def _is_port(end: str) -> bool:
    return ":" in end


def _moved(link: Any, side: int, to: str, dropped: list[str]) -> Any:
    if isinstance(link, list):
        return [to if number == side else end for number, end in enumerate(link)]
    kept = {key: value for key, value in link.items() if key not in dropped}
    return {**kept, "endpoints": _moved(link["endpoints"], side, to, [])}


def _move_end(splice: Splice, item: Node, side: int, to: str) -> None:
    if isinstance(item, Sequence):
        splice.replace_item(item, side, quoted(to))
    elif isinstance(item, Mapping):
        entry = item.entries["endpoints"]
        if entry in item.written and entry.alias is None and isinstance(entry.value, Sequence):
            splice.replace_item(entry.value, side, quoted(to))
            return
        # Shared with another link: this one gets ends of its own.
        own = written(_moved(entry.value.data(), side, to, []))
        if entry in item.written:
            splice.set_value(entry, own)
        else:
            splice.add_key(item, "endpoints", own)


def set_link_state(text: str, a: str, b: str, up: bool, *, devices: DeviceCatalogue | None = None) -> str:
    """Declare the link between ``a`` and ``b`` up or down. :raises NotFound: there is none."""
    root = read_root(text)
    _, links, index = Ends(root, devices).get(a, b)
    item = links.items[index]
    said = item.entries.get("down") if isinstance(item, Mapping) else None
    if up and said is None:
        return text
    word = "false" if up else "true"
    splice = Splice(text)
    if links.aliases[index] is not None:
        key = "<<" if isinstance(item, Mapping) else "endpoints"
        splice.replace_item(links, index, f"{{{key}: {splice.item_text(links, index)}, down: {word}}}")
    elif isinstance(item, Mapping) and said is not None and said in item.written:
        splice.set_value(said, word)
    elif isinstance(item, Mapping):
        splice.add_key(item, "down", word)
    else:
        splice.replace_item(links, index, f"{{endpoints: {_flow_ends(item)}, down: {word}}}")

    def meant(data: dict[str, Any]) -> None:
        link = data["links"][index]
        data["links"][index] = {**(link if isinstance(link, dict) else {"endpoints": link}), "down": not up}

    return verified(root, splice.result(), meant)


def set_position(text: str, node: str, x: float, y: float) -> str:
    """Say where the studio draws ``node``. :raises NotFound: there is no such node."""
    root = read_root(text)
    nodes = root.get("nodes")
    entry = nodes.entries.get(node) if isinstance(nodes, Mapping) else None
    if entry is None:
        known = nodes.entries if isinstance(nodes, Mapping) else ()
        raise NotFound(f"there is no node {node!r}", hint=did_you_mean(node, known))
    position = [_number(x), _number(y)]
    value = f"[{position[0]}, {position[1]}]"
    splice = Splice(text)
    body = entry.value
    said = body.entries.get("position") if isinstance(body, Mapping) else None
    if entry.alias is not None:
        alias = text[entry.alias[0].offset : entry.alias[1].offset]
        splice.set_value(entry, f"{{<<: {alias}, position: {value}}}")
    elif isinstance(body, Mapping) and said is not None and said in body.written:
        splice.set_value(said, value)
    elif isinstance(body, Mapping):
        splice.add_key(body, "position", value, after_first=True)
    else:
        splice.set_value(entry, f"{{position: {value}}}")

    def meant(data: dict[str, Any]) -> None:
        data["nodes"][node] = {**(data["nodes"][node] or {}), "position": position}

    return verified(root, splice.result(), meant)


def _flow_ends(item: Node) -> str:
    ends = item.items if isinstance(item, Sequence) else ()
    return "[" + ", ".join(quoted(end.text) for end in ends if isinstance(end, Scalar)) + "]"


def _number(value: float) -> int | float:
    rounded = round(value, 2)
    return int(rounded) if rounded == int(rounded) else rounded
