"""How the dialogue machine behaves, one rule a test."""

from __future__ import annotations

import pytest
from dialogue_rig import Guest, bytewise, command_line, talk, whole, written_command_line

from wireloom.dialogue import Dialogue, Line, Outcome, Script, at_prompt
from wireloom.errors import DeadlineExceeded, GuestFailed, InternalError, InvalidInput, Unavailable
from wireloom.model.dialogue import Cli, Move, Prompt, Reaction, Recovery

SHELL = Cli(
    name="plain",
    home="exec",
    prompts=(Prompt(name="exec", pattern=r"\w+#"), Prompt(name="config", pattern=r"\w+\(config\)#")),
    moves=(Move(source="exec", target="config", line="conf"), Move(source="config", target="exec", line="end")),
    errors=("^% ",),
    noise=("<log>",),
)


class Console:
    """One side of a console: prints at times that the test chooses."""

    def __init__(self, cli: Cli, *lines: Line | str, leave: bool = False, **options: object) -> None:
        script = Script(tuple(Line(line) if isinstance(line, str) else line for line in lines), leave=leave)
        self.now = 0.0
        self.dialogue = Dialogue(cli, script, {"username": "admin", "password": "pw-Secret"}, now=0, **options)

    def prints(self, text: str, *, after: float = 0.01) -> str:
        """What is typed at once when ``text`` comes."""
        self.passes(after, keep=True)
        self.dialogue.receive(text.encode(), self.now)
        return self.dialogue.take().decode()

    def passes(self, seconds: float, *, keep: bool = False) -> str:
        """What is typed while nothing comes."""
        end, typed = self.now + seconds, ""
        while (wake_at := self.dialogue.wake_at) is not None and wake_at <= end:
            self.dialogue.tick(max(wake_at, self.now))
            self.now = max(wake_at, self.now)
            if not keep:
                typed += self.dialogue.take().decode()
        self.now = end
        return typed

    def outcome(self) -> Outcome:
        return self.dialogue.outcome()


def plain(**changes: object) -> Cli:
    return SHELL.model_copy(update=changes)


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


# ---- reactions --------------------------------------------------------------------------------------------------


def test_a_gate_opens_what_waits_for_it() -> None:
    cli = plain(
        reactions=(Reaction(name="up", when="SYSTEM UP"), Reaction(name="ask", when="name: *$", send="me", after="up"))
    )
    console = Console(cli)
    console.prints("name: ")
    assert console.passes(5) == ""
    console.prints("\r\n<log> SYSTEM UP\r\n")
    assert console.passes(5) == "me\r"


def test_a_reaction_counts_until_another() -> None:
    cli = plain(reactions=(Reaction(name="once", when="name: *$", send="me", until="once"),))
    console = Console(cli)
    console.prints("name: ")
    assert console.passes(1) == "me\r"
    console.prints("me\r\nname: ")
    assert console.passes(5) == ""


def test_a_hold_off_passes_before_typing_and_ends_when_the_text_goes() -> None:
    cli = plain(reactions=(Reaction(name="ask", when="name: *$", send="me", hold_off_s=3),))
    console = Console(cli)
    console.prints("name: ")
    assert console.passes(2.9) == ""
    assert console.passes(1) == "me\r"
    gone = Console(cli)
    gone.prints("name: ")
    gone.passes(1)
    gone.prints("\r\nnever mind\r\n")
    assert gone.passes(10) == ""


def test_what_happens_too_often_is_a_failure() -> None:
    cli = plain(reactions=(Reaction(name="ask", when="name: *$", send="me", limit=2),))
    console = Console(cli)
    for _ in range(3):
        console.prints("\r\nname: ")
        console.passes(1)
    with pytest.raises(GuestFailed, match=r"3 times \(ask\)"):
        console.outcome()


def test_a_failure_text_ends_the_dialogue_with_the_screen() -> None:
    cli = plain(reactions=(Reaction(name="bad", when="panic", fail="the device has crashed"),))
    console = Console(cli)
    console.prints("booting\r\nkernel panic\r\n", after=1)
    with pytest.raises(GuestFailed, match="has crashed") as caught:
        console.outcome()
    assert caught.value.details["screen"] == ["booting", "kernel panic"]
    assert caught.value.hint
    assert console.dialogue.done
    assert console.dialogue.wake_at is None


def test_failures_that_the_screen_showed_before_are_of_the_past() -> None:
    cli = plain(
        reactions=(
            Reaction(name="bad", when="panic", fail="the device has crashed"),
            Reaction(name="up", when="SYSTEM UP"),
            Reaction(name="ask", when="name: *$", send="me", after="up"),
        )
    )
    console = Console(cli)
    console.prints("kernel panic\r\nboot\r\n", after=0)
    console.prints("SYSTEM UP\r\nname: ", after=0)
    assert console.passes(1) == "me\r"
    console.prints("me\r\nkernel panic\r\n")
    with pytest.raises(GuestFailed, match="has crashed"):
        console.outcome()


def test_a_login_that_somebody_else_failed_is_none_of_ours() -> None:
    console = Console(command_line("linux"), "id")
    console.prints("r1 login: x\r\nPassword: \r\nLogin incorrect\r\nLogin incorrect\r\nr1 login: ", after=0)
    assert console.passes(1) == "admin\r"
    console.prints("admin\r\nPassword: ")
    assert console.passes(1) == "pw-Secret\r"
    console.prints("\r\nLogin incorrect\r\nr1 login: ")
    assert console.passes(1) == "admin\r"


