"""Links, impairments and rates in words, for tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wireloom.cli.output import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wireloom.model.impairment import Impairment
    from wireloom.model.link_views import ImpairmentView, LinkView
    from wireloom.model.vlans import Vlans

__all__ = ["bits", "directions", "impairment_words", "is_impaired", "link_remark", "times_left", "vlan_words"]


def impairment_words(impairment: Impairment | None) -> str:
    """``delay 50ms ±5ms, loss 1%, rate 10mbit``; empty when nothing is impaired."""
    if impairment is None:
        return ""
    jitter = f" ±{_time(impairment.jitter_ms)}" if impairment.jitter_ms else ""
    words = [f"delay {_time(impairment.delay_ms)}{jitter}"] if impairment.delay_ms else []
    for part in ("loss", "duplicate", "corrupt", "reorder"):
        share = getattr(impairment, part)
        words += [f"{part} {share:g}%"] if share else []
    words += [f"rate {_rate(impairment.rate_kbit)}"] if impairment.rate_kbit else []
    words += [f"limit {impairment.limit}"] if impairment.limit else []
    return ", ".join(words)


def _time(milliseconds: float) -> str:
    return f"{milliseconds / 1000:g}s" if milliseconds >= 1000 else f"{milliseconds:g}ms"


def _rate(kilobits: int) -> str:
    for unit, factor in (("gbit", 1_000_000), ("mbit", 1000)):
        if kilobits >= factor:
            return f"{kilobits / factor:.10g}{unit}"
    return f"{kilobits}kbit"


def directions(link: LinkView) -> Iterator[tuple[str, str, Impairment | None, Impairment | None]]:
    """Both ways over ``link``: from, to, what is configured, what the host has (as ``configured`` where unknown)."""
    wanted, seen = link.impairment.configured, link.impairment.operational
    yield link.a, link.b, wanted.forward, None if seen is None else seen.forward
    yield link.b, link.a, wanted.backward, None if seen is None else seen.backward


def is_impaired(view: ImpairmentView) -> bool:
    """Whether anything is wrong with the link, on purpose or still."""
    ways = [view.configured.forward, view.configured.backward]
    if view.operational is not None:
        ways += [view.operational.forward, view.operational.backward]
    return any(way is not None and way.parts for way in ways)


def times_left(view: ImpairmentView) -> tuple[str, str]:
    """How long what impairs each direction, forward and backward, still holds; empty without an end."""
    now, configured = time.time(), view.configured
    ends = (configured.forward_until, configured.backward_until)
    forward, backward = ("" if end is None else duration(end - now) for end in ends)
    return forward, backward


def vlan_words(vlans: Vlans | None) -> str:
    """``10``, or ``10,20-29 native 1`` for a trunk."""
    if vlans is None:
        return ""
    if not vlans.tagged:
        return str(vlans.untagged)
    ranges = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in vlans.tagged)
    return f"{ranges} native {vlans.untagged}" if vlans.untagged is not None else ranges


def link_remark(link: LinkView) -> str:
    """What is to be said of a link beside its state."""
    vlans = f"VLAN {vlan_words(link.vlans)}" if link.vlans is not None else ""
    impaired = "impaired" if is_impaired(link.impairment) else ""
    return "; ".join(part for part in (vlans, impaired, link.message) if part)


def bits(rate: float) -> str:
    """Bits a second in three digits: ``0``, ``950``, ``1.2k``, ``34.5M``, ``9.4G``."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rate >= factor:
            return f"{rate / factor:.1f}{unit}"
    return f"{rate:.0f}"
