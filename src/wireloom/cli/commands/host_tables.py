"""Hosts as people read them."""

import time
from typing import TYPE_CHECKING, Any

from wireloom.cli.output import duration
from wireloom.cli.state import CliState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wireloom.model.host_views import HostDetails, RemovalPreview
    from wireloom.model.views import HostUse, HostView

__all__ = ["host_state", "show_details", "show_hosts", "show_removal"]

Facts = dict[str, Any]

_COLUMNS = (
    "host", "state", "seen", "cpus", "memory GiB", "load", "labs", "nodes", "disk free", "providers", "labels"
)  # fmt: skip


def host_state(host: "HostView") -> str:
    """One word, and why it takes no new nodes where that is a user's wish."""
    state = "alive" if host.alive else "dead"
    if host.draining:
        return f"{state}, draining"
    return f"{state}, cordoned" if host.cordoned else state


def show_hosts(state: CliState, hosts: "Sequence[HostView]") -> None:
    """A line for each host, and below what is wrong with them."""
    now = time.time()
    columns = (
        "host",
        "state",
        "seen",
        "cpus",
        "memory GiB",
        "load",
        "labs",
        "nodes",
        "disk free",
        "providers",
        "labels",
    )
    rows = [_row(host, now) for host in hosts]
    state.output.table(columns, rows, empty="no host has reported yet")
    for host in hosts:
        for problem in host_problems(host, now):
            state.output.remark(f"{host.host}: {problem}")


def _row(host: "HostView", now: float) -> tuple[object, ...]:
    facts, use = host.facts or {}, host.use
    return (
        host.host,
        host_state(host),
        _seen(host, now),
        _of(use.cpus if use else None, facts.get("cpus")),
        _of(use.memory_mb / 1024 if use else None, _gib(facts.get("memory_mb"))),
        _load(facts),
        len(use.labs) if use else facts.get("labs"),
        f"{use.running}/{use.nodes}" if use else facts.get("nodes"),
        _room(facts),
        ", ".join(_provider(item) for item in facts.get("providers") or ()),
        _labels(host.labels),
    )


def _seen(host: "HostView", now: float) -> str | None:
    """How long ago, by the controller's clock: that of whoever looks may be another one."""
    if host.silent_s is not None:
        return duration(host.silent_s)
    return duration(now - host.last_seen) if host.last_seen else None


def _of(taken: float | None, there: float | None) -> str | None:
    """What labs may take of what is there."""
    if there is None:
        return None
    return f"{there:g}" if taken is None else f"{round(taken, 1):g}/{there:g}"


def _gib(mebibytes: float | None) -> float | None:
    return None if mebibytes is None else round(mebibytes / 1024, 1)


def _load(facts: Facts) -> str | None:
    loads = facts.get("load") or ()
    return f"{loads[0]:.1f}" if loads else None


def _room(facts: Facts) -> str | None:
    disks = facts.get("disks") or ()
    return f"{disks[0]['free'] / 2**30:.0f} GiB" if disks else None


def _labels(labels: "Mapping[str, str]") -> str:
    return ", ".join(f"{key}={value}" if value else key for key, value in sorted(labels.items()))


def _provider(facts: Facts) -> str:
    if not facts.get("available", True):
        return f"{facts['name']} (away)"
    kind = facts.get("acceleration", "native")
    return str(facts["name"]) if kind == "native" else f"{facts['name']} ({kind})"


def host_problems(host: "HostView", now: float) -> "Iterator[str]":
    """Everything that somebody may want to do something about."""
    facts = host.facts or {}
    yield from facts.get("problems") or ()
    yield from _lacks(facts.get("dataplane") or {})
    if host.clock_ahead_s:
        way = "ahead of" if host.clock_ahead_s > 0 else "behind"
        yield f"its clock is {duration(abs(host.clock_ahead_s))} {way} the controller's"
    stale = _stale_loops(facts, facts.get("time") or now)  # by the clock of the host itself
    if host.alive and stale:
        yield f"loops: {stale}"
    if not host.alive:
        yield "its agent has not been heard" + ("" if host.last_seen is None else " lately: its nodes are unknown")


def _lacks(dataplane: Facts) -> list[str]:
    """What the host cannot do with links, each reason once."""
    whats = {"vlans": "VLANs", "qinq": "qinq", "vlan_devices": "VLANs of its NICs"}
    reasons = {what: dataplane.get(field) for field, what in whats.items()}
    reasons |= dataplane.get("impairments") or {}
    reasons["impairments towards segments"] = dataplane.get("impair_from_guest")
    by_reason: dict[str, list[str]] = {}
    for what, reason in reasons.items():
        if reason:
            by_reason.setdefault(reason, []).append(what)
    return [f"links without {', '.join(whats)}: {reason}" for reason, whats in by_reason.items()]


def _stale_loops(facts: Facts, now: float) -> str:
    """Names and ages of the loops that have not succeeded for too long, all by the host's own clock."""
    now = facts.get("time") or now
    return ", ".join(
        f"{loop['name']} stale {duration(now - loop['last_success'])}"
        if loop["last_success"]
        else f"{loop['name']} begins"
        for loop in facts.get("loops") or ()
        if now - loop["last_success"] > loop["stale_after_s"]
    )


