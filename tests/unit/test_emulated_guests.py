"""The dialogue machine with the shipped command lines against the emulated devices: login to extraction."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from emulated_play import Console, cli_of

from wireloom.dialogue import Line
from wireloom.errors import GuestFailed, WireloomError

VALUES = {"hostname": "r1", "username": "admin", "password": "Wireloom1!", "enable_password": "Wireloom1!"}


@dataclass(frozen=True)
class Case:
    """A persona, the device whose command line fits it, and its vocabulary.

    :ivar fresh: login of a machine without configuration.
    :ivar medium: path of its day-0 file, ``config`` what is on it (host name ``dayzero``).
    :ivar edit: lines that rename it to ``renamed``; ``keep``: lines that save; ``shown``: proof in the extract.
    """

    persona: str
    device: str
    medium: str
    config: str
    show: str = "show running-config"
    version: str = "show version"
    configure: str = "configure"
    edit: tuple[str, ...] = ("hostname renamed",)
    keep: tuple[Line, ...] = (Line("write memory"),)
    shown: str = "hostname renamed"
    nonsense: str = "wireloom nonsense"
    fresh: dict[str, str] = field(default_factory=dict)


IOS = "hostname dayzero\nusername admin privilege 15 secret Wireloom1!\nenable secret Wireloom1!\nend\n"
CASES = (
    Case("ios", "cisco_iosv", "ios_config.txt", IOS),
    Case("iosxe", "cisco_csr1000v", "iosxe_config.txt", IOS),
    Case(
        "nxos",
        "cisco_n9kv",
        "nxos_config.txt",
        "hostname dayzero\nusername admin password 0 Wireloom1! role network-admin\n",
        keep=(Line("copy running-config startup-config"),),
    ),
    Case(
        "iosxr",
        "cisco_iosxr",
        "iosxr_config.txt",
        "hostname dayzero\nusername admin\n group root-lr\n secret Wireloom1!\nend\n",
        edit=("hostname renamed", "commit"),
        keep=(),
    ),
    Case(
        "eos",
        "ceos",
        "mnt/flash/startup-config",
        "hostname dayzero\nusername admin privilege 15 role network-admin secret Wireloom1!\n",
        fresh={"password": ""},
    ),
    Case(
        "asa",
        "cisco_asav",
        "day0-config",
        "hostname dayzero\nenable password Wireloom1!\nusername admin password Wireloom1! privilege 15\n",
    ),
    Case(
        "junos",
        "juniper_vjunosswitch",
        "config/juniper.conf",
        "system {\n host-name dayzero;\n root-authentication { plain-text-password-value Wireloom1!; }\n"
        ' login { user admin { class super-user; authentication { plain-text-password-value "Wireloom1!"; } } }\n}\n',
        show="show configuration",
        edit=(
            "set system root-authentication plain-text-password-value Wireloom1!",
            "set system host-name renamed",
            "commit",
        ),
        keep=(),
        shown="host-name renamed;",
        fresh={"username": "root", "password": ""},
    ),
    Case(
        "panos",
        "paloalto_vmseries",
        "config/bootstrap.xml",
        '<config version="10.1.0"><mgt-config><users><entry name="admin"><phash>Wireloom1!</phash></entry></users>'
        '</mgt-config><devices><entry name="localhost.localdomain"><deviceconfig><system><hostname>dayzero</hostname>'
        "</system></deviceconfig></entry></devices></config>",
        show="show config running",
        version="show system info",
        edit=("set deviceconfig system hostname renamed", "commit"),
        keep=(),
        shown="<hostname>renamed</hostname>",
        fresh={"old_password": "admin"},
    ),
)
#: Those whose console asks for a password.
ASKING = [case for case in CASES if case.persona not in {"ios", "iosxe"}]
asking = pytest.mark.parametrize("case", ASKING, ids=lambda case: case.persona)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.persona)


@each
def test_a_machine_without_configuration_is_led_to_its_command_line(case: Case) -> None:
    console = Console(case.persona)
    version, config = console.play(cli_of(case.device), case.version, case.show, values=VALUES | case.fresh).answers
    assert "emulation for tests" in version.text
    assert not version.refused
    assert len(config.text.splitlines()) > 8
    for foreign in ("more", "More", "%LINEPROTO", "%LLDP", "UI_CHILD_EXITED", "ifmgr[257]", "emulation"):
        assert foreign not in config.text


@each
def test_the_first_configuration_comes_from_the_medium_and_a_prompt_with_its_name_is_known(case: Case) -> None:
    console = Console(case.persona, media={case.medium: case.config})
    outcome = console.play(cli_of(case.device), case.show, values=VALUES)
    assert "dayzero" in outcome.answers[0].text
    assert console.machine.hostname == "dayzero"


@each
def test_a_name_changed_in_the_middle_is_followed_and_survives_a_restart(case: Case) -> None:
    console = Console(case.persona, media={case.medium: case.config})
    lines = [*(Line(line, prompt=case.configure) for line in case.edit), *case.keep]
    answers = console.play(cli_of(case.device), *lines, values=VALUES).answers
    assert not any(answer.refused for answer in answers)
    console.restart()
    assert case.shown in console.play(cli_of(case.device), case.show, values=VALUES).answers[0].text


@each
def test_every_dialogue_finds_the_console_as_the_last_one_left_it(case: Case) -> None:
    console = Console(case.persona, media={case.medium: case.config})
    texts = set()
    for pause in (0, 0.05, 3):
        console.wait(pause)
        texts.add(console.play(cli_of(case.device), case.show, values=VALUES).answers[0].text)
    assert len(texts) == 1


@each
def test_output_may_come_byte_by_byte(case: Case) -> None:
    whole, torn = (Console(case.persona, media={case.medium: case.config}, chunk=chunk) for chunk in (4096, 1))
    first, second = (
        console.play(cli_of(case.device), case.show, values=VALUES).answers[0] for console in (whole, torn)
    )
    assert first == second


@each
def test_what_the_device_does_not_know_is_seen_as_refused(case: Case) -> None:
    console = Console(case.persona, media={case.medium: case.config})
    assert console.play(cli_of(case.device), case.nonsense, values=VALUES).answers[0].refused


@asking
def test_a_wrong_password_ends_in_an_error_and_not_in_silence(case: Case) -> None:
    console = Console(case.persona, media={case.medium: case.config})
    with pytest.raises(WireloomError) as caught:
        console.play(cli_of(case.device), case.show, values=VALUES | {"password": "wrong", "enable_password": "wrong"})
    assert isinstance(caught.value, GuestFailed)


def test_cloud_init_takes_name_accounts_files_and_commands_of_the_user_data() -> None:
    user_data = (
        "#cloud-config\nhostname: dayzero\nusers:\n  - name: admin\n    plain_text_passwd: Wireloom1!\n"
        "write_files:\n  - path: /etc/marker\n    content: |\n      first\n      second\nruncmd:\n  - touch /etc/ran\n"
    )
    console = Console("linux", media={"user-data": user_data})
    outcome = console.play(cli_of("ubuntu"), "uname -a", values=VALUES)
    assert "ran (exit 0)\nuname -a" in outcome.answers[0].text
    assert console.host.hostname == "dayzero"
    assert console.host.accounts == {"admin": "Wireloom1!"}
    files, command = console.host.commands[:2]
    assert "'/etc/marker'" in files
    assert "first\nsecond\n" in files
    assert command == "touch /etc/ran"
