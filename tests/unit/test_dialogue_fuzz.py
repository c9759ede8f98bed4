"""What may come from a console is anything: the machine ends in an answer or an error of ours, and stays small."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from dialogue_guests import STORIES
from dialogue_rig import command_line, talk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wireloom.dialogue import Dialogue, Line, Script
from wireloom.dialogue.grammar import grammar_of
from wireloom.errors import WireloomError

VALUES = {"username": "admin", "password": "pw-Secret"}

_WORDS = st.sampled_from(
    [
        *(
            "r1#",
            "r1>",
            "r1(config)#",
            "login: ",
            "Password: ",
            "Press RETURN to get started",
            " --More-- ",
            "[yes/no]: ",
        ),
        *(
            "Username: ",
            "root@r1:~# ",
            "loader > ",
            "admin@PA-VM> ",
            "RP/0/RP0/CPU0:ios#",
            "% Invalid input",
            "[confirm]",
        ),
        *(
            "*Mar  1 00:00:12.345: %LINK-3-UPDOWN: up",
            "[   12.345678] eth0: up",
            "Overwrite? ",
            "word ",
            "\n",
            "\r\n",
            "\t",
        ),
    ]
)
_GAPS = st.sampled_from([0.0, 0.001, 0.1, 0.3, 1.0, 3.0, 10.0])
_FAMILIES = st.sampled_from(sorted(STORIES))


@settings(deadline=None, max_examples=60)
@given(_FAMILIES, st.integers(0, 2**32))
def test_chunks_of_any_size_lead_to_the_same_end(family: str, seed: int) -> None:
    chance, story = random.Random(seed), STORIES[family]  # noqa: S311 - reproducible, not secret

    def cut(data: bytes) -> Iterator[bytes]:
        while data:
            size = chance.randint(1, chance.choice((1, 4, 40, 400)))
            yield data[:size]
            data = data[size:]

    talked = talk(
        command_line(family),
        story.guest(),
        story.script,
        story.values,
        cut=cut,
        pause_s=chance.choice((0.001, 0.05, 0.15)),
    )
    assert talked.typed == list(story.typed)
    assert [(answer.text, answer.refused) for answer in talked.outcome.answers] == list(story.answers)


@settings(deadline=None, max_examples=150)
@given(_FAMILIES, st.lists(st.tuples(st.one_of(st.binary(max_size=60), _WORDS.map(str.encode)), _GAPS), max_size=40))
def test_garbage_ends_in_an_answer_or_in_an_error_of_ours(family: str, pieces: list[tuple[bytes, float]]) -> None:
    dialogue = Dialogue(command_line(family), Script((Line("show version"),)), VALUES, now=0)
    now = 0.0
    for data, gap in pieces:
        now += gap
        _let_pass(dialogue, now)
        dialogue.receive(data, now)
    for _ in range(1000):
        if dialogue.wake_at is None:
            break
        now = max(now, dialogue.wake_at)
        dialogue.tick(now)
    assert dialogue.done
    try:
        dialogue.outcome()
    except WireloomError as error:
        assert VALUES["password"] not in str(error.to_wire())  # noqa: PT017 - both endings are right


@settings(deadline=None, max_examples=150)
@given(_FAMILIES, st.lists(st.tuples(_WORDS, _GAPS), max_size=40))
@example("asa", [("r1#", 0.0), ("\n", 0.3), ("r1#", 0.0), ("r1#", 0.0), ("r1#", 3.0)])
def test_nothing_is_typed_at_a_text_that_nothing_knows(family: str, pieces: list[tuple[str, float]]) -> None:
    grammar = grammar_of(command_line(family))
    dialogue = Dialogue(grammar.cli, Script((Line("show version"),)), VALUES, now=0)
    now, screen = 0.0, ""

    def check() -> None:
        """What is typed is typed at the beginning of a line, or behind a prompt or a question.

        What was printed behind the prompt of a line that was answered, as messages are, is nobody's half a line.
        """
        nonlocal screen
        last = screen.rpartition("\n")[2]
        typed = dialogue.take()
        if typed == b"\x15":
            assert grammar.begins_with_prompt(last)
        elif typed:
            at_prompt = grammar.prompt_of(last.strip()) or grammar.begins_with_prompt(last)
            assert not last.strip() or at_prompt or grammar.reactions_to(last)
            screen = ""

    for text, gap in pieces:
        for moment in _moments(dialogue, now + gap):
            dialogue.tick(moment)
            check()
        now += gap
        screen += text
        dialogue.receive(text.encode(), now)
        check()


@pytest.mark.parametrize("kind", ["random", "endless line", "lines", "questions", "escapes"])
@pytest.mark.parametrize("family", ["ios", "linux"])
def test_a_flood_costs_time_in_proportion_and_no_memory(kind: str, family: str) -> None:
    chunk = {
        "random": random.Random(7).randbytes(65_536),  # noqa: S311 - reproducible, not secret
        "endless line": b"x" * 65_536,
        "lines": b"Loading module 123 from flash\r\n" * 2114,
        "questions": b"login: Password: r1# " * 3120,
        "escapes": b"\x1b]0;\x1b[1;" * 7281,
    }[kind]
    dialogue = Dialogue(command_line(family), Script(), VALUES, now=0)
    dialogue.receive(chunk, 0.001)
    tracemalloc.start()
    try:
        for number in range(8):
            dialogue.receive(chunk, number * 0.006)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 300_000
    started = time.process_time()
    for number in range(8, 16):
        dialogue.receive(chunk, number * 0.006)
    assert time.process_time() - started < 2  # half a megabyte; a cost that grows with the square is far above


def _moments(dialogue: Dialogue, end: float) -> Iterator[float]:
    while (wake_at := dialogue.wake_at) is not None and wake_at <= end:
        yield wake_at


def _let_pass(dialogue: Dialogue, end: float) -> None:
    for moment in _moments(dialogue, end):
        dialogue.tick(moment)
