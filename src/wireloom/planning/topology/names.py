"""Names that become host names."""

from __future__ import annotations

import re
from typing import Any

from wireloom.model.identity import NAME_PATTERN
from wireloom.yamlfile import Bound, Path

__all__ = ["check_name"]


def check_name(bound: Bound[Any], path: Path, name: str, what: str) -> None:
    """Report a name that cannot be a DNS label (RFC 1123), with one that can."""
    if NAME_PATTERN.fullmatch(name) is not None:
        if name.casefold() == "localhost":
            bound.report(path, f"{what} name {name!r} always means the machine itself", "choose another", at_key=True)
        return
    fit = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].strip("-")
    rule = "use letters, digits and hyphens, at most 63"
    suggestion = f"{rule}, e.g. {fit!r}" if fit else rule
    at_key = bool(path) and path[-1] == name
    shown = repr(name if len(name) <= 70 else f"{name[:66]}…")
    bound.report(path, f"{what} name {shown} is unfit for a host name", suggestion, at_key=at_key)
