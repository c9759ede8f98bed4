"""The image build's own logic: resolving packages, ordering modules, recognising finished builds."""

from __future__ import annotations

import hashlib
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images"))

from imagebuild.apt import Package, kernel_packages, parse_show, resolve
from imagebuild.kernel import ModuleIndex
from imagebuild.process import BuildError, run
from imagebuild.recipes import RECIPES
from imagebuild.rootfs import compile_python
from imagebuild.store import Artefact, ImageStore, build_key

SHOWN = """\
Package: frr
Version: 8.4.4-1.1~deb12u2
Architecture: amd64
Pre-Depends: adduser
Depends: libyang2 (>= 2.0.0~), libc6:any (>= 2.34), debconf (>= 0.5) | debconf-2.0
SHA256: 00ff
Description: a router

Package: local-only
Version: 1
Architecture: amd64
"""


def package(name: str, *depends: str, version: str = "1:2.0-3") -> Package:
    groups = tuple(tuple(group.split("|")) for group in depends)
    return Package(name, version, "amd64", "00", groups)


class FakeCatalog:
    """Package lists in memory; virtual names map to a provider as apt's do."""

    def __init__(self, *packages: Package, virtual: dict[str, str] | None = None) -> None:
        self._packages = {entry.name: entry for entry in packages}
        self._virtual = virtual or {}

    def __call__(self, names: Sequence[str]) -> dict[str, Package]:
        real = {name: self._virtual.get(name, name) for name in names}
        return {name: self._packages[target] for name, target in real.items() if target in self._packages}


def names(packages: Sequence[Package]) -> list[str]:
    return [entry.name for entry in packages]


def test_stanzas_are_parsed_and_those_without_a_file_left_out() -> None:
    (frr,) = parse_show(SHOWN)
    assert frr.depends == (("adduser",), ("libyang2",), ("libc6",), ("debconf", "debconf-2.0"))
    assert frr.upstream_version == "8.4.4"


def test_file_names_escape_the_epoch_as_apt_does() -> None:
    assert package("busybox-static").file_name == "busybox-static_1%3a2.0-3_amd64.deb"


def test_dependencies_are_followed_to_the_end_and_excluded_ones_are_not() -> None:
    catalog = FakeCatalog(
        package("frr", "libyang2", "debconf|debconf-2.0", "adduser"),
        package("libyang2", "libpcre2", "libc6"),
        package("libpcre2", "libc6"),
        package("libc6", "libgcc-s1", "libc6"),
        package("libgcc-s1", "gcc-12-base"),
    )
    chosen = resolve(["frr"], ["debconf*", "adduser", "gcc-*-base"], catalog)
    assert names(chosen) == ["frr", "libc6", "libgcc-s1", "libpcre2", "libyang2"]


def test_the_first_alternative_that_exists_is_taken() -> None:
    catalog = FakeCatalog(package("ethtool", "libmnl-old|libmnl0"), package("libmnl0"))
    assert names(resolve(["ethtool"], [], catalog)) == ["ethtool", "libmnl0"]


def test_a_virtual_name_is_met_by_its_provider() -> None:
    catalog = FakeCatalog(package("iproute2", "libelf1"), package("libelf1t64"), virtual={"libelf1": "libelf1t64"})
    assert names(resolve(["iproute2"], [], catalog)) == ["iproute2", "libelf1t64"]


def test_an_unknown_package_is_named() -> None:
    with pytest.raises(BuildError, match="libmissing"):
        resolve(["frr"], [], FakeCatalog(package("frr", "libmissing")))


def test_debian_kernel_is_the_package_behind_the_metapackage() -> None:
    catalog = FakeCatalog(
        package("linux-image-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"),
        package("linux-image-6.1.0-9-cloud-amd64", "kmod", "initramfs-tools"),
    )
    metapackages = ("linux-image-cloud-amd64", "linux-image-virtual")
    assert names(kernel_packages(metapackages, catalog)) == ["linux-image-6.1.0-9-cloud-amd64"]


def test_ubuntu_kernel_brings_its_package_of_modules() -> None:
    catalog = FakeCatalog(
        package("linux-image-virtual", "linux-image-6.8.0-31-generic", "linux-firmware"),
        package("linux-image-6.8.0-31-generic", "kmod", "linux-modules-6.8.0-31-generic"),
        package("linux-modules-6.8.0-31-generic"),
    )
    metapackages = ("linux-image-cloud-amd64", "linux-image-virtual")
    expected = ["linux-image-6.8.0-31-generic", "linux-modules-6.8.0-31-generic"]
    assert names(kernel_packages(metapackages, catalog)) == expected


