"""Services of segments of kind ``nat`` without a kernel: what is wanted when a step fails, and what a look costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from wireloom.agent.gateway import firewall
from wireloom.agent.gateway.dnsmasq import Dnsmasq, Render
from wireloom.agent.gateway.forwarding import Forwarding
from wireloom.agent.segments import NatSegments, nat
from wireloom.errors import DataPlaneFailed
from wireloom.iptables import Rule
from wireloom.model.slice import NatIntent, SegmentIntent, Slice

SOON_S = 0.002


def lab(device: str) -> dict[str, Slice]:
    """A lab with a segment and no node."""
    intent = NatIntent(subnet="10.99.0.0/24", gateway="10.99.0.1")
    segment = SegmentIntent(id="s", name="internet", kind="nat", device=device, nat=intent)
    return {"lab": Slice(installation="i", lab_id="lab", lab="ring", generation=1, segments=(segment,))}


class Firewall:
    """Remembers of each call the bridges whose packets it was to translate; refuses while it is ``shut``."""

    def __init__(self) -> None:
        self.shut = False
        self.asked: list[set[str]] = []

    async def ensure(self, wanted: Iterable[Rule], mark: str) -> None:
        self.asked.append({rule.value("-o") for rule in wanted if rule.table == "nat"})
        if self.shut:
            raise DataPlaneFailed("the firewall is shut")


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Firewall:
    async def no_clash(*_: str) -> None: ...

    async def serve(_: Dnsmasq, render: Render) -> None: ...

    made = Firewall()
    monkeypatch.setattr(firewall, "ensure_rules", made.ensure)
    monkeypatch.setattr(nat, "_refuse_clash", no_clash)
    monkeypatch.setattr(Dnsmasq, "serve", serve)
    return made


def segments(folder: Path, guard_s: float) -> NatSegments:
    switch = folder / "switch"
    switch.write_text("1\n")
    forwarding = Forwarding(folder / "notes.json", switch)
    return NatSegments("i", folder / "segments", management="wlb", forwarding=forwarding, guard_s=guard_s)


async def eventually_asked(rules: Firewall, times: int) -> None:
    for _ in range(2000):
        if len(rules.asked) >= times:
            return
        await asyncio.sleep(SOON_S)
    raise TimeoutError


async def test_a_change_that_fails_is_what_is_wanted_from_then_on(tmp_path: Path, rules: Firewall) -> None:
    """Else the guard would bring back what is gone, and take away what is to come."""
    services = segments(tmp_path, SOON_S)
    await services.update(lab("wls-before"))
    rules.shut = True
    with pytest.raises(DataPlaneFailed):
        await services.update(lab("wls-after"))
    rules.shut = False
    rules.asked.clear()
    await eventually_asked(rules, 2)
    assert all(asked == {"wls-after"} for asked in rules.asked)
    await services.close()


async def test_a_change_that_fails_is_tried_again_when_it_is_asked_for_again(tmp_path: Path, rules: Firewall) -> None:
    services = segments(tmp_path, guard_s=3600)
    rules.shut = True
    with pytest.raises(DataPlaneFailed):
        await services.update(lab("wls-a"))
    rules.shut = False
    await services.update(lab("wls-a"))
    await services.update(lab("wls-a"))
    assert rules.asked == [{"wls-a"}] * 2, "what is settled is left alone"
    await services.close()


async def test_processes_are_searched_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searching: list[int] = []

    def search(_: Dnsmasq) -> None:
        searching.append(threading.get_ident())

    monkeypatch.setattr(Dnsmasq, "_searched", search)
    daemon = Dnsmasq(tmp_path)
    assert await daemon.process() is None
    await daemon.stop()
    assert len(searching) == 2
    assert threading.get_ident() not in searching
