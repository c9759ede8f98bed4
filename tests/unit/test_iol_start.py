"""The first process of IOL nodes: what it takes from its environment, and which configuration IOL starts with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nvram_images import nvram

from wireloom.library.iol.guest import settings as settings_module
from wireloom.library.iol.guest import start
from wireloom.library.iol.guest.settings import (
    Boot,
    Settings,
    SettingsWrong,
    adopt_files,
    choose_boot,
    command,
    settings_of,
)


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "_LIMITS", ())


def test_without_a_word_it_has_its_own_defaults() -> None:
    assert settings_of({}, {"lo": 1, "eth1": 2}) == Settings(1, 4, 0, 1024)


def test_ports_decide_about_slots_and_words_may_add_some() -> None:
    assert settings_of({}, {"eth18": 2}).slots == 5
    assert settings_of({"IOL_SLOTS": "8"}, {"eth18": 2}).slots == 8
    assert settings_of({"IOL_SLOTS": "1"}, {"eth18": 2}).slots == 5


def test_memory_leaves_room_for_the_rest_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(settings_module, "_LIMITS", (str(tmp_path / "none"), str(limit)))
    for written, expected in ((f"{1 << 30}\n", 768), (f"{300 << 20}\n", 256), ("max\n", 0), (f"{1 << 62}\n", 0)):
        limit.write_text(written)
        assert settings_of({}, {}).memory_mb == expected
    assert settings_of({"IOL_MEMORY": "512"}, {}).memory_mb == 512


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IOL_PID", "0"),
        ("IOL_PID", "1023"),
        ("IOL_PID", "x"),
        ("IOL_PID", "-1"),
        ("IOL_SLOTS", "17"),
        ("IOL_NVRAM", "1"),
    ],
)
def test_words_that_make_no_sense_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsWrong, match=f"{name} is '{value}'"):
        settings_of({name: value}, {})


def test_the_command_names_what_is_known() -> None:
    assert command("./iol.bin", Settings(3, 4, 768, 1024), Boot("config.txt")) == [
        *("./iol.bin", "-q", "-e", "4", "-s", "0", "-n", "1024", "-m", "768", "-c", "config.txt", "3")
    ]
    assert command("./iol.bin", Settings(3, 4, 0, 64), Boot(""))[-4:] == ["0", "-n", "64", "3"]


# ------------------------------------------------------------------ configuration or NVRAM


def save(folder: Path, text: bytes) -> None:
    """As IOS does."""
    (folder / "nvram_00001").write_bytes(nvram(text))


def give(folder: Path, text: str, at: int) -> None:
    """As the node's day-0 does."""
    (folder / "config.txt").write_text(text)
    os.utime(folder / "config.txt", (at, at))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adopt_files(str(tmp_path), 1)
    return tmp_path


def test_without_a_configuration_nvram_is_read(folder: Path) -> None:
    assert choose_boot(str(folder)) == Boot("")


def test_a_configuration_is_read_until_something_is_saved(folder: Path) -> None:
    give(folder, "hostname a", 1)
    assert choose_boot(str(folder)) == Boot("config.txt")
    assert choose_boot(str(folder)) == Boot("config.txt")
    (folder / "nvram_00001").write_bytes(bytes(1024))  # made, and empty
    assert choose_boot(str(folder)) == Boot("config.txt")
    save(folder, b"hostname b")
    assert choose_boot(str(folder)) == Boot("")
    assert choose_boot(str(folder)) == Boot("")


@pytest.mark.parametrize("text", ["hostname c", "hostname a"])
def test_a_configuration_that_is_chosen_later_wins_over_what_was_saved(folder: Path, text: str) -> None:
    give(folder, "hostname a", 1)
    choose_boot(str(folder))
    save(folder, b"hostname b")
    give(folder, text, 2)
    assert choose_boot(str(folder)) == Boot("config.txt")
    assert choose_boot(str(folder)) == Boot("config.txt"), "nothing was saved since"
    save(folder, b"hostname d")
    assert choose_boot(str(folder)) == Boot("")


def test_files_with_the_id_of_an_earlier_life_are_taken_over(tmp_path: Path) -> None:
    (tmp_path / "nvram_00007").write_bytes(b"old")
    (tmp_path / "vlan.dat-00007").write_bytes(b"vlans")
    adopt_files(str(tmp_path), 12)
    assert {path.name for path in tmp_path.iterdir()} == {"nvram_00012", "vlan.dat-00012", "nvram"}
    assert (tmp_path / "nvram").read_bytes() == b"old"


def test_a_file_with_todays_id_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "nvram_00012").write_bytes(b"new")
    (tmp_path / "nvram_00007").write_bytes(b"old")
    adopt_files(str(tmp_path), 12)
    assert (tmp_path / "nvram").read_bytes() == b"new"


# ------------------------------------------------------------------ the folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA", "PROGRAM", "LICENCE", "_HOSTS"):
        monkeypatch.setattr(start, name, str(tmp_path / {"DATA": "data", "PROGRAM": "iol.bin"}.get(name, name.lower())))
    monkeypatch.setattr(start, "netio_folder", lambda: str(tmp_path / "netio"))
    return tmp_path


def test_everything_is_prepared_and_again_after_a_restart(places: Path) -> None:
    (places / "licence").write_text("[license]\n")
    (places / "_hosts").write_text("127.0.0.1 localhost\n")
    for _ in range(2):
        start.prepare(Settings(5, 4, 0, 64))
        (places / "netio/1023").touch()
    data = places / "data"
    assert (data / "NETMAP").read_text().startswith("5:0/0 1023:0/0\n")
    assert os.readlink(data / "iol.bin") == str(places / "iol.bin")
    assert os.readlink(data / "licence") == str(places / "licence")
    assert (places / "_hosts").read_text().count("xml.cisco.com") == 1


def test_a_link_that_the_guest_laid_is_not_written_through(places: Path) -> None:
    (places / "data").mkdir()
    (places / "precious").write_text("mine")
    (places / "data/NETMAP").symlink_to(places / "precious")
    start.prepare(Settings(5, 4, 0, 64))
    assert (places / "precious").read_text() == "mine"


def test_the_licence_is_named_where_there_is_one(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IOURC", raising=False)
    assert "IOURC" not in start._environment()
    (places / "licence").write_text("x")
    assert start._environment()["IOURC"] == str(places / "licence")
