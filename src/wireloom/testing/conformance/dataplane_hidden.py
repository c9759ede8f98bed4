"""Wires between two hosts through WireGuard, on a kernel that has it: whole frames that nobody on the way reads."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from wireloom.dataplane.host import wireguard
from wireloom.dataplane.host.wireguard import KnownPeer
from wireloom.model.network import TunnelPlan
from wireloom.testing.conformance.dataplane_frames import both_ways, one_frame, silent
from wireloom.testing.conformance.dataplane_hosts import NIC, Host, Hosts, living_in
from wireloom.testing.conformance.dataplane_rig import Plug
from wireloom.testing.frames import FRAMES, ethernet
from wireloom.testing.guests import NamespaceGuest

__all__ = ["check_tunnels_through_wireguard"]

_DEVICE: Final = "wlgtest"
_PORT: Final = 51871
_INSIDE: Final = {1: "198.18.0.1", 2: "198.18.0.2"}
#: Private keys of nobody, and what is public of them.
_KEYS: Final = {
    1: ("01" * 32, "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"),
    2: ("02" * 32, "ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59"),
}


def _key(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()


def _peer(host: Host) -> KnownPeer:
    return KnownPeer(_key(_KEYS[host.number][1]), host.address, _PORT, _INSIDE[host.number])


@contextmanager
def _device(host: Host, other: Host) -> Iterator[None]:
    with living_in(host.netns):
        wireguard.try_device(_DEVICE)
        wireguard.ensure_device(
            _DEVICE,
            private_key=_key(_KEYS[host.number][0]),
            port=_PORT,
            mtu=1420,
            address=f"{_INSIDE[host.number]}/15",
        )
        wireguard.set_peers(_DEVICE, [_peer(other)])
    try:
        yield
    finally:
        with living_in(host.netns):
            wireguard.remove_device(_DEVICE)


async def _check_hidden(hosts: Hosts, a: Plug, b: Plug) -> None:
    """What leaves the host's NIC while a frame crosses does not hold what is in the frame."""
    secret = secrets.token_bytes(32)
    nic = await NamespaceGuest.open(hosts.b.netns, NIC)
    try:
        await both_ways(a, b, {"secret": lambda: ethernet("020000000001", b"\x88\xb5" + secret)})
        packets = []
        while (packet := nic.read()) is not None:
            packets.append(packet)
    finally:
        nic.close()
    assert packets, "nothing was heard on the way"
    assert not [packet for packet in packets if secret in packet], "what a wire carries is to be read on its way"


async def check_tunnels_through_wireguard(hosts: Hosts) -> None:
    """9000-byte frames pass, what a wire carries is not to be read on its way, and whom a host does not know is cut."""
    a, b = await hosts.a.plug("veth"), await hosts.b.plug("tap")
    with _device(hosts.a, hosts.b), _device(hosts.b, hosts.a):
        for host, plug, other in ((hosts.a, a, 2), (hosts.b, b, 1)):
            inside = TunnelPlan(device=plug.device, remote=_INSIDE[other], local=_INSIDE[host.number], vni=77, mtu=9000)
            await host.plane.ensure_tunnels([inside])
        await both_ways(a, b, FRAMES)
        await both_ways(a, b, {"9000 bytes": lambda: ethernet("020000000001", b"\x88\xb5" + bytes(9000))})
        await _check_hidden(hosts, a, b)
        with living_in(hosts.a.netns):
            wireguard.set_peers(_DEVICE, [_peer(hosts.b)])
        await both_ways(a, b, one_frame())
        with living_in(hosts.a.netns):
            wireguard.set_peers(_DEVICE, [])
        await silent(a, b)
        await silent(b, a)
