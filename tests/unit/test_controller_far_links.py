"""Links between hosts as the controller sees them: numbers, two statuses as one, peers, preflight."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controller_rig import Rig, make_rig, until
from hypothesis import given
from hypothesis import strategies as st

from wireloom.controller.far_links import is_settled, joined_status
from wireloom.controller.peers import peer_secret
from wireloom.errors import Unsupported
from wireloom.model.impairment import Impairment, LinkImpairment
from wireloom.model.link_views import ImpairRequest, LinkRequest, LinkView, Parts
from wireloom.model.slice import Slice, WireIntent
from wireloom.model.state import LinkState, WireStatus
from wireloom.model.underlay import Path as Way
from wireloom.model.underlay import WireGuardPeer
from wireloom.model.views import DeployRequest, OperationState

APART = """\
name: lab
defaults: {device: linux, provider: simulated, spare-ports: 2}
nodes:
  a: {host: h1}
  b: {host: h2}
  c: {host: h1}
links:
  - [a:eth1, b:eth1]
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as found:
        await found.add_host("h1", underlay="192.0.2.1", underlay_told=True, probe_port=1)
        await found.add_host(
            "h2", underlay="192.0.2.2", underlay_told=True, probe_port=1, management_subnet="172.30.1.0/24"
        )
        yield found


def told(rig: Rig, host: str) -> Slice:
    return next(iter(rig.hosts[host].slices.values()))


def wires(rig: Rig) -> tuple[WireIntent, WireIntent]:
    (first,), (second,) = told(rig, "h1").wires, told(rig, "h2").wires
    return first, second


def shown(rig: Rig) -> LinkView:
    (link,) = rig.controller.lab("lab").links
    return link


async def test_both_hosts_get_the_link_with_one_number(rig: Rig) -> None:
    assert (await rig.deploy(APART)).state is OperationState.DONE
    first, second = wires(rig)
    assert first.remote is not None
    assert second.remote is not None
    assert first.id == second.id
    assert first.remote.vni == second.remote.vni > 0
    assert (first.remote.host, second.remote.host) == ("h2", "h1")
    assert (shown(rig).state, shown(rig).host, shown(rig).other_host) == (LinkState.UP, "h1", "h2")


async def test_hosts_are_told_where_their_peers_are(rig: Rig) -> None:
    await rig.deploy(APART)
    await until(lambda: rig.fabric.peers("h1"))
    await until(lambda: rig.fabric.peers("h2"))
    first, second = rig.fabric.peers("h1"), rig.fabric.peers("h2")
    assert first is not None
    assert second is not None
    assert [(peer.host, peer.address) for peer in (*first.peers, *second.peers)] == [
        ("h2", "192.0.2.2"),
        ("h1", "192.0.2.1"),
    ]
    assert first.peers[0].secret == second.peers[0].secret != ""
    rig.fabric.lose_store()
    await until(lambda: rig.fabric.peers("h1") == first)


async def test_a_host_that_goes_away_keeps_its_address(rig: Rig) -> None:
    await rig.deploy(APART)
    await until(lambda: rig.fabric.peers("h1"))
    before = rig.fabric.peers("h1")
    rig.fabric.expire_host("h2")
    await until(lambda: "h2" not in rig.controller.live.alive)
    rig.fabric.lose_store()
    await until(lambda: rig.fabric.peers("h1") == before)
    assert shown(rig).state is LinkState.PENDING
    assert shown(rig).message == "host h2 does not answer"


async def test_a_link_is_up_only_when_both_hosts_say_so(rig: Rig) -> None:
    await rig.deploy(APART)
    (link, _) = wires(rig)
    lab = told(rig, "h2")
    rig.hosts["h2"].far[link.id] = {"state": LinkState.PENDING, "message": "b is not running"}
    await rig.hosts["h2"].report(lab.lab_id)
    await until(lambda: shown(rig).state is LinkState.PENDING)
    assert shown(rig).message == "b is not running (host h2)"


async def test_a_number_is_free_again_when_both_hosts_have_let_go(rig: Rig) -> None:
    await rig.deploy(APART)
    rig.hosts["h2"].obeys = False
    request = LinkRequest(verb="remove", a="a:eth1", b="b:eth1")
    await rig.controller.links.link("lab", request)
    await until(lambda: not told(rig, "h2").wires)
    (snapshot,) = await rig.store.snapshots()
    assert (snapshot.vnis, len(snapshot.released)) == ({}, 1)
    await rig.hosts["h2"].report(told(rig, "h2").lab_id)

    def freed() -> bool:
        known = rig.controller.board.snapshot(snapshot.lab.id)
        return known is not None and not known.released

    await until(freed)
    assert (await rig.store.snapshots())[0].released == {}


async def test_an_end_moves_between_hosts_and_back(rig: Rig) -> None:
    await rig.deploy(APART)
    before = wires(rig)[0]
    move = LinkRequest(verb="move", a="a:eth1", b="b:eth1", to="c:eth1")
    assert (await rig.ended(await rig.controller.links.link("lab", move))).state is OperationState.DONE
    assert [wire.remote for wire in told(rig, "h1").wires] == [None]
    assert told(rig, "h2").wires == ()
    assert (shown(rig).host, shown(rig).other_host, shown(rig).state) == ("h1", "", LinkState.UP)
    back = LinkRequest(verb="move", a="a:eth1", b="c:eth1", to="b:eth1")
    assert (await rig.ended(await rig.controller.links.link("lab", back))).state is OperationState.DONE
    assert wires(rig)[0].id == before.id
    assert (shown(rig).host, shown(rig).other_host, shown(rig).state) == ("h1", "h2", LinkState.UP)


