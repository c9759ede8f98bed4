"""What links and segments want of their hosts' data planes, and these cannot do. Pure.

Unlike a node, which can be left out alone, a link that is not as its topology says would make the lab another one: what
is found here refuses the whole edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wireloom.errors import Unsupported
from wireloom.fabric.documents import HostFacts
from wireloom.model.impairment import PARTS, Impairment, LinkImpairment
from wireloom.model.network import DataPlaneAbilities
from wireloom.model.slice import PortRef, RemoteEnd, SegmentIntent, Slice, WireIntent

__all__ = ["link_names", "link_problems", "refuse_new_problems"]

#: What helps, by what is lacking; ``{host}`` is the host that lacks it.
_OTHER_PLANE: Final = "use another host, or another data plane on {host}; `wireloom hosts` says what each can do"
_MODULE: Final = "load the module %s on {host}, or use another host; `wireloom hosts` says what each can do"
_FROM_GUEST: Final = "it takes the data plane kernel and the module ifb on {host}, or another host that has both"
_ADDRESS: Final = "set `underlay_address` on {host}"
_WIREGUARD: Final = "load the module wireguard on {host}, put both nodes on one host, or set `link-encryption: none`"
_QUEUES: Final = {"rate": "sch_tbf", "limit": "sch_tbf"}

_WHOLE: Final = LinkImpairment()

#: Whom a problem concerns (id of a link or segment) and what of it.
_Key = tuple[str, str]


@dataclass(frozen=True)
class _Lack:
    """``subject`` wants ``what``, which ``host`` has not. ``advice``: what helps."""

    subject: str
    what: str
    host: str
    reason: str
    advice: str


def refuse_new_problems(
    before: Mapping[str, Slice], after: Mapping[str, Slice], facts: Mapping[str, HostFacts]
) -> None:
    """:raises Unsupported: ``after`` wants what its hosts cannot do; what ``before`` wants already is no reason."""
    problems = link_problems(before, after, facts)
    if not problems:
        return
    first, more = problems[0], len(problems) - 1
    raise Unsupported(
        f"{first.message} (and {more} more)" if more else first.message,
        hint=first.hint,
        details={"problems": [problem.to_wire() for problem in problems]} if more else {},
    )


def link_problems(
    before: Mapping[str, Slice], after: Mapping[str, Slice], facts: Mapping[str, HostFacts]
) -> tuple[Unsupported, ...]:
    """What ``after`` wants beyond ``before`` that its hosts cannot do.

    :param facts: of hosts that live; of others nothing is known, and their agents will tell.
    """
    known = _lacks(before, facts)
    grouped: dict[_Lack, list[str]] = {}
    for key, lack in _lacks(after, facts).items():
        if key not in known:
            grouped.setdefault(replace(lack, what=""), []).append(lack.what)
    return tuple(_problem(lack, whats) for lack, whats in grouped.items())


def _problem(lack: _Lack, whats: Sequence[str]) -> Unsupported:
    wanted = " and ".join(filter(None, (", ".join(whats[:-1]), whats[-1])))
    return Unsupported(
        f"{lack.subject} wants {wanted}, which host {lack.host} cannot do: {lack.reason}",
        hint=lack.advice.format(host=lack.host),
    )


def _lacks(slices: Mapping[str, Slice], facts: Mapping[str, HostFacts]) -> dict[_Key, _Lack]:
    found: dict[_Key, _Lack] = {}
    for host, document in slices.items():
        if host not in facts:
            continue
        can = facts[host].dataplane
        for segment in document.segments:
            for what, reason, advice in _segment_lacks(segment, can):
                found[segment.id, what] = _Lack(f"segment {segment.name}", what, host, reason, advice)
        for wire in document.wires:
            if wire.remote is not None:
                for what, reason, advice in tunnel_lacks(wire.remote, facts[host]):
                    found[wire.id, f"{host}: {what}"] = _Lack(
                        f"link {_name(document, wire)}", what, host, reason, advice
                    )
        for subject, link_id, impairment, on_plug in _impaired(document):
            for what, reason, advice in _impairment_lacks(impairment, can, on_plug=on_plug):
                found[link_id, what] = _Lack(f"link {subject}", what, host, reason, advice)
    return found


def _segment_lacks(segment: SegmentIntent, can: DataPlaneAbilities) -> Iterator[tuple[str, str, str]]:
    """What, why not, and what helps."""
    if segment.tagging == "802.1q" and can.vlans:
        yield "VLANs", can.vlans, _OTHER_PLANE
    if segment.tagging == "802.1ad" and (can.qinq or can.vlans):
        yield "tags of a provider (qinq)", can.qinq or can.vlans, _OTHER_PLANE
    if segment.uplink is not None and segment.uplink.vlan is not None and can.vlan_devices:
        yield f"VLAN {segment.uplink.vlan} of {segment.uplink.device}", can.vlan_devices, _MODULE % "8021q"


def _impaired(document: Slice, *, every: bool = False) -> Iterator[tuple[str, str, LinkImpairment, bool]]:
    """Name, id and impairment of each link (or of ``every`` one), and whether it is one to a segment."""
    for wire in document.wires:
        if every or wire.impairment != _WHOLE:
            yield _name(document, wire), wire.id, _impairment_here(wire), False
    for plug in document.plugs:
        segment = document.segment(plug.segment)
        yield f"{_end(document, plug.port)} -- {segment.name if segment else ''}", plug.id, plug.impairment, True


def _name(document: Slice, wire: WireIntent) -> str:
    ends = [_end(document, ref) for ref in wire.ends]
    if wire.remote is not None:
        ends["ab".index(wire.remote.end)] = wire.remote.name
    return " -- ".join(ends)


def _impairment_here(wire: WireIntent) -> LinkImpairment:
    """What this host is to do: the direction to an end on another host is that one's."""
    if wire.remote is None:
        return wire.impairment
    other = {"backward": None} if wire.remote.end == "a" else {"forward": None}
    said = wire.impairment
    return said if said.forward is None and said.backward is None else said.model_copy(update=other)


