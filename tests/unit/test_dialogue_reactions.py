"""How the dialogue machine reacts to texts and to silence, and how each recovery is switched off."""

from __future__ import annotations

import pytest
from dialogue_rig import Console, command_line, plain, written_command_line

from wireloom.errors import DeadlineExceeded, GuestFailed
from wireloom.model.dialogue import Cli, Reaction, Recovery

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
