"""IOL binaries that are none: real programs for Linux of a few hundred bytes, put together without a compiler.

:func:`program` runs. Its machine code has the distribution's Python execute the file itself, which is also a zip
archive with a ``__main__.py``; the arguments are handed on. To the library it looks like IOL, because it says the same
of itself.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence

IMAGE = "X86_64BI_LINUX-ADVENTERPRISEK9-M"
IMAGE_L2 = "X86_64BI_LINUX_L2-ADVENTERPRISEK9-M"
VERSION = "17.12.1"

_BASE = 0x400000
_HEADER = 64
_SEGMENT = 56
_PYTHON = b"/usr/bin/python3\0"
#: execve("/usr/bin/python3", {"/usr/bin/python3", argv…}, envp), else exit(127). The place of argc becomes argv[0].
_CODE = bytes.fromhex(
    "488b0424"  # mov rax, [rsp]
    "488d54c410"  # lea rdx, [rsp + rax*8 + 16]
    "488d3d1a000000"  # lea rdi, [rip + 26]: what follows the code
    "48893c24"  # mov [rsp], rdi
    "4889e6"  # mov rsi, rsp
    "b83b000000"  # mov eax, 59
    "0f05"  # syscall
    "bf7f000000"  # mov edi, 127
    "b83c000000"  # mov eax, 60
    "0f05"  # syscall
)


def says(image: str = IMAGE, version: str = VERSION) -> bytes:
    """What an IOS has in it."""
    return f"\0Cisco IOS Software [Dublin], Linux Software ({image}), Version {version}, RELEASE SOFTWARE\0".encode()


def program(
    files: Mapping[str, bytes] | None = None,
    *,
    text: bytes = says(),
    machine: int = 62,
    needed: Sequence[str] = (),
) -> bytes:
    """An ELF program of 64 bits with ``text`` in it, and a zip archive of ``files`` behind it."""
    segments = 2 if needed else 1
    code_at = _HEADER + segments * _SEGMENT
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    content = _CODE + _PYTHON + text
    content += bytes(-len(content) % 8)
    dynamic_at = code_at + len(content)
    entries = [(1, names.index(name.encode() + b"\0")) for name in needed]
    strings_at = dynamic_at + (len(entries) + 2) * 16
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in (*entries, (5, _BASE + strings_at), (0, 0)))
    if needed:
        content += dynamic + names
    size = code_at + len(content)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, _BASE + code_at, _HEADER, 0, 0, _HEADER, _SEGMENT, segments, 64, 0, 0
    )
    table = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    if needed:
        table += struct.pack("<IIQQQQQQ", 2, 4, dynamic_at, _BASE + dynamic_at, 0, len(dynamic), len(dynamic), 8)
    return identification + header + table + content + _archive(files or {})


def program_32(text: bytes = says()) -> bytes:
    """The shape of an old IOL: 32 bits, for x86. It does not run."""
    size = 52 + 32 + len(text) + 512
    identification = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    header = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    table = struct.pack("<IIIIIIII", 1, 0, 0x8048000, 0x8048000, size, size, 5, 0x1000)
    return (identification + header + table + text).ljust(size, b"\0")


def _archive(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return target.getvalue() if files else bytes(512)
