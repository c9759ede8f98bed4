"""Messages about devices to other hosts: what is asked for is what is read back."""

from __future__ import annotations

import struct

import pytest

from wireloom.dataplane.host.attributes import fields, nested, text
from wireloom.dataplane.host.vxlan import UDP_PORT, change_vxlan, new_vxlan, parse_vxlan
from wireloom.model.network import TunnelPlan


@pytest.mark.parametrize(
    ("remote", "local"),
    [("192.0.2.2", ""), ("192.0.2.2", "192.0.2.1"), ("2001:db8::2", ""), ("2001:db8::2", "2001:db8::1")],
)
def test_device_is_read_back_as_it_was_asked_for(remote: str, local: str) -> None:
    plan = TunnelPlan(device="wlp1", remote=remote, vni=5001, local=local, mtu=9000)
    request = new_vxlan("wlx1", plan)
    shown = parse_vxlan(request.body)
    assert shown is not None
    assert (shown.name, shown.vni, shown.remote, shown.local, shown.port) == ("wlx1", 5001, remote, local, UDP_PORT)
    assert fields(request.body, 16)[4] == struct.pack("=I", 9000)
    assert request.device == "wlp1", "what fails is said of the port"


def test_device_learns_nothing_is_bound_to_no_nic_and_forbids_no_fragments() -> None:
    request = new_vxlan("wlx1", TunnelPlan(device="wlp1", remote="192.0.2.2", vni=7))
    data = fields(fields(fields(request.body, 16)[18])[2])
    assert (data[7], data[29]) == (b"\0", b"\0")
    assert 3 not in data


def test_changed_device_keeps_what_the_kernel_cannot_change() -> None:
    data = fields(
        fields(fields(change_vxlan("wlx1", TunnelPlan(device="p", remote="192.0.2.9", vni=7)).body, 16)[18])[2]
    )
    assert data.keys() == {1, 2, 4}
    assert data[4] == bytes(4), "no address of its own: the one it had is given up"


def test_devices_of_other_kinds_are_none() -> None:
    assert parse_vxlan(bytes(16) + text(3, "eth0")) is None
    assert parse_vxlan(bytes(16) + text(3, "br0") + nested(18, text(1, "bridge"))) is None