def tunnel_lacks(remote: RemoteEnd, facts: HostFacts) -> Iterator[tuple[str, str, str]]:
    """What a host lacks for a link to another one: what, why not, and what helps."""
    if facts.underlay_told and not facts.underlay:
        yield f"a tunnel to host {remote.host}", "no address is known at which others reach it", _ADDRESS
    if remote.encryption == "wireguard" and facts.underlay_told and facts.wireguard is None:
        yield "WireGuard", facts.wireguard_reason or "its kernel has none", _WIREGUARD


def link_names(slices: Mapping[str, Slice]) -> dict[str, str]:
    """Links as people name them, by id: ``r1:eth1 -- r2:eth1``."""
    return {link_id: name for document in slices.values() for name, link_id, _, _ in _impaired(document, every=True)}


def _end(document: Slice, ref: PortRef) -> str:
    node = document.node(ref.node_id)
    port = node.port(ref.index) if node else None
    return f"{node.name if node else ref.node_id}:{port.name if port else ref.index}"


def _impairment_lacks(
    impairment: LinkImpairment, can: DataPlaneAbilities, *, on_plug: bool
) -> Iterator[tuple[str, str, str]]:
    wanted = _parts(impairment.forward) | _parts(impairment.backward)
    for part in PARTS:
        if part in wanted and can.impairments.get(part):
            yield part, can.impairments[part], _MODULE % _QUEUES.get(part, "sch_netem")
    if on_plug and _parts(impairment.forward) and can.impair_from_guest:
        yield "an impairment on the way to its segment", can.impair_from_guest, _FROM_GUEST


def _parts(impairment: Impairment | None) -> frozenset[str]:
    return impairment.parts if impairment is not None else frozenset()
