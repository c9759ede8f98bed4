"""The bridge between IOL's netio socket and the ports of the node: ``python3 -m iol.bridge ID``.

Two threads: one waits for the ports and gives their frames to IOL, the other waits for IOL. A frame is read into a
buffer that is there already and sent out of it, with its header beside it: nothing is copied in between.

IOL may end and come back at any time, and so may ports.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

from . import frames, netmap
from .ports import Buffers, Port, PortTable

__all__ = ["COUNTS", "Bridge", "main", "netio_folder"]

#: What passed, a name and a number in a line, for whoever wants to know why nothing does.
COUNTS = "/run/iol-bridge"
_COUNTS_S = 5.0
#: Between two looks at the ports where no news came.
_LOOK_S = 10.0
#: How long an IOL that takes nothing is waited for before frames are dropped.
_PATIENCE_S = 0.05
_QUEUE = 4 << 20
_LINK_NEWS = 1  # RTMGRP_LINK
_NEWS_SIZE = 65536
_LARGEST = 65536
#: IOL is not there, or its last socket is left over.
_AWAY = (errno.ENOENT, errno.ECONNREFUSED)


def netio_folder() -> str:
    """Where applications of this user have their sockets."""
    return f"/tmp/netio{os.geteuid()}"  # noqa: S108 - IOL's own choice


class Counts:
    """Frames: ``to_iol`` and ``from_iol`` passed; ``full``: IOL took nothing for long; ``away``: it was not there;
    ``astray``: from IOL to no port of the node, or no frame at all."""

    def __init__(self) -> None:
        self.to_iol = self.from_iol = self.full = self.away = self.astray = 0


class Bridge:
    """:param application: IOL's id; ``own``: the bridge's. :param folder: of the sockets."""

    def __init__(self, application: int, own: int, folder: str, table: PortTable) -> None:
        self.counts = Counts()
        self._application = application
        self._own = own
        self._iol = f"{folder}/{application}"
        self._path = f"{folder}/{own}"
        self._table = table
        self._selector = selectors.DefaultSelector()
        self._headers: dict[int, bytes] = {}
        self._header = bytearray(frames.HEADER_SIZE)
        self._frame = bytearray(_LARGEST)
        self._view = memoryview(self._frame)
        self._socket = self._bind()
        self._news = _link_news()
        self._selector.register(self._news, selectors.EVENT_READ)
        self._told: dict[str, int] = {}
        self._tell_at = 0.0

    def _bind(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.bind(self._path)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            own.setsockopt(socket.SOL_SOCKET, option, _QUEUE)
        whole, rest = divmod(_PATIENCE_S, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(whole), int(rest * 1e6)))
        return own

    # -- ports to IOL ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take up ports that came, let go of those that went."""
        came, gone = self._table.update()
        for port in gone:
            self._selector.unregister(port)
            port.close()
        for key, port in came:
            self._headers[key] = frames.pack(frames.Header(self._application, self._own, key, key))
            self._selector.register(port, selectors.EVENT_READ, key)

    def pass_to_iol(self, timeout_s: float) -> None:
        """Wait for ports, and pass on what they have."""
        changed = False
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._news:
                changed = True
                _drain(self._news)
            else:
                self._pass_port(key.data)
        if changed:
            self.look()

    def _pass_port(self, key: int) -> None:
        port = self._table.ports[key]
        header = self._headers[key]
        for pieces in port.receive():
            self._give(header, pieces)

    def _give(self, header: bytes, pieces: Buffers) -> None:
        try:
            self._socket.sendmsg((header, *pieces), (), 0, self._iol)
            self.counts.to_iol += 1
        except OSError as error:
            if error.errno in _AWAY:
                self.counts.away += 1
            elif error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.EPERM):
                self.counts.full += 1
            else:
                raise

    # -- IOL to ports ----------------------------------------------------------------------------------------

    def pass_from_iol(self) -> None:
        """Wait for IOL, and pass on one frame."""
        size, *_ = self._socket.recvmsg_into([self._header, self._frame])
        length = size - frames.HEADER_SIZE
        header = frames.unpack(self._header)
        port: Port | None = None
        if length >= frames.SMALLEST_FRAME and header is not None and header.to_application == self._own:
            port = self._table.ports.get(header.to_port)
        if port is None:
            self.counts.astray += 1
            return
        port.send(self._view[:length])
        self.counts.from_iol += 1

    def _pass_all_from_iol(self) -> None:
        while True:
            self.pass_from_iol()

    # -- the process -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """For ever; a defect of either direction ends the process, which is then started again."""
        threading.Thread(target=_or_die, args=(self._pass_all_from_iol,), daemon=True).start()
        looked = -_LOOK_S
        while True:
            now = time.monotonic()
            if now - looked >= _LOOK_S:
                looked = now
                self.look()
            self.pass_to_iol(_COUNTS_S)
            self._tell(now)

    def _tell(self, now: float) -> None:
        """Write what was counted, now and then, where it changed."""
        if now < self._tell_at:
            return
        self._tell_at = now + _COUNTS_S
        told = dict(vars(self.counts))
        for key, port in self._table.ports.items():
            told[f"dropped {netmap.interface_of(key)}"] = port.dropped
        if told != self._told:
            self._told = told
            with contextlib.suppress(OSError), open(COUNTS, "w") as file:
                file.writelines(f"{name} {count}\n" for name, count in told.items())

    def close(self) -> None:
        """Let go of everything."""
        for port in self._table.ports.values():
            port.close()
        self._selector.close()
        self._news.close()
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _link_news() -> socket.socket:
    """Readable when a network device comes, goes or changes."""
    news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    news.bind((0, _LINK_NEWS))
    news.setblocking(False)
    return news


def _drain(news: socket.socket) -> None:
    """What exactly happened does not matter; that it was too much to be told does not either."""
    while True:
        try:
            news.recv(_NEWS_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


def _or_die(work: Any) -> None:
    try:
        work()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """Bridge the application with this id; never returns."""
    (application,) = arguments
    Bridge(int(application), netmap.BRIDGE_ID, netio_folder(), PortTable()).run()


if __name__ == "__main__":
    main(sys.argv[1:])
