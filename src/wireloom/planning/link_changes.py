"""What deploying a topology would change of links and segments, line by line with reasons."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.quantities import DELAY, RATE, SHARE
from wireloom.model.topology import LinkSpec, PlugSpec, SegmentSpec, Topology
from wireloom.model.views import ChangeView
from wireloom.model.vlans import Tagging, Vlans
from wireloom.planning.expand_links import segment_tagging

__all__ = ["link_changes"]

T = TypeVar("T")

_GONE = ("it is no longer in the topology",)


def link_changes(old: Topology | None, new: Topology, host_of: Mapping[str, str]) -> Iterator[ChangeView]:
    """Segments first, then links, each in the order of the files. ``host_of``: node name → host."""
    before = Topology(name="") if old is None else old
    yield from _segment_changes(before, new, host_of)
    for had, wire in _pairs(before.links, new.links, _key_of_wire):
        yield from _wire_change(had, wire, host_of)
    for plugged, plug in _pairs(before.plugs, new.plugs, _key_of_plug):
        yield from _plug_change(plugged, plug, host_of)


def _pairs(old: Iterable[T], new: Iterable[T], key: Callable[[T], Hashable]) -> Iterator[tuple[T | None, T | None]]:
    if old is new:
        return
    before, after = {key(item): item for item in old}, {key(item): item for item in new}
    yield from ((before.get(name), item) for name, item in after.items())
    yield from ((item, None) for name, item in before.items() if name not in after)


def _change(kind: str, name: str, had: object, reasons: tuple[str, ...], host: str) -> Iterator[ChangeView]:
    action = "add" if had is None else "change"
    if reasons:
        yield ChangeView.model_validate(
            {"kind": kind, "name": name, "action": action, "reasons": reasons, "host": host}
        )


def _key_of_wire(link: LinkSpec) -> Hashable:
    return tuple((end.node, end.index) for end in link.ends)


def _wire_change(had: LinkSpec | None, link: LinkSpec | None, host_of: Mapping[str, str]) -> Iterator[ChangeView]:
    if link is None:
        assert had is not None  # noqa: S101 - one of a pair is there
        yield ChangeView(kind="link", name=had.name, action="remove", reasons=_GONE)
        return
    host, other = host_of.get(link.a.node, ""), host_of.get(link.b.node, "")
    if had is None:
        there = f", to host {other}" if host and other and other != host else ""
        made = f"MTU {link.mtu}{there}" + ("" if link.up else ", down")
        reasons = (made, *_impairments(LinkImpairment(), link.impairment))
    else:
        # Which end is called the first may have changed.
        previous = had.impairment if had.a == link.a else had.impairment.turned()
        mtu = (f"MTU {had.mtu} → {link.mtu}",) if had.mtu != link.mtu else ()
        reasons = (*mtu, *_state(had.up, link.up), *_impairments(previous, link.impairment))
    yield from _change("link", link.name, had, reasons, host)


def _key_of_plug(plug: PlugSpec) -> Hashable:
    return plug.end.node, plug.end.index, plug.segment


def _plug_change(had: PlugSpec | None, plug: PlugSpec | None, host_of: Mapping[str, str]) -> Iterator[ChangeView]:
    if plug is None:
        assert had is not None  # noqa: S101 - one of a pair is there
        yield ChangeView(kind="link", name=had.name, action="remove", reasons=_GONE)
        return
    if had is None:
        reasons = (_port(plug.vlans) + ("" if plug.up else ", down"), *_impairments(LinkImpairment(), plug.impairment))
    else:
        vlans = (f"{_port(had.vlans)} → {_port(plug.vlans)}",) if had.vlans != plug.vlans else ()
        reasons = (*vlans, *_state(had.up, plug.up), *_impairments(had.impairment, plug.impairment))
    yield from _change("link", plug.name, had, reasons, host_of.get(plug.end.node, ""))


def _segment_changes(old: Topology, new: Topology, host_of: Mapping[str, str]) -> Iterator[ChangeView]:
    for had, segment in _pairs(old.segments, new.segments, lambda segment: segment.name):
        if segment is None:
            assert had is not None  # noqa: S101 - one of a pair is there
            yield ChangeView(kind="segment", name=had.name, action="remove", reasons=_GONE)
            continue
        host = next((host_of[p.end.node] for p in new.plugs if p.segment == segment.name and p.end.node in host_of), "")
        told = _segment_words(segment, segment_tagging(new, segment))
        if had is None:
            yield from _change("segment", segment.name, None, (", ".join(told.values()),), host)
            continue
        was = _segment_words(had, segment_tagging(old, had))
        differ = (key for key in {**was, **told} if was.get(key) != told.get(key))
        reasons = tuple(f"{was.get(key) or f'no {key}'} → {told.get(key) or f'no {key}'}" for key in differ)
        yield from _change("segment", segment.name, had, reasons, host)


def _segment_words(segment: SegmentSpec, tagging: Tagging) -> dict[str, str]:
    words = {"kind": segment.kind, "MTU": f"MTU {segment.mtu}"}
    if tagging != "none":
        words["VLANs"] = f"VLANs by {tagging} tags"
    if segment.interface:
        words["interface"] = (
            segment.interface if segment.vlan is None else f"VLAN {segment.vlan} of {segment.interface}"
        )
        words["move-addresses"] = "takes the addresses along" if segment.move_addresses else "takes no addresses along"
    if segment.kind == "nat":
        words["subnet"] = f"subnet {segment.subnet or 'of our choice'}"
        words["DHCP"] = "DHCP" if segment.dhcp else "without DHCP"
    return words


def _state(was: bool, up: bool) -> tuple[str, ...]:
    return () if was == up else ("goes up" if up else "goes down",)


def _port(vlans: Vlans | None) -> str:
    if vlans is None:
        return "plain port"
    if not vlans.tagged:
        return f"access port of VLAN {vlans.untagged}"
    ranges = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in vlans.tagged)
    native = "" if vlans.untagged is None else f", native {vlans.untagged}"
    return f"trunk of {ranges}{native}"


def _impairments(was: LinkImpairment, now: LinkImpairment) -> tuple[str, ...]:
    if (was.forward, was.backward) == (now.forward, now.backward):
        return ()
    if now.forward == now.backward:
        return (f"both ways {_words(now.forward)}",)
    return (f"forward {_words(now.forward)}, backward {_words(now.backward)}",)


def _words(impairment: Impairment | None) -> str:
    if impairment is None or not impairment.parts:
        return "whole"
    texts = {
        "delay": DELAY.format(impairment.delay_ms),
        "jitter": DELAY.format(impairment.jitter_ms),
        "loss": SHARE.format(impairment.loss),
        "duplicate": SHARE.format(impairment.duplicate),
        "corrupt": SHARE.format(impairment.corrupt),
        "reorder": SHARE.format(impairment.reorder),
        "rate": RATE.format(impairment.rate_kbit),
        "limit": str(impairment.limit),
    }
    return ", ".join(f"{part} {text}" for part, text in texts.items() if part in impairment.parts)
