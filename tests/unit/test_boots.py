"""When a runtime was started: noted once, the newest four, for this runtime only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wireloom.errors import NotFound
from wireloom.providers.boots import BootMarks, check_boot
from wireloom.providers.docker.inspection import boot_marks, note_boot


def inspected(folder: Path, started: str, container: str = "abc") -> dict[str, Any]:
    """What the engine says of a container whose node lives in ``folder``."""
    mounts = [{"Destination": "/.wireloom", "Source": str(folder / "gate")}]
    return {"Id": container, "Mounts": mounts, "State": {"StartedAt": started}}


def test_each_start_is_noted_once_and_four_are_kept(tmp_path: Path) -> None:
    marks = BootMarks(tmp_path / "logs", "r")
    assert marks.times() == ()
    for moment in (1.5, 2.5, 2.5, 3.5, 4.5, 3.5, 5.5):
        marks.note(moment)
    assert marks.times() == (5.5, 4.5, 3.5, 2.5)
    assert [(boot.number, boot.started_at) for boot in marks.boots()][:2] == [(0, 5.5), (1, 4.5)]


def test_a_start_can_take_the_place_of_the_last_one(tmp_path: Path) -> None:
    marks = BootMarks(tmp_path, "r")
    marks.note(1.0)
    marks.note(2.0, instead=True)
    assert marks.times() == (2.0,)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runtime": "r"}', '{"runtime": "r", "started": ["x"]}'])
def test_marks_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "boots.json").write_text(text)
    assert BootMarks(tmp_path, "r").times() == ()


def test_only_what_is_kept_can_be_asked_for() -> None:
    check_boot(0, ())
    check_boot(2, (1.0, 2.0, 3.0))
    for boot in (3, -1):
        with pytest.raises(NotFound):
            check_boot(boot, (1.0, 2.0, 3.0))


def test_starts_of_a_container_are_those_that_the_engine_tells(tmp_path: Path) -> None:
    note_boot(inspected(tmp_path, "0001-01-01T00:00:00Z"))
    assert boot_marks(inspected(tmp_path, "")).times() == ()
    note_boot(inspected(tmp_path, "2026-11-23T05:07:21.5Z"))
    note_boot(inspected(tmp_path, "2026-11-23T05:07:21.5Z"))
    note_boot(inspected(tmp_path, "2026-11-23T05:07:50Z"))
    first, second = boot_marks(inspected(tmp_path, "")).times()
    assert first - second == 28.5


def test_a_container_that_was_made_anew_has_a_log_of_its_own(tmp_path: Path) -> None:
    note_boot(inspected(tmp_path, "2026-11-23T05:07:21Z", "old"))
    note_boot(inspected(tmp_path, "2026-11-23T05:08:21Z", "new"))
    assert len(boot_marks(inspected(tmp_path, "", "new")).times()) == 1


def test_nothing_is_noted_for_a_node_whose_folder_is_gone(tmp_path: Path) -> None:
    note_boot(inspected(tmp_path / "gone", "2026-11-23T05:07:21Z"))
    assert not (tmp_path / "gone").exists()
