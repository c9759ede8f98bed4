"""Archives that must not come in: each is refused with its own reason, and nothing of it is left."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive_rig import (
    BASE,
    ELF_AMD64,
    ELF_ARM64,
    END,
    accept,
    config,
    descriptor,
    docker_archive,
    docker_files,
    entry,
    folder,
    gzipped,
    hexadecimal,
    link,
    oci_archive,
    oci_files,
    packed,
    pax_member,
    pax_record,
    raw_header,
    raw_member,
    tar,
    zstandard,
)

from wireloom.library.values import ImageRefused, Limits

SMALL = Limits(size=8 << 20, ratio=20, free=1 << 16, entries=500, layers=4, json=1 << 16)


def refused(tmp_path: Path, data: bytes, *, limits: Limits = SMALL, name: str = "router.tar") -> str:
    """The reason why ``data`` is refused; checks that nothing is left."""
    with pytest.raises(ImageRefused) as caught:
        accept(tmp_path, data, name, limits=limits)
    assert list((tmp_path / "made").iterdir()) == []
    assert caught.value.code == "image-refused"
    assert caught.value.message.isprintable()
    return str(caught.value.details["reason"])


def layered(*entries: Any, **rest: Any) -> bytes:
    """An archive whose second layer has these members."""
    return docker_archive([BASE, tar(*entries, **rest)])


def raw_layered(layer: bytes) -> bytes:
    return docker_archive([BASE, layer])


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> Any:
    return entry(name, kind=kind, devmajor=major, devminor=minor)


MEMBERS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "a path that goes up": ("path", (entry("../etc/cron.d/x", b"x"),)),
    "a path that goes up inside": ("path", (entry("usr/../../x", b"x"),)),
    "a path that comes back": ("path", (entry("usr/../x", b"x"),)),
    "an absolute path": ("path", (entry("/etc/passwd", b"x"),)),
    "a whiteout of the folder above": ("path", (entry("etc/.wh..."),)),
    "a whiteout of nothing": ("path", (entry("etc/.wh."),)),
    "a file below a file": ("path", (entry("a", b"x"), entry("a/b", b"x"))),
    "a root that is a link": ("path", (link("./", "/etc"),)),
    "a link that goes up": ("link", (link("x", "../../../etc"),)),
    "a link that goes up and down": ("link", (link("a/b", "../../etc/passwd"),)),
    "a link to nothing": ("link", (link("x", ""),)),
    "a file through a link": ("link", (link("x", "/etc"), entry("x/passwd", b"x"))),
    "a folder through a link": ("link", (link("x", "etc"), folder("x/y/"))),
    "a hard link that goes up": ("link", (link("x", "../../etc/shadow", hard=True),)),
    "a hard link to an absolute path": ("link", (link("x", "/etc/shadow", hard=True),)),
    "a hard link to what is not there": ("link", (link("x", "etc/shadow", hard=True),)),
    "a hard link to a folder": ("link", (folder("etc/"), link("x", "etc", hard=True))),
    "an attribute of the overlay": (
        "link",
        (entry("x", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"}),),
    ),
    "a disk of the host": ("device-node", (device("sda", 8, 0, tarfile.BLKTYPE),)),
    "the host's memory": ("device-node", (device("dev/mem", 1, 1),)),
    "a usual device in an unusual place": ("device-node", (device("home/null", 1, 3),)),
    "a block device with a usual number": ("device-node", (device("dev/null", 1, 3, tarfile.BLKTYPE),)),
    "a file twice": ("duplicate", (entry("a", b"1"), entry("./a", b"2"))),
    "a link in the place of a file": ("duplicate", (entry("a", b"1"), link("a", "b"))),
    "a link in the place of a folder": ("duplicate", (folder("a/"), link("a", "/etc"))),
    "a link in the place of an implied folder": ("duplicate", (entry("a/b", b"1"), link("a", "/etc"))),
    "a name with a line end": ("name", (entry("etc/x\ny", b"x"),)),
    "a name that turns the terminal red": ("name", (entry("etc/\x1b[31m", b"x"),)),
    "a name that writes backwards": ("name", (entry("etc/\u202etxt.exe", b"x"),)),
    "a target with a line end": ("name", (link("x", "a\nb"),)),
    "a part of a name that no file system has": ("name", (entry("x" * 256, b"x"),)),
    "a name of many parts": ("name", (entry("x/" * 2100 + "y", b"x"),)),
    "a pipe as a whiteout": ("format", (entry("etc/.wh.x", kind=tarfile.FIFOTYPE),)),
    "a folder that replaces a file": ("duplicate", (entry("a", b"1"), folder("a/"))),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_members_that_have_no_place_in_a_layer(tmp_path: Path, case: str) -> None:
    reason, entries = MEMBERS[case]
    assert refused(tmp_path, layered(*entries)) == reason


@pytest.mark.parametrize(
    "case", ["a path that goes up", "an absolute path", "a link that goes up", "a disk of the host"]
)
def test_a_file_tree_is_held_to_the_same(tmp_path: Path, case: str) -> None:
    reason, entries = MEMBERS[case]
    assert refused(tmp_path, tar(folder("etc/"), entry("bin/sh", ELF_AMD64), *entries)) == reason


def test_members_that_have_a_place(tmp_path: Path) -> None:
    fine = (
        folder("etc/"),
        folder("etc/"),
        entry("etc/.wh.removed"),
        entry("etc/.wh..wh..opq"),
        device("removed", 0, 0),
        device("dev/null", 1, 3),
        entry("run/initctl", kind=tarfile.FIFOTYPE),
        link("etc/mtab", "../proc/self/mounts"),
        link("etc/alternatives", "/../../var/x"),
        entry("etc/ca-Főtanúsítvány.crt", b"x"),
        link("etc/hard", "./etc/ca-Főtanúsítvány.crt", hard=True),
        entry("bin/ping", b"x", pax_headers={"SCHILY.xattr.security.capability": "\x01"}),
        entry("a/" * 120 + "deep", b"x"),
    )
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        accept(tmp_path, layered(*fine, form=form), limits=SMALL)


RAW: dict[str, tuple[str, bytes]] = {
    "a name that is not UTF-8": ("name", raw_header(b"etc/\xff\xfe") + END),
    "a size below nothing": ("size", raw_header(b"x", at_124=b"\xff" * 12) + END),
    "a size beyond all numbers": ("corrupt", raw_header(b"x", at_124=b"\x80" + b"\x7f" * 11) + END),
    "a size that is none": ("corrupt", raw_header(b"x", at_124=b"9999") + END),
    "a size beyond the end": ("truncated", raw_header(b"x", size=1 << 30) + END),
    "a folder with content": ("size", raw_header(b"x/", b"5", 512) + bytes(512) + END),
    "a link with content": ("size", raw_header(b"x", b"1", 512, at_157=b"y") + bytes(512) + END),
    "a wrong checksum": ("corrupt", b"y" + raw_header(b"x")[1:] + END),
    "a member of an unknown type": ("format", raw_header(b"x", b"Q") + END),
    "a form of its own": ("format", raw_header(b"x", magic=b"ustar\x00\x00\x00", at_508=b"tar\x00") + END),
    "a magic of its own": ("format", raw_header(b"x", magic=b"UsTaR!!!") + END),
    "a prefix in a header of GNU": ("corrupt", raw_header(b"x", magic=b"ustar  \x00", at_345=b"etc/cron.d") + END),
    "holes by GNU": ("sparse", raw_header(b"x", b"S", 512, magic=b"ustar  \x00", at_483=b"77777777777") + bytes(512)),
    "holes by PAX": (
        "sparse",
        pax_member(pax_record("GNU.sparse.major", b"1") + pax_record("GNU.sparse.realsize", b"9" * 17)) + END,
    ),
    "an end that is half": ("corrupt", bytes(512) + raw_header(b"x") + END),
    "members after the end": ("corrupt", END + raw_header(b"x") + END),
    "a cut end": ("truncated", raw_header(b"x") + bytes(700)),
    "a cut header": ("truncated", raw_header(b"x") + raw_header(b"y")[:300]),
    "too many zeros at the end": ("size", raw_header(b"x") + bytes(2 << 20)),
    "an extended header and nothing": ("truncated", pax_member(pax_record("path", b"x")) + END),
    "an extended header that is cut": ("truncated", raw_header(b"pax", b"x", 5000) + bytes(512)),
    "an extended header that is large": ("unbounded", raw_header(b"pax", b"x", 2 << 20) + bytes(2 << 20) + END),
    "a long name that is large": ("unbounded", raw_header(b"long", b"L", 1 << 40) + END),
    "two extended headers": (
        "duplicate",
        pax_member(pax_record("path", b"a")) + pax_member(pax_record("path", b"b")) + raw_header(b"x") + END,
    ),
    "extended headers of two kinds": (
        "format",
        pax_member(pax_record("path", b"a")) + raw_member(raw_header(b"l", b"L", 2), b"b\x00") + raw_header(b"x") + END,
    ),
    "a record that comes twice": (
        "duplicate",
        pax_member(pax_record("path", b"a") + pax_record("path", b"b")) + raw_header(b"x") + END,
    ),
    "a record that goes up": ("path", pax_member(pax_record("path", b"../x")) + raw_header(b"x") + END),
    "a record with a zero": ("corrupt", pax_member(pax_record("path", b"a\x00b")) + raw_header(b"x") + END),
    "a record without a value": ("corrupt", pax_member(pax_record("path", b"")) + raw_header(b"x") + END),
    "a record with a size below nothing": ("corrupt", pax_member(pax_record("size", b"-1")) + raw_header(b"x") + END),
    "a record with a lying size": ("truncated", pax_member(pax_record("size", b"9999999")) + raw_header(b"x") + END),
    "a record that is too long": ("corrupt", pax_member(b"99 path=x\n") + raw_header(b"x") + END),
    "a record that ends early": ("corrupt", pax_member(b"5 path=x\n") + raw_header(b"x") + END),
    "a record of no length": ("corrupt", pax_member(b"0 path=x\n") + raw_header(b"x") + END),
    "a key that is not UTF-8": ("name", pax_member(b"7 \xff\xfe=x\n") + raw_header(b"x") + END),
    "a global header with a path": (
        "format",
        pax_member(pax_record("path", b"etc/shadow"), b"g") + raw_header(b"x") + END,
    ),
    "no tar at all": ("corrupt", b"#!/bin/sh\n" * 100),
}


@pytest.mark.parametrize("case", RAW)
def test_headers_that_lie(tmp_path: Path, case: str) -> None:
    reason, layer = RAW[case]
    assert refused(tmp_path, raw_layered(layer)) == reason


def test_a_comment_for_all_members_is_no_harm(tmp_path: Path) -> None:
    accept(tmp_path, raw_layered(pax_member(pax_record("comment", b"abc"), b"g") + raw_header(b"x") + END))


def of_files(change: Callable[[dict[str, bytes]], object]) -> bytes:
    files = docker_files([BASE])
    change(files)
    return packed(files)


def manifest_of(value: Any) -> bytes:
    return of_files(lambda files: files.update({"manifest.json": json.dumps(value).encode()}))


def oci_lie(**rest: Any) -> bytes:
    return oci_archive(**rest)


def replaced_blob(old: bytes, new: bytes) -> bytes:
    files = oci_files([BASE])
    files[f"blobs/sha256/{hexadecimal(old)}"] = new
    return packed(files)


LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
ABOUT = config([BASE])

MANIFESTS: dict[str, tuple[str, bytes]] = {
    "a layer that is another": ("digest", of_files(lambda f: f.update({f"{hexadecimal(BASE)}/layer.tar": tar()}))),
    "a configuration that is another": (
        "digest",
        of_files(lambda f: f.update({f"{hexadecimal(ABOUT)}.json": config([BASE], author="x")})),
    ),
    "a layer that is not there": ("manifest", of_files(lambda f: f.pop(f"{hexadecimal(BASE)}/layer.tar"))),
    "a configuration that is not there": ("manifest", of_files(lambda f: f.pop(f"{hexadecimal(ABOUT)}.json"))),
    "a layer from outside": ("path", docker_archive(Layers=["../../etc/shadow"])),
    "a configuration from outside": ("path", docker_archive(Config="/etc/passwd")),
    "fewer layers than told": ("manifest", docker_archive([BASE], config([BASE, BASE]))),
    "no image": ("manifest", manifest_of([])),
    "no list": ("manifest", manifest_of({"Config": "x"})),
    "a manifest that is no JSON": ("manifest", of_files(lambda f: f.update({"manifest.json": b"[{"}))),
    "a manifest in another encoding": ("manifest", of_files(lambda f: f.update({"manifest.json": b"\xff\xfe["}))),
    "a manifest of numbers that are none": ("manifest", of_files(lambda f: f.update({"manifest.json": b"[NaN]"}))),
    "a manifest of a large number": ("manifest", of_files(lambda f: f.update({"manifest.json": b"1" * 50000}))),
    "a deep manifest": ("unbounded", of_files(lambda f: f.update({"manifest.json": b"[" * 30000}))),
    "a manifest of brackets in a text": (
        "manifest",
        of_files(lambda f: f.update({"manifest.json": b'"\\"[[[' * 9000})),
    ),
    "a large manifest": ("unbounded", of_files(lambda f: f.update({"manifest.json": b" " * (1 << 17)}))),
    "a key twice": ("duplicate", of_files(lambda f: f.update({"manifest.json": b'[{"Config":"a","Config":"b"}]'}))),
    "a key in two cases": (
        "duplicate",
        of_files(lambda f: f.update({"manifest.json": b'[{"Config":"a","config":"b"}]'})),
    ),
    "too many images": ("unbounded", manifest_of([{}] * 100)),
    "a name that is none": ("name", docker_archive(RepoTags=["vendor/router:1\n2"])),
    "a name with a command": ("name", docker_archive(RepoTags=["$(reboot)"])),
    "too many names": ("unbounded", docker_archive(RepoTags=[f"a:{n}" for n in range(100)])),
    "names that are no texts": ("manifest", docker_archive(RepoTags=[1])),
    "an old archive": (
        "manifest",
        tar(entry("repositories", b"{}"), entry("a/json", b"{}"), entry("a/layer.tar", BASE)),
    ),
    "two images": (
        "manifest",
        of_files(
            lambda f: f.update(
                docker_files([BASE], config([BASE], author="x"))
                | {
                    "manifest.json": json.dumps(
                        [
                            json.loads(docker_files([BASE])["manifest.json"])[0],
                            json.loads(docker_files([BASE], config([BASE], author="x"))["manifest.json"])[0],
                        ]
                    ).encode()
                }
            )
        ),
    ),
    "another processor": ("architecture", docker_archive([BASE], config([BASE], architecture="arm64"))),
    "no processor": ("architecture", docker_archive([BASE], config([BASE], architecture=...))),
    "another system": ("architecture", docker_archive([BASE], config([BASE], os="windows"))),
    "programs for another processor": ("architecture", docker_archive([tar(entry("bin/sh", ELF_ARM64))])),
    "nothing to start": ("entrypoint", docker_archive([BASE], config([BASE], config={}))),
    "nothing at all to start": ("entrypoint", docker_archive([BASE], config([BASE], config=None))),
    "a tree with nothing to start": ("entrypoint", tar(folder("etc/"), entry("etc/passwd", b"x"))),
    "a command that is no list": ("manifest", docker_archive([BASE], config([BASE], config={"Cmd": "/bin/sh"}))),
    "labels that are none": ("manifest", docker_archive([BASE], config([BASE], config={"Labels": {"a": 1}}))),
    "no layers": ("manifest", docker_archive([], config([]))),
    "layers by another digest": (
        "manifest",
        docker_archive([BASE], config([BASE], rootfs={"type": "layers", "diff_ids": ["md5:1"]})),
    ),
    "a root of another kind": ("manifest", docker_archive([BASE], config([BASE], rootfs={"type": "zfs"}))),
    "a root in two cases": ("duplicate", docker_archive([BASE], config([BASE], RootFS={}))),
    "a command in two cases": (
        "duplicate",
        docker_archive([BASE], config([BASE], config={"Cmd": ["/a"], "cmd": ["/b"]})),
    ),
    "too many layers": ("unbounded", docker_archive([tar(entry(f"bin/{n}", b"x")) for n in range(5)])),
    "the same layer again": (
        "duplicate",
        packed(docker_files([BASE], config([BASE, BASE]), Layers=[f"{hexadecimal(BASE)}/layer.tar"] * 2)),
    ),
    "a configuration of OCI that is another": ("digest", replaced_blob(ABOUT, ABOUT.replace(b"amd64", b"AMD64"))),
    "a layer of OCI that is another": ("digest", replaced_blob(BASE, BASE.replace(b"\x7fELF", b"\x7fFLE"))),
    "a size that is another": ("size", oci_lie(told={"size": 12})),
    "a layer's size that is another": (
        "size",
        oci_lie(manifest={"layers": [descriptor(BASE, LAYER_TYPE) | {"size": 1}]}),
    ),
    "a digest of an unknown kind": ("digest", oci_lie(told={"digest": "md5:" + "0" * 32})),
    "a digest that is a path": ("digest", oci_lie(told={"digest": "sha256:../../../etc/passwd"})),
    "a size that is no number": ("manifest", oci_lie(told={"size": "12"})),
    "a manifest that is not there": ("manifest", oci_lie(told={"digest": "sha256:" + "0" * 64})),
    "a platform that is another": ("manifest", oci_lie(told={"platform": {"os": "linux", "architecture": "386"}})),
    "a type that is another": ("manifest", oci_lie(told={"mediaType": "application/vnd.oci.image.index.v1+json"})),
    "an index and a manifest": ("manifest", oci_lie(manifest={"manifests": []})),
    "a layer that is encrypted": (
        "encrypted",
        oci_lie(manifest={"layers": [descriptor(BASE, f"{LAYER_TYPE}+encrypted")]}),
    ),
    "a layer of an unknown type": (
        "format",
        oci_lie(manifest={"layers": [descriptor(BASE, "application/vnd.cncf.helm.chart.v1.tar")]}),
    ),
    "no image of a container": (
        "manifest",
        oci_lie(manifest={"config": descriptor(ABOUT, "application/vnd.cncf.helm.config.v1+json")}),
    ),
    "an index without manifests": ("manifest", packed(oci_files([BASE]) | {"index.json": b"{}"})),
    "a layout of the future": ("format", packed(oci_files([BASE]) | {"oci-layout": b'{"imageLayoutVersion":"2.0"}'})),
    "two manifests that differ": (
        "manifest",
        packed(oci_files([BASE]) | docker_files([BASE], config([BASE], author="x"))),
    ),
    "a file of the archive twice": (
        "duplicate",
        packed(docker_files([BASE]), entry(f"{hexadecimal(BASE)}/layer.tar", tar())),
    ),
    "a link out of the archive": ("link", packed(docker_files([BASE]), link("x/layer.tar", "../../etc/shadow"))),
    "an absolute link out of the archive": (
        "link",
        packed(docker_files([BASE], Layers=["x"]), link("x", "/etc/shadow")),
    ),
    "a hard link out of the archive": ("link", packed(docker_files([BASE]), link("x", "../etc/shadow", hard=True))),
    "links in a circle": (
        "link",
        packed(docker_files([BASE], Layers=["x"]), link("x", "y"), link("y", "x")),
    ),
    "a device in the archive": ("device-node", packed(docker_files([BASE]), device("sda", 8, 0, tarfile.BLKTYPE))),
    "a path out of the archive": ("path", packed(docker_files([BASE]), entry("../x", b"x"))),
    "a name in the archive with a line end": ("name", packed(docker_files([BASE]), entry("x\ny", b"x"))),
    "neither image nor tree": ("format", tar(entry("readme.txt", b"x"))),
    "an empty tar": ("format", bytes(10240)),
    "a text": ("format", b"hello " * 1000),
    "next to nothing": ("truncated", b"hello"),
    "nothing": ("truncated", b""),
    "packed once more": ("compressed-twice", gzipped(docker_archive())),
    "an archive that is cut": ("truncated", docker_archive()[:2500]),
    "an archive that lacks its end": ("truncated", docker_archive().rstrip(b"\x00") + bytes(512)),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_that_lie(tmp_path: Path, case: str) -> None:
    reason, data = MANIFESTS[case]
    assert refused(tmp_path, data) == reason


def packed_layer(blob: bytes, layer: bytes = BASE) -> bytes:
    """An archive whose layer is there as ``blob``."""
    files = docker_files([layer])
    files[f"{hexadecimal(layer)}/layer.tar"] = blob
    return packed(files)


ZEROS = tar(entry("bin/sh", bytes(6 << 20)))

PACKED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip bomb": ("bomb", lambda: packed_layer(gzipped(ZEROS), ZEROS)),
    "zstd bomb": ("bomb", lambda: packed_layer(zstandard(ZEROS), ZEROS)),
    "cut gzip": ("truncated", lambda: packed_layer(gzipped(BASE)[:-9])),
    "cut zstd": ("corrupt", lambda: packed_layer(zstandard(BASE)[:-9])),
    "damaged gzip": ("corrupt", lambda: packed_layer(flipped(gzipped(BASE)))),
    "damaged zstd": ("corrupt", lambda: packed_layer(flipped(zstandard(BASE)))),
    "gzip and more": ("corrupt", lambda: packed_layer(gzipped(BASE) + b"more")),
    "zstd and more": ("corrupt", lambda: packed_layer(zstandard(BASE) + b"more")),
    "gzip in gzip": ("compressed-twice", lambda: packed_layer(gzipped(gzipped(BASE)))),
    "zstd in gzip": ("compressed-twice", lambda: packed_layer(gzipped(zstandard(BASE)))),
    "gzip in zstd": ("compressed-twice", lambda: packed_layer(zstandard(gzipped(BASE)))),
    "bzip2": ("format", lambda: packed_layer(b"BZh91AY&SY" + bytes(600))),
    "xz": ("format", lambda: packed_layer(b"\xfd7zXZ\x00" + bytes(600))),
}


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize("case", PACKED)
def test_layers_packed_badly(tmp_path: Path, case: str) -> None:
    reason, data = PACKED[case]
    assert refused(tmp_path, data()) == reason
    assert not [thread for thread in threading.enumerate() if thread.name == "zstd-feeder"]


def test_a_blob_whose_digest_is_told_is_held_against_it_packed(tmp_path: Path) -> None:
    files = oci_files([BASE], gzipped)
    other = bytearray(gzipped(BASE))
    other[4] ^= 1  # the time in gzip's header: what is inside stays the same
    files[f"blobs/sha256/{hexadecimal(gzipped(BASE))}"] = bytes(other)
    assert refused(tmp_path, packed(files)) == "digest"


@pytest.mark.parametrize(
    ("name", "reason"), [("a\nb.tar", "name"), ("\x1b[31m.tar", "name"), ("../x.tar", "path"), ("", "name")]
)
def test_names_that_files_should_not_have(tmp_path: Path, name: str, reason: str) -> None:
    assert refused(tmp_path, docker_archive(), name=name) == reason


def test_more_than_is_allowed(tmp_path: Path) -> None:
    large = tar(entry("bin/sh", bytes(3 << 20)))
    assert refused(tmp_path, docker_archive([large]), limits=Limits(size=1 << 20)) == "size"
    assert refused(tmp_path, oci_archive([large], gzipped), limits=Limits(size=1 << 20)) == "size"
    many = tar(*(entry(f"bin/{number}", b"x") for number in range(501)))
    assert refused(tmp_path, docker_archive([many])) == "unbounded"
    assert refused(tmp_path, tar(folder("etc/"), *(entry(f"etc/{n}", b"x") for n in range(501)))) == "unbounded"
    halves = [tar(*(entry(f"bin/{half}{number}", b"x") for number in range(300))) for half in "ab"]
    assert refused(tmp_path, docker_archive(halves)) == "unbounded"
    deep = tar(entry("x/" * 600 + "y", b"x"))
    assert refused(tmp_path, docker_archive([deep])) == "unbounded"


def test_every_cut_of_an_archive_is_refused(tmp_path: Path) -> None:
    whole = docker_archive()
    closing = len(whole.rstrip(b"\x00")) // 512 * 512 + 512 + 1024
    for length in range(0, closing, 512):
        assert refused(tmp_path, whole[:length]) in {"truncated", "format", "manifest"}, length


def test_every_flipped_byte_of_a_layer_or_its_names_is_refused(tmp_path: Path) -> None:
    """Every bit that means something is under a checksum or a digest."""
    whole = oci_archive()
    meaning = [at for at in range(len(whole)) if whole[at] and at % 512 not in range(100, 148)]
    for at in meaning[::7]:
        data = whole[:at] + bytes([whole[at] ^ 0x01]) + whole[at + 1 :]
        try:
            accepted = accept(tmp_path, data, limits=SMALL)
        except ImageRefused:
            continue
        assert accepted.content == "sha256:" + hexadecimal(ABOUT), at
