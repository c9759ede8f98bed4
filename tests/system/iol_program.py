"""What the stand-in for IOL does: it reads NETMAP, speaks netio, and plays a console. Runs in a node, as ``__main__``.

It is no IOL: it answers ARP and ICMP echo on ports with an address, has the command line of the emulated IOS, and keeps
its configuration in a file like IOL's NVRAM. The standard library of a minimal Python is all that is there.
"""

from __future__ import annotations

import contextlib
import getopt
import os
import re
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator

from emulated.ios import IOS
from emulated.machine import Machine, Memory
from emulated.script import Say, Script, Sleep
from emulated.terminal import Terminal

_HEADER = struct.Struct(">HHBBBB")
_NVRAM = struct.Struct(">HHHHIIIIIHHI")
_ETHERNET = struct.Struct(">6s6sH")
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_BROADCAST = b"\xff" * 6
_TRIES, _PAUSE_S, _PATIENCE = 5, 0.05, 40


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Net:
    """The ports: ``addresses`` by key, neighbours that were heard of, and answers to echoes."""

    def __init__(self, application: int) -> None:
        self.addresses: dict[int, bytes] = {}
        self.neighbours: dict[bytes, bytes] = {}
        self.echoes: set[int] = set()
        self._application = application
        self._far: dict[int, tuple[int, int]] = dict(_netmap(application))
        folder = f"/tmp/netio{os.geteuid()}"  # noqa: S108 - IOL's own choice
        self._folder = folder
        os.makedirs(folder, exist_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{folder}/{application}")
        self.socket.setblocking(False)

    def mac(self, key: int) -> bytes:
        """Made of the application id, as IOL's are."""
        return struct.pack(">4sBB", b"\xaa\xbb\xcc\x00", self._application & 255, key)

    def send(self, key: int, frame: bytes) -> None:
        application, far_key = self._far[key]
        header = _HEADER.pack(application, self._application, far_key, key, 1, 0)
        with contextlib.suppress(OSError):
            self.socket.sendto(header + frame, f"{self._folder}/{application}")

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram = self.socket.recv(65536)
                to, _, key, _, kind, _ = _HEADER.unpack_from(datagram)
                if to == self._application and kind == 1 and key in self.addresses:
                    self._frame(key, datagram[_HEADER.size :])

    def _frame(self, key: int, frame: bytes) -> None:
        to, source, kind = _ETHERNET.unpack_from(frame)
        if to not in (_BROADCAST, self.mac(key)):
            return
        body = frame[_ETHERNET.size :]
        if kind == 0x0806:
            self._arp(key, body)
        elif kind == 0x0800 and body[9] == 1 and body[16:20] == self.addresses[key]:
            self._icmp(key, source, body)

    def _arp(self, key: int, body: bytes) -> None:
        *_, operation, mac, address, _, wanted = _ARP.unpack_from(body)
        self.neighbours[address] = mac
        if operation == 1 and wanted == self.addresses[key]:
            self.send(key, self._arp_frame(key, 2, mac, mac, address))

    def _arp_frame(self, key: int, operation: int, to: bytes, mac: bytes, address: bytes) -> bytes:
        own = self.mac(key)
        return _ETHERNET.pack(to, own, 0x0806) + _ARP.pack(
            1, 0x0800, 6, 4, operation, own, self.addresses[key], mac, address
        )

    def _icmp(self, key: int, source: bytes, body: bytes) -> None:
        start, size = (body[0] & 15) * 4, struct.unpack_from(">H", body, 2)[0]
        message = body[start:size]
        if _sum(message + bytes(len(message) & 1)):
            return
        kind, _, _, identifier, number = struct.unpack_from(">BBHHH", message)
        if kind == 0 and identifier == self._application:
            self.echoes.add(number)
        elif kind == 8:
            self.send(key, self._packet(key, source, body[12:16], bytes(4) + message[4:]))

    def _packet(self, key: int, mac: bytes, to: bytes, message: bytes) -> bytes:
        """A message of ICMP, whose checksum is filled in."""
        message = message[:2] + struct.pack(">H", _sum(message + bytes(len(message) & 1))) + message[4:]
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, self.addresses[key], to)
        header = header[:10] + struct.pack(">H", _sum(header)) + header[12:]
        return _ETHERNET.pack(mac, self.mac(key), 0x0800) + header + message

    def ask(self, address: bytes) -> None:
        """Who has it, on every port."""
        for key in self.addresses:
            self.send(key, self._arp_frame(key, 1, _BROADCAST, bytes(6), address))

    def echo(self, address: bytes, number: int) -> None:
        """To a neighbour whose hardware address is known, on the port of its network (of 24 bits)."""
        for key, own in self.addresses.items():
            if own[:3] == address[:3]:
                mac = self.neighbours[address]
                message = struct.pack(">BBHHH", 8, 0, 0, self._application, number)
                self.send(key, self._packet(key, mac, address, message + bytes(56)))


