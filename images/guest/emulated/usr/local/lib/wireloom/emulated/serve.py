"""The program of the image: one persona on all serial lines and for every SSH session.

``python3 -m emulated.serve LINE…``: the terminals to own; the first is the console.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
import traceback

from .host import System, chosen_persona
from .machine import Machine, Result
from .persona import Persona
from .personas import PERSONAS
from .script import Say, Script
from .terminal import Terminal

__all__ = ["SOCKET", "main"]

SOCKET = "/run/emulated.sock"
_SERVICES = "/usr/local/sbin/emulated-services"
#: How long a command over SSH is waited for its input to end, where it may have none.
_INPUT_S = 0.7
_LONGEST_PAUSE_S = 1.0


class _Peer:
    """One line or session: a file descriptor, a terminal, and what could not be written yet."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.terminal: Terminal | None = None
        self.pending = bytearray()
        self.events = selectors.EVENT_READ

    def received(self, data: bytes, now: float) -> bool:
        """Bytes came in; whether the peer goes on."""
        if self.terminal is not None:
            self.terminal.receive(data, now)
        return True

    def due(self) -> float | None:
        """When there is something to do without input."""
        return None if self.terminal is None else self.terminal.wake_at

    def tick(self, now: float) -> None:
        """Time passes."""
        if self.terminal is not None and self.terminal.wake_at is not None and self.terminal.wake_at <= now:
            self.terminal.tick(now)

    def collect(self) -> None:
        """Take over what is to be printed."""
        if self.terminal is not None:
            self.pending += self.framed(self.terminal.take())

    def framed(self, data: bytes) -> bytes:
        """Bytes as they go to the other side."""
        return data

    @property
    def ended(self) -> bool:
        """Whether all is said and written."""
        return self.terminal is not None and self.terminal.done and not self.pending


class _Session(_Peer):
    """A session of the relay: a header (kind, user, command), then bytes; answers are framed."""

    def __init__(self, connection: socket.socket, persona: Persona) -> None:
        super().__init__(connection.fileno())
        self.connection = connection
        self._persona = persona
        self._input = b""
        self._header: list[str] = []
        self._execute_at: float | None = None
        self._closed = False
        self.result: Result | None = None

    def received(self, data: bytes, now: float) -> bool:
        if self.terminal is not None:
            if data:
                self.terminal.receive(data, now)
            return bool(data)
        self._input += data
        if not self._header and not self._read_header(now):
            return bool(data)
        if not data:
            self._execute_at = now
        return True

    def _read_header(self, now: float) -> bool:
        if len(self._input) < 4 or len(self._input) < (size := struct.unpack(">I", self._input[:4])[0] + 4):
            return False
        self._header = self._input[4:size].decode("utf-8", "replace").split("\0")
        self._input = self._input[size:]
        kind, user, _ = self._header
        if kind == "exec":
            self._execute_at = now + _INPUT_S
            return True
        script = self._persona.netconf(user) if kind == "netconf" else self._persona.remote(user)
        self.terminal = Terminal(script or _refuse(), now=now, raw=kind == "netconf")
        if self._input:
            self.terminal.receive(self._input, now)
        return True

    def due(self) -> float | None:
        return self._execute_at if self._execute_at is not None else super().due()

    def tick(self, now: float) -> None:
        super().tick(now)
        if self._execute_at is not None and self._execute_at <= now and self.result is None:
            _, user, command = self._header
            self.result = self._persona.execute(user, command, self._input.decode("utf-8", "replace"))
            self._execute_at = None
            self.pending += self.framed(self.result.text.encode())

    def framed(self, data: bytes) -> bytes:
        return b"o" + struct.pack(">I", len(data)) + data if data else b""

    @property
    def ended(self) -> bool:
        over = self.result is not None or (self.terminal is not None and self.terminal.done)
        if over and not self._closed:
            code = self.result.code if self.result is not None else 0
            self.pending += b"x" + struct.pack(">IB", 1, code & 255)
            self._closed = True
        return over and not self.pending


