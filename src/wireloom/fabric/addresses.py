"""By which names and addresses a machine may be reached; for the certificate of a server on it."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import platform
import re
import subprocess
from typing import Any, Final

__all__ = ["is_name", "own_names", "split_address"]

_MOST: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


def is_name(text: str) -> bool:
    """Whether ``text`` is an address or may be a DNS name."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(text)
        return True
    return bool(_NAME.fullmatch(text))


def own_names() -> set[str]:
    """The machine's names, and the global addresses that it has now. Blocking, some milliseconds."""
    names = {"localhost", "127.0.0.1", "::1"}
    node = platform.node()
    names |= {name for name in (node, node.split(".")[0]) if name}
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        shown = subprocess.run(
            ["ip", "-json", "address", "show", "scope", "global"], check=True, capture_output=True, timeout=5
        ).stdout
        names |= set(_addresses(json.loads(shown))[:_MOST])
    return {name for name in names if is_name(name)}


def _addresses(links: list[dict[str, Any]]) -> list[str]:
    # Bridges of engines and labs come and go; a certificate that follows them would be made anew all the time.
    found = (
        entry["local"]
        for link in links
        if not link.get("ifname", "").startswith(("docker", "br-", "virbr", "veth", "tap", "wl"))
        for entry in link.get("addr_info", ())
        if "local" in entry
    )
    return sorted(found)


def split_address(text: str) -> tuple[str, int | None]:
    """Name or address, and port if there is one: of ``h1``, ``h1:4222``, ``10.0.0.1:4222``, ``[fd00::1]:4222``."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text.strip("[]"))), None
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit():
        return name.strip("[]"), int(port)
    return text, None
