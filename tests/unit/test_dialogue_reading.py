"""How the dialogue machine reads: what a device waits at, and what of its output is the answer."""

from __future__ import annotations

import pytest
from dialogue_rig import SHELL, Console, Guest, bytewise, plain, talk, whole

from wireloom.dialogue import Line, Script, at_prompt
from wireloom.model.dialogue import Reaction, Recovery

# ---- reading before typing --------------------------------------------------------------------------------------


def test_nothing_is_typed_before_something_was_read() -> None:
    console = Console(SHELL, "show")
    assert console.dialogue.take() == b""
    assert console.passes(300) == ""


def test_a_prompt_counts_once_it_stands() -> None:
    console = Console(SHELL, "show")
    assert console.prints("r1#") == ""
    assert console.passes(0.1) == ""
    assert console.passes(0.2) == "show\r"


def test_a_prompt_that_goes_on_is_none() -> None:
    console = Console(SHELL, "show")
    console.prints("r1")
    console.prints("#5 of 7 modules")
    assert console.passes(1.5) == ""


def test_the_same_prompt_counts_at_once_after_the_echo() -> None:
    console = Console(SHELL, "one", "two")
    console.prints("r1#")
    console.passes(1)
    assert console.prints("one\r\nanswer\r\nr1#") == "two\r"


def test_an_old_prompt_before_the_echo_is_not_taken_for_the_new_one() -> None:
    console = Console(SHELL, "one")
    console.prints("r1#")
    console.passes(1)
    console.prints("\r\nr1#")
    console.prints("one\r\nanswer\r\nr1#", after=0.9)
    assert console.outcome().answers[0].text == "answer"


def test_a_line_end_is_typed_into_silence_only_at_the_beginning_of_a_line() -> None:
    cli = plain(recoveries=(Recovery(name="nudge", action="type", silent_s=5),))
    assert Console(cli).passes(6) == "\r"
    unknown = Console(cli)
    unknown.prints("Erase everything? ")
    assert unknown.passes(500) == ""


@pytest.mark.parametrize("redraw", ["\b \b" * 7, "\rr1#\x1b[K", "\r" + " " * 10 + "\rr1#"])
def test_a_line_that_somebody_left_half_typed_is_cleared(redraw: str) -> None:
    console = Console(SHELL, "show")
    console.prints("r1#erase f")
    assert console.passes(1) == ""
    assert console.passes(2) == "\x15"
    console.prints(redraw)
    assert console.passes(1) == "show\r"
    off = Console(SHELL, disabled=frozenset({"clear-line"}))
    off.prints("r1#erase f")
    assert off.passes(100) == ""


def test_a_recovery_may_say_that_it_types_anywhere() -> None:
    cli = plain(recoveries=(Recovery(name="nudge", action="type", silent_s=5, anywhere=True),))
    console = Console(cli)
    console.prints("Loading... ")
    assert console.passes(6) == "\r"


def test_silence_has_to_be_longer_after_each_line_end_without_an_answer() -> None:
    cli = plain(recoveries=(Recovery(name="nudge", action="type", silent_s=5, limit=3),))
    console = Console(cli)
    typed = [second for second in range(60) if console.passes(1)]
    assert typed == [4, 14, 34]


def test_a_question_in_the_output_of_a_command_is_not_answered() -> None:
    cli = plain(reactions=(Reaction(name="ask", when=r"sure\?", send="y"),))
    console = Console(cli, "show banner")
    console.prints("r1#")
    console.passes(1)
    assert console.prints("show banner\r\nAre you sure?\r\nThen go on.\r\n") == ""
    assert console.passes(5) == ""
    console.prints("r1#")
    assert console.outcome().answers[0].text == "Are you sure?\nThen go on."


def test_a_question_that_waits_is_answered_in_a_command() -> None:
    cli = plain(reactions=(Reaction(name="ask", when=r"sure\? *$", send="y"),))
    console = Console(cli, "erase")
    console.prints("r1#")
    console.passes(1)
    console.prints("erase\r\nAre you sure? ")
    assert console.passes(1) == "y\r"
    console.prints("y\r\ndone\r\nr1#")
    assert console.outcome().answers[0].text == "done"


