"""Archives of images, made by hand so that every part of them can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wireloom.library import archives
from wireloom.library.values import Accepted, Limits, Progress, no_progress

Pack = Callable[[bytes], bytes]

#: The head of a program for x86-64, as far as anybody looks.
ELF_AMD64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(44)
ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(44)
QCOW2 = b"QFI\xfb\x00\x00\x00\x03" + bytes(600)
QCOW2_BACKED = b"QFI\xfb\x00\x00\x00\x03" + (512).to_bytes(8, "big") + bytes(600)


def entry(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o755, **rest: Any) -> Any:
    """A member for :func:`tar`; ``rest`` are attributes of ``TarInfo`` such as ``linkname`` or ``pax_headers``."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = len(data), mode, kind
    for key, value in rest.items():
        setattr(info, key, value)
    return info, data


def folder(name: str) -> Any:
    return entry(name, kind=tarfile.DIRTYPE)


def link(name: str, target: str, *, hard: bool = False) -> Any:
    return entry(name, kind=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target)


def tar(*entries: Any, form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def raw_header(
    name: bytes, kind: bytes = b"0", size: int = 0, *, magic: bytes = b"ustar\x0000", **fields: bytes
) -> bytes:
    """A header byte by byte; ``fields`` are put at offsets named ``at_<number>`` before the checksum is made."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:107], block[108:115], block[116:123] = b"0000644", b"0000000", b"0000000"
    block[124:135], block[136:147] = b"%011o" % size, b"%011o" % 0
    block[156:157], block[257:265] = kind, magic
    for place, value in fields.items():
        offset = int(place.removeprefix("at_"))
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


def pax_record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def raw_member(header: bytes, data: bytes = b"") -> bytes:
    return header + data + bytes(-len(data) % 512)


def pax_member(records: bytes, kind: bytes = b"x") -> bytes:
    return raw_member(raw_header(b"pax", kind, len(records)), records)


END = bytes(1024)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hexadecimal(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


#: The layer that most tests need no more than: a program that can be started.
BASE = tar(folder("bin/"), entry("bin/sh", ELF_AMD64))


def config(layers: Iterable[bytes], **changes: Any) -> bytes:
    document: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"vendor": "example"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    document |= changes
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def docker_files(layers: Sequence[bytes], about: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """What docker save puts into its archive; ``changes`` are made to the image's entry of the manifest."""
    about = config(layers) if about is None else about
    names = [f"{hexadecimal(layer)}/layer.tar" for layer in layers]
    image = {"Config": f"{hexadecimal(about)}.json", "RepoTags": ["vendor/router:1.2"], "Layers": names} | changes
    return {
        **dict(zip(names, layers, strict=True)),
        f"{hexadecimal(about)}.json": about,
        "manifest.json": json.dumps([image]).encode(),
    }


def docker_archive(layers: Sequence[bytes] = (BASE,), about: bytes | None = None, **changes: Any) -> bytes:
    return packed(docker_files(layers, about, **changes))


def packed(files: Mapping[str, bytes], *more: Any) -> bytes:
    return tar(*(entry(name, data) for name, data in files.items()), *more)


def same(data: bytes) -> bytes:
    return data


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zstandard(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc", "-1"], input=data, capture_output=True, check=True, timeout=60).stdout


SUFFIX: dict[Pack, str] = {same: "", gzipped: "+gzip", zstandard: "+zstd"}


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)} | more


def oci_files(
    layers: Sequence[bytes],
    pack: Pack = same,
    *,
    about: bytes | None = None,
    manifest: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """An OCI layout; ``manifest`` changes the manifest, ``told`` what the index tells of it."""
    about = config(layers) if about is None else about
    blobs = [pack(layer) for layer in layers]
    kind = f"application/vnd.oci.image.layer.v1.tar{SUFFIX[pack]}"
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(about, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(blob, kind) for blob in blobs],
    }
    document |= manifest or {}
    body = json.dumps(document).encode()
    index = {"schemaVersion": 2, "manifests": [descriptor(body, document["mediaType"]) | dict(told or {})]}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        **{f"blobs/sha256/{hexadecimal(blob)}": blob for blob in (*blobs, about, body)},
        "index.json": json.dumps(index).encode(),
    }


def oci_archive(layers: Sequence[bytes] = (BASE,), pack: Pack = same, **rest: Any) -> bytes:
    return packed(oci_files(layers, pack, **rest))


def accept(
    folder: Path,
    data: bytes,
    name: str = "router.tar",
    *,
    limits: Limits | None = None,
    progress: Progress = no_progress,
) -> Accepted:
    """Take ``data`` in, as a file of that name; what is made is in ``folder / "made"``."""
    came = folder / "came"
    came.write_bytes(data)
    made = folder / "made"
    made.mkdir(exist_ok=True)
    return archives.accept(came, name, made, limits or Limits(), progress)


def members(archive: Path) -> dict[str, bytes]:
    """Files of a tar file, by a reader that is not ours."""
    with tarfile.open(archive) as opened:
        return {info.name: read.read() for info in opened if (read := opened.extractfile(info)) is not None}
