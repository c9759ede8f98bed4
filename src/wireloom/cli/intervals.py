"""Time spans as people type them."""

from __future__ import annotations

import re
from typing import Final

from wireloom.errors import InvalidInput

__all__ = ["seconds"]

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """``90``, ``90s``, ``30m``, ``6h``, ``1d`` in seconds. :raises InvalidInput:"""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise InvalidInput(f"{text!r} is not an interval", hint="for example 30m, 6h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]