# -------------------------------------------------------------------- one host


def show_details(state: CliState, details: "HostDetails") -> None:
    """A host with what it can do and what is on it."""
    host, now = details.host, time.time()
    lines = [*_standing(host, now), *_machine(host.facts or {}), *_network(host.facts or {}), *_used(host.use)]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        state.output.line(f"{name:{width}}  {text}")
    state.output.line()
    rows = [(lab.lab, f"{lab.running}/{lab.nodes}", f"{lab.cpus:g}", lab.memory_mb) for lab in details.labs]
    state.output.table(("lab", "running", "cpus", "memory MiB"), rows, empty="no lab has nodes there")
    for problem in host_problems(host, now):
        state.output.remark(f"{host.host}: {problem}")


def _standing(host: "HostView", now: float) -> "Iterator[tuple[str, str]]":
    yield "host", host.host
    yield "state", host_state(host) + (f" ({host.cordon_reason})" if host.cordon_reason else "")
    if host.closed:
        yield "takes no nodes", host.closed
    if host.last_seen is not None:
        yield "seen", f"{_seen(host, now)} ago"
    if host.labels:
        yield "labels", _labels(host.labels)


def _machine(facts: Facts) -> "Iterator[tuple[str, str]]":
    if not facts:
        return
    yield "version", str(facts.get("version"))
    yield "system", ", ".join(filter(None, (facts.get("os"), facts.get("kernel"), facts.get("architecture"))))
    yield "cpu", f"{facts.get('cpus')} of {facts.get('cpu_model') or 'an unknown kind'}"
    memory = f"{_gib(facts.get('memory_mb'))} GiB"
    free = _gib(facts.get("memory_free_mb"))
    yield "memory", memory if free is None else f"{memory}, {free} GiB free"
    if facts.get("load"):
        yield "load", " ".join(f"{load:.2f}" for load in facts["load"])
    yield "virtual machines", "KVM" if facts.get("kvm") else f"emulated: {facts.get('kvm_reason')}"
    if facts.get("kvm"):
        yield "nested", "yes" if facts.get("nested") else "no"
    if facts.get("privileged") is not None:
        yield "privileged nodes", "yes" if facts["privileged"] else f"no: {facts.get('privileged_reason')}"
    engines = [f"{item['name']} {item['version'] or 'does not answer'}" for item in facts.get("engines") or ()]
    yield "engines", ", ".join(engines) or "not told"
    yield from _abilities(facts.get("abilities"))
    for disk in facts.get("disks") or ():
        yield f"disk ({disk['purpose']})", f"{_room({'disks': [disk]})} free of {disk['total'] / 2**30:.0f} GiB"
    if facts.get("images_count") is not None:
        yield "images", str(facts["images_count"])


def _abilities(abilities: "Sequence[Facts] | None") -> "Iterator[tuple[str, str]]":
    if abilities:
        yield (
            "kernel can",
            ", ".join(item["name"] for item in abilities if item["works"]) or "nothing of what was tried",
        )
        lacks = ", ".join(item["name"] for item in abilities if not item["works"])
        if lacks:
            yield "kernel cannot", lacks


def _network(facts: Facts) -> "Iterator[tuple[str, str]]":
    if facts.get("underlay"):
        mtu = f", MTU {facts['underlay_mtu']}" if facts.get("underlay_mtu") else ""
        yield "underlay", f"{facts['underlay']}{mtu}"
    for way in facts.get("paths") or ():
        yield f"way to {way['host']}", _way(way)
    for nic in facts.get("nics") or ():
        parts = [", ".join(nic["addresses"]), f"MTU {nic['mtu']}", "up" if nic["up"] else "down"]
        yield f"NIC {nic['name']}", ", ".join(filter(None, parts))


def _way(facts: Facts) -> str:
    from wireloom.model.underlay import Path

    path = Path.model_validate(facts)
    if path.problem:
        return path.problem
    if not path.mtu:
        return f"{path.address}, not measured yet"
    return f"{path.address}, packets of up to {path.mtu} bytes arrive in one piece"


def _used(use: "HostUse | None") -> "Iterator[tuple[str, str]]":
    if use is not None:
        yield "taken by labs", f"{use.cpus:g} cpus, {_gib(use.memory_mb)} GiB, {use.nodes} nodes"


def show_removal(state: CliState, preview: "RemovalPreview") -> None:
    """What removing a host means, or meant."""
    rows = [(node.lab, node.node, node.state, "; ".join(node.what)) for node in preview.nodes]
    if rows:
        state.output.table(("lab", "node", "state", "lost with it"), rows)
        state.output.line()
    for wire in preview.wires:
        state.output.line(f"link without an end: {wire}")
    for image in preview.images:
        state.output.line(f"image on no other host: {image}")
    for text in preview.consequences:
        state.output.line(f"- {text}")
