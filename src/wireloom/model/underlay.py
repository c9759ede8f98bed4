"""What hosts tell each other of wires between them, and find out about the way there."""

from __future__ import annotations

from typing import Final, Literal

from wireloom.model.base import Value

__all__ = ["INSIDE", "INSIDE_PREFIX", "Encryption", "FarEnd", "Path", "Peer", "Way", "WireGuardPeer"]

#: What hides the frames of wires between hosts.
Encryption = Literal["none", "wireguard"]

#: Where hosts have their addresses inside WireGuard (of RFC 2544, for tests of networks): nobody routes to these.
INSIDE: Final = "198.18.0.0"
INSIDE_PREFIX: Final = 15
#: What a tunnel puts before a frame, without its Ethernet header of the underlay: IP, UDP, VXLAN, the frame's own head.
_VXLAN_IPV4: Final = 20 + 8 + 8 + 14
_VXLAN_IPV6: Final = 40 + 8 + 8 + 14


class FarEnd(Value):
    """One end of a wire between hosts, as the host that has it tells the other one.

    :ivar id: of the wire. :ivar up: the user's wish, as far as that host has heard of it.
    :ivar alive: the node runs, with the port in place; ``None``: its engine does not say.
    :ivar programmed: the port is joined to the tunnel.
    :ivar shut: the guest has shut the port down, or no hypervisor holds it.
    """

    id: str
    up: bool = True
    alive: bool | None = False
    programmed: bool = False
    shut: bool = False

    @property
    def works(self) -> bool | None:
        """Whether the user and the node hold the wire up there; ``None``: nobody knows."""
        return self.alive if self.up else False


class WireGuardPeer(Value):
    """How another host is reached through WireGuard.

    :ivar key: its public key, base64. :ivar port: UDP port at its underlay address.
    :ivar address: its own, inside; empty where the host itself says this: the controller gives them.
    """

    key: str
    port: int
    address: str = ""


class Peer(Value):
    """Another host that wires lead to.

    :ivar address: of its underlay. :ivar probe_port: where it answers probes (UDP); 0: it does not.
    :ivar secret: known to the two hosts and the controllers alone, hexadecimal; probes are signed with it.
    """

    host: str
    address: str
    secret: str = ""
    probe_port: int = 0
    wireguard: WireGuardPeer | None = None


class Way(Value):
    """How tunnels to another host are made from here.

    :ivar remote: address that they lead to; empty: not known. :ivar local: address that they begin at; empty: any.
    :ivar problem: why frames do not get there and back, as measured; empty: they do, or nobody knows.
    :ivar mtu: of the way there, as measured; 0: not known.
    """

    remote: str = ""
    local: str = ""
    problem: str = ""
    mtu: int = 0

    @property
    def beyond(self) -> str:
        """What becomes of frames of more than :attr:`whole_frames` bytes: kernels cut no tunnel's packets of IPv6."""
        return "are lost" if ":" in self.remote else "travel in fragments"

    @property
    def whole_frames(self) -> int:
        """The largest MTU of a wire whose frames get there in one piece; 0: not known."""
        return max(self.mtu - (_VXLAN_IPV6 if ":" in self.remote else _VXLAN_IPV4), 0)


class Path(Value):
    """The way to another host, as this one has measured it.

    :ivar host: the other one. :ivar address: of it, which was probed.
    :ivar heard: what it sends arrives here; ``None``: not known yet.
    :ivar answered: what is sent there arrives, and its answer comes back; ``None``: not known yet.
    :ivar reaches: what is sent there arrives, as the other host says; ``None``: it does not say.
    :ivar mtu: bytes of the largest packet that arrived there in one piece, its IP header included; 0: not known.
    """

    host: str
    address: str = ""
    heard: bool | None = None
    answered: bool | None = None
    reaches: bool | None = None
    mtu: int = 0

    @property
    def problem(self) -> str:
        """What is wrong with it, for people; empty: nothing, or nobody knows."""
        if self.answered is not False:
            return ""
        if self.heard and self.reaches is False:
            return f"what is sent to host {self.host} ({self.address}) does not arrive there"
        if self.heard is False:
            return f"nothing arrives from host {self.host} ({self.address})"
        return f"host {self.host} ({self.address}) does not answer"
