"""The host's routing between its devices: on while somebody needs it, and then as it was before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from wireloom.commands import run

__all__ = ["Forwarding"]

_SWITCH: Final = Path("/proc/sys/net/ipv4/ip_forward")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Forwarding:
    """One switch for several users.

    :param notes: file that keeps how the switch was before us, also over the agent's own end; it holds for one boot.
    """

    def __init__(self, notes: Path, switch: Path = _SWITCH) -> None:
        self._notes = notes
        self._switch = switch
        self._users: set[str] = set()

    def hold(self, user: str) -> None:
        """``user`` needs routing; idempotent."""
        self._users.add(user)
        before = self._switch.read_text().strip()
        if self._before() is None:
            self._notes.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._notes.write_text(json.dumps({"boot": _BOOT_ID.read_text().strip(), "forwarding": before}))
        if before == "0":
            self._switch.write_text("1\n")

    async def release(self, user: str) -> None:
        """``user`` needs it no more. After the last one it is off again if it was off, unless a container engine has
        come to need it meanwhile; idempotent.
        """
        self._users.discard(user)
        if self._users:
            return
        if self._before() == "0" and not await _engine_routes():
            self._switch.write_text("0\n")
        self._notes.unlink(missing_ok=True)

    def _before(self) -> str | None:
        """How the switch was before us, as noted in this boot of the host."""
        try:
            notes = json.loads(self._notes.read_text())
            return str(notes["forwarding"]) if notes["boot"] == _BOOT_ID.read_text().strip() else None
        except (OSError, ValueError, KeyError):
            return None


async def _engine_routes() -> bool:
    """Whether a container engine's own rules are there, or nobody can tell."""
    if shutil.which("iptables") is None:
        return True
    return (await run("iptables", "-w", "10", "-n", "-L", "DOCKER-USER")).code == 0
