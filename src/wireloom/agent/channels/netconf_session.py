"""A NETCONF client session on a stream of bytes: hello, framing, one request at a time.

Both framings of RFC 6242 are spoken: the end-of-message mark of base:1.0, and chunks when both sides have base:1.1.
Messages are bounded, and documents with a DTD are refused, because a guest is not trusted.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final
from xml.etree import ElementTree as ET

from wireloom.errors import GuestFailed, InvalidInput, Unavailable
from wireloom.providers.contract import ByteStream

__all__ = ["MESSAGE_MOST", "Deframer", "NetconfSession", "frame"]

_NS: Final = "urn:ietf:params:xml:ns:netconf:base:1.0"
_BASE_10: Final = "urn:ietf:params:netconf:base:1.0"
_BASE_11: Final = "urn:ietf:params:netconf:base:1.1"
_END_MARK: Final = b"]]>]]>"
_DATASTORES: Final = frozenset({"running", "candidate", "startup"})
#: The largest message that is taken in; a configuration of a device of a lab is far smaller.
MESSAGE_MOST: Final = 16 << 20
_HEADER: Final = re.compile(rb"\n#(?:([1-9][0-9]{0,9})|(#))\n")
_HEADER_LONGEST: Final = 14


def frame(message: bytes, *, chunked: bool) -> bytes:
    """``message`` as it goes over the wire."""
    return b"\n#%d\n%s\n##\n" % (len(message), message) if chunked else message + _END_MARK


class Deframer:
    """Takes bytes as they come and gives back whole messages.

    :ivar chunked: whether chunks are expected from now on.
    """

    def __init__(self) -> None:
        self.chunked = False
        self._buffer = bytearray()
        self._message = bytearray()
        self._chunk_left = 0
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """:raises GuestFailed: more than a message may hold is waiting."""
        self._buffer += data
        if len(self._buffer) + len(self._message) > MESSAGE_MOST + _HEADER_LONGEST:
            raise GuestFailed(f"the guest sent a NETCONF message of more than {MESSAGE_MOST >> 20} MiB")

    def next(self) -> bytes | None:
        """The next whole message, if there is one. :raises GuestFailed: the framing is broken."""
        return self._next_chunked() if self.chunked else self._next_marked()

    def _next_marked(self) -> bytes | None:
        end = self._buffer.find(_END_MARK, self._searched)
        if end < 0:
            self._searched = max(len(self._buffer) - len(_END_MARK), 0)
            return None
        message = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END_MARK)]
        self._searched = 0
        return message

    def _next_chunked(self) -> bytes | None:
        while self._buffer:
            if self._chunk_left:
                part = self._buffer[: self._chunk_left]
                self._message += part
                self._chunk_left -= len(part)
                del self._buffer[: len(part)]
                continue
            header = _HEADER.match(self._buffer)
            if header is None:
                if len(self._buffer) >= _HEADER_LONGEST or not _may_be_header(bytes(self._buffer)):
                    raise GuestFailed("the guest broke the framing of NETCONF")
                return None
            length, is_end = header[1], header[2]  # before the buffer, which the match looks into, changes
            del self._buffer[: header.end()]
            if is_end:
                message, self._message = bytes(self._message), bytearray()
                return message
            self._chunk_left = int(length)
        return None


def _may_be_header(begin: bytes) -> bool:
    return re.fullmatch(rb"\n(?:#(?:[1-9][0-9]*|#)?)?", begin) is not None


class NetconfSession:
    """An open session; made with :meth:`open`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._deframer = Deframer()
        self._number = 0

    @classmethod
    async def open(cls, stream: ByteStream) -> NetconfSession:
        """Exchange hellos. :raises Unavailable: the far end is no NETCONF server that we can talk to."""
        session = cls(stream)
        hello = ET.Element("hello", {"xmlns": _NS})
        capabilities = ET.SubElement(hello, "capabilities")
        for uri in (_BASE_10, _BASE_11):
            ET.SubElement(capabilities, "capability").text = uri
        await session._send(hello)
        try:
            answer = await session._receive()
        except GuestFailed as error:
            raise Unavailable(f"no NETCONF session: {error.message}") from error
        if answer.tag != f"{{{_NS}}}hello":
            raise Unavailable("the guest does not greet as a NETCONF server does")
        theirs = {(item.text or "").strip() for item in answer.iter(f"{{{_NS}}}capability")}
        if not theirs & {_BASE_10, _BASE_11}:
            raise Unavailable("the guest speaks no version of NETCONF that we know")
        session._deframer.chunked = _BASE_11 in theirs
        return session

    async def get_config(self, datastore: str) -> bytes:
        """The whole datastore, as the XML of the reply's ``data``.

        :raises InvalidInput: there is no such datastore. :raises GuestFailed: the guest answers with an error.
        """
        if datastore not in _DATASTORES:
            raise InvalidInput(f"NETCONF has no datastore {datastore!r}", hint=f"one of {sorted(_DATASTORES)}")
        request = ET.Element("get-config")
        ET.SubElement(ET.SubElement(request, "source"), datastore)
        data = (await self._ask(request)).find(f"{{{_NS}}}data")
        if data is None:
            raise GuestFailed("the guest's reply to get-config has no data")
        return await asyncio.to_thread(_text_of, data)

    async def _ask(self, request: ET.Element) -> ET.Element:
        self._number += 1
        identity = str(self._number)
        rpc = ET.Element("rpc", {"xmlns": _NS, "message-id": identity})
        rpc.append(request)
        await self._send(rpc)
        while True:
            reply = await self._receive()
            if reply.tag == f"{{{_NS}}}rpc-reply" and reply.get("message-id") == identity:
                break  # anything else is a notification that nobody asked for
        error = reply.find(f"{{{_NS}}}rpc-error")
        if error is not None:
            text = (error.findtext(f"{{{_NS}}}error-message") or error.findtext(f"{{{_NS}}}error-tag") or "").strip()
            raise GuestFailed(f"the guest refused get-config: {text or 'without a reason'}")
        return reply

    async def _send(self, element: ET.Element) -> None:
        message = ET.tostring(element, encoding="utf-8", xml_declaration=True)
        await self._stream.write(frame(message, chunked=self._deframer.chunked))

    async def _receive(self) -> ET.Element:
        while (message := self._deframer.next()) is None:
            data = await self._stream.read()
            if not data:
                raise GuestFailed("the guest closed the NETCONF session")
            self._deframer.feed(data)
        return await asyncio.to_thread(_parsed, message)


class _WithoutDoctype(ET.TreeBuilder):
    """A document type could declare entities that grow without bound."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise GuestFailed("the guest sent a document type, which NETCONF does not have")


def _parsed(message: bytes) -> ET.Element:
    """:raises GuestFailed: it is no XML that NETCONF could have."""
    parser = ET.XMLParser(target=_WithoutDoctype())  # noqa: S314 - entities are refused above, the size is bounded
    try:
        parser.feed(message.strip())
        root: ET.Element = parser.close()
    except ET.ParseError as error:
        raise GuestFailed(f"the guest sent no XML: {error}") from error
    return root


def _text_of(data: ET.Element) -> bytes:
    ET.indent(data)
    text: bytes = ET.tostring(data, encoding="utf-8")
    return text + b"\n"
