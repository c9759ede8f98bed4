"""What hosts tell each other of their wires, on a real server with each agent's own permissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fabric_rig import Collector, Rig, rig

from wireloom.agent.underlay.mailbox import Mailbox
from wireloom.errors import WireloomError
from wireloom.fabric.underlay_documents import HostEnds, HostPeers
from wireloom.model.underlay import FarEnd, Peer


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as made:
        yield made


def ends(source: str, target: str, *wires: str) -> HostEnds:
    return HostEnds(source=source, target=target, ends=tuple(FarEnd(id=wire, alive=True) for wire in wires))


async def test_a_host_hears_what_others_tell_it_and_its_peers_from_the_controller(fabric: Rig) -> None:
    one, two = await fabric.agent("h1"), await fabric.agent("h2")
    await one.put_ends(ends("h1", "h2", "w"))
    heard = Collector(two.watch_ends("h2", "h1"))
    await heard.until(lambda seen: bool(seen) and seen[-1].value == ends("h1", "h2", "w"))
    await one.put_ends(ends("h1", "h2"))
    await heard.until(lambda seen: seen[-1].value == ends("h1", "h2"))
    await fabric.controller.put_peers(HostPeers(host="h2", peers=(Peer(host="h1", address="192.0.2.1"),)))
    peers = Collector(two.watch_peers("h2"))
    await peers.until(lambda seen: bool(seen) and seen[-1].value.peers[0].address == "192.0.2.1")


async def test_a_host_speaks_for_itself_alone(fabric: Rig) -> None:
    one, two = await fabric.agent("h1"), await fabric.agent("h2")
    heard = Collector(two.watch_ends("h2", "h3"))
    forged = one.put_ends(ends("h3", "h2", "forged")), one.put_peers(HostPeers(host="h1"))
    refused = await asyncio.gather(*forged, return_exceptions=True)
    assert [isinstance(error, WireloomError) for error in refused] == [True, True]
    three = await fabric.agent("h3")
    await three.put_ends(ends("h3", "h2", "true"))
    await heard.until(bool)
    assert [change.value for change in heard.seen] == [ends("h3", "h2", "true")]


async def test_what_a_lost_store_held_is_told_again_and_nothing_is_taken_back(fabric: Rig) -> None:
    one, two = await fabric.agent("h1"), await fabric.agent("h2")
    told: list[set[str]] = []
    first = Mailbox("h1", one, lambda _: None)
    second = Mailbox("h2", two, lambda wires: told.append(set(wires)))
    one.on_rebuilt(first.resend)
    two.on_rebuilt(second.resend)
    tasks = Collector(_runs(first)), Collector(_runs(second))
    first.tell("lab", {"h2": (FarEnd(id="w", alive=True),)}, whole=True)
    second.tell("lab", {"h1": (FarEnd(id="w", alive=True),)}, whole=True)
    late = Collector(two.watch_ends("h2", "h1"))
    await late.until(bool)
    await fabric.lose_store()
    again = Collector((await fabric.agent("h2")).watch_ends("h2", "h1"))
    await again.until(lambda seen: bool(seen) and seen[-1].value == ends("h1", "h2", "w"), timeout_s=40)
    assert told == [{"w"}]
    assert second.far_ends["h1", "w"].alive
    assert all(not task.seen for task in tasks)


async def _runs(mailbox: Mailbox) -> AsyncIterator[None]:
    await mailbox.run()
    yield