def test_modules_load_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "kernel/v/virtio_ring.ko.xz:\n"
        "kernel/v/virtio.ko.xz: kernel/v/virtio_ring.ko.xz\n"
        "kernel/net/sched/sch-netem.ko.xz:\n"
        "kernel/b/virtio_blk.ko.xz: kernel/v/virtio.ko.xz kernel/v/virtio_ring.ko.xz\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    index = ModuleIndex(tmp_path)
    assert index.load_order(["virtio_blk", "ext4", "absent"]) == (
        "kernel/v/virtio_ring.ko.xz",
        "kernel/v/virtio.ko.xz",
        "kernel/b/virtio_blk.ko.xz",
    )
    assert index.under("kernel/net/sched/") == ("sch_netem",)
    assert index.is_builtin("ext4")


def test_build_key_follows_content_mode_and_packages(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("one")
    first = build_key(tmp_path, ["a_1_amd64"], "frr", "disk")
    assert build_key(tmp_path, ["a_1_amd64"], "frr", "disk") == first
    assert build_key(tmp_path, ["a_2_amd64"], "frr", "disk") != first
    script.chmod(0o755)
    executable = build_key(tmp_path, ["a_1_amd64"], "frr", "disk")
    script.write_text("two")
    assert len({first, executable, build_key(tmp_path, ["a_1_amd64"], "frr", "disk")}) == 3


def artefact(key: str, content: bytes) -> Artefact:
    return Artefact(
        name="frr",
        kind="disk",
        version="8.4.4",
        key=key,
        file=f"frr-{key}.qcow2",
        link="frr.qcow2",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        references=(),
        capabilities=(),
        packages=("frr_8.4.4_amd64",),
    )


def adopt(store: ImageStore, folder: Path, key: str, content: bytes) -> Artefact:
    built = folder / "built.qcow2"
    built.write_bytes(content)
    entry = artefact(key, content)
    store.adopt(built, entry)
    return entry


def test_a_new_build_gets_the_plain_name_and_leaves_the_old_disk_for_its_overlays(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    adopt(store, tmp_path, "aaaa", b"first")
    latest = adopt(store, tmp_path, "bbbb", b"second")
    assert store.artefacts() == (latest,)
    assert (store.folder / "frr.qcow2").read_bytes() == b"second"
    assert (store.folder / "frr-aaaa.qcow2").read_bytes() == b"first"
    assert (store.folder / "frr-bbbb.qcow2").stat().st_mode & 0o777 == 0o444


def test_outdated_disks_go_when_no_overlay_needs_them(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    old, needed, current = "a" * 16, "b" * 16, "c" * 16
    for key in (old, needed, current):
        adopt(store, tmp_path, key, b"content")
    base = str(store.folder / f"frr-{needed}.qcow2").encode()
    overlay = tmp_path / "labs" / "overlay.qcow2"
    overlay.parent.mkdir()
    overlay.write_bytes(b"QFI\xfb" + struct.pack(">IQI", 3, 20, len(base)) + base)
    store.remove_outdated(now=time.time())
    assert (store.folder / f"frr-{old}.qcow2").exists()
    store.remove_outdated(now=time.time() + 2 * 24 * 3600)
    left = {file.name for file in store.folder.glob("frr-*.qcow2")}
    assert left == {f"frr-{needed}.qcow2", f"frr-{current}.qcow2"}


def test_a_build_counts_as_done_only_while_its_file_is_whole(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    entry = adopt(store, tmp_path, "aaaa", b"content")
    assert store.current("frr", "disk", "aaaa") == entry
    assert store.current("frr", "disk", "bbbb") is None
    file = store.folder / entry.file
    file.chmod(0o644)
    file.write_bytes(b"cut")
    assert store.current("frr", "disk", "aaaa") is None


def test_a_damaged_manifest_means_nothing_is_built(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    (store.folder / "manifest.json").write_text("{")
    assert store.artefacts() == ()


def test_a_missing_tool_and_a_failing_one_are_build_errors() -> None:
    with pytest.raises(BuildError, match="not installed"):
        run(["wl-no-such-tool"])
    with pytest.raises(BuildError, match="exited 3"):
        run(["sh", "-c", "exit 3"])


def test_python_is_compiled_ahead_where_it_is_of_our_version(tmp_path: Path) -> None:
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for version in (ours, "python3.1"):
        library = tmp_path / "usr/lib" / version
        library.mkdir(parents=True)
        (library / "module.py").write_text("ANSWER = 42\n")
    compile_python(tmp_path)
    compiled = {path.relative_to(tmp_path / "usr/lib").parts[0] for path in tmp_path.rglob("*.pyc")}
    assert compiled == {ours}


def test_every_image_is_built_as_something_and_has_its_guest_files() -> None:
    guest = Path(__file__).resolve().parents[2] / "images/guest"
    for recipe in RECIPES:
        assert recipe.kinds
        assert (guest / recipe.name).is_dir()
