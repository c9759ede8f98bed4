"""Port naming: display name and guest NIC name are pure functions of (device, index), reversible both ways.

Index 0 is the management port where the device has one; data ports count from 1. The vendor's own numbering
(``first``, ``step``, ``per-slot``) and the guest's NIC position are separate facts, so a vendor that counts from 0
never lands on the management NIC.
"""

from __future__ import annotations

import string
from functools import lru_cache

from pydantic import Field

from wireloom.model.base import Value

__all__ = ["PortNaming"]


class PortNaming(Value):
    """How a device names its ports.

    Templates may use ``{n}`` (vendor number), ``{slot}`` and ``{port}`` (with ``per_slot``) and ``{i}`` (port index,
    1 for the first data port).

    :ivar name: display name as the vendor writes it, e.g. ``GigabitEthernet0/{n}``.
    :ivar guest: kernel name inside a guest that lets us choose it (a network namespace), e.g. ``eth{i}``.
    :ivar short: shorter spellings users may write, e.g. ``Gi0/{n}``.
    :ivar first: vendor number of the first data port (with ``per_slot``: of the first port of each slot).
    :ivar step: distance between two vendor numbers, e.g. 4 for ``Ethernet0``, ``Ethernet4``.
    :ivar per_slot: ports per slot, for names such as ``Ethernet{slot}/{port}``.
    :ivar first_slot: number of the first slot.
    :ivar skip: ports of the vendor's sequence that come before the first data port (e.g. one used for management).
    :ivar management: display name of port 0; ``None`` for a device without a management port.
    :ivar management_guest: kernel name of port 0 where we choose it.
    :ivar limit: how many data ports the device can have.
    """

    name: str = "eth{n}"
    guest: str = "eth{i}"
    short: tuple[str, ...] = ()
    first: int = 1
    step: int = Field(default=1, ge=1)
    per_slot: int | None = Field(default=None, ge=1)
    first_slot: int = 0
    skip: int = Field(default=0, ge=0)
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
        """The port index that ``written`` names (display, short or kernel name, any case); else ``None``.

        Where one spelling fits two ports, the vendor's display name wins over the short and the kernel name.
        """
        return _spellings(self).get(written.strip().casefold())

    def displays(self) -> tuple[str, ...]:
        """Display names of all ports that can exist, management first."""
        head = () if self.management is None else (self.management,)
        return (*head, *(self.display(index) for index in range(1, self.limit + 1)))

    def _fill(self, template: str, index: int) -> str:
        position = index - 1 + self.skip
        number, slot = position, 0
        if self.per_slot is not None:
            slot, number = divmod(position, self.per_slot)
        number = number * self.step + self.first
        return template.format(n=number, i=index, slot=slot + self.first_slot, port=number)


def template_fields(template: str) -> frozenset[str]:
    """The names used in ``template``. :raises ValueError: it is not a valid template."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name is not None)


@lru_cache(maxsize=512)
def _spellings(naming: PortNaming) -> dict[str, int]:
    found: dict[str, int] = {}
    indexes = range(1, naming.limit + 1)
    for index in indexes:
        found.setdefault(naming.display(index).casefold(), index)
    if naming.management is not None:
        found.setdefault(naming.management.casefold(), 0)
    for template in naming.short:
        for index in indexes:
            found.setdefault(naming._fill(template, index).casefold(), index)  # noqa: SLF001 - same module
    for index in indexes:
        found.setdefault(naming.kernel(index).casefold(), index)
    if naming.management is not None:
        found.setdefault(naming.management_guest.casefold(), 0)
    return found
