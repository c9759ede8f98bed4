"""NETCONF against a real SSH server on loopback that speaks it, in both framings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import asyncssh
import pytest

from wireloom.agent.channels import Login
from wireloom.agent.channels.netconf_session import MESSAGE_MOST, Deframer, NetconfSession, frame
from wireloom.agent.ssh import InstallationKey, SshShell
from wireloom.errors import GuestFailed, InvalidInput, Unavailable
from wireloom.model.device import Access

NS = "urn:ietf:params:xml:ns:netconf:base:1.0"
BASE_10, BASE_11 = "urn:ietf:params:netconf:base:1.0", "urn:ietf:params:netconf:base:1.1"
END = b"]]>]]>"
DATA = "<interfaces xmlns='urn:example'><interface>eth0 &lt;up&gt;</interface></interfaces>"

#: From a request (the whole rpc) to the reply, without its framing.
Answer = Callable[[ET.Element], str]


def reply(body: str) -> Answer:
    return lambda rpc: f'<rpc-reply xmlns="{NS}" message-id="{rpc.get("message-id")}">{body}</rpc-reply>'


CONFIG = reply(f"<data>{DATA}</data>")


@dataclass
class Server:
    """A NETCONF server of few words; ``pieces`` is how many bytes it sends at a time."""

    versions: tuple[str, ...] = (BASE_10, BASE_11)
    answer: Answer = CONFIG
    greeting: str = ""
    pieces: int = 7

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if process.subsystem != "netconf":
            process.exit(1)
            return
        capabilities = "".join(f"<capability>{uri}</capability>" for uri in self.versions)
        hello = (
            self.greeting
            or f'<?xml version="1.0"?><hello xmlns="{NS}"><capabilities>{capabilities}</capabilities></hello>'
        )
        await self._send(process, hello.encode() + END)
        deframer = Deframer()
        await self._next(process, deframer)  # their hello
        deframer.chunked = BASE_11 in self.versions
        rpc = ET.fromstring(await self._next(process, deframer))  # noqa: S314 - our own client's
        assert rpc.find(f"{{{NS}}}get-config/{{{NS}}}source/{{{NS}}}running") is not None
        await self._send(process, frame(self.answer(rpc).encode(), chunked=deframer.chunked))
        await process.stdin.read()
        process.exit(0)

    async def _send(self, process: asyncssh.SSHServerProcess[bytes], data: bytes) -> None:
        for start in range(0, len(data), self.pieces):
            process.stdout.write(data[start : start + self.pieces])
            await asyncio.sleep(0)

    @staticmethod
    async def _next(process: asyncssh.SSHServerProcess[bytes], deframer: Deframer) -> bytes:
        while (message := deframer.next()) is None:
            data = await process.stdin.read(1024)
            if not data:
                raise ConnectionResetError
            deframer.feed(data)
        return message


class Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[SshShell]:
    (tmp_path / "nodes" / "n1").mkdir(parents=True)
    made = SshShell(InstallationKey.ensure(tmp_path / "keys"), tmp_path / "nodes")
    yield made
    await made.close()


async def get_config(shell: SshShell, server: Server, datastore: str = "running") -> bytes:
    acceptor = await asyncssh.create_server(
        Door,
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=server.serve,
        encoding=None,
    )
    try:
        access = Access(username="admin", netconf_port=acceptor.get_port(), ssh_port=1)
        login = Login("n1", "r1", "first", "127.0.0.1", access)
        async with asyncio.timeout(10), shell.subsystem(login, "netconf", timeout_s=5) as stream:
            session = await NetconfSession.open(stream)
            return await session.get_config(datastore)
    finally:
        await shell.close()
        acceptor.close()
        await acceptor.wait_closed()


@pytest.mark.parametrize("versions", [(BASE_10,), (BASE_10, BASE_11), (BASE_11,)])
async def test_a_datastore_is_read_in_either_framing(shell: SshShell, versions: tuple[str, ...]) -> None:
    text = await get_config(shell, Server(versions))
    data = ET.fromstring(text)  # noqa: S314
    assert data.findtext("{urn:example}interfaces/{urn:example}interface") == "eth0 <up>"


async def test_a_large_configuration_arrives_whole(shell: SshShell) -> None:
    lines = "".join(f"<line>{number}</line>" for number in range(50_000))
    text = await get_config(shell, Server(answer=reply(f"<data>{lines}</data>"), pieces=40_000))
    assert len(ET.fromstring(text)) == 50_000  # noqa: S314


async def test_notifications_in_between_are_passed_over(shell: SshShell) -> None:
    noise = f'<notification xmlns="{NS}"/>'
    server = Server((BASE_10,), answer=lambda rpc: f"{noise}{END.decode()}{CONFIG(rpc)}")
    assert b"eth0" in await get_config(shell, server)


@pytest.mark.parametrize(
    ("server", "error", "text"),
    [
        (Server(answer=reply("<rpc-error><error-tag>access-denied</error-tag></rpc-error>")), GuestFailed, "denied"),
        (
            Server(answer=reply("<rpc-error><error-message>not for you</error-message></rpc-error>")),
            GuestFailed,
            "not for you",
        ),
        (Server(answer=reply("")), GuestFailed, "no data"),
        (Server(answer=lambda _: "<rpc-reply"), GuestFailed, "no XML"),
        (
            Server(answer=lambda _: '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
            GuestFailed,
            "document type",
        ),
        (Server(versions=("urn:other",)), Unavailable, "no version"),
        (Server(greeting="<html/>"), Unavailable, "greet"),
        (Server(greeting="SSH banner"), Unavailable, "no XML"),
    ],
)
async def test_what_a_guest_does_wrong_is_said(
    shell: SshShell, server: Server, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await get_config(shell, server)


async def test_a_datastore_that_netconf_does_not_know_is_refused(shell: SshShell) -> None:
    with pytest.raises(InvalidInput):
        await get_config(shell, Server(), "flash")


async def test_a_guest_without_netconf_is_unavailable(shell: SshShell) -> None:
    login = Login("n1", "r1", "first", "127.0.0.1", Access(netconf_port=1))
    with pytest.raises(Unavailable):
        async with shell.subsystem(login, "netconf", timeout_s=2):
            pass


# ---------------------------------------------------------------------- framing, without a network


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_messages_cut_anywhere_are_whole_again(chunked: bool, size: int) -> None:
    messages = [b"<a/>", b"]", b"\n##\n", b"]]>]]", b"\n#4\nabcd"]
    deframer = Deframer()
    deframer.chunked = chunked
    wire = b"".join(frame(message, chunked=chunked) for message in messages)
    found: list[bytes] = []
    for start in range(0, len(wire), size):
        deframer.feed(wire[start : start + size])
        while (message := deframer.next()) is not None:
            found.append(message)
    assert found == messages


@pytest.mark.parametrize("wire", [b"hello", b"\n#0\n", b"\n#x\n", b"\n#12345678901\n", b"##"])
def test_broken_framing_is_said_and_not_waited_out(wire: bytes) -> None:
    deframer = Deframer()
    deframer.chunked = True
    deframer.feed(wire)
    with pytest.raises(GuestFailed, match="framing"):
        deframer.next()


def test_a_message_without_end_is_cut_off() -> None:
    deframer = Deframer()
    part = b"x" * (1 << 20)
    for _ in range(MESSAGE_MOST // len(part)):
        deframer.feed(part)
        assert deframer.next() is None
    with pytest.raises(GuestFailed, match="more than"):
        deframer.feed(part)