def _netmap(application: int) -> Iterator[tuple[int, tuple[int, int]]]:
    end = re.compile(r"(\d+):(\d+)/(\d+)")
    with open("NETMAP") as file:
        for line in file:
            near, far = (tuple(int(part) for part in found) for found in end.findall(line))
            if near[0] == application:
                yield near[1] | near[2] << 4, (far[0], far[1] | far[2] << 4)


class StandIn(IOS):
    """The emulated IOS with IOL's interfaces, NVRAM and ping."""

    factory_hostname = "IOL"
    media = ()
    version = "17.12"
    version_text = (
        "Cisco IOS Software [Dublin], Linux Software (X86_64BI_LINUX-ADVENTERPRISEK9-M), Version 17.12.1\n"
        "This is a stand-in for tests.\n\n{hostname} uptime is 1 minute\n\n"
    )
    boot = ("\n\n              Restricted Rights Legend (stand-in for tests)\n\n",)
    applied = ""
    noise = ()

    def __init__(self, machine: Machine, net: Net, *, slots: int, application: int, config: str, nvram_kb: int) -> None:
        super().__init__(machine)
        names = [f"interface Ethernet{slot}/{port}" for slot in range(slots) for port in range(4)]
        self.factory_config = "".join(f"{name}\n no ip address\n shutdown\n" for name in names)
        self._net = net
        self._nvram = f"nvram_{application:05d}"
        self._size = nvram_kb * 1024
        self._config = config

    def first_configuration(self) -> str | None:
        if self._config:
            with open(self._config) as file:
                return file.read()
        with contextlib.suppress(FileNotFoundError), open(self._nvram, "rb") as file:
            header = file.read(_NVRAM.size)
            return file.read(_NVRAM.unpack(header)[6]).decode() or None
        return None

    def save(self) -> None:
        self.startup = f"!\nversion {self.version}\n{self.text()}end\n"
        stored = self.startup.encode()
        header = _NVRAM.pack(0xABCD, 1, 0, 0x0F04, 0, 0, len(stored), 0, 0, 0, 0, len(stored))
        with open(self._nvram, "wb") as file:
            file.write((header + stored).ljust(self._size, b"\0"))

    def apply(self) -> None:
        super().apply()
        self._net.addresses = {}
        for line, node in self.running.children.items():
            named = re.fullmatch(r"interface Ethernet(\d+)/(\d+)", line)
            for child in node.children if named else ():
                if named and (found := re.fullmatch(r"ip address (\S+) \S+", child)):
                    self._net.addresses[int(named[1]) | int(named[2]) << 4] = socket.inet_aton(found[1])

    def own_command(self, session: object, line: str) -> Script[bool]:
        found = re.fullmatch(r"ping (\d+\.\d+\.\d+\.\d+)", line)
        if found is None:
            return (yield from super().own_command(session, line))
        address = socket.inet_aton(found[1])
        yield Say("Type escape sequence to abort.\nSending 5, 100-byte ICMP Echos, timeout is 2 seconds:\n")
        good = 0
        for number in range(_TRIES):
            answered = yield from self._ping(address, number)
            good += answered
            yield Say("!" if answered else ".")
        yield Say(f"\nSuccess rate is {good * 20} percent ({good}/{_TRIES})\n")
        return True

    def _ping(self, address: bytes, number: int) -> Script[bool]:
        net = self._net
        net.echoes.discard(number)
        for attempt in range(_PATIENCE):
            if number in net.echoes:
                return True
            if attempt % 10 == 0:
                if address in net.neighbours:
                    net.echo(address, number)
                else:
                    net.ask(address)
            yield Sleep(_PAUSE_S)
        return False


class System(Memory):
    """Ends where it would begin again."""

    def restart(self) -> None:
        sys.exit(0)


def main(arguments: list[str]) -> None:
    options, (application,) = getopt.getopt(arguments, "qe:s:n:m:c:")
    given = dict(options)
    net = Net(int(application))
    persona = StandIn(
        Machine(System({})),
        net,
        slots=int(given.get("-e", "2")),
        application=int(application),
        config=given.get("-c", ""),
        nvram_kb=int(given.get("-n", "64")),
    )
    play(persona, net)


def play(persona: StandIn, net: Net) -> None:
    """On standard input and output, for ever."""
    terminal = Terminal(persona.console(), now=time.monotonic())
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(net.socket, selectors.EVENT_READ)
    while True:
        due = terminal.wake_at
        for key, _ in selector.select(None if due is None else max(0.0, due - time.monotonic())):
            if key.fileobj is net.socket:
                net.receive()
                continue
            data = os.read(0, 65536)
            if not data:
                selector.unregister(0)
            terminal.receive(data, time.monotonic())
        if terminal.wake_at is not None and terminal.wake_at <= time.monotonic():
            terminal.tick(time.monotonic())
        printed = terminal.take()
        while printed:
            printed = printed[os.write(1, printed) :]


if __name__ == "__main__":
    main(sys.argv[1:])
