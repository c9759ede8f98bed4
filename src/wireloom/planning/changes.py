"""What deploying a topology would change, line by line with reasons: ``wireloom plan`` and the studio's preview.

Compares intents, not files: a change counts exactly when an agent would see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from wireloom.model.slice import SPEC_FIELDS, NodeIntent
from wireloom.model.topology import LinkSpec, NodeSpec, Topology
from wireloom.model.views import ChangeView
from wireloom.planning.expand import Expansion, NodeCounters, data_ports, node_intents

__all__ = ["describe_changes"]

#: What an agent takes over without touching the runtime, with its word in a topology file.
_LIVE_FIELDS: Final[Mapping[str, str]] = {
    "restart_policy": "restart",
    "depends_on": "depends-on",
    "labels": "labels",
    "post_boot": "exec",
    "ready": "readiness of the device",
    "console": "console of the device",
    "run": "channels of the device",
    "access": "login of the device",
    "extract": "extraction of the device",
    "load": "loading of the device",
    "extract_on_stop": "extract-on-stop",
    "stop_grace_s": "grace time of the device",
}
_WORDS: Final[Mapping[str, str]] = {
    "memory_mb": "memory",
    "disk_gb": "disk",
    "startup_config": "startup-config",
    "startup_template": "startup-config",
    "day0": "configuration medium of the device",
}
_LONGEST: Final = 60


def describe_changes(
    old: Topology | None,
    new: Topology,
    known: Expansion,
    *,
    old_host_of: Mapping[str, str] | None = None,
    old_counters: Mapping[str, NodeCounters] | None = None,
) -> tuple[ChangeView, ...]:
    """Changes from ``old`` (``None``: the lab does not exist) to ``new``, nodes first, in the order of the files.

    :param known: as for expanding ``new``; ids of nodes that do not exist yet may be missing.
    :param old_host_of: node name → host it runs on now, where that is known.
    :param old_counters: counters before the change, where they differ from those in ``known``.
    """
    names = [node.name for topology in (old, new) if topology is not None for node in topology.nodes]
    known = replace(known, ids={name: known.ids.get(name, name) for name in names})
    was = known if old_counters is None else replace(known, counters=old_counters)
    before = {} if old is None else {node.name: node for node in old.nodes}
    old_intents = {} if old is None else _readable(node_intents(old, was), known)
    new_intents = _readable(node_intents(new, known), known)
    changes: list[ChangeView] = []
    for spec in new.nodes:
        host = known.host_of.get(spec.name, spec.host or "")
        if spec.name not in old_intents:
            changes.append(_node(spec, "add", _introduction(spec), host))
        else:
            previous_host = (old_host_of or {}).get(spec.name, host)
            change = _node_change(old_intents[spec.name], new_intents[spec.name], old_host=previous_host, host=host)
            changes += [] if change is None else [change]
    kept = {spec.name for spec in new.nodes}
    for spec in before.values():
        if spec.name not in kept:
            host = (old_host_of or {}).get(spec.name, "")
            changes.append(_node(spec, "remove", ("it is no longer in the topology",), host))
    return (*changes, *_link_changes(old, new, known))


def _introduction(spec: NodeSpec) -> tuple[str, ...]:
    cores = "1 core" if spec.cpu == 1 else f"{spec.cpu:g} cores"
    return (f"{spec.device} on {spec.provider}, image {spec.image}, {cores}, {spec.memory_mb} MiB",)


def _node(spec: NodeSpec, action: Any, reasons: tuple[str, ...], host: str) -> ChangeView:
    return ChangeView(kind="node", name=spec.name, action=action, reasons=reasons, host=host)


def _readable(nodes: Mapping[str, NodeIntent], known: Expansion) -> dict[str, NodeIntent]:
    """``nodes`` with names of nodes where an agent gets ids."""
    names = {node_id: name for name, node_id in known.ids.items()}
    return {
        name: node.model_copy(update={"depends_on": {names[other]: when for other, when in node.depends_on.items()}})
        for name, node in nodes.items()
    }


def _node_change(old: NodeIntent, new: NodeIntent, *, old_host: str, host: str) -> ChangeView | None:
    fixed = [*_differences(old, new, {name: _WORDS.get(name, name) for name in sorted(SPEC_FIELDS)})]
    if old_host != host:
        fixed.append(f"host: {old_host} → {host}")
    if new.ports_fixed and data_ports(new) != data_ports(old):
        fixed.append(f"ports: it has {data_ports(old)} and needs {data_ports(new)}")
    live = [*_differences(old, new, _LIVE_FIELDS)]
    if _is_managed(old) != _is_managed(new):
        live.append("mgmt: joins the management network" if _is_managed(new) else "mgmt: leaves the management network")
    if fixed:
        reasons = (*(f"{reason}; this takes a new runtime" for reason in fixed), *live)
        return ChangeView(kind="node", name=new.name, action="recreate", reasons=reasons, host=host)
    if live:
        return ChangeView(kind="node", name=new.name, action="change", reasons=tuple(live), host=host)
    return None


def _is_managed(node: NodeIntent) -> bool:
    return any(port.role == "mgmt" for port in node.ports)


def _differences(old: NodeIntent, new: NodeIntent, words: Mapping[str, str]) -> Iterator[str]:
    for name, word in words.items():
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{word}: {_difference(before, after)}"


def _difference(before: Any, after: Any) -> str:
    """The two values when they are short, the keys that differ for mappings, else just that it changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return ", ".join(keys) + (" differ" if len(keys) > 1 else " differs")
    texts = tuple(_short(value) for value in (before, after))
    if None in texts:
        return "changed"
    return f"{texts[0]} → {texts[1]}"


def _short(value: Any) -> str | None:
    if value is None:
        return "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple) or "\n" in text or len(text) > _LONGEST:
        return None
    return text


def _link_changes(old: Topology | None, new: Topology, known: Expansion) -> Iterator[ChangeView]:
    before = {} if old is None else {_key(link): link for link in old.links}
    after = {_key(link): link for link in new.links}
    for key, link in after.items():
        host = known.host_of.get(link.a.node, "")
        if key not in before:
            reason = f"MTU {link.mtu}" + ("" if link.up else ", down")
            yield ChangeView(kind="link", name=link.name, action="add", reasons=(reason,), host=host)
        elif reasons := _link_reasons(before[key], link):
            yield ChangeView(kind="link", name=link.name, action="change", reasons=reasons, host=host)
    for key, link in before.items():
        if key not in after:
            yield ChangeView(kind="link", name=link.name, action="remove", reasons=("it is no longer in the topology",))


def _key(link: LinkSpec) -> tuple[tuple[str, int], ...]:
    return tuple((end.node, end.index) for end in link.ends)


def _link_reasons(old: LinkSpec, new: LinkSpec) -> tuple[str, ...]:
    reasons: list[str] = []
    if old.mtu != new.mtu:
        reasons.append(f"MTU {old.mtu} → {new.mtu}")
    if old.up != new.up:
        reasons.append("goes up" if new.up else "goes down")
    return tuple(reasons)
