"""Archives between us and the engine: what is sent and under which name, what is taken, what a saved node keeps."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from wireloom.errors import ImageMissing, Unsupported
from wireloom.providers.contract import Credentials
from wireloom.providers.docker.images import _refusal, _registry_auth
from wireloom.providers.docker.names import split, with_tag
from wireloom.providers.docker.saved import ArchiveFile, ImageParts, Nowhere, read_parts
from wireloom.providers.docker.saver import mount_points, saved_config, strip_layer
from wireloom.providers.docker.uploads import Upload, plan_upload

OURS = "wireloom-work/loading:0-1"


def tar(files: Mapping[str, bytes | None], *, links: Mapping[str, str] | None = None) -> bytes:
    """A tar file; ``None`` is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(*layers: bytes) -> tuple[bytes, ImageParts]:
    """A configuration, and what it is made of."""
    diff_ids = [digest(layer) for layer in layers]
    config = json.dumps({"config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    return config, ImageParts(digest(config), tuple(diff_ids), 0)


def archive(config: bytes, *layers: bytes, tags: Sequence[str] = ("a/b:1",), **more: bytes) -> bytes:
    name = f"{digest(config).removeprefix('sha256:')}.json"
    files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    listed = [{"Config": name, "RepoTags": list(tags), "Layers": list(files)}]
    return tar({**files, name: config, "manifest.json": json.dumps(listed).encode(), **more})


async def sent(upload: Upload) -> dict[str, bytes]:
    """Members of what is sent."""
    text = b"".join([chunk async for chunk in upload.chunks()])
    assert len(text) == upload.size
    with tarfile.open(fileobj=io.BytesIO(text)) as found:
        return {member.name: (found.extractfile(member) or io.BytesIO()).read() for member in found}


# ---------------------------------------------------------------------- to the engine


async def test_an_archive_is_sent_under_our_name_and_no_other(tmp_path: Path) -> None:
    config, parts = image(tar({"x": b"1"}))
    file = tmp_path / "image.tar"
    file.write_bytes(archive(config, tar({"x": b"1"}), repositories=b"{}", **{"index.json": b"{}"}))
    upload = plan_upload(file, "a/b:1", OURS)
    assert upload.content == parts.id
    members = await sent(upload)
    assert set(members) == {"0/layer.tar", f"{parts.id[7:]}.json", "manifest.json"}
    assert members["0/layer.tar"] == tar({"x": b"1"})
    (listed,) = json.loads(members["manifest.json"])
    assert listed["RepoTags"] == [OURS]


async def test_a_packed_archive_is_sent_unpacked(tmp_path: Path) -> None:
    config, _ = image(tar({"x": b"1" * 100_000}))
    plain, packed = tmp_path / "plain.tar", tmp_path / "packed.tar.gz"
    plain.write_bytes(archive(config, tar({"x": b"1" * 100_000})))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert await sent(plan_upload(packed, "a/b:1", OURS)) == await sent(plan_upload(plain, "a/b:1", OURS))


async def test_of_several_images_the_one_that_is_called_so_is_sent(tmp_path: Path) -> None:
    configs = [json.dumps({"n": number}).encode() for number in range(2)]
    listed = [{"Config": f"{number}.json", "RepoTags": [f"a/b:{number}"], "Layers": []} for number in range(2)]
    file = tmp_path / "two.tar"
    file.write_bytes(tar({"0.json": configs[0], "1.json": configs[1], "manifest.json": json.dumps(listed).encode()}))
    assert plan_upload(file, "a/b:1", OURS).content == digest(configs[1])
    with pytest.raises(ImageMissing) as caught:
        plan_upload(file, "a/b:2", OURS)
    assert caught.value.hint


async def test_an_upload_that_is_stopped_does_not_end_well(tmp_path: Path) -> None:
    config, _ = image(tar({"x": bytes(3 << 20)}))
    file = tmp_path / "image.tar"
    file.write_bytes(archive(config, tar({"x": bytes(3 << 20)})))
    upload = plan_upload(file, "a/b:1", OURS)
    chunks = upload.chunks()
    await anext(chunks)
    upload.stop()
    with pytest.raises(ConnectionAbortedError):
        await anext(chunks)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar at all" * 100,
        tar({"blobs/x": b""}),
        tar({"manifest.json": b"{}"}),
        tar({"manifest.json": b"[]"}),
        tar({"manifest.json": b"not json"}),
        tar({"manifest.json": b'[{"Config": "gone.json", "Layers": []}]'}),
        tar({"manifest.json": b'[{"Config": 1, "Layers": []}]'}),
        tar({}, links={"manifest.json": "/etc/passwd"}),
        gzip.compress(tar({"manifest.json": b"[]"}), mtime=0)[:40],
        archive(b"{}", tar({"x": b"1"}))[:10_000],
    ],
)
def test_what_is_no_archive_is_refused_with_advice(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.tar"
    file.write_bytes(content)
    with pytest.raises(ImageMissing) as caught:
        plan_upload(file, "a/b:1", OURS)
    assert caught.value.hint


def test_a_reference_has_a_repository_and_a_tag() -> None:
    assert split("frr") == ("frr", "latest")
    assert split("host:5000/a/frr") == ("host:5000/a/frr", "latest")
    assert with_tag("host:5000/a/frr:8") == "host:5000/a/frr:8"


@pytest.mark.parametrize(
    ("image_name", "registry"),
    [
        ("vendor/router:1", "https://index.docker.io/v1/"),
        ("registry.example:5000/router:1", "registry.example:5000"),
        ("registry.example/a/router", "registry.example"),
        ("localhost/router", "localhost"),
    ],
)
def test_credentials_are_shown_to_the_registry_of_the_image(image_name: str, registry: str) -> None:
    credentials = Credentials("ada", "secret")
    assert "secret" not in repr(credentials)
    told = json.loads(base64.urlsafe_b64decode(_registry_auth(image_name, credentials)))
    assert told == {"username": "ada", "password": "secret", "serveraddress": registry}


def test_a_refusal_is_read_from_a_stream_of_progress() -> None:
    assert _refusal('{"status": "Pulling"}\r\n\r\n{"status": "Done"}\r\n') == ""
    assert _refusal('{"status": "x"}\r\n{"errorDetail": {"message": "denied"}, "error": "denied"}\r\n') == "denied"


# ---------------------------------------------------------------------- from the engine


def test_every_part_is_found_by_its_digest_whatever_its_name() -> None:
    layers = [tar({"x": b"1"}), tar({"y": b"2"})]
    config, parts = image(*layers)
    odd = tar(
        {"blobs/sha256/b": layers[1], "VERSION": b"1.0", "blobs/sha256/c": config, "blobs/sha256/a": layers[0]},
        links={"again/layer.tar": "../blobs/sha256/a"},
    )
    out = io.BytesIO()
    written = ArchiveFile(out)
    assert read_parts(io.BytesIO(odd), parts, written) == config
    written.finish(config, parts.layers, ["a/b:1"])
    out.seek(0)
    with tarfile.open(fileobj=out) as found:
        members = {member.name: (found.extractfile(member) or io.BytesIO()).read() for member in found}
    (listed,) = json.loads(members.pop("manifest.json"))
    assert listed["RepoTags"] == ["a/b:1"]
    assert [members[name] for name in listed["Layers"]] == layers
    assert members[listed["Config"]] == config
    assert len(members) == 3


def test_a_part_with_another_digest_is_damage() -> None:
    config, parts = image(tar({"x": b"1"}))
    with pytest.raises(ImageMissing, match=parts.layers[0]):
        read_parts(io.BytesIO(archive(config, tar({"x": b"2"}))), parts, Nowhere())
    with pytest.raises(ImageMissing):
        read_parts(io.BytesIO(archive(config, tar({"x": b"1"}))[:9000]), parts, Nowhere())


def test_an_engine_whose_ids_are_no_digests_of_configurations_is_told_apart_from_damage() -> None:
    config, parts = image(tar({"x": b"1"}))
    other = ImageParts(digest(b"other"), parts.layers, 0)
    with pytest.raises(Unsupported):
        read_parts(io.BytesIO(archive(config, tar({"x": b"1"}))), other, Nowhere())


# ---------------------------------------------------------------------- a saved node


def test_places_of_mounts_leave_a_layer_and_what_a_node_wrote_stays() -> None:
    layer = tar(
        {
            ".wireloom/": None, "mnt/": None, "mnt/flash/": None, "etc/": None, "etc/shown.conf": b"",
            "etc/written.conf": b"hostname r1", "etc/.wh.gone": b"", "long/" + "n" * 150: b"kept",
        }
    )  # fmt: skip
    out = io.BytesIO()
    unwanted = frozenset({".wireloom", "mnt/flash", "etc/shown.conf", "etc/written.conf"})
    assert strip_layer(io.BytesIO(layer), out, unwanted)
    out.seek(0)
    with tarfile.open(fileobj=out) as found:
        names = found.getnames()
        content = found.extractfile("etc/written.conf")
        assert content is not None
        assert content.read() == b"hostname r1", "it is no place of a mount: something is in it"
    assert names == ["mnt", "etc", "etc/written.conf", "etc/.wh.gone", "long/" + "n" * 150]


def test_a_layer_of_nothing_but_places_of_mounts_is_none() -> None:
    assert not strip_layer(io.BytesIO(tar({".wireloom/": None})), io.BytesIO(), frozenset({".wireloom"}))


def test_mounts_are_the_gate_binds_and_temporary_file_systems() -> None:
    facts: dict[str, Any] = {
        "HostConfig": {"Tmpfs": {"/run/": "size=1m"}},
        "Mounts": [{"Destination": "/.wireloom"}, {"Destination": "/mnt/flash"}],
    }
    assert mount_points(facts) == {".wireloom", "mnt/flash", "run"}


def test_a_saved_node_starts_what_its_image_starts() -> None:
    committed = {
        "architecture": "amd64",
        "os": "linux",
        "author": "us",
        "created": "now",
        "container": "0123",
        "container_config": {"Labels": {"wireloom.node": "r1"}},
        "config": {"Entrypoint": ["/.wireloom/busybox"], "Labels": {"wireloom.node": "r1"}},
        "rootfs": {"type": "layers", "diff_ids": ["a", "b"]},
        "history": [{"created_by": "base"}, {"created_by": "/bin/sh -c secret"}],
    }
    own = {"Entrypoint": ["/sbin/init"], "Labels": {"vendor": "x"}}
    made = saved_config(committed, own, ["a", "c"], empty=False)
    assert made["config"] == own
    assert made["rootfs"]["diff_ids"] == ["a", "c"]
    assert [step["created_by"] for step in made["history"]] == ["base", "wireloom: files of a node"]
    assert "wireloom.node" not in json.dumps(made)
    assert saved_config(committed, own, ["a"], empty=True)["history"][-1]["empty_layer"] is True
