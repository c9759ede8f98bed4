"""Port naming: display name, guest NIC name and MAC are pure functions of (device, index).

Index 0 is the management port where the device has one; data ports count from 1. The vendor's own numbering
(``first``) and the guest's NIC position are separate facts, so a vendor that counts from 0 never lands on the
management NIC.
"""

from __future__ import annotations

import re

from pydantic import Field

from wireloom.model.base import Value

__all__ = ["PortNaming"]


class PortNaming(Value):
    """How a device names its ports.

    Templates may use ``{n}`` (vendor number: data position + ``first``), ``{slot}`` and ``{port}`` (when
    ``per_slot`` is set) and ``{i}`` (port index, 1 for the first data port).

    :ivar name: display name as the vendor writes it, e.g. ``GigabitEthernet0/{n}``.
    :ivar guest: kernel name inside a guest that lets us choose it (a network namespace), e.g. ``eth{i}``.
    :ivar short: shorter spellings users may write, e.g. ``Gi0/{n}``.
    :ivar first: vendor number of the first data port.
    :ivar per_slot: ports per slot, for names such as ``Ethernet{slot}/{port}``.
    :ivar management: display name of port 0; ``None`` for a device without a management port.
    :ivar limit: how many data ports the device can have.
    """

    name: str = "eth{n}"
    guest: str = "eth{i}"
    short: tuple[str, ...] = ()
    first: int = 1
    per_slot: int | None = None
    management: str | None = "eth0"
    management_guest: str = "eth0"
    limit: int = Field(default=32, ge=0)

    def display(self, index: int) -> str:
        """Vendor name of port ``index``."""
        if index == 0:
            return self.management or "mgmt"
        return self._fill(self.name, index)

    def kernel(self, index: int) -> str:
        """NIC name of port ``index`` inside a guest whose NICs we name."""
        return self.management_guest if index == 0 else self._fill(self.guest, index)

    def index_of(self, written: str) -> int | None:
        """The port index that ``written`` names (display, short or kernel name, any case); else ``None``."""
        wanted = written.strip().casefold()
        if self.management is not None and wanted in {
            self.management.casefold(),
            self.management_guest.casefold(),
        }:
            return 0
        number = re.search(r"(\d+)\D*$", wanted)
        if number is None:
            return None
        return next((i for i in self._candidates(wanted) if wanted in self._spellings(i)), None)

    def _candidates(self, wanted: str) -> range:
        del wanted  # the limit is small, and trying each index keeps every template reversible
        return range(1, self.limit + 1)

    def _spellings(self, index: int) -> set[str]:
        templates = (self.name, self.guest, *self.short)
        return {self._fill(template, index).casefold() for template in templates}

    def _fill(self, template: str, index: int) -> str:
        position = index - 1
        number = position + self.first
        per_slot = self.per_slot or max(self.limit, 1)
        return template.format(
            n=number,
            i=index,
            slot=position // per_slot,
            port=position % per_slot + (self.first if self.per_slot else 0),
        )
