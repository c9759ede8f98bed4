"""OpenFlow and control commands to ovs-vswitchd: one process for any number of flows. Blocking."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wireloom.commands import Finished, run_blocking
from wireloom.dataplane.ovs.daemon import require_daemon
from wireloom.errors import DataPlaneFailed, Unavailable

__all__ = ["OpenFlow"]

_DEADLINE_S: Final = 30.0
#: A daemon that has just been started takes a moment until it has its bridges.
_START_S: Final = 10.0
_LOOK_S: Final = 0.05


class OpenFlow:
    """Flows of the bridge ``name``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    @property
    def _socket(self) -> Path:
        return self._folder / f"{self._name}.mgmt"

    def apply(self, commands: Sequence[str], *, gently: bool) -> None:
        """Carry out all of ``commands`` in one step: no frame meets half of them.

        When this returns, no frame takes its former way any more: the datapath keeps for a while what it has decided.

        :param gently: wait until it has looked at all of that again, some half a second; else it forgets everything at
            once, that of bridges of others, too, which then is decided anew frame by frame.
        :raises DataPlaneFailed: ovs-vswitchd refused; then nothing was changed.
        :raises Unavailable: it does not run, or does not have the bridge.
        """
        if not commands:
            return
        text = "\n".join(commands) + "\n"
        process = self._await_bridge()
        self._run("change flows", "ovs-ofctl", "--bundle", "add-flows", f"unix:{self._socket}", "-", stdin=text)
        control = self._folder / f"ovs-vswitchd.{process}.ctl"
        verb = "wait" if gently else "purge"
        self._run("settle flows", "ovs-appctl", "-t", str(control), f"revalidator/{verb}")

    def dump(self) -> str:
        """All flows, as ``ovs-ofctl`` prints them. :raises Unavailable: as :meth:`apply`."""
        self._await_bridge()
        options = ("--no-names", "--no-stats", "-O", "OpenFlow13")
        return self._run("read flows", "ovs-ofctl", *options, "dump-flows", f"unix:{self._socket}").output

    def _await_bridge(self) -> int:
        """The process id of the daemon that has the bridge."""
        deadline = time.monotonic() + _START_S
        while True:
            process = require_daemon(self._folder)
            if self._answers():
                return process
            if time.monotonic() > deadline:
                raise Unavailable(f"ovs-vswitchd does not have the bridge {self._name}")
            time.sleep(_LOOK_S)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as opened:
            opened.settimeout(_START_S)
            try:
                opened.connect(str(self._socket))
            except OSError:
                return False
        return True

    def _run(self, operation: str, *command: str, stdin: str = "") -> Finished:
        done = run_blocking(*command, timeout_s=_DEADLINE_S, stdin=stdin)
        if done.code != 0:
            raise DataPlaneFailed(
                f"Open vSwitch did not {operation} of {self._name}: {done.errors}",
                details={"operation": operation, "device": self._name, "errno": ""},
            )
        return done