def _refuse() -> Script[None]:
    yield Say("not available\n")


class _Loop:
    """Waits for bytes and time, for all peers."""

    def __init__(self, persona: Persona, system: System) -> None:
        self._persona = persona
        self._system = system
        self._selector = selectors.DefaultSelector()
        self._peers: dict[int, _Peer] = {}
        self._services = False
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        self._server.bind(SOCKET)
        os.chmod(SOCKET, 0o666)
        self._server.listen(16)
        self._selector.register(self._server, selectors.EVENT_READ)

    def own_line(self, path: str, script: Script[None]) -> None:
        """Play a script on a terminal."""
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        subprocess.run(["stty", "-F", path, "raw", "-echo"], check=False, timeout=10)
        peer = _Peer(fd)
        peer.terminal = Terminal(script, now=time.monotonic())
        self._add(peer)

    def _add(self, peer: _Peer) -> None:
        os.set_blocking(peer.fd, False)
        self._peers[peer.fd] = peer
        self._selector.register(peer.fd, peer.events)

    def run(self) -> None:
        """For ever."""
        while True:
            for key, events in self._selector.select(self._pause()):
                if key.fileobj is self._server:
                    connection, _ = self._server.accept()
                    self._add(_Session(connection, self._persona))
                elif events & selectors.EVENT_READ and key.fd in self._peers:
                    self._read(self._peers[key.fd])
            now = time.monotonic()
            for peer in list(self._peers.values()):
                peer.tick(now)
                peer.collect()
                self._write(peer)
            self._housekeeping()

    def _pause(self) -> float:
        dues = [due for peer in self._peers.values() if (due := peer.due()) is not None]
        return min([_LONGEST_PAUSE_S, *(max(0.0, due - time.monotonic()) for due in dues)])

    def _read(self, peer: _Peer) -> None:
        try:
            data = os.read(peer.fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not peer.received(data, time.monotonic()) or (not data and not isinstance(peer, _Session)):
            self._drop(peer)
        elif not data:
            # The other side has said everything; only what we still say is of interest.
            peer.events &= ~selectors.EVENT_READ
            self._watch(peer)

    def _write(self, peer: _Peer) -> None:
        ended = peer.ended
        if peer.pending:
            try:
                del peer.pending[: os.write(peer.fd, peer.pending)]
            except BlockingIOError:
                pass
            except OSError:
                self._drop(peer)
                return
        if ended or peer.ended:
            self._drop(peer)
            return
        wanted = (peer.events & selectors.EVENT_READ) | (selectors.EVENT_WRITE if peer.pending else 0)
        if wanted != peer.events:
            peer.events = wanted
            self._watch(peer)

    def _watch(self, peer: _Peer) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(peer.fd)
        if peer.events:
            self._selector.register(peer.fd, peer.events)

    def _drop(self, peer: _Peer) -> None:
        if self._peers.pop(peer.fd, None) is None:
            return
        with contextlib.suppress(KeyError):
            self._selector.unregister(peer.fd)
        if isinstance(peer, _Session):
            peer.connection.close()
        else:
            os.close(peer.fd)

    def _housekeeping(self) -> None:
        if self._persona.machine.booted and not self._services:
            self._services = True
            subprocess.Popen(
                [_SERVICES], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        if self._system.restart_wanted and not any(peer.pending for peer in self._peers.values()):
            self._system.begin_again()


def main(lines: list[str]) -> None:
    """Play the chosen persona on ``lines``."""
    system = System(in_container=lines == ["/dev/console"])
    persona = PERSONAS[chosen_persona()](Machine(system))
    system.set_accounts(persona.machine.accounts)
    loop = _Loop(persona, system)
    for number, path in enumerate(lines):
        loop.own_line(path, persona.auxiliary(number) if number else persona.console())
    loop.run()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:
        # Whoever looks at the console must see why nothing plays on it.
        traceback.print_exc()
        time.sleep(5)
        raise
