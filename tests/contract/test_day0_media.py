"""Media of ours, byte by byte, read by programs that are not ours; and the media of every device of the catalogue."""

from __future__ import annotations

import email
import email.message
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wireloom.day0 import build_fat, build_iso, build_medium, render_day0, render_smbios, startup_text, template_values
from wireloom.day0.crypt import sha512_crypt
from wireloom.devices import DeviceCatalogue
from wireloom.errors import InvalidInput
from wireloom.model.device import Day0, Device
from wireloom.model.identity import device_name
from wireloom.model.slice import Management, NodeIntent, PortIntent, Slice

FILES = {
    "frr.conf": b"hostname r1\n",
    "openstack/latest/user_data": b"#cloud-config\n",
    "day0-config": b"!\n",
    "empty": b"",
}
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "0"}
#: cloud-init beside the system; `./bootstrap test` unpacks it.
CLOUD_INIT = Path(__file__).parents[2] / ".build/cloud-init/usr/lib/python3/dist-packages"

#: Readers are programs, so examples are few; the builders' own tests have many.
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(*command: str | Path, **options: Any) -> bytes:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, timeout=60, env=ENVIRONMENT, **options).stdout


def isoinfo(image: Path, *arguments: str) -> str:
    return run("isoinfo", "-i", image, *arguments).decode()


def extracted(image: Path, folder: Path) -> dict[str, bytes]:
    """The files of an ISO as xorriso sees them, by Rock Ridge names."""
    folder.mkdir()
    run("xorriso", "-osirrox", "on", "-abort_on", "FAILURE", "-indev", image, "-extract", "/", folder)
    for path in folder.rglob("*"):
        path.chmod(0o700)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(image: Path, folder: Path, *, partition: bool = False) -> dict[str, bytes]:
    """The files of a FAT disk as mtools see them, after fsck.fat has found nothing wrong with it."""
    offset = 1 << 20 if partition else 0
    volume = image
    if offset:
        volume = image.with_suffix(".volume")
        with image.open("rb") as whole, volume.open("wb") as part:
            whole.seek(offset)
            part.write(whole.read())
    run("fsck.fat", "-n", volume)
    folder.mkdir()
    if run("mdir", "-i", volume, "-b", "::").strip():
        run("mcopy", "-i", volume, "-s", "-n", "-m", "::*", folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ CD-ROMs


def test_another_program_reads_label_names_and_content(tmp_path: Path) -> None:
    image = tmp_path / "day0.iso"
    image.write_bytes(build_iso("config-2", FILES))
    assert "Volume id: config-2\n" in isoinfo(image, "-d")
    for naming in ("-R", "-J"):
        names = set(isoinfo(image, naming, "-f").split("\n"))
        assert {f"/{path}" for path in FILES} <= names
        assert isoinfo(image, naming, "-x", "/frr.conf") == "hostname r1\n"
    assert "Jan  1 2020" in isoinfo(image, "-R", "-l")
    assert extracted(image, tmp_path / "x") == FILES


@pytest.mark.parametrize(("label", "joliet"), [("ARISTA_CONFIG_DRIVE", True), ("x" * 32, True), ("disk", False)])
def test_a_long_label_and_a_device_that_wants_none_have_no_joliet(tmp_path: Path, label: str, *, joliet: bool) -> None:
    image = tmp_path / "day0.iso"
    image.write_bytes(build_iso(label, FILES, joliet=joliet))
    facts = isoinfo(image, "-d")
    assert f"Volume id: {label}\n" in facts
    assert "NO Joliet present" in facts
    assert extracted(image, tmp_path / "x") == FILES


NAME = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)
TREES = st.dictionaries(st.lists(NAME, min_size=1, max_size=4).map("/".join), st.binary(max_size=3000), max_size=6)


