"""The flows that make wires, as text for ``ovs-ofctl``. Pure.

One bridge holds the ports of an installation's wires. It fails closed, learns no addresses and has one table::

    priority 100  in_port=N                     → output:M          a wire on this host, one flow each way
    priority 100  in_port=N                     → tunnel T, host H  a wire to another host …
    priority 100  tunnel port, tun_id=T         → output:N          … and its way back

Frames of a port without a flow are dropped. Port numbers are ours to give (``ofport_request``), so flows can be made
before ovs-vswitchd has the port, and hold when it is started anew. A flow's cookie says whose it is: ``WL`` in its
upper 16 bits, a hash of the wire's ends below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from wireloom.model.identity import short_hash

__all__ = [
    "HIGHEST_PORT",
    "TUNNEL_OPTIONS",
    "TUNNEL_PORT",
    "cookie_of",
    "cut",
    "forget",
    "free_numbers",
    "join",
    "parse_outputs",
    "send",
    "take",
]

#: The one port of a host that carries wires to other hosts, told apart by tunnel id.
TUNNEL_PORT: Final = 65000
#: Its options: where a frame goes and by which tunnel is for flows to say, and what is too large is cut on the way.
TUNNEL_OPTIONS: Final = {"remote_ip": "flow", "key": "flow", "df_default": "false"}
#: Numbers for ports of nodes: above are the tunnel's and those that OpenFlow 1.0 reserves (from 0xff00).
HIGHEST_PORT: Final = TUNNEL_PORT - 1

_PRIORITY: Final = 100
_MARK: Final = 0x574C << 48
_OUTPUT = re.compile(r"\bin_port=(\d+) actions=output:(\d+)\s*$", re.MULTILINE)


def cookie_of(a: str, b: str) -> int:
    """The cookie of the wire between two devices, in whatever order."""
    return _MARK | int(short_hash("wire", *sorted((a, b)), length=12), 16)


def join(source: int, target: int, cookie: int) -> str:
    """Have all frames that come in at ``source`` leave at ``target``, replacing what was done with them before."""
    return f"add cookie={cookie:#x},priority={_PRIORITY},in_port={source},actions=output:{target}"


def send(source: int, tunnel: int, host: str, cookie: int) -> str:
    """Have all frames that come in at ``source`` leave for another host, by the tunnel with this id."""
    actions = f"set_field:{tunnel}->tun_id,set_field:{host}->tun_dst,output:{TUNNEL_PORT}"
    return f"add cookie={cookie:#x},priority={_PRIORITY},in_port={source},actions={actions}"


def take(tunnel: int, target: int, cookie: int) -> str:
    """Have all frames that come by a tunnel leave at ``target``."""
    match = f"in_port={TUNNEL_PORT},tun_id={tunnel}"
    return f"add cookie={cookie:#x},priority={_PRIORITY},{match},actions=output:{target}"


def cut(source: int) -> str:
    """Drop what comes in at ``source`` from now on."""
    return f"delete_strict priority={_PRIORITY},in_port={source}"


def forget(number: int) -> list[str]:
    """Take away all flows from and to a port number, before another port gets it."""
    return [f"delete in_port={number}", f"delete out_port={number}"]


def parse_outputs(dump: str) -> dict[int, int]:
    """From what ``ovs-ofctl --no-names dump-flows`` prints: number of a port → where its frames leave."""
    return {int(source): int(target) for source, target in _OUTPUT.findall(dump)}


def free_numbers(taken: Iterable[int], names: Iterable[str]) -> Mapping[str, int]:
    """The lowest numbers that are free, one for each of ``names``; as many as there are."""
    used = set(taken)
    free = (number for number in range(1, HIGHEST_PORT + 1) if number not in used)
    return dict(zip(names, free, strict=False))
