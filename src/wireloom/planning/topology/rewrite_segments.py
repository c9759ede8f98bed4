"""Small edits of a topology file's text that concern its segments; see :mod:`wireloom.planning.topology.rewrite`."""

from __future__ import annotations

from typing import Any

from wireloom.errors import Conflict, NotFound
from wireloom.planning.topology.editing import Ends, read_root, verified, written
from wireloom.yamlfile import Mapping, did_you_mean
from wireloom.yamlfile.splice import Splice, quoted, unsupported

__all__ = ["add_segment", "remove_segment"]


def add_segment(
    text: str,
    name: str,
    kind: str,
    *,
    mtu: int | None = None,
    qinq: bool = False,
    interface: str = "",
    vlan: int | None = None,
    move_addresses: bool = False,
    subnet: str = "",
    dhcp: bool = True,
) -> str:
    """Add a segment; values are those of the file, and what is default stays unsaid.

    :raises Conflict: there is a segment of that name. :raises TopologyInvalid: the text is not a topology.
    :raises Unsupported: the file's way of writing segments cannot be edited.
    """
    root = read_root(text)
    entry = root.entries.get("segments")
    if entry is not None and isinstance(entry.value, Mapping) and name in entry.value.entries:
        raise Conflict(f"there is a segment {name!r} already")
    said = {
        "kind": kind,
        "mtu": mtu,
        "qinq": qinq or None,
        "interface": interface or None,
        "vlan": vlan,
        "move-addresses": move_addresses or None,
        "subnet": subnet or None,
        "dhcp": None if dhcp else False,
    }
    new = {key: value for key, value in said.items() if value is not None}
    splice = Splice(text)
    if entry is None:
        splice.add_entry(root, "segments", quoted(name), written(new))
    elif isinstance(entry.value, Mapping) and (entry.value.written or entry.value.flow):
        splice.add_key(entry.value, quoted(name), written(new))
    else:
        splice.add_entry_below(entry, quoted(name), written(new))

    def meant(data: dict[str, Any]) -> None:
        data["segments"] = {**(data.get("segments") or {}), name: new}

    return verified(root, splice.result(), meant)


def remove_segment(text: str, name: str) -> str:
    """Remove a segment with all links into it.

    :raises NotFound: there is none of that name.
    :raises Unsupported: the file's way of writing segments or links cannot be edited.
    """
    root = read_root(text)
    entry = root.entries.get("segments")
    segments = entry.value if entry is not None else None
    if entry is None or not isinstance(segments, Mapping) or name not in segments.entries:
        known = segments.entries if isinstance(segments, Mapping) else ()
        raise NotFound(f"there is no segment {name!r}", hint=did_you_mean(name, known))
    if entry.alias is not None:
        raise unsupported()
    splice = Splice(text)
    splice.remove_key(segments, name, entry)

    def meant(data: dict[str, Any]) -> None:
        del data["segments"][name]

    return _without_links(verified(root, splice.result(), meant), name)


def _without_links(text: str, segment: str) -> str:
    """One after the other: places in a text hold for one edit."""
    while found := Ends(root := read_root(text), None).with_end(segment):
        entry, links, index = found[-1]
        splice = Splice(text)
        splice.remove_item(entry, links, index)

        def meant(data: dict[str, Any], index: int = index) -> None:
            del data["links"][index]

        text = verified(root, splice.result(), meant)
    return text
