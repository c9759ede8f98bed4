"""The course of a dialogue: ways between prompts, scripts, deadlines, secrets."""

from __future__ import annotations

import pytest
from dialogue_rig import SHELL, Console, Guest, plain, talk

from wireloom.dialogue import Line, Script
from wireloom.errors import DeadlineExceeded, GuestFailed, InternalError, InvalidInput, Unavailable
from wireloom.model.dialogue import Cli, Move, Prompt, Reaction

# ---- the course -------------------------------------------------------------------------------------------------


def test_without_lines_only_the_home_prompt_is_reached() -> None:
    console = Console(plain(prepare=("no pager",)))
    console.prints("r1(config)#")
    assert console.passes(1) == "end\r"
    console.prints("end\r\nr1#")
    console.passes(1)
    assert (console.outcome().prompt, console.outcome().answers) == ("exec", ())


def test_the_shortest_way_is_taken() -> None:
    names = ("a", "b", "c", "d")
    ways = (("a", "b"), ("b", "c"), ("c", "d"), ("a", "c"))
    cli = Cli(
        name="ways",
        home="d",
        prompts=tuple(Prompt(name=name, pattern=f"{name}>") for name in names),
        moves=tuple(Move(source=source, target=target, line=f"to {target}") for source, target in ways),
    )
    console = Console(cli)
    console.prints("a>")
    assert console.passes(1) == "to c\r"


def test_a_line_is_typed_at_the_prompt_that_it_names() -> None:
    console = Console(SHELL, Line("hostname r2", prompt="config"), "show")
    console.prints("r1#")
    assert console.passes(1) == "conf\r"
    console.prints("conf\r\nr1(config)#")
    assert console.passes(1) == "hostname r2\r"
    console.prints("hostname r2\r\nr2(config)#")
    assert console.passes(1) == "end\r"
    console.prints("end\r\nr2#")
    assert console.passes(1) == "show\r"


def test_a_refused_line_ends_the_script_unless_told_otherwise() -> None:
    replies = {"at": {"bad": ("\r\n% Invalid\r\nr1#", "at"), "good": ("\r\nfine\r\nr1#", "at")}}
    for stop, texts in ((True, ["% Invalid"]), (False, ["% Invalid", "fine"])):
        guest = Guest(boot="r1#", state="at", replies=replies)
        talked = talk(SHELL, guest, Script((Line("bad"), Line("good")), stop_on_refusal=stop))
        assert [answer.text for answer in talked.outcome.answers] == texts
        assert talked.outcome.refused == talked.outcome.answers[0]


def _banner() -> Guest:
    text = {"*": ("\r\n", "text"), "^": ("\r\nr1(config)#", "config")}
    replies = {
        "exec": {"conf": ("\r\nr1(config)#", "config")},
        "config": {
            "banner motd ^": ("\r\nEnter TEXT message.  End with the character '^'.\r\n", "text"),
            "hostname r1": ("\r\nr1(config)#", "config"),
            "end": ("\r\nr1#", "exec"),
        },
        "text": text,
    }
    return Guest(boot="r1#", state="exec", replies=replies)


def test_lines_of_a_text_are_typed_without_a_prompt_until_it_ends() -> None:
    texts = ("banner motd ^", "Welcome to r1#", "", "r1(config)#", "^", "hostname r1")
    script = Script(tuple(Line(text, prompt="config") for text in texts))
    talked = talk(plain(open_text=("^Enter TEXT message",)), _banner(), script)
    assert talked.typed == ["conf", *texts, "end"]
    assert len(talked.outcome.answers) == len(texts)


def test_a_text_that_is_not_ended_is_a_failure() -> None:
    script = Script((Line("banner motd ^", prompt="config"), Line("Welcome", prompt="config")))
    with pytest.raises(GuestFailed, match="waits for the end of a text"):
        _ = talk(plain(open_text=("^Enter TEXT message",)), _banner(), script).outcome


def test_a_session_that_was_open_is_left_open() -> None:
    console = Console(plain(leave=("exit",)), "show", leave=True)
    console.prints("r1(config)#")
    console.passes(1)
    console.prints("end\r\nr1#")
    console.passes(1)
    assert console.prints("show\r\nr1#") == "conf\r"
    console.prints("conf\r\nr1(config)#")
    assert console.dialogue.done
    assert console.outcome().prompt == "exec"