def test_the_earliest_end_wins_and_then_the_order_of_the_file() -> None:
    cli = plain(
        reactions=(
            Reaction(name="late", when="name and age:", send="late"),
            Reaction(name="early", when="name", send="early"),
            Reaction(name="same", when="nam.", send="same"),
        )
    )
    console = Console(cli)
    console.prints("name and age:")
    assert console.passes(1).startswith("early\r")


# ---- messages, echoes, pagers -----------------------------------------------------------------------------------


def test_messages_are_taken_out_and_do_not_hide_a_prompt() -> None:
    console = Console(SHELL, "show")
    console.prints("r1#<log> up\r\n<log> down\r\n")
    assert console.passes(1) == "show\r"
    console.prints("show\r\none\r\n<log> in between\r\ntwo\r\nr1#\r\n<log> last\r\n")
    console.passes(3)
    assert console.outcome().answers[0].text == "one\ntwo"


def test_a_question_with_a_message_behind_it_is_answered() -> None:
    cli = plain(reactions=(Reaction(name="user", when="^Username: *$", send="{{ username }}", phase="login"),))
    console = Console(cli)
    console.prints("Username: <log> up\r\n")
    assert console.passes(1) == "admin\r"


@pytest.mark.parametrize(
    "echo",
    [
        "show interfaces brief\r\n",
        "show interf\r\naces brief\r\n",  # wrapped by the device
        "show interf \races brief\r\n",  # wrapped by a line editor
        "\rr1#$aces brief\r\n",  # scrolled sideways
        "show <log>\r\n",
        "sho\r\n<log> up\r\nr1#show interfaces brief\r\n",  # drawn again after a message
        "sho\r\n<log> up\r\nw interfaces brief\r\n",  # continued after a message
        "\r\nr1#show interfaces brief\r\n",  # the device was still at an older line end
        "show\b\b\b\bshow interfaces brief\x1b[K\r\n",
    ],
)
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_echoes_are_no_output(echo: str, cut: object) -> None:
    console = Console(SHELL, "show interfaces brief")
    console.prints("r1#")
    console.passes(1)
    for piece in cut((echo + "Gi0 up\r\nr1#").encode()):  # type: ignore[operator]
        console.prints(piece.decode(), after=0.001)
    console.passes(5)
    assert console.outcome().answers[0].text == "Gi0 up"


def test_output_without_a_line_end_is_told_from_the_prompt_behind_it() -> None:
    console = Console(SHELL, "cat")
    console.prints("r1#")
    console.passes(1)
    console.prints("cat\r\none\r\nand two:r1#")
    assert not console.dialogue.done
    console.passes(1)
    assert console.outcome().answers[0].text == "one\nand two:"


def test_a_device_without_echo_is_understood() -> None:
    console = Console(SHELL, "show")
    console.prints("r1#")
    console.passes(1)
    console.prints("\r\nGi0 up\r\nr1#")
    console.passes(5)
    assert console.outcome().answers[0].text == "Gi0 up"


@pytest.mark.parametrize("redraw", ["\b" * 8 + " " * 8 + "\b" * 8, "\r" + " " * 8 + "\r", "\r\x1b[K", "\r\n"])
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_pagers_are_turned_and_leave_no_trace(redraw: str, cut: object) -> None:
    cli = plain(reactions=(Reaction(name="pager", when="--More--", send=" ", raw=True, limit=1000),))
    replies = {"at": {"show": ("\r\n one\r\n--More--", "page")}, "page": {" ": (redraw + " two\r\nr1#", "at")}}
    guest = Guest(boot="r1#", state="at", replies=replies)
    talked = talk(cli, guest, Script((Line("show"),), leave=False), cut=cut)  # type: ignore[arg-type]
    assert talked.outcome.answers[0].text == " one\n two"


# ---- prompts of a screen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("r1#", "exec"),
        ("booted\r\nr1(config)# ", "config"),
        ("r1#\r\n<log> up\r\n", "exec"),
        ("r1#<log> up\r\n", "exec"),
        ("r1#\r\nno prompt any more\r\n", None),
        ("login: ", None),
        ("", None),
    ],
)
def test_the_prompt_of_a_screen_is_known(text: str, name: str | None) -> None:
    assert at_prompt(SHELL, text) == name
