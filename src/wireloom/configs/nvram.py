"""The startup configuration in the NVRAM file of an emulated IOS (IOL, IOU: ``nvram_00001``).

Numbers are big-endian. The file begins with a header of 36 bytes, and the configuration follows it::

     0  2  magic ABCD
     2  2  format: 1 plain, 2 compressed (LZW, as by ``compress``)
     4  12 checksum, version, addresses: not used here
    16  4  length of the configuration in bytes, as stored
    20  16 not used here

After it, aligned to four bytes, may stand the private configuration (keys) under a header with the magic FEDC; it is
left alone. The layout is what public tools for these files read; our tests make such files themselves, and check their
compressor against ``gzip``. A file of a real IOL has not been read yet.
"""

from __future__ import annotations

import struct
from typing import Final

from wireloom.configs.lzw import decompress
from wireloom.configs.validate import MAX_CONFIG_BYTES
from wireloom.errors import GuestFailed

__all__ = ["parse_iol_nvram"]

_MAGIC: Final = 0xABCD
_PLAIN, _COMPRESSED = 1, 2
_HEADER: Final = struct.Struct(">HH12xI16x")
#: A banner's delimiter is stored as the control character and shown as these two.
_CONTROL_C: Final = (b"\x03", b"^C")


def parse_iol_nvram(data: bytes) -> str:
    """The startup configuration in ``data``, as it is stored, with line ends of its own.

    :raises GuestFailed: there is none, or the file is damaged; ``details["reason"]`` is ``empty`` or ``not-text``.
    """
    if len(data) < _HEADER.size:
        raise _refused("not-text", f"{len(data)} bytes are less than its header")
    magic, form, length = _HEADER.unpack_from(data)
    if magic != _MAGIC or length == 0:
        raise _refused("empty", "no configuration was saved in it")
    stored = data[_HEADER.size : _HEADER.size + length]
    if len(stored) < length:
        raise _refused("not-text", f"its configuration has {length} bytes, and only {len(stored)} are there")
    content = _content(form, stored)
    try:
        return content.rstrip(b"\x00").replace(*_CONTROL_C).decode()
    except UnicodeDecodeError as error:
        raise _refused("not-text", "its configuration is not text in UTF-8") from error


def _content(form: int, stored: bytes) -> bytes:
    if form == _PLAIN:
        return stored
    if form != _COMPRESSED:
        raise _refused("not-text", f"its format {form} is unknown")
    try:
        return decompress(stored, limit=MAX_CONFIG_BYTES)
    except ValueError as error:
        raise _refused("not-text", f"its configuration cannot be decompressed: {error}") from error


def _refused(reason: str, message: str) -> GuestFailed:
    hint = "save it in the node first, with `write memory`" if reason == "empty" else ""
    return GuestFailed(f"the NVRAM cannot be read: {message}", hint=hint, details={"reason": reason})
