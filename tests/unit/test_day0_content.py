"""What a day-0 method puts on its medium."""

from __future__ import annotations

import pytest

from wireloom.day0 import render_day0
from wireloom.errors import InvalidInput
from wireloom.model.device import Day0


def test_configuration_is_taken_as_it_is() -> None:
    day0 = Day0(method="iso", path="frr.conf")
    config = "hostname {hostname}\n! {braces} stay\n"
    assert render_day0(day0, hostname="r1", config=config) == {"frr.conf": config.encode()}


def test_configuration_ends_with_a_line_feed() -> None:
    day0 = Day0(method="file", path="/etc/frr/frr.conf")
    assert render_day0(day0, hostname="r1", config="hostname r1") == {"/etc/frr/frr.conf": b"hostname r1\n"}


def test_extra_files_are_filled_in() -> None:
    day0 = Day0(
        method="iso",
        path="frr.conf",
        extra={"hostname": "{hostname}\n", "authorized_keys": "{authorized_keys}", "x": "{other} {hostname}"},
    )
    files = render_day0(day0, hostname="r1", config=None, authorized_keys="ssh-ed25519 AAAA a\nssh-rsa BBBB b")
    assert files == {
        "hostname": b"r1\n",
        "authorized_keys": b"ssh-ed25519 AAAA a\nssh-rsa BBBB b\n",
        "x": b"{other} r1",
    }


def test_no_configuration_leaves_its_file_out() -> None:
    assert render_day0(Day0(method="iso", path="frr.conf"), hostname="r1", config=None) == {}


def test_two_contents_for_one_path_are_refused() -> None:
    day0 = Day0(method="iso", path="frr.conf", extra={"frr.conf": ""})
    with pytest.raises(InvalidInput):
        render_day0(day0, hostname="r1", config="x")
