"""CD-ROM images of ours, read by a program that is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from wireloom.day0 import build_iso

FILES = {"frr.conf": b"hostname r1\n", "openstack/latest/user_data": b"#cloud-config\n"}


def isoinfo(image: Path, *arguments: str) -> str:
    command = ["isoinfo", "-i", str(image), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def test_another_program_reads_label_names_and_content(tmp_path: Path) -> None:
    image = tmp_path / "day0.iso"
    image.write_bytes(build_iso("config-2", FILES))
    assert "Volume id: config-2\n" in isoinfo(image, "-d")
    for naming in ("-R", "-J"):
        assert {"/frr.conf", "/openstack/latest/user_data"} <= set(isoinfo(image, naming, "-f").split("\n"))
        assert isoinfo(image, naming, "-x", "/frr.conf") == "hostname r1\n"
    assert "Jan  1 2020" in isoinfo(image, "-R", "-l")
