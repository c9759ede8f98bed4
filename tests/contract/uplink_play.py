"""Kills whoever takes over or gives back a NIC, at every message to the kernel, and has somebody else go on.

Run in a network namespace of its own: ``unshare -n python uplink_play.py FOLDER``. Ends with 0 and prints how often it
killed, or with an assertion.
"""

from __future__ import annotations

import difflib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wireloom.dataplane.host.netlink import Netlink, Transport, open_transport
from wireloom.dataplane.host.uplinks import Uplinks
from wireloom.dataplane.kernel.segments import Segments
from wireloom.model.identity import device_name
from wireloom.model.network import SegmentAlias, SegmentPlan, Uplink

INSTALLATION = "uplink-play"
NIC, SEGMENT = "nic0", device_name("s", INSTALLATION)
ALIAS = SegmentAlias(installation=INSTALLATION, lab_id="l", segment_id="s", name="lab/office").text()
PLAN = SegmentPlan(name=SEGMENT, alias=ALIAS, uplink=Uplink(device=NIC, addresses="move"))

SETUP = f"""
link set lo up
link add {NIC} address 02:00:00:00:00:77 type veth peer name far
link set {NIC} up
link set far up
address add 198.18.5.1/24 dev {NIC} label {NIC}:main
address add 198.18.5.9/24 dev {NIC} valid_lft 3600 preferred_lft 1800
address add 198.19.0.1/32 peer 198.19.0.2 dev {NIC}
address add 2001:db8:5::1/64 dev {NIC} nodad
address add 2001:db8:5::9/128 dev {NIC} nodad noprefixroute
route add default via 198.18.5.254 dev {NIC} metric 100
route add 203.0.113.0/24 via 198.18.5.253 dev {NIC} src 198.18.5.9 mtu 1400
route add 203.0.114.0/24 dev {NIC} scope link
route add 203.0.115.0/24 via 192.0.2.1 dev {NIC} onlink
route add default via 198.18.5.252 dev {NIC} table 100
route add blackhole 203.0.116.0/24
-6 route add default via 2001:db8:5::fe dev {NIC} metric 50
-6 route add 2001:db8:77::/48 via fe80::1 dev {NIC}
"""


class Doomed:
    """A socket whose process is killed in place of its message number ``last``."""

    def __init__(self, inner: Transport, last: int) -> None:
        self._inner = inner
        self._left = last

    def send(self, data: bytes, /) -> int:
        start = 0
        while start < len(data):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            length = struct.unpack_from("=I", data, start)[0]
            self._inner.send(data[start : start + length])
            start += length
        return len(data)

    def recv(self, size: int, /) -> bytes:
        return self._inner.recv(size)

    def close(self) -> None:
        self._inner.close()


def ip(*words: str) -> Any:
    done = subprocess.run(["ip", "-d", "-j", *words], check=True, capture_output=True, text=True, timeout=20)
    return json.loads(done.stdout or "[]")


def snapshot(device: str) -> Any:
    """Addresses and routes of a device as ``ip`` shows them, without what counts down or is the device's own."""
    found = ip("address", "show", "dev", device)[0]["addr_info"]
    for address in found:
        for countdown in ("valid_life_time", "preferred_life_time"):
            address[countdown] = address[countdown] > 2**31
    addresses = [address for address in found if address["scope"] != "link"]
    routes = [ip(family, "route", "show", "dev", device, "table", "all") for family in ("-4", "-6")]
    own = ("fe80::/64", "ff00::/8")
    shown = [route for family in routes for route in family if route["dst"] not in own and "fe80" not in route["dst"]]
    return json.dumps([addresses, sorted(shown, key=json.dumps)], indent=1, sort_keys=True)


def texts(*devices: str) -> set[str]:
    """Addresses that one of ``devices`` has."""
    present = {link["ifname"] for link in ip("link")}
    shown = [ip("address", "show", "dev", device)[0]["addr_info"] for device in devices if device in present]
    return {address["local"] for found in shown for address in found if address["scope"] != "link"}


class Play:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kills = 0
        self.before = snapshot(NIC)
        self.addresses = texts(NIC)

    def segments(self, transport: Transport) -> Segments:
        netlink = Netlink(transport)
        return Segments(netlink, INSTALLATION, Uplinks(netlink, INSTALLATION, self._folder))

    def take(self, transport: Transport | None = None) -> None:
        opened = transport or open_transport()
        self.segments(opened).ensure(PLAN)
        opened.close()

    def give_back(self, transport: Transport | None = None) -> None:
        opened = transport or open_transport()
        self.segments(opened).remove(SEGMENT)
        opened.close()

    def killed(self, action: Callable[[Transport], None], last: int) -> bool:
        """Whether ``action`` met its end at message number ``last``."""
        child = os.fork()
        if not child:
            action(Doomed(open_transport(), last))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
        self.kills += os.WIFSIGNALED(status)
        return os.WIFSIGNALED(status)

    def everything_is_back(self, when: str) -> None:
        now = snapshot(NIC)
        assert now == self.before, f"{when}:\n" + "\n".join(
            difflib.unified_diff(self.before.split("\n"), now.split("\n"), lineterm="")
        )
        link = ip("link", "show", NIC)[0]
        assert "master" not in link, when
        assert SEGMENT not in {one["ifname"] for one in ip("link")}, when
        assert not list(self._folder.iterdir()), when

    def everything_is_held(self, when: str) -> None:
        assert texts(NIC) == set(), when
        assert texts(SEGMENT) == self.addresses, when
        assert ip("link", "show", NIC)[0].get("master") == SEGMENT, when
        assert ip("link", "show", SEGMENT)[0]["address"] == "02:00:00:00:00:77", when
        assert "default" in {route["dst"] for route in ip("-4", "route", "show", "dev", SEGMENT)}, when

    def kill_while(self, name: str, action: Callable[[Transport], None], prepare: Callable[[], None]) -> None:
        """Kill at each message in turn; afterwards one undoes everything, another first finishes it."""
        for finishes in (False, True):
            last, alive = 0, False
            while not alive:
                last += 1
                when = f"{name} killed at message {last}"
                prepare()
                alive = not self.killed(action, last)
                assert texts(NIC, SEGMENT) == self.addresses, f"{when}: the host lost an address"
                if finishes:
                    self.take()
                    self.everything_is_held(when)
                self.give_back()
                self.everything_is_back(when)


def main() -> None:
    for line in SETUP.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True, timeout=20)
    play = Play(Path(sys.argv[1]))
    play.take()
    play.everything_is_held("at first")
    play.give_back()
    play.everything_is_back("at first")
    play.kill_while("taking over", play.take, lambda: None)
    play.kill_while("giving back", play.give_back, play.take)
    print(play.kills)


if __name__ == "__main__":
    main()
