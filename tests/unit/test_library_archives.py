"""Archives of containers' images that come in, and what they become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from archive_rig import (
    BASE,
    ELF_AMD64,
    QCOW2,
    Pack,
    accept,
    config,
    descriptor,
    digest,
    docker_archive,
    docker_files,
    entry,
    folder,
    gzipped,
    hexadecimal,
    link,
    members,
    oci_archive,
    oci_files,
    packed,
    same,
    tar,
    zstandard,
)

from wireloom.library import archives
from wireloom.library.archives.naming import propose_name
from wireloom.model.images import check_image_name

TREE = (
    folder("./"),
    folder("./etc/"),
    entry("./etc/os-release", b'NAME="Example OS"\nVERSION_ID=4.2\n'),
    folder("./sbin/"),
    entry("./sbin/init", ELF_AMD64),
    folder("./dev/"),
    entry("./dev/null", kind=b"3", devmajor=1, devminor=3),
    link("./bin", "usr/bin"),
    link("./etc/mtab", "/proc/mounts"),
)


def test_an_archive_of_docker_keeps_its_configuration_and_so_its_id(tmp_path: Path) -> None:
    upper = tar(entry("etc/motd", b"hello"), entry("bin/.wh.sh"))
    accepted = accept(tmp_path, docker_archive([BASE, upper]))
    about = config([BASE, upper])
    assert (accepted.kind, accepted.format, accepted.name) == ("docker-archive", "docker-archive", "vendor/router:1.2")
    assert accepted.content == digest(about)
    assert accepted.architecture == "amd64"
    assert accepted.virtual_size == len(ELF_AMD64) + 5
    made = members(accepted.file)
    assert list(made) == [
        "manifest.json",
        f"{hexadecimal(BASE)}/layer.tar",
        f"{hexadecimal(upper)}/layer.tar",
        f"{hexadecimal(about)}.json",
    ]
    assert made[f"{hexadecimal(about)}.json"] == about
    assert json.loads(made["manifest.json"])[0]["RepoTags"] is None


@pytest.mark.parametrize("pack", [same, gzipped, zstandard])
def test_an_oci_archive_becomes_the_same_file_however_its_layers_are_packed(tmp_path: Path, pack: Pack) -> None:
    upper = tar(entry("usr/share/data", bytes(3 << 20)))
    plain = accept(tmp_path, docker_archive([BASE, upper])).file.read_bytes()
    accepted = accept(tmp_path, oci_archive([BASE, upper], pack))
    assert accepted.kind == "oci-archive"
    assert accepted.file.read_bytes() == plain
    assert accepted.content == digest(config([BASE, upper]))


def test_a_layer_of_docker_may_be_packed_too(tmp_path: Path) -> None:
    files = docker_files([BASE])
    files[f"{hexadecimal(BASE)}/layer.tar"] = gzipped(BASE)
    assert accept(tmp_path, packed(files)).content == digest(config([BASE]))


def test_gzip_of_several_members_is_one_layer(tmp_path: Path) -> None:
    halves = gzipped(BASE[:1000]) + gzipped(BASE[1000:])
    files = docker_files([BASE])
    files[f"{hexadecimal(BASE)}/layer.tar"] = halves
    assert accept(tmp_path, packed(files)).content == digest(config([BASE]))


def test_an_archive_with_both_manifests_has_the_names_of_dockers(tmp_path: Path) -> None:
    files = oci_files([BASE]) | {
        "manifest.json": json.dumps(
            [
                {
                    "Config": f"blobs/sha256/{hexadecimal(config([BASE]))}",
                    "RepoTags": ["lab/router:7"],
                    "Layers": [f"blobs/sha256/{hexadecimal(BASE)}"],
                }
            ]
        ).encode()
    }
    accepted = accept(tmp_path, packed(files))
    assert (accepted.kind, accepted.name) == ("docker-archive", "lab/router:7")


def test_of_several_platforms_the_one_that_hosts_run_is_taken(tmp_path: Path) -> None:
    foreign = config([BASE], architecture="arm64")
    files = oci_files([BASE], about=foreign)
    arm = json.loads(files["index.json"])["manifests"][0] | {"platform": {"os": "linux", "architecture": "arm64"}}
    files |= oci_files([BASE])
    amd = json.loads(files["index.json"])["manifests"][0] | {"platform": {"os": "linux", "architecture": "amd64"}}
    attest = descriptor(b"{}", amd["mediaType"], platform={"os": "unknown", "architecture": "unknown"})
    absent = descriptor(b"{ }", amd["mediaType"], platform={"os": "linux", "architecture": "s390x"})
    inner = json.dumps({"schemaVersion": 2, "manifests": [arm, attest, absent, amd]}).encode()
    files[f"blobs/sha256/{hexadecimal(inner)}"] = inner
    outer = descriptor(inner, "application/vnd.oci.image.index.v1+json")
    outer["annotations"] = {"io.containerd.image.name": "docker.io/vendor/router:9"}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [outer]}).encode()
    accepted = accept(tmp_path, packed(files))
    assert accepted.content == digest(config([BASE]))
    assert accepted.name == "vendor/router:9"


@pytest.mark.parametrize("lacking", ["configuration", "layers"])
def test_another_platform_of_which_only_documents_are_there_is_passed_over(tmp_path: Path, lacking: str) -> None:
    """As engines save an image that they have for their own platform."""
    foreign, other = config([BASE], architecture="arm64"), tar(entry("other", b"1"))
    files = oci_files([BASE])
    amd = json.loads(files["index.json"])["manifests"]
    theirs = oci_files([other], about=foreign)
    arm = [json.loads(theirs["index.json"])["manifests"][0] | {"platform": {"architecture": "arm64"}}]
    del theirs[f"blobs/sha256/{hexadecimal(foreign if lacking == 'configuration' else other)}"]
    index = json.dumps({"schemaVersion": 2, "manifests": arm + amd}).encode()
    accepted = accept(tmp_path, packed(theirs | files | {"index.json": index}))
    assert accepted.content == digest(config([BASE]))


def test_of_two_images_for_one_architecture_the_one_for_all_processors_is_taken(tmp_path: Path) -> None:
    files = oci_files([BASE], about=config([BASE], variant="v3"))
    newer = json.loads(files["index.json"])["manifests"]
    files |= oci_files([BASE])
    both = newer + json.loads(files["index.json"])["manifests"]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": both}).encode()
    assert accept(tmp_path, packed(files)).content == digest(config([BASE]))


def test_references_by_digest_are_no_names(tmp_path: Path) -> None:
    tags = [f"vendor/router@{digest(BASE)}", "vendor/router:7"]
    accepted = accept(tmp_path, docker_archive([BASE], RepoTags=tags))
    assert (accepted.name, accepted.facts.tags) == ("vendor/router:7", ("vendor/router:7",))


def test_a_layer_that_another_image_has_too_may_be_a_link(tmp_path: Path) -> None:
    files = docker_files([BASE], Layers=["other/layer.tar"])
    data = packed(files, folder("other/"), link("other/layer.tar", f"../{hexadecimal(BASE)}/layer.tar"))
    assert accept(tmp_path, data).content == digest(config([BASE]))


def test_a_layer_without_content_may_come_again(tmp_path: Path) -> None:
    empty = tar()
    accepted = accept(tmp_path, docker_archive_of_repeated(empty))
    assert list(members(accepted.file)).count(f"{hexadecimal(empty)}/layer.tar") == 1
    assert json.loads(members(accepted.file)["manifest.json"])[0]["Layers"] == [
        f"{hexadecimal(layer)}/layer.tar" for layer in (BASE, empty, empty)
    ]


def docker_archive_of_repeated(layer: bytes) -> bytes:
    names = [f"{hexadecimal(each)}/layer.tar" for each in (BASE, layer, layer)]
    return packed(docker_files([BASE, layer], config([BASE, layer, layer]), Layers=names))


def test_a_file_tree_becomes_an_image_that_starts_its_init(tmp_path: Path) -> None:
    tree = tar(*TREE)
    accepted = accept(tmp_path, tree, "cEOS64-lab-4.32.0F.tar")
    assert (accepted.kind, accepted.name) == ("rootfs", "ceos64-lab:4.32.0F")
    made = archives.read_config(accepted.file)
    assert made.command == ("/sbin/init",)
    assert made.layers == (digest(tree),)
    assert made.content == accepted.content
    assert accepted.architecture == "amd64"
    assert "VERSION_ID=4.2" in accepted.facts.text
    assert {"etc/os-release", "sbin/init"} <= set(accepted.facts.paths)


def test_a_file_tree_without_an_init_starts_a_shell_and_says_so(tmp_path: Path) -> None:
    accepted = accept(tmp_path, tar(folder("etc/"), folder("bin/"), entry("bin/sh", ELF_AMD64)))
    assert archives.read_config(accepted.file).command == ("/bin/sh",)
    assert "no init" in accepted.warnings[0]


def test_an_image_that_says_nothing_to_start_starts_its_init(tmp_path: Path) -> None:
    tree = tar(*TREE)
    silent = config([tree], config={"Cmd": None})
    accepted = accept(tmp_path, docker_archive([tree], silent))
    made = archives.read_config(accepted.file)
    assert made.command == ("/sbin/init",)
    assert accepted.content == made.content != digest(silent)
    assert "starts /sbin/init" in accepted.notes[0]


def test_equal_files_become_equal_bytes(tmp_path: Path) -> None:
    for data in (docker_archive(), oci_archive(pack=gzipped), tar(*TREE)):
        once = accept(tmp_path, data).file.read_bytes()
        assert accept(tmp_path, data).file.read_bytes() == once


def test_what_was_made_is_taken_in_unchanged(tmp_path: Path) -> None:
    made = accept(tmp_path, docker_archive()).file.read_bytes()
    again = accept(tmp_path, made, "ceos-4.1.tar")
    assert again.file.read_bytes() == made
    assert again.name == "ceos:4.1"


def test_facts_tell_what_identification_needs(tmp_path: Path) -> None:
    upper = tar(
        entry("usr/lib/frr/watchfrr", b"x"), entry("usr/lib/frr/a.so", b"x"), entry("usr/lib/x/data", mode=0o644)
    )
    facts = accept(tmp_path, docker_archive([BASE, upper]), "router.tar").facts
    assert facts.file == "router.tar"
    assert facts.tags == ("vendor/router:1.2",)
    assert facts.labels == {"vendor": "example"}
    assert facts.env == ("PATH=/bin",)
    assert facts.entrypoint == ("/bin/sh",)
    assert facts.paths == ("bin", "bin/sh", "usr/lib/frr/watchfrr")


def test_a_machine_in_a_container_is_recognised_with_what_it_needs(tmp_path: Path) -> None:
    layer = tar(entry("launch.py"), entry("vrnetlab.py"), entry("n9kv-9.3.8.qcow2", QCOW2))
    about = config([layer], config={"Entrypoint": ["uv", "run", "/launch.py"]})
    accepted = accept(tmp_path, docker_archive([layer], about, RepoTags=["vrnetlab/cisco_n9kv:9.3.8"]))
    assert accepted.needs == ("privileged", "kvm")
    assert "n9kv-9.3.8.qcow2" in accepted.facts.paths
    assert "vrnetlab" in accepted.warnings[0]


def test_a_launcher_alone_makes_no_machine(tmp_path: Path) -> None:
    layer = tar(entry("launch.py"))
    about = config([layer], config={"Entrypoint": ["/launch.py"]})
    assert accept(tmp_path, docker_archive([layer], about)).needs == ()


def test_progress_ends_with_all_of_it(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    accept(tmp_path, oci_archive(pack=zstandard), progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0


@pytest.mark.parametrize("pack", [same, gzipped, zstandard])
def test_a_cancel_ends_it_at_once_and_leaves_nothing(tmp_path: Path, pack: Pack) -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        accept(tmp_path, oci_archive(pack=pack), progress=cancel)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize(
    ("tags", "file", "name"),
    [
        (("ghcr.io/vendor/router:1",), "x.tar", "ghcr.io/vendor/router:1"),
        (("docker.io/library/ceos:4.32.0F",), "x.tar", "ceos:4.32.0F"),
        (("index.docker.io/vendor/router:1",), "x.tar", "vendor/router:1"),
        (("latest",), "vEOS_lab-4.30.tar.gz", "veos-lab:4.30"),
        ((), "cEOS64-lab-4.32.0F.tar.xz", "ceos64-lab:4.32.0F"),
        ((), "xrd-control-plane-container-x64.dockerv1.tgz", "xrd-control-plane-container-x64-dockerv1:latest"),
        ((), "../../etc/passwd\n", "passwd:latest"),
        ((), "Ünïcode ✓.tar", "n-code:latest"),
        ((), "…", "image:latest"),
        ((), "", "image:latest"),
        ((), "a" * 500 + ".tar", "a" * 100 + ":latest"),
    ],
)
def test_names_are_made_of_what_is_there(tags: tuple[str, ...], file: str, name: str) -> None:
    assert propose_name(tags, file) == name
    check_image_name(name, "docker-archive")