def normalised(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {"/".join(part for part in path.split("/") if part not in {"", "."}): text for path, text in files.items()}


@FEW
@given(TREES)
def test_any_tree_is_read_back_from_a_cd_or_refused(tmp_path_factory: pytest.TempPathFactory, files: Any) -> None:
    folder = tmp_path_factory.mktemp("iso")
    try:
        content = build_iso("CIDATA", files)
    except InvalidInput:
        return
    (folder / "x.iso").write_bytes(content)
    assert extracted(folder / "x.iso", folder / "x") == normalised(files)


# ------------------------------------------------------------------ FAT disks


@pytest.mark.parametrize("partition", [False, True])
@pytest.mark.parametrize("size_mb", [2, 32, 600])
def test_other_programs_read_every_kind_of_fat(tmp_path: Path, size_mb: int, *, partition: bool) -> None:
    image = tmp_path / "day0.img"
    files = {**FILES, "a/Long Name with spaces.txt": b"x" * 70_000, "UPPER.TXT": b"u", "ünï.cfg": b"y"}
    with image.open("wb") as stream:
        build_fat("vmm-data", files, size_mb=size_mb, partition=partition).write(stream)
    assert copied(image, tmp_path / "x", partition=partition) == files
    at = f"{image}@@1M" if partition else str(image)
    assert b"Volume label is vmm-data" in run("mlabel", "-i", at, "-s", "::").replace(b" Volume", b"Volume").strip()
    assert b"2020-01-01" in run("mdir", "-i", at, "::")
    if partition:
        table = run("sfdisk", "--dump", image).decode()
        assert "start=        2048" in table
        assert f"size= {(size_mb - 1) * 2048:>11}" in table


@FEW
@given(TREES)
def test_any_tree_is_read_back_from_a_fat_disk_or_refused(tmp_path_factory: pytest.TempPathFactory, files: Any) -> None:
    folder = tmp_path_factory.mktemp("fat")
    try:
        content = build_fat("x", files, size_mb=1)
    except InvalidInput:
        return
    with (folder / "x.img").open("wb") as stream:
        content.write(stream)
    assert copied(folder / "x.img", folder / "x") == normalised(files)


def test_openssl_hashes_passwords_as_we_do() -> None:
    for password in ("admin@123", "x" * 100, "pässword"):
        found = run("openssl", "passwd", "-6", "-salt", "abcdefgh", password).decode().strip()
        assert sha512_crypt(password, "abcdefgh") == found


# ------------------------------------------------------------------ every device of the catalogue


CATALOGUE = DeviceCatalogue.load()
#: Each way in which a device gets its configuration, once, however many providers share it.
DELIVERIES = {
    f"{device.name}-{method.method}-{method.path}": pytest.param(device, provider, method)
    for device in sorted(CATALOGUE, key=lambda device: device.name)
    for provider in sorted(device.providers, reverse=True)
    for method in device.on(provider).day0 or ()
}
INSTALLATION = "media-tests"


def sample(device: Device, provider: str) -> tuple[Slice, NodeIntent]:
    """A node of ``device`` with a management address and two data ports."""
    indexes = [0] if device.ports.management is not None else []
    ports = tuple(
        PortIntent(
            index=index,
            name=device.ports.display(index),
            guest_name=device.ports.kernel(index),
            device=device_name("p", INSTALLATION, "n", index),
            mac=f"02:00:00:00:00:{index:02x}",
        )
        for index in [*indexes, 1, 2]
    )
    node = NodeIntent(
        id="4f0c2a9b1d3e",
        name="r1",
        device=device.name,
        provider=provider,
        image="x",
        ports=ports,
        mgmt_ipv4="172.30.128.5",
        access=device.access,
        startup_template=device.default_config,
    )
    management = Management(subnet="172.30.128.0/20", gateway="172.30.128.1")
    return Slice(
        installation=INSTALLATION, lab_id="l", lab="lab", generation=1, management=management, nodes=(node,)
    ), node


@pytest.mark.parametrize(("device", "provider", "method"), DELIVERIES.values(), ids=DELIVERIES)
def test_the_configuration_of_every_device_is_what_comes_out_of_its_medium(
    tmp_path: Path, device: Device, provider: str, method: Day0
) -> None:
    lab, node = sample(device, provider)
    values = template_values(lab, node, "ssh-ed25519 AAAA test")
    default = startup_text(node, values)
    for config in (default, "hostname r1\n! the user's own\n"):
        folder = tmp_path / str(config == default)
        folder.mkdir()
        if method.method == "smbios":
            entries = render_smbios(method, values, config=config, device=device.name)
            assert all(name.count(".") == 1 for name in entries)
            continue
        if method.method == "serial":
            assert device.on(provider).load, "nothing says how to load it"
            continue
        assert method.path, "it has no place"
        files = render_day0(method, values, config=config, device=device.name)
        assert config is None or (method.archive or method.path) in files
        if method.method in {"file", "bind"}:
            assert all(path.startswith("/") for path in files)
        else:
            check_medium(method, files, config, folder)


def check_medium(method: Day0, files: dict[str, bytes], config: str | None, folder: Path) -> None:
    image = folder / "medium"
    with image.open("wb") as stream:
        build_medium(method, files).write(stream)
    if method.method == "fat":
        found = copied(image, folder / "x", partition=method.partition)
        assert method.label.encode() in image.read_bytes()[: 2 << 20]
    else:
        found = extracted(image, folder / "x")
        assert f"Volume id: {method.label}\n" in isoinfo(image, "-d")
    assert found == files
    if method.archive:
        archive = folder / "x" / method.archive
        inside = run("tar", "--extract", "--gzip", "--to-stdout", "--file", archive, method.path)
        assert config is None or not method.template or inside
        with tarfile.open(archive) as opened:
            assert method.path in opened.getnames()
    if method.mime:
        message = email.message_from_bytes(files[method.path])
        parts = [part for part in message.walk() if not part.is_multipart()]
        assert {part.get_content_type() for part in parts} <= set(method.mime.values())
    if method.method in {"nocloud", "configdrive"}:
        check_cloud_config(files[method.path], folder)


def check_cloud_config(user_data: bytes, folder: Path) -> None:
    """cloud-init's own opinion, where it is for cloud-init."""
    if not user_data.startswith(b"#cloud-config"):
        return
    assert CLOUD_INIT.is_dir(), "cloud-init is not unpacked: run ./bootstrap test"
    file = folder / "user-data.yaml"
    file.write_bytes(user_data)
    command = ["/usr/bin/python3", "-m", "cloudinit.cmd.main", "schema", "--config-file", str(file)]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(CLOUD_INIT)}
    told = subprocess.run(command, check=False, capture_output=True, timeout=60, env=environment, text=True)
    assert told.returncode == 0, f"{told.stdout}{told.stderr}"
    assert "Valid" in told.stdout


def test_the_user_data_of_a_node_without_any_is_valid(tmp_path: Path) -> None:
    lab, node = sample(CATALOGUE.get("linux"), "libvirt")
    method = Day0(method="nocloud", path="user-data")
    check_cloud_config(render_day0(method, template_values(lab, node), config=None)["user-data"], tmp_path)


def test_cloud_inits_check_finds_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not valid"):
        check_cloud_config(b"#cloud-config\nusers:\n- name: a\n  shel: b\n", tmp_path)
