"""The boot log: whole across the rotations of its writer, and put aside by power-on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from wireloom.providers.libvirt import bootlog
from wireloom.providers.libvirt.bootlog import put_aside, read_log


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
        "serial0.log.previous-2": "run 3",
        "serial0.log.previous-3": "run 2",
    }
