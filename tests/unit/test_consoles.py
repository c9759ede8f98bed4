"""The serial owner: one holder, many readers, one who types, bounded backlog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from wireloom.agent.consoles import PersonsConsole
from wireloom.agent.consoles_line import BACKLOG_BYTES, CHUNK_BYTES, RECENT_BYTES, Attached, SerialLine
from wireloom.errors import Conflict, NotPermitted
from wireloom.model.console import WHO_MOST, ConsoleCommand, ConsoleNotice

IDLE_S = 30.0


class Far:
    """A serial line whose far end is the test."""

    def __init__(self) -> None:
        self.output: asyncio.Queue[bytes] = asyncio.Queue()
        self.typed = bytearray()
        self.sizes: list[tuple[int, int]] = []
        self.closed = False

    async def read(self) -> bytes:
        return await self.output.get()

    async def write(self, data: bytes) -> None:
        self.typed += data

    async def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def close(self) -> None:
        self.closed = True


class Held:
    """A line, its far end and its clock."""

    def __init__(self, recent: bytes = b"") -> None:
        self.now = 1000.0
        self.far = Far()
        self.line = SerialLine(self.far, lambda: None, recent=recent, idle_s=IDLE_S, clock=lambda: self.now)

    def person(self, who: str = "ada", *, read_only: bool = False) -> Attached:
        return self.line.attach(who, read_only=read_only)

    def automation(self, who: str = "wireloom: post-boot") -> Attached:
        return self.line.attach(who, automation=True)

    @property
    def writer(self) -> str:
        writer = self.line.state.writer
        return writer.who if writer else ""

    async def say(self, data: bytes) -> None:
        """The guest writes, and everybody has it."""
        self.far.output.put_nowait(data)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    made = Held()
    yield made
    await made.line.close()


async def told(attached: Attached) -> list[ConsoleNotice]:
    """The notices that wait for one of those attached."""
    found = []
    while attached._notices:
        item = await attached.receive()
        assert isinstance(item, ConsoleNotice)
        found.append(item)
    return found


async def events(attached: Attached) -> list[str]:
    return [notice.event for notice in await told(attached)]


# -------------------------------------------------------------------- reading


async def test_all_readers_see_the_same_output(held: Held) -> None:
    readers = [held.person(read_only=True) for _ in range(3)]
    held.far.output.put_nowait(b"login: ")
    assert [await reader.read() for reader in readers] == [b"login: "] * 3


async def test_a_late_reader_gets_the_recent_screen_first(held: Held) -> None:
    first = held.person(read_only=True)
    await held.say(b"x" * RECENT_BYTES + b"prompt# ")
    await first.read()
    late = await held.person(read_only=True).read()
    assert late.endswith(b"prompt# ")
    assert len(late) == RECENT_BYTES


async def test_what_the_log_had_before_the_line_was_opened_is_part_of_the_recent_screen() -> None:
    held = Held(recent=b"Router booted\r\nlogin: ")
    early = held.person(read_only=True)
    assert await early.read() == b"Router booted\r\nlogin: "
    # The log and the live line may tell the same bytes: the screen has them once, and who reads live misses none.
    await held.say(b"booted\r\nlogin: root")
    assert await early.read() == b"booted\r\nlogin: root"
    assert await held.person(read_only=True).read() == b"Router booted\r\nlogin: root"
    await held.line.close()


async def test_a_reader_that_does_not_keep_up_loses_its_oldest_bytes_with_a_mark_and_holds_up_nobody(
    held: Held,
) -> None:
    slow, quick = held.person(read_only=True), held.person(read_only=True)
    received = 0
    for _ in range(3 * BACKLOG_BYTES // CHUNK_BYTES):
        held.far.output.put_nowait(b"y" * CHUNK_BYTES)
        received += len(await quick.read())
    assert received == 3 * BACKLOG_BYTES
    late = await slow.read()
    assert late.startswith(b"\r\n[wireloom: output came faster")
    rest = 0
    while slow._waiting:
        rest += len(await slow.read())
    assert BACKLOG_BYTES - CHUNK_BYTES <= len(late) + rest <= BACKLOG_BYTES + 200


async def test_the_end_of_the_line_ends_its_readers_and_closes_it(held: Held) -> None:
    reader = held.person()
    held.far.output.put_nowait(b"")
    assert await reader.read() == b""
    await asyncio.sleep(0)
    assert held.far.closed
    with pytest.raises(Conflict):
        await held.automation().acquire(1)


# -------------------------------------------------------------------- who may type


async def test_the_first_person_types_and_the_others_are_told_who_it_is(held: Held) -> None:
    ada, bob = held.person("ada"), held.person("bob")
    await ada.write(b"a")
    with pytest.raises(NotPermitted, match="ada is typing"):
        await bob.write(b"b")
    assert held.far.typed == b"a"
    (here,) = await told(bob)
    assert (here.event, here.text, here.writing) == ("here", "ada is typing; you are reading along", False)
    first = await told(ada)
    assert [notice.event for notice in first] == ["here", "joined"]
    assert [notice.writing for notice in first] == [True, True]


async def test_a_free_keyboard_goes_to_whoever_types_next(held: Held) -> None:
    ada, bob = held.person("ada"), held.person("bob")
    await ada.close()
    assert held.writer == ""
    await bob.write(b"c")
    assert (held.writer, held.far.typed) == ("bob", b"c")


async def test_a_reader_that_may_not_write_never_types_although_nobody_else_does(held: Held) -> None:
    watcher = held.person(read_only=True)
    await watcher.write(b"reload\r")
    await watcher.command(ConsoleCommand(do="ask"))
    await watcher.command(ConsoleCommand(do="take"))
    assert (held.writer, held.far.typed) == ("", b"")
    assert "refused" in await events(watcher)
    with pytest.raises(NotPermitted):
        await watcher.acquire(1)
    await held.person("bob").write(b"x")
    assert held.far.typed == b"x"


async def test_one_that_has_left_cannot_take_the_keyboard_again(held: Held) -> None:
    gone = held.person("ada")
    await gone.close()
    await gone.close()
    await gone.write(b"late")
    await gone.command(ConsoleCommand(do="ask"))
    assert (held.far.typed, held.writer) == (b"", "")
    await held.person("bob").write(b"y")
    assert held.far.typed == b"y"


async def test_typing_out_of_turn_is_a_notice_for_a_person_and_not_the_end_of_their_console(held: Held) -> None:
    held.person("ada")
    bob = held.person("bob")
    person = PersonsConsole(bob)
    await told(bob)
    for _ in range(5):
        await person.write(b"b")
    (refused,) = await told(bob)
    assert (refused.event, held.far.typed) == ("refused", b"")
    assert refused.text == "ada is typing, so what you typed was dropped"


async def test_one_who_asks_is_given_the_keyboard_by_its_holder(held: Held) -> None:
    ada, bob = held.person("ada"), held.person("bob")
    await told(ada), await told(bob)
    await bob.command(ConsoleCommand(do="ask"))
    (asked,) = await told(ada)
    assert (asked.event, asked.text) == ("asked", "bob asks for the keyboard")
    assert [each.who for each in asked.state.asking] == ["bob"]
    await ada.command(ConsoleCommand(do="give"))
    assert held.writer == "bob"
    assert await events(ada) == ["lost"]
    assert await events(bob) == ["asked", "typing"]
    assert held.line.state.asking == ()


async def test_the_holder_may_name_who_gets_the_keyboard(held: Held) -> None:
    ada, bob, eve = held.person("ada"), held.person("bob"), held.person("eve")
    await bob.command(ConsoleCommand(do="ask"))
    await ada.command(ConsoleCommand(do="give", to=eve.id))
    assert held.writer == "eve"
    await ada.command(ConsoleCommand(do="give", to=ada.id))  # not the holder any more
    await eve.command(ConsoleCommand(do="give", to="nobody"))
    assert held.writer == "eve"
    await eve.close()
    assert held.writer == "bob"


async def test_an_idle_holder_loses_the_keyboard_to_whoever_asks(held: Held) -> None:
    ada, bob = held.person("ada"), held.person("bob")
    held.now += IDLE_S - 1
    await ada.write(b"a")
    held.now += IDLE_S - 1
    await bob.command(ConsoleCommand(do="ask"))
    held.line._tick()
    assert held.writer == "ada"
    held.now += 1
    held.line._tick()
    assert held.writer == "bob"
    held.now += IDLE_S
    await ada.command(ConsoleCommand(do="ask"))
    assert held.writer == "ada"


async def test_a_take_does_not_interrupt_a_person_who_types(held: Held) -> None:
    held.person("ada")
    bob = held.person("bob")
    await bob.command(ConsoleCommand(do="take"))
    assert held.writer == "ada"
    assert [each.who for each in held.line.state.asking] == ["bob"]


# -------------------------------------------------------------------- automation


async def test_automation_shows_as_a_writer_and_people_read_along(held: Held) -> None:
    robot = held.automation()
    assert held.writer == ""
    with pytest.raises(NotPermitted):
        await robot.write(b"enable\r")
    await robot.acquire(0)
    ada = held.person("ada")
    (here,) = await told(ada)
    assert here.text == "wireloom: post-boot is typing; you are reading along"
    await robot.write(b"enable\r")
    await held.say(b"Router#")
    assert await ada.read() == b"Router#"
    with pytest.raises(NotPermitted, match="wireloom: post-boot is typing"):
        await ada.write(b"x")
    robot.release()
    assert held.writer == ""
    await ada.write(b"x")
    assert (held.writer, held.far.typed) == ("ada", b"enable\rx")


async def test_automation_waits_for_its_turn_and_names_who_does_not_let_go(held: Held) -> None:
    ada, robot = held.person("ada"), held.automation()
    with pytest.raises(Conflict, match="ada is typing") as error:
        await robot.acquire(0.01)
    assert error.value.details == {"holder": "ada"}
    assert held.line.state.asking == ()
    waiting = asyncio.create_task(robot.acquire(10))
    await asyncio.sleep(0)
    await ada.command(ConsoleCommand(do="give"))
    await waiting
    assert held.writer == "wireloom: post-boot"
    again = held.automation("wireloom: extract")
    queued = asyncio.create_task(again.acquire(10))
    await asyncio.sleep(0)
    robot.release()
    await queued
    assert held.writer == "wireloom: extract"


async def test_a_wait_for_the_keyboard_that_is_given_up_leaves_no_trace(held: Held) -> None:
    held.person("ada")
    robot = held.automation()
    waiting = asyncio.create_task(robot.acquire(10))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert held.line.state.asking == ()


async def test_automation_is_interrupted_between_steps_only(held: Held) -> None:
    ada, robot = held.person("ada"), held.automation()
    await ada.command(ConsoleCommand(do="give"))
    await robot.acquire(0)
    held.now += 10 * IDLE_S
    await ada.command(ConsoleCommand(do="take"))
    assert held.writer == "wireloom: post-boot"
    robot.pause(between_steps=True)
    await ada.command(ConsoleCommand(do="take"))
    assert held.writer == "ada"
    with pytest.raises(NotPermitted, match="ada is typing"):
        await robot.write(b"x")


# -------------------------------------------------------------------- names, sizes, bounds


async def test_names_are_harmless_on_other_peoples_terminals(held: Held) -> None:
    held.person("\x1b[2Jeve\r\n" + "x" * 200)
    writer = held.line.state.writer
    assert writer is not None
    assert writer.who.startswith("[2Jevex")
    assert len(writer.who) == WHO_MOST
    held.person(" \x00 ")
    assert held.line.state.attendees[1].who == "someone"


async def test_the_line_has_the_size_of_the_window_of_whoever_types(held: Held) -> None:
    ada, bob = held.person("ada"), held.person("bob")
    await ada.resize(120, 40)
    await bob.resize(80, 24)
    assert held.far.sizes == [(120, 40)]
    await ada.close()
    await bob.write(b"x")
    await asyncio.sleep(0)
    assert held.far.sizes == [(120, 40), (80, 24)]
