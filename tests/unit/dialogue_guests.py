"""Scripted guests, one for each family of command lines.

They are emulations: written from public facts, not recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dialogue_rig import Guest

from wireloom.dialogue import Line, Script

__all__ = ["STORIES", "Story"]

PASSWORD = "s3cret-Word"  # noqa: S105 - the rig's login


@dataclass(frozen=True)
class Story:
    """A dialogue with one guest: what is asked for, and what must have been typed and answered in the end.

    :ivar command_line: name of the file in ``cli/``.
    :ivar typed: all lines that the guest was given, in order.
    :ivar answers: text and refusal of each line of the script.
    """

    command_line: str
    boot: str
    state: str
    replies: dict[str, dict[str, tuple[str, str]]]
    script: Script
    typed: tuple[str, ...]
    answers: tuple[tuple[str, bool], ...]
    prompt: str
    recoveries: tuple[str, ...] = ()
    values: dict[str, Any] | None = None

    def guest(self) -> Guest:
        return Guest(boot=self.boot, state=self.state, replies=self.replies)


IOS = Story(
    command_line="ios",
    boot=(
        "\r\nCisco IOS Software, IOSv Software\r\n\x00\x00"
        "         --- System Configuration Dialog ---\r\n\r\n"
        "Would you like to enter the initial configuration dialog? [yes/no]: "
    ),
    state="dialog",
    replies={
        "dialog": {
            "no": (
                "\r\n\r\nPress RETURN to get started!\r\n\r\n\r\n"
                "*Mar  1 00:00:12.345: %LINK-3-UPDOWN: Interface GigabitEthernet0/0, changed state to up\r\n",
                "locked",
            )
        },
        "locked": {"": ("\r\nRouter>", "user")},
        "user": {"": ("\r\nRouter>", "user"), "enable": ("\r\nPassword: ", "!enable")},
        "!enable": {PASSWORD: ("\r\nRouter#", "exec"), "*": ("\r\n% Bad secrets\r\n\r\nRouter>", "user")},
        "exec": {
            "terminal length 0": ("\r\nRouter#", "exec"),
            "terminal width 511": ("\r\nRouter#", "exec"),
            "show running-config": (
                "\r\nBuilding configuration...\r\n\r\nhostname Router\r\n!\r\n"
                "*Mar  1 00:01:02.003: %SYS-5-CONFIG_I: Configured from console\r\n"
                "interface Gi0/0\r\n --More-- ",
                "pager",
            ),
            "configure terminal": ("\r\nEnter configuration commands, one per line.\r\nRouter(config)#", "config"),
            "copy run start": ("\r\nDestination filename [startup-config]? ", "file"),
            "exit": ("\r\n\r\nr1 con0 is now available\r\n\r\n\r\nPress RETURN to get started.\r\n\r\n", "locked"),
        },
        "pager": {" ": ("\b" * 10 + " " * 10 + "\b" * 10 + " no ip address\r\nend\r\n\r\nRouter#", "exec")},
        "config": {
            "hostname r1": ("\r\nr1(config)#", "config1"),
        },
        "config1": {
            "ip adress": ("\r\n     ^\r\n% Invalid input detected at '^' marker.\r\n\r\nr1(config)#", "config1"),
            # A message comes after the prompt, and the prompt is not drawn again.
            "end": ("\r\nr1#\r\n*Mar  1 00:01:09.777: %SYS-5-CONFIG_I: Configured from console\r\n", "exec1"),
        },
        "exec1": {
            "copy run start": ("\r\nDestination filename [startup-config]? ", "file"),
            "exit": ("\r\n\r\nr1 con0 is now available\r\n\r\n\r\nPress RETURN to get started.\r\n\r\n", "locked"),
        },
        "file": {"": ("\r\nBuilding configuration...\r\n[OK]\r\nr1#", "exec1")},
    },
    script=Script(
        (
            Line("show running-config"),
            Line("hostname r1", prompt="configure"),
            Line("ip adress", prompt="configure"),
            Line("copy run start"),
        ),
        stop_on_refusal=False,
    ),
    typed=(
        *("no", "", "enable", PASSWORD, "terminal length 0", "terminal width 511", "show running-config", " "),
        *("configure terminal", "hostname r1", "ip adress", "end", "copy run start", "", "exit"),
    ),
    answers=(
        ("Building configuration...\n\nhostname Router\n!\ninterface Gi0/0\n no ip address\nend", False),
        ("", False),
        ("     ^\n% Invalid input detected at '^' marker.", True),
        ("Building configuration...\n[OK]", False),
    ),
    prompt="privileged",
)

IOSXE = Story(
    command_line="iosxe",
    boot="% failed to initialize nvram\r\n\r\nWould you like to enter the initial configuration dialog? [yes/no]: ",
    state="dialog",
    replies={
        "dialog": {
            "no": ("\r\n\r\n  The enable secret is a password used to protect\r\n  Enter enable secret: ", "!one"),
        },
        "!one": {PASSWORD: ("**********\r\n  Confirm enable secret: ", "!two")},
        "!two": {PASSWORD: ("**********\r\n\r\n[0] Go to the prompt.\r\n\r\nEnter your selection [2]: ", "menu")},
        "menu": {"0": ("\r\nPress RETURN to get started!\r\n\r\n", "locked")},
        "locked": {
            "": ("\r\n\x1b[?25h*Nov 23 10:00:00.123: %CVAC-4-CONFIG_DONE: Configuration generated\r\nRouter>", "user")
        },
        "user": {"enable": ("\r\nRouter#", "exec")},
        "exec": {
            "terminal length 0": ("\r\nRouter#", "exec"),
            "terminal width 511": ("\r\nRouter#", "exec"),
            "show version": ("\r\nCisco IOS XE Software, Version 17.03.02\r\nuptime is 2 minutes\r\nRouter#", "exec"),
            "exit": ("\r\n\r\nPress RETURN to get started.\r\n", "locked"),
        },
    },
    script=Script((Line("show version"),)),
    typed=(
        *("no", PASSWORD, PASSWORD, "0", "", "enable", "terminal length 0", "terminal width 511"),
        *("show version", "exit"),
    ),
    answers=(("Cisco IOS XE Software, Version 17.03.02\nuptime is 2 minutes", False),),
    prompt="privileged",
)

_XR = "RP/0/RP0/CPU0:"
_XR_TIME = "\r\nMon Nov 23 10:00:01.123 UTC\r\n"
_XR_LOG = f"{_XR}Nov 23 10:00:00.100 UTC: "
IOSXR = Story(
    command_line="iosxr",
    boot=(
        "\r\nios con0/RP0/CPU0 is now available\r\n\r\n\r\nPress RETURN to get started.\r\n\r\n"
        f"{_XR_LOG}ifmgr[403]: %PKT_INFRA-LINK-3-UPDOWN : Interface up\r\n"
    ),
    state="locked",
    replies={
        "locked": {
            "": (
                "\r\n--- Administrative User Dialog ---\r\n\r\n\r\n  Enter root-system username: "
                f"\r\n{_XR_LOG}cfgmgr-rp[119]: %MGBL-CONFIG-6-OIR_RESTORE : SYSTEM CONFIGURATION COMPLETE\r\n",
                "root",
            )
        },
        "root": {"admin": ("\r\n  Enter secret: ", "!one")},
        "!one": {PASSWORD: ("\r\n  Enter secret again: ", "!two")},
        "!two": {PASSWORD: ("\r\nUse the 'configure' command to modify this configuration.\r\nUsername: ", "user")},
        "user": {"admin": ("\r\nPassword: ", "!password")},
        "!password": {PASSWORD: (f"\r\n\r\n\r\n{_XR}ios#", "exec")},
        "exec": {
            "terminal length 0": (f"{_XR_TIME}{_XR}ios#", "exec"),
            "terminal width 511": (f"{_XR_TIME}{_XR}ios#", "exec"),
            "configure terminal": (f"{_XR_TIME}{_XR}ios(config)#", "config"),
            "show version": (f"{_XR_TIME}Cisco IOS XR Software\r\n{_XR}ios#", "exec"),
            "exit": ("\r\n\r\nios con0/RP0/CPU0 is now available\r\n\r\nPress RETURN to get started.\r\n", "locked"),
        },
        "config": {
            "hostname r1": (f"\r\n{_XR}ios(config)#", "config"),
            "commit": (f"{_XR_TIME}{_XR}ios(config)#", "config"),
            "vrf": (f"\r\n% Incomplete command.\r\n{_XR}ios(config)#", "config"),
            "end": (
                "\r\nUncommitted changes found, commit them before exiting(yes/no/cancel)? [cancel]: ",
                "uncommitted",
            ),
        },
        "uncommitted": {"no": (f"\r\n{_XR}ios#", "exec")},
    },
    script=Script(
        (
            Line("show version"),
            Line("hostname r1", prompt="configure"),
            Line("commit", prompt="configure"),
            Line("vrf", prompt="configure"),
            Line("never typed"),
        )
    ),
    typed=(
        *("", "admin", PASSWORD, PASSWORD, "admin", PASSWORD, "terminal length 0", "terminal width 511"),
        *("show version", "configure terminal", "hostname r1", "commit", "vrf", "end", "no", "exit"),
    ),
    answers=(("Cisco IOS XR Software", False), ("", False), ("", False), ("% Incomplete command.", True)),
    prompt="configure",
)

NXOS = Story(
    command_line="nxos",
    boot="\r\nLoader Version 5.9\r\n\r\nloader > ",
    state="loader",
    replies={
        "loader": {
            "dir": ("\r\nbootflash::\r\n  .rpmstore\r\n  nxos.9.3.5.bin\r\nloader > ", "loader"),
            "boot nxos.9.3.5.bin": (
                "\r\nBooting nxos.9.3.5.bin\r\n[    0.000000] Linux version\r\n"
                "Abort Power On Auto Provisioning [yes - continue with normal setup, skip - bypass password and basic "
                "configuration, no - continue with Power On Auto Provisioning] (yes/skip/no)[no]: ",
                "poap",
            ),
        },
        "poap": {
            "yes": (
                "\r\n2026 Nov 23 10:00:00 switch %$ VDC-1 %$ %POAP-2-POAP_INFO: Abort\r\n"
                "         ---- System Admin Account Setup ----\r\n\r\n"
                "Do you want to enforce secure password standard (yes/no) [y]: ",
                "standard",
            )
        },
        "standard": {"no": ('\r\n\r\n  Enter the password for "admin": ', "!one")},
        "!one": {PASSWORD: ('\r\n  Confirm the password for "admin": ', "!two")},
        "!two": {PASSWORD: ("\r\nWould you like to enter the basic configuration dialog (yes/no): ", "basic")},
        "basic": {"no": ("\r\n\r\n\r\nUser Access Verification\r\nswitch login: ", "login")},
        "login": {"admin": ("\r\nPassword: ", "!password")},
        "!password": {
            PASSWORD: (
                "\r\n\r\nCisco NX-OS Software\r\nLast login: Mon Nov 23 10:00:00 UTC 2026 on ttyS0\r\n\rswitch# ",
                "exec",
            )
        },
        "exec": {
            "terminal length 0": ("\r\nswitch# ", "exec"),
            "terminal width 511": ("\r\nswitch# ", "exec"),
            "show hostname": ("\r\nswitch \r\nswitch# ", "exec"),
            "exit": ("\r\n\r\nUser Access Verification\r\nswitch login: ", "login"),
        },
    },
    script=Script((Line("show hostname"),)),
    typed=(
        *("dir", "boot nxos.9.3.5.bin", "yes", "no", PASSWORD, PASSWORD, "no", "admin", PASSWORD),
        *("terminal length 0", "terminal width 511", "show hostname", "exit"),
    ),
    answers=(("switch", False),),
    prompt="privileged",
    recoveries=("list-images", "boot-image"),
)

ASA = Story(
    command_line="asa",
    boot="\r\nINFO: Power-On Self-Test complete.\r\n\r\nciscoasa> ",
    state="user",
    replies={
        "user": {
            "enable": ("\r\nThe enable password is not set.  Please set it now.\r\nEnter  Password: ", "!one"),
            "": ("\r\nciscoasa> ", "user"),
        },
        "!one": {PASSWORD: ("***********\r\nRepeat Password: ", "!two")},
        "!two": {PASSWORD: ("***********\r\nNote: Save your configuration.\r\nciscoasa# ", "exec")},
        "exec": {
            "terminal pager 0": ("\r\nciscoasa# ", "exec"),
            "configure terminal": (
                "\r\nciscoasa(config)# \r\n*** NOTICE ***\r\nHelp to improve the platform?"
                "\r\n[Y]es, [N]o, [A]sk later: ",
                "callhome",
            ),
            "show running-config": (
                "\r\n: Saved\r\nhostname ciscoasa\r\n<--- More --->",
                "pager",
            ),
            "disable": ("\r\nciscoasa> ", "user"),
        },
        "callhome": {"N": ("\r\nPlease remember to save your configuration.\r\n\r\nciscoasa(config)# ", "config")},
        "config": {
            "hostname fw1": ("\r\nfw1(config)# ", "config"),
            "end": ("\r\nfw1# ", "exec1"),
        },
        "pager": {" ": ("\r              \r: end\r\nciscoasa# ", "exec")},
        "exec1": {"disable": ("\r\nfw1> ", "user")},
    },
    script=Script((Line("show running-config"), Line("hostname fw1", prompt="configure"))),
    typed=(
        *("enable", PASSWORD, PASSWORD, "terminal pager 0", "show running-config", " "),
        *("configure terminal", "N", "hostname fw1", "end", "disable"),
    ),
    answers=((": Saved\nhostname ciscoasa\n: end", False), ("", False)),
    prompt="configure",
)

JUNOS = Story(
    command_line="junos",
    boot="\r\nFreeBSD/amd64 (Amnesiac) (ttyu0)\r\n\r\nlogin: ",
    state="login",
    replies={
        "login": {"root": ("\r\n\r\n--- JUNOS 23.2R1.15 Kernel 64-bit\r\nroot@:~ # ", "shell")},
        "shell": {
            "cli": ("\r\nroot> ", "cli"),
            "exit": ("\r\nlogout\r\n\r\n\r\nlogin: ", "login"),
        },
        "cli": {
            "set cli screen-length 0": ("\r\nScreen length set to 0\r\n\r\nroot> ", "cli"),
            "set cli screen-width 0": ("\r\nScreen width set to 0\r\n\r\nroot> ", "cli"),
            "set cli complete-on-space off": ("\r\nDisabling complete-on-space\r\n\r\nroot> ", "cli"),
            "configure": ("\r\nEntering configuration mode\r\n\r\n[edit]\r\nroot# ", "config"),
        },
        "config": {
            "set system host-name r1": ("\r\n\r\n[edit]\r\nroot# ", "config"),
            "commit": (
                "\r\nNov 23 10:00:00   mgd[1]: UI_COMMIT: done\r\ncommit complete\r\n\r\n[edit]\r\nroot@r1# ",
                "config",
            ),
            "bogus": ("\r\n           ^\r\nunknown command.\r\n[edit]\r\nroot@r1# ", "config"),
            "exit configuration-mode": (
                "\r\nThe configuration has been changed but not committed\r\n"
                "Exit with uncommitted changes? [yes,no] (yes) ",
                "uncommitted",
            ),
        },
        "uncommitted": {"yes": ("\r\nExiting configuration mode\r\n\r\nroot@r1> ", "cli1")},
        "cli1": {
            "show configuration": ("\r\nsystem {\r\n    host-name r1;\r\n}\r\n\r\nroot@r1> ", "cli1"),
            "exit": ("\r\n\r\nroot@r1:~ # ", "shell"),
        },
    },
    script=Script(
        (
            Line("set system host-name r1", prompt="configure"),
            Line("commit", prompt="configure"),
            Line("bogus", prompt="configure"),
            Line("show configuration"),
        ),
        stop_on_refusal=False,
    ),
    typed=(
        *("root", "cli", "set cli screen-length 0", "set cli screen-width 0", "set cli complete-on-space off"),
        *("configure", "set system host-name r1", "commit", "bogus", "exit configuration-mode", "yes"),
        *("show configuration", "exit", "exit"),
    ),
    answers=(
        ("", False),
        ("commit complete", False),
        ("           ^\nunknown command.", True),
        ("system {\n    host-name r1;\n}", False),
    ),
    prompt="operational",
    values={"username": "root", "password": ""},
)

EOS = Story(
    command_line="eos",
    boot="\r\nNo startup-config was found.\r\nThe device is in Zero Touch Provisioning mode.\r\n\r\nlocalhost login: ",
    state="login",
    replies={
        "login": {"admin": ("\r\nlocalhost>", "user")},
        "user": {"enable": ("\r\nlocalhost#", "ztp")},
        "ztp": {"zerotouch disable": ("\r\nRestarting system.\r\nAboot 9.0\r\n\r\nlocalhost login: ", "login1")},
        "login1": {"admin": ("\r\n\x1b[5nlocalhost>", "user1")},
        "user1": {"enable": ("\r\nlocalhost#", "exec")},
        "exec": {
            "terminal length 0": ("\r\nPagination disabled.\r\nlocalhost#", "exec"),
            "terminal width 32767": ("\r\nWidth set to 32767 columns.\r\nlocalhost#", "exec"),
            "show version": (
                "\r\nArista vEOS-lab\r\nNov 23 10:00:00 localhost Fru: %FRU-6-INSERTED: card\r\nlocalhost#",
                "exec",
            ),
            "exit": ("\r\nlocalhost login: ", "login1"),
        },
    },
    script=Script((Line("show version"),)),
    typed=(
        *("admin", "enable", "zerotouch disable", "admin", "enable", "terminal length 0", "terminal width 32767"),
        *("show version", "exit"),
    ),
    answers=(("Arista vEOS-lab", False),),
    prompt="privileged",
    recoveries=("disable-zerotouch", "relogin"),
)

PANOS = Story(
    command_line="panos",
    boot="\r\nWelcome to the PanOS Bootloader.\r\n\r\nvm login: \r\n\r\nPA-VM login: ",
    state="login",
    replies={
        "login": {"admin": ("\r\nPassword: ", "!password")},
        "!password": {
            "admin": ("\r\nEnter old password : ", "!old"),
            "*": ("\r\n\r\nLogin incorrect\r\nPA-VM login: ", "login"),
        },
        "!old": {"admin": ("\r\nEnter new password : ", "!new")},
        "!new": {PASSWORD: ("\r\nConfirm password   : ", "!again")},
        "!again": {PASSWORD: ("\r\nPassword changed\r\n\r\nNumber of failed attempts: 1\r\nadmin@PA-VM> ", "exec")},
        "exec": {
            "set cli pager off": ("\r\nadmin@PA-VM> ", "exec"),
            "set cli scripting-mode on": ("\r\nadmin@PA-VM> ", "exec"),
            "configure": ("\r\nEntering configuration mode\r\n[edit]\r\nadmin@PA-VM# ", "config"),
            "exit": ("\r\nPA-VM login: ", "login"),
        },
        "config": {
            "commit": (
                "\r\n\r\nCommit job 2 is in progress.\r\n....55%98%....100%\r\nConfiguration committed successfully\r\n"
                "\r\n[edit]\r\nadmin@fw1# ",
                "config",
            ),
            "exit": ("\r\nExiting configuration mode\r\nadmin@fw1> ", "exec"),
        },
    },
    script=Script((Line("commit", prompt="configure", timeout_s=300),)),
    typed=(
        *("admin", PASSWORD, "admin", "admin", "admin", PASSWORD, PASSWORD),
        *("set cli pager off", "set cli scripting-mode on", "configure", "commit", "exit", "exit"),
    ),
    answers=(("Commit job 2 is in progress.\n....55%98%....100%\nConfiguration committed successfully", False),),
    prompt="configure",
)

_PREPARE = "stty cols 1000 2>/dev/null; export PAGER=cat SYSTEMD_PAGER=cat"
_BASH = "\x1b[?2004h\x1b]0;admin@r1: ~\x07\x1b[01;32madmin@r1\x1b[00m:\x1b[01;34m~\x1b[00m$ "
LINUX = Story(
    command_line="linux",
    boot=(
        "[    0.000000] Linux version 6.1.0\r\n[  OK  ] Started Getty on ttyS0.\r\n\r\n"
        "Debian GNU/Linux 12 r1 ttyS0\r\n\r\nr1 login: [   12.345678] eth0: link becomes ready\r\n"
    ),
    state="login",
    replies={
        "login": {"admin": ("\r\nPassword: ", "!password")},
        "!password": {
            PASSWORD: (f"\r\nLast login: Mon Nov 23 10:00:00 UTC 2026\r\n{_BASH}", "bash"),
        },
        "bash": {
            _PREPARE: (f"\r\n\x1b[?2004l\r{_BASH}", "bash"),
            "sudo cat /etc/gruß": ("\r\n\x1b[?2004l\r[sudo] password for admin: ", "!sudo"),
            "nope": (f"\r\n\x1b[?2004l\r-bash: nope: command not found\r\n{_BASH}", "bash"),
            "exit": ("\r\n\x1b[?2004l\rlogout\r\n\r\nr1 login: ", "login"),
        },
        "!sudo": {
            PASSWORD: (
                f"\r\nGrüße — ✓\r\n[   99.000001] random: crng init done\r\n\tindented\x1b[0m  \r\n{_BASH}",
                "bash",
            )
        },
    },
    script=Script((Line("sudo cat /etc/gruß"), Line("nope"))),
    typed=("admin", PASSWORD, _PREPARE, "sudo cat /etc/gruß", PASSWORD, "nope", "exit"),
    answers=(
        ("Grüße — ✓\n\tindented", False),
        ("-bash: nope: command not found", True),
    ),
    prompt="shell",
)

STORIES = {story.command_line: story for story in (IOS, IOSXE, IOSXR, NXOS, ASA, JUNOS, EOS, PANOS, LINUX)}
