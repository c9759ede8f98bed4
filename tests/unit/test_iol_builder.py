"""Images for IOL: which binaries are let in, and what is made of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from iol_binaries import IMAGE_L2, program, program_32, says

from wireloom.devices import DeviceCatalogue
from wireloom.errors import InvalidInput, Unavailable
from wireloom.library.archives import read_config, write_archive
from wireloom.library.identify import CERTAIN, identify
from wireloom.library.iol import build, find_base, inspect_binary
from wireloom.library.values import ImageRefused, Limits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x86_64_crb_linux-adventerprisek9-ms.bin"


# ------------------------------------------------------------------ which are let in


def test_a_binary_says_what_it_is(file: Path) -> None:
    file.write_bytes(program(needed=("libc.so.6", "libcrypto.so.4")))
    found = inspect_binary(file)
    assert (found.device, found.version, found.architecture) == ("iol-xe", "17.12.1", "amd64")
    assert found.needed == ("libc.so.6", "libcrypto.so.4")


@pytest.mark.parametrize(
    ("text", "device", "version"),
    [
        (says(IMAGE_L2, "17.16.1a"), "iol-l2", "17.16.1a"),
        (says("I86BI_LINUXL2-ADVENTERPRISEK9-M", "15.2(4.0.55)E"), "iol-l2", "15.2(4.0.55)E"),
        (says("I86BI_LINUX-ADVENTERPRISEK9-M", "15.4(1)T"), "iol-xe", "15.4(1)T"),
        (b"CW_BEGIN$ CW_IMAGE$X86_64BI_LINUX-ADVENTERPRISEK9-M$ CW_VERSION$17.15.1$", "iol-xe", "17.15.1"),
        (b"CW_IMAGE$I86BI_LINUX_L2-IPBASEK9-M$", "iol-l2", ""),
    ],
)
def test_router_or_switch_and_version_are_told_by_its_own_words(
    file: Path, text: bytes, device: str, version: str
) -> None:
    file.write_bytes(program(text=text))
    found = inspect_binary(file)
    assert (found.device, found.version) == (device, version)


def test_old_binaries_have_32_bits(file: Path) -> None:
    file.write_bytes(program_32())
    assert inspect_binary(file).architecture == "386"


WHOLE = program()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\nexec iol\n", "format"),
        (b"", "format"),
        (b"PK\x03\x04" + bytes(600), "format"),
        (b"\x7fELF\x02\x01\x01", "truncated"),
        (b"\x7fELF\x02\x01\x01" + bytes(600), "format"),
        (b"\x7fELF\x09\x01\x01" + bytes(600), "format"),
        (b"\x7fELF\x02\x02\x01" + bytes(600), "architecture"),
        (program(machine=183), "architecture"),
        (program(machine=3), "architecture"),
        (program(text=bytes(100)), "format"),
        (program(text=says("ASR1000-UNIVERSALK9-M")), "format"),
        (program_32()[:600], "truncated"),
        (WHOLE[:40] + (1 << 40).to_bytes(8, "little") + WHOLE[48:], "truncated"),  # sections beyond the end
        (WHOLE[:56] + (9999).to_bytes(2, "little") + WHOLE[58:], "format"),  # more segments than there can be
        (WHOLE[:32] + (1 << 60).to_bytes(8, "little") + WHOLE[40:], "truncated"),  # segments beyond the end
    ],
)
def test_what_is_no_iol_for_these_hosts_is_refused_with_its_reason(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ImageRefused) as refused:
        inspect_binary(file)
    assert refused.value.details["reason"] == reason


def test_a_binary_may_not_be_larger_than_allowed(file: Path) -> None:
    file.write_bytes(WHOLE)
    with pytest.raises(ImageRefused) as refused:
        inspect_binary(file, Limits(size=100))
    assert refused.value.details["reason"] == "size"


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_header_is_refused_or_harmless(file: Path, seed: int) -> None:
    damaged = bytearray(program(needed=("libc.so.6",)))
    for number in range(8):
        damaged[16 + (seed * 7919 + number * 104729) % 160] = (seed * 31 + number * 97) % 256
    file.write_bytes(damaged)
    with contextlib.suppress(ImageRefused):  # anything else is a defect
        inspect_binary(file)


def test_the_stand_in_runs_here_and_hands_its_arguments_on(file: Path, tmp_path: Path) -> None:
    file.write_bytes(program({"__main__.py": b"import sys; print(sys.argv[1:])"}))
    file.chmod(0o755)
    done = subprocess.run(
        [str(file), "-q", "-e", "4", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )
    if not os.path.exists("/usr/bin/python3"):
        assert done.returncode == 127
    else:
        assert done.stdout == "['-q', '-e', '4', '1']\n"


# ------------------------------------------------------------------ what is made of them


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base with a library of 64 and one of 32 bits."""
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        for name in ("usr/lib/x86_64-linux-gnu/libc.so.6", "lib32/libcrypto.so.4"):
            archive.addfile(tarfile.TarInfo(name))
    target = tmp_path / "iol-base.tar"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/local/sbin/container-init"],
            "Env": ["PATH=/bin", "LANG=C"],
            "Labels": {"org.opencontainers.image.title": "base", "wireloom.image.key": "k"},
        },
    }
    write_archive(target, config=config, layers=(layer,))
    return target


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def members(archive: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in manifest[0]["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                for member in inner:
                    yield layer, member


def test_the_image_is_the_base_and_one_layer_with_binary_and_bridge(file: Path, base: Path, work: Path) -> None:
    file.write_bytes(program(needed=("libc.so.6",)))
    lines: list[str] = []
    made = build(file, base, work, name="iol-xe:test", say=lines.append)
    assert (made.kind, made.format, made.name, made.warnings) == ("iol", "docker-archive", "iol-xe:test", ())
    assert [path.name for path in work.iterdir()] == [made.file.name]
    config = read_config(made.file)
    assert config.content == made.content
    assert config.entrypoint == ("/usr/bin/python3", "-S", "-m", "iol.start")
    assert {"LANG=C", "PYTHONPATH=/usr/local/lib/wireloom"} <= set(config.env)
    assert "wireloom.image.key" not in config.labels
    assert config.labels["wireloom.iol.version"] == "17.12.1"
    files = {member.name: member for _, member in members(made.file)}
    assert (files["iol/iol.bin"].size, files["iol/iol.bin"].mode) == (file.stat().st_size, 0o755)
    assert {f"usr/local/lib/wireloom/iol/{name}.py" for name in ("start", "bridge", "ports", "frames")} <= set(files)
    assert all(
        (member.uid, member.mtime) == (0, 0) for name, member in files.items() if name.startswith(("iol", "usr/local"))
    )
    assert any("device iol-xe" in line for line in lines)


def test_the_same_binary_makes_the_same_image(file: Path, base: Path, work: Path) -> None:
    file.write_bytes(program())
    first = build(file, base, work).file.read_bytes()
    assert build(file, base, work).file.read_bytes() == first


def test_without_a_name_it_is_device_and_version(file: Path, base: Path, work: Path) -> None:
    file.write_bytes(program(text=says(IMAGE_L2, "15.2(4.0.55)E")))
    assert build(file, base, work).name == "iol-l2:15.2-4.0.55-E"


@pytest.mark.parametrize(("image", "device"), [(IMAGE_L2, "iol-l2"), ("X86_64BI_LINUX-ADVENTERPRISEK9-M", "iol-xe")])
def test_what_is_made_is_identified_with_certainty(file: Path, base: Path, work: Path, image: str, device: str) -> None:
    file.write_bytes(program(text=says(image)))
    made = build(file, base, work, file_name="renamed by its owner.bin")
    best = identify(made.facts, DeviceCatalogue.load(strict=False))[0]
    assert (best.device, best.version) == (device, "17.12.1")
    assert best.confidence >= CERTAIN


def test_libraries_that_are_missing_are_told_by_width(file: Path, base: Path, work: Path) -> None:
    file.write_bytes(program(needed=("libc.so.6", "ld-linux-x86-64.so.2", "libcrypto.so.4")))
    (warning,) = build(file, base, work).warnings
    assert "libcrypto.so.4," in warning
    assert "libc.so.6" not in warning


def test_progress_grows_to_its_total_and_may_end_the_build(file: Path, base: Path, work: Path) -> None:
    file.write_bytes(program())
    told: list[tuple[int, int]] = []
    build(file, base, work, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0

    class Enough(Exception):
        """Somebody cancels."""

    def enough(done: int, total: int) -> None:
        raise Enough

    (work / "image.tar").unlink()
    with pytest.raises(Enough):
        build(file, base, work, progress=enough)
    assert not list(work.iterdir())


def test_nothing_is_left_of_a_build_that_is_refused(file: Path, base: Path, work: Path) -> None:
    file.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(ImageRefused):
        build(file, base, work)
    file.write_bytes(program())
    with pytest.raises(InvalidInput, match="not a name"):
        build(file, base, work, name="No Name")
    base.write_bytes(b"nothing")
    with pytest.raises(Unavailable, match="base"):
        build(file, base, work)
    assert not list(work.iterdir())


def test_a_base_that_was_not_built_is_told_with_the_way_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as missing:
        find_base(tmp_path)
    assert "bootstrap setup" in missing.value.hint