async def test_each_direction_of_an_impairment_is_read_back_where_it_is_made(rig: Rig) -> None:
    await rig.deploy(APART)
    (link, _) = wires(rig)
    whole = LinkImpairment()
    rig.hosts["h1"].far[link.id] = {"impairment": whole.model_copy(update={"backward": Impairment(loss=2)})}
    rig.hosts["h2"].far[link.id] = {"impairment": whole.model_copy(update={"forward": Impairment(loss=1)})}
    request = ImpairRequest(a="a:eth1", b="b:eth1", parts=Parts(loss=1), direction="forward")
    await rig.controller.links.impair("lab", request)
    await until(lambda: shown(rig).impairment.operational not in (None, whole))
    seen = shown(rig).impairment.operational
    assert seen is not None
    assert (seen.forward, seen.backward) == (Impairment(loss=1), Impairment(loss=2))


async def test_a_host_whose_address_nobody_knows_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        await rig.add_host("h1", underlay="192.0.2.1", underlay_told=True)
        await rig.add_host("h2", underlay_told=True, management_subnet="172.30.1.0/24")
        with pytest.raises(Unsupported, match="no address is known") as caught:
            await rig.controller.labs.deploy(DeployRequest(topology=APART))
        assert caught.value.hint == "set `underlay_address` on h2"


@pytest.mark.parametrize("able", [True, False])
async def test_hidden_links_take_hosts_that_can_hide_them(tmp_path: Path, able: bool) -> None:
    key = WireGuardPeer(key="k", port=1, address="10.0.0.1")
    async with make_rig(tmp_path) as rig:
        rig.controller._topologies._encryption = "wireguard"
        both: dict[str, Any] = {"underlay_told": True, "underlay": "192.0.2.1"}
        await rig.add_host("h1", wireguard=key, **both)
        other = {"wireguard": key} if able else {"wireguard_reason": "its kernel has none"}
        await rig.add_host("h2", management_subnet="172.30.1.0/24", **both, **other)
        if able:
            assert (await rig.deploy(APART)).state is OperationState.DONE
            return
        with pytest.raises(Unsupported, match="wants WireGuard, which host h2 cannot do: its kernel has none"):
            await rig.controller.labs.deploy(DeployRequest(topology=APART))


async def test_a_way_that_is_too_narrow_or_cut_is_a_warning(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        narrow = Way(host="h2", address="192.0.2.2", heard=True, answered=True, mtu=1400)
        cut = Way(host="h1", address="192.0.2.1", heard=True, answered=False, reaches=False)
        await rig.add_host("h1", underlay="192.0.2.1", paths=(narrow,))
        await rig.add_host("h2", underlay="192.0.2.2", paths=(cut,), management_subnet="172.30.1.0/24")
        plan = await rig.controller.labs.plan(DeployRequest(topology=APART))
        assert plan.warnings == (
            "links from h1 to h2 have an MTU of up to 1500: frames of more than 1350 bytes travel in fragments",
            "host h2: what is sent to host h1 (192.0.2.1) does not arrive there",
        )


# --- two statuses as one --------------------------------------------------------------------------------


def status(state: LinkState, message: str = "", **more: Any) -> WireStatus:
    return WireStatus(id="w", state=state, mtu=1500, message=message, **more)


UP = status(LinkState.UP, far="up")
FOLLOWS = status(LinkState.PENDING, "no signal from b on host h2", far="down", follows=True)
CAUSE = status(LinkState.PENDING, "b is not running", far="up")
SHUT = status(LinkState.DOWN, "b is shut down by its guest", far="up")


@pytest.mark.parametrize(
    ("first", "second", "state", "message"),
    [
        (UP, UP, LinkState.UP, ""),
        (FOLLOWS, CAUSE, LinkState.PENDING, "b is not running (host h2)"),
        (FOLLOWS, SHUT, LinkState.DOWN, "b is shut down by its guest (host h2)"),
        (UP, None, LinkState.PENDING, "host h2 has not made its end yet"),
        (None, UP, LinkState.PENDING, "host h1 has not made its end yet"),
        (FOLLOWS, UP, LinkState.PENDING, "no signal from b on host h2"),
        (UP, status(LinkState.FAILED, "no room"), LinkState.FAILED, "no room (host h2)"),
    ],
)
def test_what_is_wrong_at_one_end_comes_before_what_follows_at_the_other(
    first: WireStatus | None, second: WireStatus | None, state: LinkState, message: str
) -> None:
    found = joined_status(("h1", first), ("h2", second))
    assert found is not None
    assert (found.state, found.message) == (state, message)


def test_an_end_that_has_not_heard_the_last_word_of_the_other_is_waited_for() -> None:
    assert is_settled(UP, UP)
    assert is_settled(FOLLOWS, CAUSE)
    assert not is_settled(FOLLOWS, UP)
    assert not is_settled(FOLLOWS, FOLLOWS)
    assert not is_settled(UP, None)


STATUSES = st.builds(
    status,
    st.sampled_from(LinkState),
    far=st.sampled_from(["up", "down", "unknown"]),
    follows=st.booleans(),
)


@given(STATUSES, STATUSES)
def test_a_link_is_never_up_while_an_end_is_not(first: WireStatus, second: WireStatus) -> None:
    found = joined_status(("h1", first), ("h2", second))
    turned = joined_status(("h2", second), ("h1", first))
    assert found is not None
    assert turned is not None
    assert (found.state is LinkState.UP) == (first.state is second.state is LinkState.UP)
    if first.follows == second.follows:
        assert found.state is turned.state


def test_a_pair_has_one_secret_that_no_other_pair_has() -> None:
    assert peer_secret(b"x", "a", "b") == peer_secret(b"x", "b", "a")
    assert len({peer_secret(b"x", *pair) for pair in (("a", "b"), ("a", "c"), ("b", "c"))}) == 3
