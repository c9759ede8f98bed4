"""The boot log: whole across the rotations of its writer, and put aside by power-on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from wireloom.errors import NotFound
from wireloom.providers.libvirt import bootlog
from wireloom.providers.libvirt.bootlog import (
    begin_boot,
    begin_boot_in_place,
    boots_of,
    log_of_boot,
    put_aside,
    read_log,
)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bootlog, "_PAUSE_S", 0)
    return tmp_path / "serial0.log"


def rotate(log: Path, parts: int = 3) -> None:
    """What virtlogd does at its size limit."""
    names = [log, *(log.with_name(f"{log.name}.{number}") for number in range(parts))]
    for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
        if newer.exists():
            newer.replace(older)


def append(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


async def whole(log: Path) -> bytes:
    return b"".join([chunk async for chunk in read_log(log)])


async def test_a_long_log_lets_others_run(log: Path) -> None:
    append(log, b"x" * (bootlog._CHUNK * 8))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await whole(log)
    task.cancel()
    assert turns >= 8


async def test_no_log_is_empty(log: Path) -> None:
    assert await whole(log) == b""


async def test_all_parts_are_read_oldest_first(log: Path) -> None:
    for text in (b"one ", b"two ", b"three "):
        append(log, text)
        rotate(log)
    append(log, b"four")
    assert await whole(log) == b"one two three four"


async def test_following_goes_on_across_rotations(log: Path) -> None:
    """Between two looks: written then rotated, rotated twice, the open part deleted."""

    def script() -> Iterator[None]:
        append(log, b"b")
        rotate(log)
        append(log, b"c")
        yield
        append(log, b"d")
        rotate(log)
        append(log, b"e")
        rotate(log)
        append(log, b"f")
        yield
        for text in (b"g", b"h", b"i", b"j"):
            rotate(log)
            append(log, text)
        yield

    append(log, b"a")
    steps = script()
    text = b"".join([chunk async for chunk in read_log(log, lambda: next(steps, False) is None)])
    assert text == b"abcdefghij"


async def test_what_is_written_just_after_the_end_is_read(log: Path) -> None:
    def ended() -> bool:
        append(log, b"last words")
        return False

    assert b"".join([chunk async for chunk in read_log(log, ended)]) == b"last words"


async def test_a_follower_waits_for_a_log_that_is_not_there_yet(log: Path) -> None:
    looks = iter([True, True, False])

    async def follow() -> bytes:
        return b"".join([chunk async for chunk in read_log(log, lambda: next(looks))])

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    append(log, b"hello")
    assert await task == b"hello"


async def test_power_on_puts_the_last_run_aside_and_keeps_three(log: Path) -> None:
    for run in range(5):
        put_aside(log)
        append(log, f"old part of {run}".encode())
        rotate(log)
        append(log, f"run {run}".encode())
    put_aside(log)
    assert await whole(log) == b""
    assert {path.name: path.read_text() for path in log.parent.iterdir()} == {
        "serial0.log.previous-1": "run 4",
        "serial0.log.previous-1.0": "old part of 4",
        "serial0.log.previous-2": "run 3",
        "serial0.log.previous-2.0": "old part of 3",
        "serial0.log.previous-3": "run 2",
        "serial0.log.previous-3.0": "old part of 2",
    }


# ------------------------------------------------------------------ earlier boots


async def of_boot(log: Path, boot: int) -> bytes:
    found = log_of_boot([log], "vm", boot)
    assert found is not None
    return b"".join([chunk async for chunk in read_log(found)])


async def test_each_boot_keeps_its_own_log_and_four_are_kept(log: Path) -> None:
    for number in range(6):
        begin_boot([log], "vm", 100.0 + number)
        append(log, f"boot {number}".encode())
    assert [(boot.number, boot.started_at) for boot in boots_of([log], "vm")] == [
        (0, 105.0),
        (1, 104.0),
        (2, 103.0),
        (3, 102.0),
    ]
    assert [await of_boot(log, boot) for boot in range(4)] == [b"boot 5", b"boot 4", b"boot 3", b"boot 2"]
    with pytest.raises(NotFound, match="of boot -4"):
        log_of_boot([log], "vm", 4)


async def test_rotated_parts_of_earlier_boots_are_kept_within_a_bound(log: Path) -> None:
    begin_boot([log], "vm", 1.0)
    for number in range(5):
        append(log, f"part {number} ".encode())
        rotate(log, parts=8)
    append(log, b"end")
    begin_boot([log], "vm", 2.0)
    append(log, b"second")
    begin_boot([log], "vm", 3.0)
    assert await of_boot(log, 0) == b""
    assert await of_boot(log, 1) == b"second"
    assert await of_boot(log, 2) == b"part 2 part 3 part 4 end"


async def test_a_start_that_failed_pushes_no_log_out(log: Path) -> None:
    begin_boot([log], "vm", 1.0)
    append(log, b"first")
    for moment in (2.0, 3.0, 4.0, 5.0, 6.0):  # the emulator never came up
        begin_boot([log], "vm", moment)
    assert [boot.started_at for boot in boots_of([log], "vm")] == [6.0, 1.0]
    assert await of_boot(log, 1) == b"first"


def test_boots_of_another_runtime_do_not_count(log: Path) -> None:
    begin_boot([log], "old", 1.0)
    begin_boot([log], "new", 2.0)
    assert [boot.started_at for boot in boots_of([log], "new")] == [2.0]


def test_a_machine_without_serial_lines_has_no_boots(log: Path) -> None:
    del log
    begin_boot([], "vm", 1.0)
    assert boots_of([], "vm") == ()
    assert log_of_boot([], "vm", 0) is None


RUNTIME = "runtime-1"


def present(log: Path) -> list[bytes]:
    """The logs of the boots that are kept, newest first."""
    found = []
    for boot in boots_of([log], RUNTIME):
        path = log_of_boot([log], RUNTIME, boot.number)
        assert path is not None
        found.append(asyncio.run(whole(path)))
    return found


def test_a_reboot_in_place_splits_the_log_that_its_writer_goes_on_with(log: Path) -> None:
    begin_boot([log], RUNTIME, 10)
    append(log, b"first boot ")
    assert begin_boot_in_place([log], RUNTIME, 20)
    append(log, b"second boot ")
    assert begin_boot_in_place([log], RUNTIME, 30)
    assert present(log) == [b"", b"second boot ", b"first boot "]
    append(log, b"third boot")
    assert present(log) == [b"third boot", b"second boot ", b"first boot "]
    assert [boot.started_at for boot in boots_of([log], RUNTIME)] == [30, 20, 10]
    assert log.read_bytes() == b"first boot second boot third boot"
    begin_boot([log], RUNTIME, 40)
    append(log, b"powered on")
    assert present(log) == [b"powered on", b"third boot", b"second boot ", b"first boot "]
    assert not list(log.parent.glob("*cut*"))


def test_the_cut_of_a_log_moves_with_the_rotations(log: Path) -> None:
    begin_boot([log], RUNTIME, 10)
    append(log, b"a1 ")
    rotate(log)
    append(log, b"a2 ")
    begin_boot_in_place([log], RUNTIME, 20)
    append(log, b"b1 ")
    rotate(log)
    append(log, b"b2 ")
    assert present(log) == [b"b1 b2 ", b"a1 a2 "]
    begin_boot_in_place([log], RUNTIME, 30)
    append(log, b"c")
    assert present(log) == [b"c", b"b1 b2 ", b"a1 a2 "]


def test_a_part_that_was_deleted_is_kept_for_the_boot_that_began_in_it(log: Path) -> None:
    begin_boot([log], RUNTIME, 10)
    append(log, b"first ")
    begin_boot_in_place([log], RUNTIME, 20)
    append(log, b"begin ")
    for number in range(4):
        rotate(log)
        append(log, b"%d " % number)
    assert present(log) == [b"begin 0 1 2 3 ", b"first "]
    begin_boot([log], RUNTIME, 30)
    append(log, b"new")
    assert present(log)[0] == b"new"
    assert b"first" not in present(log)[1]


def test_a_guest_that_is_reset_twice_in_a_moment_has_rebooted_once(log: Path) -> None:
    begin_boot([log], RUNTIME, 10)
    append(log, b"first")
    assert begin_boot_in_place([log], RUNTIME, 20)
    assert not begin_boot_in_place([log], RUNTIME, 20.5)
    assert present(log) == [b"", b"first"]


def test_a_guest_that_reboots_for_ever_keeps_no_more_than_others(log: Path) -> None:
    begin_boot([log], RUNTIME, 0)
    for number in range(10):
        append(log, b"%d " % number)
        begin_boot_in_place([log], RUNTIME, 10 * (number + 1))
    assert present(log) == [b"", b"9 ", b"8 ", b"7 "]
    assert len(list(log.parent.iterdir())) == 1 + 3 + 1 + 1  # the log, three before it, the cut, the times


def test_a_machine_without_lines_has_its_reboots_told(log: Path) -> None:
    assert begin_boot_in_place([], RUNTIME, 10)
