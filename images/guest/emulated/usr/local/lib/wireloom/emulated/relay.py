"""Brings a session to the program that plays the persona: what SSH starts for every login.

``relay``: as SSH says in the environment; ``relay exec USER COMMAND``; ``relay shell USER``.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys

_SOCKET = "/run/emulated.sock"
_NETCONF = "emulated-netconf"


def main(arguments: list[str]) -> int:
    """The exit code of the session."""
    kind, user, command = _wish(arguments)
    terminal = kind == "shell" and os.isatty(0)
    saved = ""
    if terminal:
        saved = subprocess.run(["stty", "-g"], check=False, stdout=subprocess.PIPE, timeout=10).stdout.decode().strip()
        subprocess.run(["stty", "raw", "-echo"], check=False, timeout=10)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(_SOCKET)
        header = "\0".join((kind, user, command)).encode()
        connection.sendall(struct.pack(">I", len(header)) + header)
        return _relay(connection)
    except OSError as error:
        print(f"the device does not answer: {error}", file=sys.stderr)
        return 255
    finally:
        if saved:
            subprocess.run(["stty", saved], check=False, timeout=10)


def _wish(arguments: list[str]) -> tuple[str, str, str]:
    if arguments:
        return arguments[0], arguments[1], " ".join(arguments[2:])
    user = os.environ.get("USER", "root")
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if command == _NETCONF:
        return "netconf", user, ""
    return ("exec" if command else "shell"), user, command


def _relay(connection: socket.socket) -> int:
    sources: list[int] = [0, connection.fileno()]
    waiting = b""
    while True:
        readable, _, _ = select.select(sources, [], [])
        if 0 in readable:
            typed = os.read(0, 65536)
            if typed:
                connection.sendall(typed)
            else:
                sources.remove(0)
                connection.shutdown(socket.SHUT_WR)
        if connection.fileno() in readable:
            data = connection.recv(65536)
            if not data:
                return 255
            waiting += data
            while len(waiting) >= 5 and len(waiting) >= (end := 5 + struct.unpack(">I", waiting[1:5])[0]):
                kind, payload, waiting = waiting[:1], waiting[5:end], waiting[end:]
                if kind == b"x":
                    return payload[0]
                _write_all(payload)


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
