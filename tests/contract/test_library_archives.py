"""What the library makes of archives is what the engine makes of them: the same ids, the same files, running."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from archive_rig import (
    Pack,
    config,
    digest,
    docker_archive,
    entry,
    folder,
    gzipped,
    link,
    oci_archive,
    same,
    tar,
    zstandard,
)
from docker_harness import docker

from wireloom import commands
from wireloom.library import archives
from wireloom.library.values import Accepted, Limits, no_progress
from wireloom.providers.docker.gate import find_busybox

pytestmark = pytest.mark.docker

LIMITS: Final = Limits()
INIT: Final = b"#!/bin/sh\necho init is up\n"


def base(mark: str) -> bytes:
    """A layer with a static busybox, unique to a test."""
    return tar(
        folder("./bin/"),
        entry("./bin/busybox", find_busybox().read_bytes()),
        link("./bin/sh", "busybox"),
        link("./bin/cat", "busybox"),
        link("./bin/ls", "busybox"),
        folder("./etc/"),
        entry("./etc/os-release", b"ID=example\nVERSION_ID=4.2\n"),
        entry("./etc/removed", b"x"),
        entry("./etc/replaced", b"before"),
        folder("./sbin/"),
        entry("./sbin/init", INIT),
        folder("./dev/"),
        entry("./dev/null", kind=b"3", devmajor=1, devminor=3),
        link("./bin/hard", "./bin/busybox", hard=True),
        entry("./mark", mark.encode()),
    )


def upper(mark: str) -> bytes:
    return tar(entry("etc/.wh.removed"), entry("etc/replaced", b"after"), entry("etc/Főtanúsítvány" + "x" * 120, b""))


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@asynccontextmanager
async def loaded(accepted: Accepted) -> AsyncIterator[str]:
    """The image in the engine, by the id that it has there; gone afterwards."""
    told = await docker("load", "--quiet", "--input", str(accepted.file))
    content = told.strip().removeprefix("Loaded image ID: ")
    try:
        yield content
    finally:
        await docker("rmi", "--force", content)


async def inspected(image: str) -> Any:
    return json.loads(await docker("image", "inspect", image))[0]


async def run(image: str, *command: str) -> str:
    return await docker("run", "--rm", "--network", "none", "--label", "wireloom.test=archives", image, *command)


async def running_init(image: str) -> str:
    """What a container without a command of its own prints."""
    return await run(image)


async def tool(*command: str) -> None:
    done = await commands.run(*command, timeout_s=60)
    assert done.code == 0, done.errors


def take_in(folder: Path, data: bytes | Path, name: str = "router.tar") -> Accepted:
    came = folder / "came.tar"
    if isinstance(data, Path):
        came = data
    else:
        came.write_bytes(data)
    made = folder / "made"
    made.mkdir(exist_ok=True)
    return archives.accept(came, name, made, LIMITS, no_progress)


def by_docker(layers: list[bytes]) -> bytes:
    return docker_archive(layers, RepoTags=[f"wireloom-test/archives:{uuid.uuid4().hex}"])


def by_oci(pack: Pack) -> Callable[[list[bytes]], bytes]:
    return lambda layers: oci_archive(layers, pack)


@pytest.mark.parametrize(
    "form",
    [by_docker, by_oci(same), by_oci(gzipped), by_oci(zstandard)],
    ids=["docker-archive", "oci-archive", "oci-archive-gzip", "oci-archive-zstd"],
)
async def test_the_engine_has_the_id_and_the_files_that_were_told(
    tmp_path: Path, mark: str, form: Callable[[list[bytes]], bytes]
) -> None:
    layers = [base(mark), upper(mark), tar(), tar()]
    accepted = take_in(tmp_path, form(layers))
    async with loaded(accepted) as image:
        assert image == accepted.content == digest(config(layers))
        told = await inspected(image)
        assert told["RootFS"]["Layers"] == [digest(layer) for layer in layers]
        assert told["Config"]["Labels"] == {"vendor": "example"}
        assert not told["RepoTags"]
        assert await run(image, "/bin/cat", "/mark", "/etc/replaced") == f"{mark}after"
        assert "removed" not in (await run(image, "/bin/ls", "/etc")).split()


async def test_a_file_tree_like_ceos_starts_its_init(tmp_path: Path, mark: str) -> None:
    accepted = take_in(tmp_path, base(mark), "cEOS64-lab-4.32.0F.tar")
    assert accepted.kind == "rootfs"
    async with loaded(accepted) as image:
        assert image == accepted.content
        assert (await inspected(image))["Architecture"] == "amd64"
        assert await running_init(image) == "init is up\n"


async def test_what_the_engine_saves_comes_in_under_its_own_id(tmp_path: Path, mark: str) -> None:
    layers = [base(mark), upper(mark)]
    first = take_in(tmp_path, docker_archive(layers))
    async with loaded(first) as image:
        saved = tmp_path / "saved.tar"
        await docker("save", "--output", str(saved), image)
        (tmp_path / "again").mkdir()
        again = take_in(tmp_path / "again", saved)
        assert again.content == image
        assert again.file.read_bytes() == first.file.read_bytes()


async def test_a_container_that_was_committed_comes_in(tmp_path: Path, mark: str) -> None:
    """Layers that the engine itself has made: whiteouts, opaque folders, links, long names."""
    async with loaded(take_in(tmp_path, by_docker([base(mark)]))) as image:
        work = "cd /etc; /bin/busybox rm removed; /bin/busybox rm -r /sbin; /bin/busybox mkdir /sbin; >/sbin/new; "
        work += f"/bin/busybox ln -s /mark link; /bin/busybox ln replaced hard; >{'n' * 200}"
        container = (await docker("create", "--network", "none", image, "/bin/sh", "-c", work)).strip()
        committed = ""
        try:
            await docker("start", "--attach", container)
            committed = (await docker("commit", container)).strip()
            saved = tmp_path / "saved.tar"
            await docker("save", "--output", str(saved), committed)
        finally:
            await docker("rm", "--force", container)
            if committed:
                await docker("rmi", committed)
        accepted = take_in(tmp_path, saved)
        assert accepted.content == committed
        async with loaded(accepted) as back:
            assert back == committed
            listed = (await run(back, "/bin/ls", "/etc", "/sbin")).split()
            assert {"hard", "link", "new"} <= set(listed)
            assert not {"removed", "init"} & set(listed)


async def test_a_tree_that_the_engine_imported_without_a_command_gets_its_init(tmp_path: Path, mark: str) -> None:
    tree = tmp_path / "tree.tar"
    tree.write_bytes(base(mark))
    imported = (await docker("import", str(tree))).strip()
    saved = tmp_path / "saved.tar"
    try:
        await docker("save", "--output", str(saved), imported)
    finally:
        await docker("rmi", imported)
    accepted = take_in(tmp_path, saved)
    assert accepted.content != imported
    async with loaded(accepted) as image:
        assert image == accepted.content
        assert await running_init(image) == "init is up\n"


async def test_an_archive_that_was_built_is_loaded_with_its_names(tmp_path: Path, mark: str) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(base(mark))
    name = f"wireloom-test/archives:{mark}"
    archive = tmp_path / "built.tar"
    about = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/sbin/init"]}}
    content = archives.write_archive(archive, config=about, layers=[layer], tags=[name])
    assert (await docker("load", "--quiet", "--input", str(archive))).strip() == f"Loaded image: {name}"
    try:
        assert (await inspected(name))["Id"] == content
    finally:
        await docker("rmi", name)


async def test_a_disk_comes_out_of_a_machine_in_a_container(tmp_path: Path, mark: str) -> None:
    disk = tmp_path / "n9kv-9.3.8.qcow2"
    await tool("qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M")
    older = [entry("n9kv-9.3.8.qcow2", disk.read_bytes()), entry("old.qcow2", disk.read_bytes())]
    await tool("qemu-io", "-c", "write -P 7 1M 2M", str(disk))
    layers = [
        base(mark),
        tar(entry("launch.py", b"#"), entry("vrnetlab.py", b"#"), *older),
        tar(entry("n9kv-9.3.8.qcow2", disk.read_bytes()), entry(".wh.old.qcow2")),
    ]
    about = config(layers, config={"Entrypoint": ["/launch.py"]})
    accepted = take_in(tmp_path, docker_archive(layers, about, RepoTags=["vrnetlab/vr-n9kv:9.3.8"]))
    assert accepted.needs == ("privileged", "kvm")
    (inner,) = archives.disks_inside(accepted.file)
    out = archives.extract_disk(accepted.file, inner, tmp_path / "out.qcow2", LIMITS, no_progress)
    await tool("qemu-img", "check", "-q", str(out))
    await tool("qemu-img", "compare", "-q", str(disk), str(out))
    async with loaded(accepted) as image:
        assert image == accepted.content
