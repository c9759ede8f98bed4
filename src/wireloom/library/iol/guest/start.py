"""The first process of a node that is IOL: ``python3 -m iol.start``.

It prepares the folder that outlives the container (NETMAP, NVRAM, configuration, licence), starts the bridge, and runs
IOL on its own terminal, which so is IOL's console. IOL that ends after it has run for a while is a router that was
reloaded: it is started again. IOL that ends at once ends the node, with its exit status.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from . import netmap
from .bridge import netio_folder
from .ports import devices
from .settings import Settings, SettingsWrong, adopt_files, choose_boot, command, settings_of

__all__ = ["Node", "main"]

DATA = "/iol/data"
PROGRAM = "/iol/iol.bin"
LICENCE = "/iol/iourc"
_LIBRARIES = "/iol/lib"
_HOSTS = "/etc/hosts"
#: Where IOL reports itself to; nobody answers there, and it would wait for the name.
_REPORTS = "xml.cisco.com"
_BRIDGE_LOG = "/run/iol-bridge.log"

#: IOL that runs shorter did not boot.
_BOOTED_S = 10.0
_BRIDGE_S = 10.0
_PAUSE_S = 1.0
_STTY_S = 5.0
#: What IOL gets between the wish to end and the end.
_GRACE_S = 3


class Node:
    """IOL and its bridge."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._iol: subprocess.Popen[bytes] | None = None
        self._bridge: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Until it is told to end, or IOL cannot be kept alive; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        self._start_bridge()
        while True:
            began = time.monotonic()
            status = 0 if self._is_stopping() else self._run_iol()
            if self._is_stopping():
                return 0
            if time.monotonic() - began < _BOOTED_S:
                _explain(status)
                return status or 1
            _say(f"IOL ended with status {status}, and starts again")
            time.sleep(_PAUSE_S)

    def _is_stopping(self) -> bool:
        """Whether a signal has come by now."""
        return self._stopping

    def _run_iol(self) -> int:
        _forget_sockets(self._settings.application)
        boot = choose_boot(DATA)
        words = command(f"./{os.path.basename(PROGRAM)}", self._settings, boot)
        _say(f"starting IOL with {boot.config or 'its NVRAM'}: {' '.join(words[1:])}")
        _make_raw()
        try:
            self._iol = subprocess.Popen(words, cwd=DATA, env=_environment())
        except OSError as error:
            _say(f"cannot start IOL: {error.strerror}")
            return 127
        if self._stopping:  # told so between the look and the start
            self._end_iol()
        return self._wait(self._iol.pid)

    def _wait(self, wanted: int) -> int:
        """Until IOL ends. The first process of a container also has to take notice of every other that ends."""
        while True:
            pid, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            if self._bridge is not None and pid == self._bridge.pid:
                self._bridge.returncode = code
                if not self._stopping:
                    _say(f"the bridge ended with status {code}, and starts again; {_BRIDGE_LOG} says why")
                    time.sleep(_PAUSE_S)
                    self._start_bridge()
            elif pid == wanted:
                if self._iol is not None:
                    self._iol.returncode = code
                return code if code >= 0 else 128 - code

    def _start_bridge(self) -> None:
        """IOL finds the bridge's socket there when it sends its first frame."""
        with open(_BRIDGE_LOG, "ab") as log:
            self._bridge = subprocess.Popen(
                [sys.executable, "-S", "-m", "iol.bridge", str(self._settings.application)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        socket = f"{netio_folder()}/{netmap.BRIDGE_ID}"
        deadline = time.monotonic() + _BRIDGE_S
        while not os.path.exists(socket) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._end_iol()

    def _end_iol(self) -> None:
        if self._iol is not None and self._iol.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._iol.pid, signal.SIGTERM)
            signal.alarm(_GRACE_S)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        if self._iol is not None and self._iol.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._iol.pid, signal.SIGKILL)


# -- preparations ----------------------------------------------------------------------------------------------


def prepare(settings: Settings) -> None:
    """Everything that IOL expects to find."""
    os.makedirs(DATA, exist_ok=True)
    os.makedirs(netio_folder(), mode=0o755, exist_ok=True)
    for name in os.listdir(netio_folder()):
        os.unlink(f"{netio_folder()}/{name}")  # of an earlier life of this container
    _write(f"{DATA}/NETMAP", netmap.netmap(settings.application, netmap.BRIDGE_ID, settings.slots))
    _link(PROGRAM, f"{DATA}/{os.path.basename(PROGRAM)}")
    if os.path.exists(LICENCE):
        _link(LICENCE, f"{DATA}/{os.path.basename(LICENCE)}")
    adopt_files(DATA, settings.application)
    with contextlib.suppress(OSError), open(_HOSTS, "r+") as hosts:
        if _REPORTS not in hosts.read():
            hosts.write(f"127.0.0.127\t{_REPORTS}\n")


def _forget_sockets(application: int) -> None:
    """What an IOL that was killed left behind."""
    for name in (f"{application}", f"{application}.lck"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{netio_folder()}/{name}")


def _write(path: str, text: str) -> None:
    """The folder is also the guest's: what is in the way of the file goes, and no link is followed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "x") as file:
        file.write(text)


def _link(target: str, path: str) -> None:
    """Newer IOL checks its own signature by its name in the folder that it runs in."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    folders = [_LIBRARIES, environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = ":".join(folder for folder in folders if folder)
    if os.path.exists(LICENCE):
        environment.setdefault("IOURC", LICENCE)
    return environment


def _make_raw() -> None:
    """Every byte goes to IOL and comes from it as it is; it echoes and ends lines itself."""
    if os.isatty(0):
        # The minimal Python has no module for terminals.
        with contextlib.suppress(OSError):
            subprocess.run(["stty", "raw", "-echo"], check=False, timeout=_STTY_S)


# -- what is said on the console -------------------------------------------------------------------------------


def _say(text: str) -> None:
    # The terminal may be raw already.
    with contextlib.suppress(OSError):
        os.write(1, f"wireloom: {text}\r\n".encode())


def _explain(status: int) -> None:
    _say(f"IOL ended at once, with status {status}")
    if status == 127:
        _say("a library or the loader that it needs is not there; put libraries that it misses into /iol/lib")
    elif not os.path.exists(LICENCE):
        _say("if it asked for a licence above: give your licence file as the secret iol-licence, and start the node")


def main() -> int:
    """Run the node; the exit status of the container."""
    try:
        settings = settings_of(os.environ, devices())
        prepare(settings)
    except (SettingsWrong, OSError) as error:
        _say(f"cannot start: {error}")
        return 2
    return Node(settings).run()


if __name__ == "__main__":
    sys.exit(main())
