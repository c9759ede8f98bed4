"""Wires to other hosts in plans, labels, and the simulated data plane."""

from __future__ import annotations

import pytest

from wireloom.dataplane.simulated import SimulatedDataPlane, SimulatedNetwork
from wireloom.dataplane.tunnel_plans import refuse_unfit_tunnels
from wireloom.errors import InvalidInput
from wireloom.model.attachment import TapAttachment
from wireloom.model.network import PortAlias, PortPlan, SegmentAlias, Tunnel, TunnelAlias, TunnelPlan, WirePlan

REMOTE = "192.0.2.2"


def port(device: str) -> PortPlan:
    alias = PortAlias(installation="i", lab_id="l", node_id=device, index=1, name=f"lab/{device}/1")
    return PortPlan(device=device, alias=alias, attachment=TapAttachment(), guest_name="", mac="02:00:00:00:00:01")


def tunnel(device: str, vni: int = 7, remote: str = REMOTE, local: str = "") -> TunnelPlan:
    return TunnelPlan(device=device, remote=remote, vni=vni, local=local)


@pytest.fixture
async def plane() -> SimulatedDataPlane:
    made = SimulatedDataPlane("i", SimulatedNetwork())
    await made.ensure_ports([port("a"), port("b")])
    return made


async def joins(plane: SimulatedDataPlane) -> dict[str, tuple[str | None, Tunnel | None]]:
    return {device: (one.peer, one.tunnel) for device, one in (await plane.observe()).ports.items()}


@pytest.mark.parametrize(
    "plans",
    [
        [tunnel("a"), tunnel("a", 8)],
        [tunnel("a"), tunnel("b")],
        [tunnel("a", 0)],
        [tunnel("a", 2**24)],
        [tunnel("a", remote="")],
        [tunnel("a", remote="224.0.0.1")],
        [tunnel("a", local="2001:db8::1")],
    ],
)
async def test_unfit_plans_are_refused_with_their_device(plane: SimulatedDataPlane, plans: list[TunnelPlan]) -> None:
    with pytest.raises(InvalidInput) as caught:
        await plane.ensure_tunnels(plans)
    assert caught.value.details["device"] in {"a", "b"}
    assert await joins(plane) == {"a": (None, None), "b": (None, None)}


def test_fit_plans_are_let_through() -> None:
    refuse_unfit_tunnels([tunnel("a", 1), tunnel("b", 2**24 - 1, "2001:db8::2", "2001:db8::1")])


def test_plan_is_compared_with_addresses_as_everybody_writes_them() -> None:
    assert tunnel("a", remote="2001:DB8:0::2").tunnel == Tunnel(remote="2001:db8::2", vni=7)


async def test_port_leaves_its_wire_for_a_tunnel_and_back(plane: SimulatedDataPlane) -> None:
    await plane.ensure_wires([WirePlan(a="a", b="b")])
    await plane.ensure_tunnels([tunnel("a")])
    assert await joins(plane) == {"a": (None, tunnel("a").tunnel), "b": (None, None)}
    await plane.ensure_wires([WirePlan(a="a", b="b")])
    assert await joins(plane) == {"a": ("b", None), "b": ("a", None)}
    await plane.remove_tunnels(["a"])
    assert await joins(plane) == {"a": ("b", None), "b": ("a", None)}


async def test_number_is_taken_over_from_the_port_that_had_it(plane: SimulatedDataPlane) -> None:
    await plane.ensure_tunnels([tunnel("a")])
    await plane.ensure_tunnels([tunnel("b"), tunnel("gone", 8)])
    assert await joins(plane) == {"a": (None, None), "b": (None, tunnel("b").tunnel)}
    await plane.remove_tunnels(["a", "b"])
    assert await joins(plane) == {"a": (None, None), "b": (None, None)}


def test_label_of_a_device_to_another_host_is_read_back_and_is_nothing_else() -> None:
    alias = TunnelAlias(installation="i", device="wlp0", name="lab/n1/eth1")
    assert TunnelAlias.parse(alias.text()) == alias
    assert PortAlias.parse(alias.text()) is None
    assert SegmentAlias.parse(alias.text()) is None
    assert TunnelAlias.parse(port("a").alias.text()) is None
    assert TunnelAlias.parse("wireloom tunnel i=x") is None
    assert len(alias.model_copy(update={"name": "n" * 300}).text()) == 255