def test_what_goes_wrong_while_leaving_does_not_undo_the_answers() -> None:
    ask = Reaction(name="user", when="^login: *$", send="admin", phase="login")
    cli = plain(leave=("exit",), reactions=(ask, Reaction(name="bye", when="panic", fail="crashed")))
    console = Console(cli, "show", leave=True)
    console.prints("login: ")
    console.passes(1)
    console.prints("admin\r\nr1#")
    console.passes(1)
    assert console.prints("show\r\nanswer\r\nr1#") == "exit\r"
    console.prints("exit\r\nkernel panic\r\n")
    assert console.outcome().answers[0].text == "answer"


def test_a_move_that_does_not_move_is_a_failure_with_what_the_device_said() -> None:
    console = Console(SHELL, Line("x", prompt="config"))
    console.prints("r1#")
    console.passes(1)
    console.prints("conf\r\n% Not now\r\nr1#")
    with pytest.raises(GuestFailed, match="stays at its prompt 'exec' after 'conf': % Not now"):
        console.outcome()


def test_a_prompt_without_a_way_is_a_failure() -> None:
    console = Console(plain(moves=()), Line("x", prompt="config"))
    console.prints("r1#")
    console.passes(1)
    with pytest.raises(GuestFailed, match="no move leads to 'config'"):
        console.outcome()


@pytest.mark.parametrize("line", [Line("x", prompt="nowhere"), Line("two\nlines")])
def test_a_script_that_cannot_be_played_is_refused_at_once(line: Line) -> None:
    with pytest.raises(InvalidInput):
        Console(SHELL, line)


# ---- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slow", "timeout_s", "allowed"), [(1, 0, 30), (1, 90, 90), (4, 0, 120)])
def test_a_step_has_its_deadline(slow: float, timeout_s: float, allowed: float) -> None:
    console = Console(SHELL, Line("show", timeout_s=timeout_s), slow_factor=slow)
    console.prints("r1#")
    console.passes(2)
    console.prints("show\r\nworking on it\r\n")
    console.passes(allowed - 5)
    assert not console.dialogue.done
    console.passes(5)
    with pytest.raises(DeadlineExceeded, match="no prompt came in time after 'show'"):
        console.outcome()


def test_the_whole_has_its_deadline() -> None:
    console = Console(plain(overall_timeout_s=60), slow_factor=2)
    console.prints("booting\r\n")
    console.passes(119)
    assert not console.dialogue.done
    console.passes(2)
    with pytest.raises(DeadlineExceeded, match="no prompt was reached within 120 s"):
        console.outcome()


def test_a_console_that_ends_is_a_failure() -> None:
    console = Console(SHELL)
    console.dialogue.close(1)
    with pytest.raises(Unavailable):
        console.outcome()


def test_there_is_no_outcome_before_the_end() -> None:
    with pytest.raises(InternalError):
        Console(SHELL).outcome()


def test_an_answer_without_end_is_a_failure() -> None:
    console = Console(SHELL, "show")
    console.prints("r1#")
    console.passes(1)
    console.prints("show\r\n" + "x" * 100_000)
    with pytest.raises(GuestFailed, match="larger than can be kept"):
        console.outcome()


# ---- secrets ----------------------------------------------------------------------------------------------------


def test_secrets_are_in_no_answer_and_no_error() -> None:
    cli = plain(reactions=(Reaction(name="word", when="word: *$", send="{{ password }}", secret=True, limit=1),))
    console = Console(cli, Line("username x secret top-Secret", secret=True), "show")
    console.prints("r1#")
    console.passes(1)
    console.prints("username x secret top-Secret\r\nr1#")
    console.prints("show\r\nword: ")
    console.passes(1)
    console.prints("pw-Secret\r\nshow pw-Secret and top-Secret\r\nword: ")
    console.passes(1)
    with pytest.raises(GuestFailed) as caught:
        console.outcome()
    assert "Secret" not in str(caught.value.to_wire())


def test_the_line_of_a_secret_answer_is_masked() -> None:
    console = Console(SHELL, Line("username x secret top-Secret", secret=True))
    console.prints("r1#")
    console.passes(1)
    console.prints("username x secret top-Secret\r\nr1#")
    assert console.outcome().answers[0].line == "********"
