"""What engines hold beside an installation's runtimes: those of others, and what interrupted steps left."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker_harness import docker, harness, image_archive
from libvirt_harness import LibvirtHarness

from wireloom.model.identity import short_hash
from wireloom.providers.contract import Housekeeping, Provider
from wireloom.providers.docker import DockerProvider
from wireloom.providers.libvirt import LibvirtProvider
from wireloom.testing.conformance.provider import Rig, rig_for


def keeping(provider: Provider) -> Housekeeping:
    found = provider.abilities.housekeeping
    assert found is not None
    return found


async def names_of_others(provider: Provider, installation: str) -> dict[str, bool]:
    """Runtimes that ``provider`` finds of ``installation``; other suites may be at work on the engine."""
    found = await keeping(provider).others()
    return {other.runtime_id: other.running for other in found if other.identity.installation == installation}


@pytest.fixture
async def container() -> AsyncIterator[Rig]:
    async with harness() as made, rig_for(made) as rig:
        yield rig


@pytest.mark.docker
async def test_a_container_of_another_installation_is_seen_and_not_taken_for_ours(container: Rig) -> None:
    spec = container.spec()
    runtime_id = await container.provider.create(spec)
    other = DockerProvider(f"t-{secrets.token_hex(4)}")
    try:
        assert await names_of_others(other, container.installation) == {runtime_id: False}
        assert await names_of_others(container.provider, container.installation) == {}
    finally:
        await other.close()


@pytest.mark.docker
async def test_images_that_a_killed_agent_left_are_found_and_removed(container: Rig, tmp_path: Path) -> None:
    mark = short_hash("images", container.installation)
    ours, theirs = f"wireloom-work/loading:{mark}-left", "wireloom-work/loading:0123-left"
    file = tmp_path / "image.tar"
    file.write_bytes(image_archive(secrets.token_hex(4)))
    name = f"wireloom-test/spare:{secrets.token_hex(4)}"
    await container.provider.images.load(name, file)
    try:
        await docker("tag", name, ours)
        await docker("tag", name, theirs)
        found = [item for item in await keeping(container.provider).leftovers() if item.name in {ours, theirs}]
        assert [(item.name, item.unused) for item in found] == [(ours, False)]
        await keeping(container.provider).discard(found[0])
        left = await docker("images", "--format", "{{.Repository}}:{{.Tag}}")
        assert ours not in left
        assert theirs in left
    finally:
        await docker("image", "rm", "--force", name, ours, theirs)


@pytest.mark.docker
async def test_a_copy_of_a_container_without_a_name_is_found_by_its_labels(container: Rig) -> None:
    runtime_id = await container.provider.create(container.spec())
    image_id = (await docker("commit", runtime_id)).strip()
    try:
        found = [item for item in await keeping(container.provider).leftovers() if item.id == image_id]
        assert len(found) == 1
        await keeping(container.provider).discard(found[0])
        await keeping(container.provider).discard(found[0])  # nothing is left to remove
        assert image_id not in await docker("images", "--all", "--quiet", "--no-trunc")
    finally:
        await docker("image", "rm", "--force", image_id)


class OwnFolder(LibvirtHarness):
    """With a folder of images of its own, so that no reference image is needed."""

    def __init__(self, images: Path) -> None:
        self.images = images

    async def provider(self, installation: str) -> Provider:
        return LibvirtProvider(installation, image_folder=self.images)


@pytest.fixture
async def machine() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="wl-") as name:  # not tmp_path, which lets no other user in
        Path(name).chmod(0o711)
        async with rig_for(OwnFolder(Path(name) / "images")) as rig:
            source = await rig.harness.image_file(Path(name), "1")
            await rig.provider.images.load("tiny.qcow2", source)
            yield rig


@pytest.mark.libvirt
async def test_a_machine_of_another_installation_is_seen_and_not_taken_for_ours(machine: Rig, tmp_path: Path) -> None:
    runtime_id = await machine.provider.create(machine.spec(image="tiny.qcow2"))
    other = LibvirtProvider(f"t-{secrets.token_hex(4)}", image_folder=tmp_path)
    try:
        assert await names_of_others(other, machine.installation) == {runtime_id: False}
        assert await names_of_others(machine.provider, machine.installation) == {}
    finally:
        await other.close()


@pytest.mark.libvirt
async def test_half_a_disk_that_a_killed_agent_left_is_found_and_removed(tmp_path: Path) -> None:
    installation, images = f"t-{secrets.token_hex(4)}", tmp_path / "images"
    mark = short_hash("images", installation)
    provider = LibvirtProvider(installation, image_folder=images)
    try:
        images.mkdir()
        half, theirs = images / f".tiny.qcow2.{mark}-abcd.new", images / ".tiny.qcow2.0123-abcd.new"
        kept = images / "kept-0123-tiny.qcow2"
        for path in (half, theirs, kept):
            path.write_bytes(b"x" * 5000)
        found = {item.id: item for item in await keeping(provider).leftovers()}
        assert {name: item.unused for name, item in found.items()} == {half.name: False, kept.name: True}
        assert found[half.name].size >= 5000
        for item in found.values():
            await keeping(provider).discard(item)
        assert [path.name for path in images.iterdir() if path.suffix == ".new"] == [theirs.name]
        assert not kept.exists()
    finally:
        await provider.close()
