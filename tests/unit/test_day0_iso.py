"""CD-ROM images: readable by name in every naming scheme, and equal for equal content."""

from __future__ import annotations

import hashlib
import io
import time

import pycdlib
import pytest

from wireloom.day0 import build_iso
from wireloom.errors import InvalidInput

FILES = {"frr.conf": b"hostname r1\n", "openstack/latest/user_data": b"#cloud-config\n", "empty": b""}


def _read(image: bytes, **path: str) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    content = io.BytesIO()
    iso.get_file_from_iso_fp(content, **path)
    iso.close()
    return content.getvalue()


def test_every_file_is_found_by_its_own_name() -> None:
    image = build_iso("CIDATA", FILES)
    for path, content in FILES.items():
        assert _read(image, rr_path=f"/{path}") == content
        assert _read(image, joliet_path=f"/{path}") == content


def test_plain_names_are_upper_case_for_guests_that_know_no_extension() -> None:
    image = build_iso("config-1", {"iosxe_config.txt": b"hostname r1\n"})
    assert _read(image, iso_path="/IOSXE_CONFIG.TXT;1") == b"hostname r1\n"


def test_label_is_in_the_volume_descriptor() -> None:
    image = build_iso("config-2", FILES)
    assert image[16 * 2048 + 40 : 16 * 2048 + 72] == b"config-2".ljust(32)


def test_equal_content_gives_equal_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_iso("CIDATA", FILES)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert build_iso("CIDATA", dict(reversed(FILES.items()))) == first


def test_other_content_gives_other_bytes() -> None:
    assert build_iso("CIDATA", FILES) != build_iso("CIDATA", FILES | {"empty": b"x"})


def test_long_names_keep_their_dates_fixed_in_continuation_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{'long-name-' * 6}{number}": b"x" for number in range(60)}
    first = build_iso("CIDATA", files)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert build_iso("CIDATA", files) == first
    assert _read(first, rr_path=f"/{'long-name-' * 6}59") == b"x"


def test_names_that_differ_only_beyond_the_plain_limit_stay_apart() -> None:
    files = {f"{'a' * 40}-{number}.conf": str(number).encode() for number in range(12)}
    image = build_iso("CIDATA", files)
    for path, content in files.items():
        assert _read(image, rr_path=f"/{path}") == content


@pytest.mark.parametrize("path", ["", "/", "../etc/passwd", "a/../b", "a\nb", "x" * 65])
def test_impossible_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        build_iso("CIDATA", {path: b""})


@pytest.mark.parametrize("label", ["", "x" * 33, "döner", "a\tb"])
def test_impossible_labels_are_refused(label: str) -> None:
    with pytest.raises(InvalidInput):
        build_iso(label, {})


#: SHA-256 of images with :data:`FILES`: the bytes are the same on every machine and in every year.
GOLDEN = {
    ("CIDATA", True): "11b6e2fa8428d9504a2a8d7bb26a1f017d545536943fa9dd1fd84b56903fe7f5",
    ("disk", False): "770f69e4d89692af32a4726da06ea79f59be4bea4148e44ee89c76be0aa576e7",
    ("ARISTA_CONFIG_DRIVE", True): "965781c77d52afc969b367155dc5c47a2a90ef2e7663545edb3e8cae2861bd5c",
}


@pytest.mark.parametrize(("label", "joliet"), GOLDEN)
def test_the_bytes_are_the_golden_ones(label: str, *, joliet: bool) -> None:
    assert hashlib.sha256(build_iso(label, FILES, joliet=joliet)).hexdigest() == GOLDEN[label, joliet]


def test_without_joliet_names_are_still_kept() -> None:
    image = build_iso("x" * 32, {"day0-config": b"!\n"})
    assert _read(image, rr_path="/day0-config") == b"!\n"
    with pytest.raises(pycdlib.pycdlibexception.PyCdlibInvalidInput):
        _read(image, joliet_path="/day0-config")
