"""Queues for frames that come from guests in segments. Blocking: for the data plane's worker thread.

A device's own queue holds what leaves it. What arrives there from its guest has none, so it is sent through an *ifb*,
a device of ours that gives each frame back to where it came from, behind the ingress hook: as if it arrived
only now. A wire needs none: what a guest sends leaves by the other end.

    guest → device ──ingress hook──▶ ifb ──its queue──▶ device ──▶ segment
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wireloom.dataplane.host import links, traffic
from wireloom.dataplane.host.attributes import nested, text
from wireloom.dataplane.host.leftovers import Leftovers
from wireloom.dataplane.host.links import Link
from wireloom.dataplane.host.netlink import Netlink, check
from wireloom.dataplane.host.ports import disable_ipv6, look_up
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_EXCL, Outcome, Request
from wireloom.model.identity import device_name

__all__ = ["KIND", "Detours", "helper_name", "new_ifb"]

KIND: Final = "ifb"
#: linux/if_link.h; an empty struct ifinfomsg.
_IFNAME, _LINKINFO, _INFO_KIND = 3, 18, 1
_ANY_DEVICE: Final = bytes(16)


def helper_name(device: str) -> str:
    """Name of the ifb of a port."""
    return device_name("i", device)


def new_ifb(name: str) -> Request:
    """Make an ifb; ``EOPNOTSUPP`` where the kernel has none."""
    body = _ANY_DEVICE + text(_IFNAME, name) + nested(_LINKINFO, text(_INFO_KIND, KIND))
    return Request(links.RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, name, "make a queue for what guests send")


@dataclass(frozen=True)
class _Label:
    """Whose an ifb is; written as the link alias ``wireloom detour i=… d=…``."""

    installation: str
    device: str

    def text(self) -> str:
        return f"wireloom detour i={self.installation} d={self.device}"

    @classmethod
    def parse(cls, text: str) -> _Label | None:
        words = text.split(" ")
        found = dict(word.split("=", 1) for word in words[2:] if "=" in word)
        if words[:2] != ["wireloom", "detour"] or not {"i", "d"} <= found.keys():
            return None
        return cls(found["i"], found["d"])


class Detours:
    """The ifbs of one installation."""

    def __init__(self, netlink: Netlink, installation: str) -> None:
        self._netlink = netlink
        self._installation = installation
        self._known: set[str] | None = None
        self._leftovers = Leftovers(KIND)

    def make(self, ports: Sequence[Link]) -> tuple[dict[str, Link], list[Outcome]]:
        """An ifb for each port, raised; by the port's name, with what the kernel said. No frame goes there yet."""
        names = {helper_name(port.name): port for port in ports}
        there = look_up(self._netlink, names)
        outcomes = self._netlink.batch([new_ifb(name) for name in names if name not in there])
        requests: list[Request] = []
        for name, port in names.items():
            disable_ipv6(name)
            label = _Label(self._installation, port.name).text()
            requests.append(links.set_link(name, alias=label, mtu=port.mtu, up=True))
        outcomes += self._netlink.batch(requests)
        found = look_up(self._netlink, names)
        self._devices().update(names[name].name for name in found)
        return {names[name].name: link for name, link in found.items()}, outcomes

    def enter(self, pairs: Iterable[tuple[Link, Link]]) -> list[Outcome]:
        """Send what arrives at each port through its ifb."""
        requests: list[Request] = []
        for port, helper in pairs:
            requests += [
                traffic.ingress(port.index, port.name),
                traffic.detour(port.index, helper.index, port.name),
            ]
        return self._netlink.batch(requests)

    def leave(self, devices: Iterable[str]) -> None:
        """End the detours of ports, if they have any; before they leave their segment."""
        known = self._devices()
        gone = [device for device in devices if device in known]
        if not gone:
            return
        found = look_up(self._netlink, gone)
        check(self._netlink.batch([traffic.clear_detour(link.index, link.name) for link in found.values()]))
        check(self._netlink.batch(links.delete_together([helper_name(device) for device in gone])))
        known.difference_update(gone)

    def leave_segment(self, name: str) -> None:
        """End the detours of all ports in the segment."""
        known = self._devices()
        segment = look_up(self._netlink, [name]).get(name) if known else None
        if segment is not None:
            ports = look_up(self._netlink, known).values()
            self.leave([port.name for port in ports if port.master == segment.index])

    def sweep(self, found: Sequence[Link]) -> None:
        """Remove ifbs whose port went with its namespace, or that were never finished.

        :param found: all devices of the host.
        """
        check(self._netlink.batch(links.delete_together(self._leftovers.due(found))))
        names = {link.name for link in found}
        self._known = {label.device for label in self._labels(found)}
        self.leave(sorted(self._known - names))

    def observe(self, found: Sequence[Link]) -> Mapping[str, Link]:
        """The ifb of each port whose frames go through it."""
        by_name = {link.name: link for link in found}
        pairs = [
            (by_name[label.device], by_name[helper_name(label.device)])
            for label in self._labels(found)
            if label.device in by_name and helper_name(label.device) in by_name
        ]
        outcomes = self._netlink.batch([traffic.get_detour(port.index, port.name) for port, _ in pairs])
        check(outcomes)
        return {
            port.name: helper
            for (port, helper), outcome in zip(pairs, outcomes, strict=True)
            if outcome.replies and helper.up and traffic.parse_detour(outcome.replies[0]) == helper.index
        }

    def _labels(self, found: Iterable[Link]) -> list[_Label]:
        labels = (_Label.parse(link.alias) for link in found if link.kind == KIND)
        return [label for label in labels if label is not None and label.installation == self._installation]

    def _devices(self) -> set[str]:
        """Ports that have an ifb; read from the host once, since nobody else makes ours."""
        if self._known is None:
            found = links.parse_links(self._netlink.dump(links.DUMP_LINKS))
            self._known = {label.device for label in self._labels(found)}
        return self._known
