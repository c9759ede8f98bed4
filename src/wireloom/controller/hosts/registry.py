"""The hosts of the installation: what is stored of them, joined with what their agents tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from wireloom.controller.live import LiveState
from wireloom.controller.store.host_records import HostRecord
from wireloom.controller.store.hosts import HostStore
from wireloom.errors import InvalidInput, NotFound
from wireloom.model.views import HostView

__all__ = ["HostRegistry", "check_labels"]

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_LONGEST_VALUE: Final = 253

#: One who is told the name of a host of which something changed.
HostListener = Callable[[str], None]


class HostRegistry:
    """Hosts by name. Reading is in memory; every edit is stored first. One per controller.

    A host is known as soon as it joined or its agent was heard. Agents own their facts
    (:class:`~wireloom.controller.live.LiveState`), users own labels, cordon and drain, which are here.
    """

    def __init__(self, store: HostStore, live: LiveState) -> None:
        self._store: Final = store
        self._live: Final = live
        self._records: dict[str, HostRecord] = {}
        #: Hosts that were of the installation and are no more: what they say is not listened to.
        self.removed: frozenset[str] = frozenset()
        self._listeners: list[HostListener] = []
        self._writers: list[HostListener] = []
        live.complete = self._complete

    async def load(self) -> None:
        """Read everything anew; at the start, and when another controller may have written.

        Listeners are told of the hosts whose record changed.
        """
        fresh = {record.name: record for record in await self._store.hosts()}
        self.removed = await self._store.removed_hosts()
        before, self._records = self._records, fresh
        for name in sorted(before.keys() | fresh.keys()):
            if before.get(name) != fresh.get(name):
                self._tell(name)

    # ---------------------------------------------------------------- reading

    @property
    def records(self) -> Mapping[str, HostRecord]:
        """What is stored, by name."""
        return self._records

    def names(self) -> tuple[str, ...]:
        """Every known host, also those that are away, sorted."""
        return tuple(sorted(self._records.keys() | self._live.hosts.keys()))

    def record(self, host: str) -> HostRecord:
        """What is stored of ``host``, or what holds of one of which nothing is stored yet.

        :raises NotFound: no such host.
        """
        found = self._records.get(host)
        if found is None:
            if host not in self._live.hosts:
                raise NotFound(f"there is no host {host}", hint="`wireloom hosts` lists them")
            return HostRecord(name=host)
        return found

    def labels(self, host: str) -> Mapping[str, str]:
        """Labels of ``host``; none for a host that is not known."""
        record = self._records.get(host)
        return record.labels if record is not None else {}

    def schedulable(self, host: str) -> bool:
        """Whether new nodes may be placed on ``host`` now: its agent is there, and no user has closed it."""
        return self.closed(host) == ""

    def closed(self, host: str) -> str:
        """Why new nodes may not be placed on ``host``, in words; empty when they may.

        Nodes that are there may stay, whatever is said here.
        """
        record = self._records.get(host)
        if record is None and host not in self._live.hosts:
            return "there is no such host"
        if record is not None and record.draining:
            return "the host is being drained"
        if record is not None and record.cordoned:
            return "the host is cordoned" + (f": {record.cordon_reason}" if record.cordon_reason else "")
        return "" if host in self._live.alive else "the host does not answer"

    def view(self, host: str) -> HostView:
        """``host`` as users see it. :raises NotFound: no such host."""
        self.record(host)
        return self._live.view(host)

    def views(self) -> list[HostView]:
        """All of them, by name."""
        return [self.view(name) for name in self.names()]

    @property
    def draining(self) -> frozenset[str]:
        """Hosts whose nodes are to move away."""
        return frozenset(name for name, record in self._records.items() if record.draining)

    def _complete(self, view: HostView) -> HostView:
        record = self._records.get(view.host) or HostRecord(name=view.host)
        fields = {"labels", "cordoned", "cordon_reason", "draining", "joined_at"}
        return view.model_copy(update={**record.model_dump(include=fields), "closed": self.closed(view.host)})

    # ---------------------------------------------------------------- listening

    def on_change(self, listener: HostListener) -> None:
        """Call ``listener`` when a stored record came, changed or went, whoever changed it (facts: the observer)."""
        self._listeners.append(listener)

    def on_edit(self, listener: HostListener) -> None:
        """Call ``listener`` when this very controller stored a change, so that other controllers can be told."""
        self._writers.append(listener)

    # ---------------------------------------------------------------- editing

    async def edit(self, host: str, **changes: Any) -> HostRecord:
        """Store some of ``labels``, ``cordoned``, ``cordon_reason``, ``draining``. :raises NotFound: no such host."""
        record = await self._store.edit(host, **changes)
        self._records[host] = record
        self.written(host)
        return record

    async def set_labels(self, host: str, labels: Mapping[str, str | None]) -> HostRecord:
        """Set labels, and take away those that are ``None``. :raises InvalidInput: a key or value is no label."""
        wanted = {**self.record(host).labels, **labels}
        kept = {key: value for key, value in wanted.items() if value is not None}
        check_labels(kept)
        return await self.edit(host, labels=kept)

    async def cordon(self, host: str, reason: str = "") -> HostRecord:
        """No new nodes there; those that are there stay."""
        return await self.edit(host, cordoned=True, cordon_reason=reason)

    async def uncordon(self, host: str) -> HostRecord:
        """New nodes may be placed there again; a drain ends with it."""
        return await self.edit(host, cordoned=False, cordon_reason="", draining=False)

    async def set_draining(self, host: str, draining: bool) -> HostRecord:
        """Whether the nodes of ``host`` are to move away. A drained host stays cordoned until it is uncordoned."""
        return await self.edit(host, draining=draining, **({"cordoned": True} if draining else {}))

    def written(self, host: str) -> None:
        """This controller has stored something of ``host``: tell everybody."""
        self._tell(host)
        for writer in self._writers:
            writer(host)

    def _tell(self, host: str) -> None:
        for listener in self._listeners:
            listener(host)


def check_labels(labels: Mapping[str, str]) -> None:
    """:raises InvalidInput: a key or a value is no label."""
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or len(value) > _LONGEST_VALUE:
            raise InvalidInput(
                f"{key}={value} is no label",
                hint="a label's name is a word of letters, digits and -._/, at most 63; its value has at most 253",
            )
