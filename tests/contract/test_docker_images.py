"""What only images of containers have: names of others in archives, layers, an engine that is in the middle of it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import signal
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from docker_harness import DockerHarness, docker, harness, image_archive

from wireloom.errors import CapacityExceeded, ImageMissing
from wireloom.model.identity import short_hash
from wireloom.model.slice import Bind
from wireloom.providers import newfile
from wireloom.testing.conformance.provider import Rig, rig_for
from wireloom.testing.conformance.provider_rig import eventually

pytestmark = pytest.mark.docker

#: Loads an image and is killed meanwhile.
LOADER = """
import asyncio, sys
from pathlib import Path
from wireloom.providers.docker import DockerProvider

async def main(installation, name, file, content):
    provider = DockerProvider(installation)
    print("begins", flush=True)
    await provider.images.load(name, Path(file), content=content)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with harness() as made, rig_for(made) as found:
        yield found


@asynccontextmanager
async def named(*names: str) -> AsyncIterator[None]:
    """Names of a test, which go with it."""
    try:
        yield
    finally:
        for name in names:
            await docker("image", "rm", "--force", name)


def spare(mark: str = "") -> str:
    return f"wireloom-test/spare:{mark}{secrets.token_hex(4)}"


async def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await docker("image", "inspect", name))[0]
    return found


async def children(image_id: str) -> list[str]:
    """Images that the engine has made of another one."""
    ids = (await docker("images", "--all", "--quiet", "--no-trunc", "--filter", f"since={image_id}")).split()
    found = json.loads(await docker("image", "inspect", *ids)) if ids else []
    return [item["Id"] for item in found if item["Parent"] == image_id]


async def known(rig: Rig, *contents: str) -> list[str]:
    return await rig.harness.image_traces(rig.installation, [], contents)


# ---------------------------------------------------------------------- names


async def test_names_in_an_archive_are_nobodys_business(rig: Rig, tmp_path: Path) -> None:
    theirs, name = spare("theirs-"), spare()
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    first.write_bytes(image_archive("1", tags=[theirs]))
    second.write_bytes(image_archive("2", tags=[theirs, "wireloom-test/other:1"]))
    async with named(theirs, name):
        before = await rig.provider.images.load(theirs, first)
        loaded = await rig.provider.images.load(name, second)
        assert (await inspect(theirs))["Id"] == before.digest
        assert (await inspect(name))["RepoTags"] == [name]
        assert loaded.digest != before.digest
        assert not await rig.provider.images.has("wireloom-test/other:1")


async def test_a_content_that_is_there_only_gets_another_name(rig: Rig, tmp_path: Path) -> None:
    names = [spare(), spare()]
    file = tmp_path / "image.tar"
    file.write_bytes(image_archive("1"))
    async with named(*names):
        loaded = await rig.provider.images.load(names[0], file)
        file.unlink()
        again = await rig.provider.images.load(names[1], file, content=loaded.digest)
        assert again.digest == loaded.digest
        assert sorted((await inspect(loaded.digest))["RepoTags"]) == sorted(names)


async def test_what_loses_its_name_while_it_is_used_goes_with_its_last_node(rig: Rig, tmp_path: Path) -> None:
    name = spare()
    files = [tmp_path / "1.tar", tmp_path / "2.tar"]
    for mark, file in enumerate(files):
        file.write_bytes(image_archive(f"{mark}-{secrets.token_hex(4)}"))
    async with named(name):
        old = await rig.provider.images.load(name, files[0])
        async with rig.created(rig.spec(image=name)):
            new = await rig.provider.images.load(name, files[1])
            assert new.digest != old.digest
            assert [info.digest for info in await rig.provider.images.list() if info.name == name] == [new.digest]
            assert not [info for info in await rig.provider.images.list() if info.name.startswith("wireloom-work/")]
            assert len(await known(rig, old.digest)) == 1, "it has no name by which it is found again"
        assert await known(rig, old.digest) == []


# ---------------------------------------------------------------------- archives that lie


def changed(mark: str, **members: bytes) -> bytes:
    """An archive with other bytes in some members."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(image_archive(mark))) as archive,
        tarfile.open(fileobj=out, mode="w") as made,
    ):
        for member in archive:
            content = members.get(Path(member.name).suffix.lstrip("."), (archive.extractfile(member) or out).read())
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return out.getvalue()


async def test_a_layer_that_is_not_what_the_configuration_says_is_refused_by_the_engine(
    rig: Rig, tmp_path: Path
) -> None:
    mark, name = secrets.token_hex(4), spare()
    whole, lying = tmp_path / "whole.tar", tmp_path / "lying.tar"
    whole.write_bytes(image_archive(mark))
    lying.write_bytes(changed(mark, tar=image_archive("other")))
    content = await rig.harness.content_of(whole)
    assert await rig.harness.content_of(lying) == content
    with pytest.raises(ImageMissing) as caught:
        await rig.provider.images.load(name, lying, content=content)
    assert caught.value.hint
    assert await rig.harness.image_traces(rig.installation, [name], [content]) == []


async def test_a_file_tree_has_no_content_that_could_be_asked_for(rig: Rig, tmp_path: Path) -> None:
    tree = tmp_path / "tree.tar"
    with tarfile.open(tree, "w") as archive:
        archive.addfile(tarfile.TarInfo("etc"))
    with pytest.raises(ImageMissing):
        await rig.provider.images.load(spare(), tree, content=f"sha256:{0:064x}")


async def test_what_does_not_fit_is_refused_before_it_is_sent(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newfile, "_SPARE", 1 << 60)
    file, name = tmp_path / "image.tar", spare()
    file.write_bytes(image_archive(secrets.token_hex(4)))
    with pytest.raises(CapacityExceeded):
        await rig.provider.images.load(name, file)
    assert await rig.harness.image_traces(rig.installation, [name], [await rig.harness.content_of(file)]) == []


# ---------------------------------------------------------------------- in the middle of it


def big_archive(file: Path, size: int) -> None:
    """An image with one file of that size, which is like no other."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        entry = tarfile.TarInfo("big")
        entry.size = size
        layer.addfile(entry, io.BytesIO(secrets.token_bytes(size)))
    file.write_bytes(image_archive(secrets.token_hex(4), layer=out.getvalue()))


