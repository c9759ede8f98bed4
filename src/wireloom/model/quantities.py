"""Times, shares and rates as people write them: a number with its unit. One reading for files and commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["DELAY", "RATE", "SHARE", "Quantity"]

_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_WRITTEN: Final = re.compile(rf"({_NUMBER})\s*([a-zµ%/]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """A kind of quantity.

    :ivar name: what it is, in messages. :ivar units: factor by unit, in lower case; the first is ``base``.
    :ivar example: how to write one.
    """

    name: str
    units: Mapping[str, float]
    example: str

    @property
    def pattern(self) -> str:
        """A regular expression of what :meth:`parse` takes, for JSON Schema."""
        letters = [
            "".join(f"[{c.upper()}{c}]" if c.isascii() and c.isalpha() else c for c in unit) for unit in self.units
        ]
        return rf"^(0|{_NUMBER}\s*({'|'.join(letters)}))$"

    def parse(self, text: str) -> float:
        """The number in the base unit. A bare 0 needs no unit.

        :raises ValueError: with what is wrong, for people.
        """
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not {self.name}: write {self.example}")
        number, unit = float(match.group(1)), match.group(2).lower()
        if unit in self.units:
            return number * self.units[unit]
        if not unit and number == 0:
            return 0.0
        known = ", ".join(self.units)
        if not unit:
            raise ValueError(f"{text!r} has no unit: write {self.example} (units are {known})")
        raise ValueError(f"{match.group(2)!r} is not a unit of {self.name}: known are {known}")

    def format(self, value: float) -> str:
        """``value`` in the largest unit in which it has no fraction, else in the base unit."""
        units = sorted(self.units.items(), key=lambda item: -item[1])
        for unit, factor in units:
            if value and unit.isascii() and round(value / factor, 6) == int(value / factor) > 0:
                return f"{int(value / factor)}{unit}"
        return f"{value:g}{next(iter(self.units))}"


#: Milliseconds.
DELAY: Final = Quantity("a time", {"ms": 1, "s": 1000, "us": 0.001, "µs": 0.001}, "50ms")
#: Percent.
SHARE: Final = Quantity("a share", {"%": 1}, "1%")
#: Kilobits per second.
RATE: Final = Quantity("a rate", {"kbit": 1, "mbit": 1_000, "gbit": 1_000_000}, "10mbit")
