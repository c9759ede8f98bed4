"""The flows that make wires, as text for ``ovs-ofctl``. Pure.

One bridge holds the ports of an installation's wires. It fails closed, learns no addresses and has one table::

    priority 100  in_port=N                     → output:M          a wire on this host, one flow each way
    priority 100  in_port=N                     → tunnel T, host H  a wire to another host …
    priority 100  tunnel port, tun_id=T         → output:N          … and its way back

The last two are for the kernel's datapath. That in user space has tunnels only for addresses that are Open vSwitch's
own, not the host's: there a wire to another host has a device of the kernel's, and the first kind of flow leads to it.

Frames of a port without a flow are dropped. Port numbers are ours to give (``ofport_request``), so flows can be made
before ovs-vswitchd has the port, and hold when it is started anew. A flow's cookie says whose it is: ``WL`` in its
upper 16 bits, a hash of the wire's ends below.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wireloom.model.identity import short_hash

__all__ = [
    "HIGHEST_PORT",
    "TUNNEL_OPTIONS",
    "TUNNEL_PORT",
    "Flows",
    "Way",
    "cookie_of",
    "cut",
    "cut_take",
    "forget",
    "free_numbers",
    "join",
    "parse_flows",
    "send",
    "take",
]

#: The one port of a host that carries wires to other hosts, told apart by tunnel id.
TUNNEL_PORT: Final = 65000
#: Its options: where a frame goes and by which tunnel is for flows to say, and what is too large is cut on the way.
#: Over IPv6 a kernel at the other end takes nothing without a checksum.
TUNNEL_OPTIONS: Final = {
    "remote_ip": "flow",
    "local_ip": "flow",
    "key": "flow",
    "df_default": "false",
    "csum": "true",
}
#: Numbers for ports of nodes: above are the tunnel's and those that OpenFlow 1.0 reserves (from 0xff00).
HIGHEST_PORT: Final = TUNNEL_PORT - 1

_PRIORITY: Final = 100
_MARK: Final = 0x574C << 48
_LINE = re.compile(r"priority=100,(\S*) actions=(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Way:
    """How frames get to another host: by which tunnel, to which address, from which (empty: as routes choose)."""

    tunnel: int
    host: str
    local: str = ""


@dataclass(frozen=True)
class Flows:
    """What is done with frames.

    :ivar outputs: number of a port → where its frames leave. :ivar sends: number of a port → how they leave the host.
    :ivar takes: tunnel and address that frames from another host came to (empty: any) → where they leave.
    """

    outputs: Mapping[int, int] = field(default_factory=dict)
    sends: Mapping[int, Way] = field(default_factory=dict)
    takes: Mapping[tuple[int, str], int] = field(default_factory=dict)


def cookie_of(a: str, b: str) -> int:
    """The cookie of the wire between two devices, in whatever order."""
    return _MARK | int(short_hash("wire", *sorted((a, b)), length=12), 16)


def join(source: int, target: int, cookie: int) -> str:
    """Have all frames that come in at ``source`` leave at ``target``, replacing what was done with them before."""
    return f"add cookie={cookie:#x},priority={_PRIORITY},in_port={source},actions=output:{target}"


def send(source: int, way: Way, cookie: int) -> str:
    """Have all frames that come in at ``source`` leave for another host, replacing what was done with them before."""
    actions = [f"set_field:{way.tunnel}->tun_id", f"set_field:{way.host}->{_field(way.host, 'dst')}"]
    if way.local:
        actions.append(f"set_field:{way.local}->{_field(way.local, 'src')}")
    actions.append(f"output:{TUNNEL_PORT}")
    return f"add cookie={cookie:#x},priority={_PRIORITY},in_port={source},actions={','.join(actions)}"


def take(tunnel: int, local: str, target: int, cookie: int) -> str:
    """Have all frames that come by a tunnel to ``local`` (empty: any address) leave at ``target``."""
    return f"add cookie={cookie:#x},priority={_PRIORITY},{_taken(tunnel, local)},actions=output:{target}"


def cut_take(tunnel: int, local: str) -> str:
    """Drop what comes by a tunnel from now on."""
    return f"delete_strict priority={_PRIORITY},{_taken(tunnel, local)}"


def _taken(tunnel: int, local: str) -> str:
    match = f"in_port={TUNNEL_PORT},tun_id={tunnel}"
    return f"{match},{_field(local, 'dst')}={local}" if local else match


def _field(address: str, end: str) -> str:
    """The tunnel's source (``src``) or destination (``dst``) as a field of the address's version of IP."""
    return f"tun_{end}" if ipaddress.ip_address(address).version == 4 else f"tun_ipv6_{end}"


def cut(source: int) -> str:
    """Drop what comes in at ``source`` from now on."""
    return f"delete_strict priority={_PRIORITY},in_port={source}"


def forget(number: int) -> list[str]:
    """Take away all flows from and to a port number, before another port gets it."""
    return [f"delete in_port={number}", f"delete out_port={number}"]


def parse_flows(dump: str) -> Flows:
    """From what ``ovs-ofctl --no-names -O OpenFlow13 dump-flows`` prints; flows of other kinds are left out."""
    outputs: dict[int, int] = {}
    sends: dict[int, Way] = {}
    takes: dict[tuple[int, str], int] = {}
    for matches, actions in _LINE.findall(dump):
        match = dict(item.split("=", 1) for item in matches.split(",") if "=" in item)
        *sets, output = actions.split(",")
        if "in_port" not in match or not output.startswith("output:"):
            continue
        source, target = int(match["in_port"]), int(output.removeprefix("output:"))
        if source == TUNNEL_PORT and "tun_id" in match:
            local = match.get("tun_dst") or match.get("tun_ipv6_dst", "")
            takes[int(match["tun_id"], 0), local] = target
        elif target == TUNNEL_PORT:
            sends[source] = _way(sets)
        elif not sets:
            outputs[source] = target
    return Flows(outputs, sends, takes)


def _way(sets: Iterable[str]) -> Way:
    pairs = (item.removeprefix("set_field:").rsplit("->", 1) for item in sets)
    values = {name.replace("_ipv6", ""): value for value, name in pairs}
    return Way(int(values.get("tun_id", "0"), 0), values.get("tun_dst", ""), values.get("tun_src", ""))


def free_numbers(taken: Iterable[int], names: Iterable[str]) -> Mapping[str, int]:
    """The lowest numbers that are free, one for each of ``names``; as many as there are."""
    used = set(taken)
    free = (number for number in range(1, HIGHEST_PORT + 1) if number not in used)
    return dict(zip(names, free, strict=False))