@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.8])
async def test_a_load_whose_process_is_killed_can_be_done_again(rig: Rig, tmp_path: Path, after_s: float) -> None:
    name, file = spare(), tmp_path / "big.tar"
    await asyncio.to_thread(big_archive, file, 64 << 20)
    content = await rig.harness.content_of(file)
    async with named(name):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LOADER, rig.installation, name, str(file), content, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begins\n"
        await asyncio.sleep(after_s)
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        found = await rig.provider.images.info(name)
        assert found is None or found.digest == content
        assert (await rig.provider.images.load(name, file, content=content)).digest == content

        async def gone() -> bool:  # the engine may still be at what the killed one has asked for
            await rig.provider.images.remove(name)
            return await rig.harness.image_traces(rig.installation, [name], [content]) == []

        await eventually(gone, 20, "no trace of the image")


async def test_a_load_that_is_given_up_while_it_is_sent_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    name, file = spare(), tmp_path / "big.tar"
    await asyncio.to_thread(big_archive, file, 64 << 20)
    work = asyncio.create_task(rig.provider.images.load(name, file))
    await asyncio.sleep(0.15)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    content = await rig.harness.content_of(file)
    found = await rig.provider.images.info(name)
    assert found is None or found.digest == content
    await rig.provider.images.remove(name)
    assert await rig.harness.image_traces(rig.installation, [name], [content]) == []


async def test_names_that_a_killed_agent_has_left_go_with_the_next_load(rig: Rig, tmp_path: Path) -> None:
    name, file = spare(), tmp_path / "image.tar"
    file.write_bytes(image_archive(secrets.token_hex(4)))
    mark = short_hash("images", rig.installation)
    left, theirs = f"wireloom-work/loading:{mark}-0", f"wireloom-work/loading:{short_hash('images', 'other')}-0"
    async with named(name, theirs):
        await rig.provider.images.load(name, file)
        await docker("tag", name, left)
        await docker("tag", name, theirs)
        async with rig.restarted() as other:
            await other.images.load(name, file)
        assert sorted((await inspect(name))["RepoTags"]) == sorted([name, theirs])


# ---------------------------------------------------------------------- saved nodes


async def test_a_saved_node_is_its_image_with_its_files_and_nothing_of_ours(rig: Rig, tmp_path: Path) -> None:
    shown, name, base = tmp_path / "shown", spare(), spare("base-")
    shown.mkdir()
    (shown / "note").write_text("stays on the host")
    own: dict[str, Any] = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["true"], "Env": ["A=1"], "Labels": {"vendor": "x"}}
    await based_on(base, own)
    async with named(name, base):
        spec = rig.spec(
            image=base,
            env={"SECRET": "of the node"},
            binds=(Bind(source=str(shown), target="/shown", read_only=False),),
            settings={**rig.harness.settings, "entrypoint": [], "tmpfs": {"/scratch": "size=1m"}},
        )
        async with rig.booted(spec) as runtime_id:
            await rig.harness.write_file(rig.provider, runtime_id, "/written", b"by the node")
            await rig.provider.stop(runtime_id, 0)
            saver = rig.provider.abilities.saver
            assert saver is not None
            target = tmp_path / "saved.tar"
            await saver.save(runtime_id, target)
        assert await known(rig) == []
        assert await children((await inspect(base))["Id"]) == [], "the engine's copy of the container is left"
        loaded = await rig.provider.images.load(name, target)
        assert loaded.digest == await rig.harness.content_of(target)
        told, original = await inspect(name), await inspect(base)
        assert told["Config"] == original["Config"]
        assert told["RootFS"]["Layers"][:-1] == original["RootFS"]["Layers"]
        text = target.read_bytes()
        for ours in (b"wireloom.", b"SECRET", b"stays on the host", spec.name.encode()):
            assert ours not in text
        top = Path(told["GraphDriver"]["Data"]["UpperDir"])
        assert {str(path.relative_to(top)) for path in top.rglob("*")} == {"written"}
        target.unlink()
        parts = sorted(path.name for path in tmp_path.iterdir())
        assert parts == ["shown"], "something is left of the work"


async def based_on(name: str, config: dict[str, Any]) -> None:
    """The harness's image, with another configuration."""
    changes = [
        f"ENTRYPOINT {json.dumps(config['Entrypoint'])}",
        f"CMD {json.dumps(config['Cmd'])}",
        *(f"ENV {pair}" for pair in config["Env"]),
        *(f"LABEL {key}={value}" for key, value in config["Labels"].items()),
    ]
    made = (await docker("create", DockerHarness.image, "true")).strip()
    try:
        await docker("commit", *(part for change in changes for part in ("--change", change)), made, name)
    finally:
        await docker("rm", made)