def test_phases_are_kept() -> None:
    cli = plain(
        reactions=(
            Reaction(name="in", when="word: *$", send="one", phase="login"),
            Reaction(name="later", when="word: *$", send="two", phase="command"),
        )
    )
    console = Console(cli, "show")
    console.prints("word: ")
    assert console.passes(1) == "one\r"
    console.prints("\r\nr1#")
    console.passes(1)
    console.prints("show\r\nword: ")
    assert console.passes(1) == "two\r"


# ---- recoveries -------------------------------------------------------------------------------------------------

LOGIN = plain(reactions=(Reaction(name="user", when="^login: *$", send="{{ username }}", phase="login"),))


def _lost_session(cli: Cli = LOGIN, **options: object) -> Console:
    console = Console(cli, "show", **options)
    console.prints("r1#")
    console.passes(1)
    console.prints("show\r\nhalf an ans\r\nConnection closed\r\nlogin: ")
    return console


def test_a_lost_session_is_taken_up_again_and_the_line_typed_once_more() -> None:
    console = _lost_session()
    assert console.passes(1) == "admin\r"
    console.prints("admin\r\nr1#")
    assert console.passes(1) == "show\r"
    console.prints("show\r\nanswer\r\nr1#")
    assert console.outcome().answers[0].text == "answer"
    assert console.outcome().recoveries == ("relogin",)


def test_a_lost_session_is_a_failure_when_that_recovery_is_off() -> None:
    console = _lost_session(disabled=frozenset({"relogin"}))
    assert console.passes(1) == ""
    with pytest.raises(GuestFailed, match="session was lost"):
        console.outcome()


def test_a_file_that_extends_another_switches_recoveries_off() -> None:
    quiet = "name: quiet\nextends: ios\nrecoveries: {nudge: {action: type, silent: 5, enabled: false}}"
    assert Console(command_line("ios")).passes(20) != ""
    assert Console(written_command_line(quiet)).passes(600) == ""


def test_the_recovery_that_every_command_line_has_can_be_switched_off_in_a_file() -> None:
    off = Recovery(name="relogin", action="retype", enabled=False)
    console = _lost_session(LOGIN.model_copy(update={"recoveries": (off,)}))
    console.passes(1)
    with pytest.raises(GuestFailed, match="session was lost"):
        console.outcome()


def test_a_line_is_typed_again_when_the_device_asks_for_time() -> None:
    cli = plain(
        reactions=(Reaction(name="busy", when="try later", recovery="again", hold_off_s=5, limit=9),),
        recoveries=(Recovery(name="again", action="retype", limit=1),),
    )
    console = Console(cli, "show")
    console.prints("r1#")
    console.passes(1)
    console.prints("show\r\n% busy, try later\r\nr1#")
    assert console.passes(4) == ""
    assert console.passes(2) == "show\r"
    console.prints("show\r\n% busy, try later\r\nr1#")
    with pytest.raises(GuestFailed, match="'again' was used 1 times"):
        console.outcome()


def test_a_restart_is_asked_for_in_the_details() -> None:
    cli = plain(
        reactions=(Reaction(name="dead", when="CDB boot error", recovery="reset"),),
        recoveries=(Recovery(name="reset", action="restart"),),
    )
    console = Console(cli)
    console.prints("CDB boot error\r\n", after=1)
    with pytest.raises(GuestFailed) as caught:
        console.outcome()
    assert caught.value.details["restart"] is True
    off = Console(cli, disabled=frozenset({"reset"}))
    off.prints("CDB boot error\r\n", after=1)
    assert not off.dialogue.done


def test_silence_may_ask_for_a_restart() -> None:
    cli = plain(recoveries=(Recovery(name="hung", action="restart", silent_s=100),))
    console = Console(cli)
    console.prints("Loading")
    console.passes(101)
    with pytest.raises(GuestFailed):
        console.outcome()


FAMILIES = ("ios", "iosxe", "iosxr", "nxos", "asa", "junos", "eos", "panos", "linux")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_recovery_of_silence_can_be_switched_off(family: str) -> None:
    cli = command_line(family)
    for recovery in cli.recoveries:
        if recovery.silent_s:
            assert Console(cli).passes(recovery.silent_s + 1) != ""
            assert Console(cli, disabled=frozenset({recovery.name})).passes(2 * cli.overall_timeout_s) == ""


#: What has to be printed, piece by piece, for a recovery that a text calls for.
PROVOCATIONS = {
    ("ios", "boot"): ["rommon 1 > "],
    ("iosxe", "boot"): ["rommon 1 > "],
    ("nxos", "list-images"): ["loader > "],
    ("nxos", "boot-image"): ["loader > ", "dir\r\n  nxos.10.2.3.bin\r\nloader > "],
    ("eos", "disable-zerotouch"): [
        "The device is in Zero Touch Provisioning mode\r\nlocalhost>",
        "enable\r\nlocalhost#",
    ],
    ("junos", "restart"): ["mount: mounting /dev/sda2 on /mnt failed: No such device\r\n"],
}


def test_every_recovery_of_a_text_is_provoked_here() -> None:
    called = {
        (family, item.name) for family in FAMILIES for item in command_line(family).recoveries if not item.silent_s
    }
    assert called == set(PROVOCATIONS)


@pytest.mark.parametrize(("family", "recovery"), PROVOCATIONS)
def test_each_recovery_of_a_text_can_be_switched_off(family: str, recovery: str) -> None:
    def provoked(**options: object) -> tuple[str, ...]:
        """What was used by the time the dialogue had ended."""
        console = Console(command_line(family), "show version", **options)
        for text in PROVOCATIONS[family, recovery]:
            console.passes(1)
            console.prints(text)
        console.passes(100_000)
        with pytest.raises((GuestFailed, DeadlineExceeded)) as caught:
            console.outcome()
        return tuple(caught.value.details["recoveries"])

    assert recovery in provoked()
    assert recovery not in provoked(disabled=frozenset({recovery}))


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
