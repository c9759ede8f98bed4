"""What deploying a topology would change, line by line with reasons: ``wireloom plan`` and the studio's preview.

Compares intents, not files: a change counts exactly when an agent would see it, whether it comes from the topology or
from a device's definition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from wireloom.model.dialogue import Cli
from wireloom.model.slice import SPEC_FIELDS, NodeIntent, Slice
from wireloom.model.topology import NodeSpec, Topology
from wireloom.model.views import ChangeView
from wireloom.planning.expand import Expansion, data_ports, node_intents, used_clis
from wireloom.planning.link_changes import link_changes

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
    "cli": "command line of the device",
    "access": "login of the device",
    "extract": "extraction of the device",
    "load": "loading of the device",
    "extract_on_stop": "extract-on-stop",
    "stop_grace_s": "grace time of the device",
    "link_down": "link-down of the device",
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
    deployed: Iterable[Slice] = (),
) -> tuple[ChangeView, ...]:
    """Changes from ``old`` (``None``: the lab does not exist) to ``new``, nodes first, in the order of the files.

    :param known: as for expanding ``new``; ids of nodes that do not exist yet may be missing.
    :param old_host_of: node name → host it runs on now, where that is known.
    :param deployed: what hosts have of ``old``. It is not what ``old`` expands to when devices have changed since; a
        node that is in none of them counts as expanded with the devices of today.
    """
    names = [node.name for topology in (old, new) if topology is not None for node in topology.nodes]
    known = replace(known, ids={name: known.ids.get(name, name) for name in names})
    before = {} if old is None else {node.name: node for node in old.nodes}
    moved = {name for name, host in (old_host_of or {}).items() if known.host_of.get(name) != host}
    versions = _versions(old, new, known, tuple(deployed), moved)
    changes: list[ChangeView] = []
    for spec in new.nodes:
        host = known.host_of.get(spec.name, spec.host or "")
        if spec.name not in before:
            changes.append(_node(spec, "add", _introduction(spec), host))
        else:
            previous_host = (old_host_of or {}).get(spec.name, host)
            if spec.name not in versions and previous_host == host:
                continue
            change = _node_change(versions[spec.name], old_host=previous_host, host=host)
            changes += [] if change is None else [change]
    kept = {spec.name for spec in new.nodes}
    for spec in before.values():
        if spec.name not in kept:
            host = (old_host_of or {}).get(spec.name, "")
            changes.append(_node(spec, "remove", ("it is no longer in the topology",), host))
    return (*changes, *link_changes(old, new, known.host_of))


def _introduction(spec: NodeSpec) -> tuple[str, ...]:
    cores = "1 core" if spec.cpu == 1 else f"{spec.cpu:g} cores"
    return (f"{spec.device} on {spec.provider}, image {spec.image}, {cores}, {spec.memory_mb} MiB",)


def _node(spec: NodeSpec, action: Any, reasons: tuple[str, ...], host: str) -> ChangeView:
    return ChangeView(kind="node", name=spec.name, action=action, reasons=reasons, host=host)


@dataclass(frozen=True)
class _State:
    """One node as an agent gets it, with names of nodes instead of ids, and its command line."""

    intent: NodeIntent
    cli: Cli | None


@dataclass(frozen=True)
class _Versions:
    """One node: as its host ``has`` it, as its present topology makes it ``today``, and as it is ``wanted``."""

    has: _State
    today: _State
    wanted: _State

    def differ(self, part: Callable[[_State], Any]) -> bool:
        return bool(part(self.has) != part(self.wanted))

    def cause(self, part: Callable[[_State], Any]) -> str:
        """What is to be said of a ``part`` that differs although the topology says the same of it as before."""
        return ", as its device definition changed" if part(self.today) == part(self.wanted) else ""


def _versions(
    old: Topology | None, new: Topology, known: Expansion, deployed: tuple[Slice, ...], moved: Collection[str]
) -> dict[str, _Versions]:
    """Nodes of both topologies that may differ, by name."""
    if old is None:
        return {}
    names = {node.id: node.name for document in deployed for node in document.nodes}
    names |= {node_id: name for name, node_id in known.ids.items()}
    deployed_nodes = {node.name: (node, document.clis) for document in deployed for node in document.nodes}
    existing = {node.name for node in old.nodes}
    coming = node_intents(new, known, existing, remembered=known.remembered)
    clis = used_clis(coming.values(), known.devices)
    only = {
        name
        for name, intent in coming.items()
        if name in moved or name not in deployed_nodes or not _alike(intent, clis, *deployed_nodes[name])
    }
    has = {name: _state(*deployed_nodes[name], names) for name in only if name in deployed_nodes}
    wanted = {name: _state(coming[name], clis, names) for name in only}
    today = _expanded(old, known, names, only)
    return {
        name: _Versions(has.get(name, state), state, wanted[name]) for name, state in today.items() if name in wanted
    }


def _alike(intent: NodeIntent, clis: Mapping[str, Cli], has: NodeIntent, its_clis: Mapping[str, Cli]) -> bool:
    """Whether nothing of the node differs but that it gets another chance."""
    same = intent is has or {**intent.__dict__, "attention": 0} == {**has.__dict__, "attention": 0}
    return same and clis.get(intent.cli) == its_clis.get(has.cli)


def _expanded(
    topology: Topology, known: Expansion, names: Mapping[str, str], only: Collection[str]
) -> dict[str, _State]:
    intents = node_intents(topology, known, only)
    clis = used_clis(intents.values(), known.devices)
    return {name: _state(intent, clis, names) for name, intent in intents.items()}


def _state(node: NodeIntent, clis: Mapping[str, Cli], names: Mapping[str, str]) -> _State:
    depends_on = {names[other]: when for other, when in node.depends_on.items()}
    return _State(node.model_copy(update={"depends_on": depends_on}), clis.get(node.cli))


def _node_change(node: _Versions, *, old_host: str, host: str) -> ChangeView | None:
    fixed = [*_differences(node, {name: _WORDS.get(name, name) for name in sorted(SPEC_FIELDS)})]
    if old_host != host:
        fixed.append(f"host: {old_host} → {host}")
    fixed += _port_differences(node)
    live = [*_differences(node, _LIVE_FIELDS)]
    if not live and node.differ(_cli):
        live.append(f"command line of the device: changed{node.cause(_cli)}")
    if node.differ(_is_managed):
        live.append(f"mgmt: {'joins' if _is_managed(node.wanted) else 'leaves'} the management network")
    name = node.wanted.intent.name
    if fixed:
        reasons = (*(f"{reason}; this takes a new runtime" for reason in fixed), *live)
        return ChangeView(kind="node", name=name, action="recreate", reasons=reasons, host=host)
    if live:
        return ChangeView(kind="node", name=name, action="change", reasons=tuple(live), host=host)
    return None


def _port_differences(node: _Versions) -> Iterator[str]:
    """Ports matter where they are made with the runtime only: their number, and what the guest sees of each."""
    if not node.wanted.intent.ports_fixed:
        return
    if node.differ(_data_ports):
        yield f"ports: it has {_data_ports(node.has)} and needs {_data_ports(node.wanted)}{node.cause(_data_ports)}"
    elif node.differ(_made_ports):
        yield f"ports: changed{node.cause(_made_ports)}"


def _cli(state: _State) -> Cli | None:
    return state.cli


def _data_ports(state: _State) -> int:
    return data_ports(state.intent)


def _made_ports(state: _State) -> object:
    return state.intent.made_ports()


def _is_managed(state: _State) -> bool:
    return any(port.role == "mgmt" for port in state.intent.ports)


def _differences(node: _Versions, words: Mapping[str, str]) -> Iterator[str]:
    for name, word in words.items():

        def part(state: _State, name: str = name) -> Any:
            return getattr(state.intent, name)

        if node.differ(part):
            cause = node.cause(part)
            if name == "image" and cause:
                cause = ", the default of its device now"  # of the device's file or of the image library
            yield f"{word}: {_difference(part(node.has), part(node.wanted))}{cause}"


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
