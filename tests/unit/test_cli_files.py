"""Command lines that are known from documents only: a first login and a command each, against a scripted guest."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from dialogue_rig import Cut, Guest, bytewise, command_line, talk, whole

from wireloom.dialogue import Line, Script

VALUES = {"hostname": "r1", "username": "admin", "password": "Secret-1", "enable_password": "Secret-1"}

Replies = dict[str, dict[str, tuple[str, str]]]


@dataclass(frozen=True)
class Session:
    """A guest (see the rig) and what has to be typed: a command at home, and one at ``prompt`` where there is one.

    :ivar typed: every line in its order; what is in ``answers`` is what the command gave.
    """

    boot: str
    replies: Replies
    typed: tuple[str, ...]
    script: tuple[Line, ...]
    answers: tuple[str, ...]
    state: str = "login"
    leave: bool = False


def _shell(prompt: str, prepare: tuple[str, ...], command: str, answer: str, extra: Replies | None = None) -> Replies:
    quiet = dict.fromkeys(prepare, (f"\r\n{prompt}", "home"))
    home = {**quiet, command: (f"\r\n{answer}\r\n{prompt}", "home"), "": (f"\r\n{prompt}", "home")}
    more = (extra or {}).get("home", {})
    return {**(extra or {}), "home": {**home, **more}}


def _login(user: str = "admin", ask: str = "Password: ", login: str = "login: ") -> Replies:
    """A login that first refuses the new password, takes the empty one, and then wants another."""
    return {
        "login": {user: (f"\r\n{ask}", "!first")},
        "!first": {"Secret-1": (f"\r\nLogin incorrect\r\nr1 {login}", "again")},
        "again": {user: (f"\r\n{ask}", "!empty")},
    }


SESSIONS = {
    "fortios": Session(
        boot="\r\nFortiGate-VM64-KVM login: ",
        replies={
            **_login(),
            "!empty": {"": ("\r\nYou are forced to change your password.\r\nNew Password: ", "!new")},
            "!new": {"Secret-1": ("\r\nConfirm Password: ", "!confirm")},
            "!confirm": {"Secret-1": ("\r\nWelcome!\r\n\r\nFGT # ", "home")},
            "home": {
                "show": ("\r\nconfig system global\r\n--More-- ", "more"),
                "config system global": ("\r\nFGT (global) # ", "global"),
                "end": ("\r\nFGT # ", "home"),
            },
            "more": {" ": ("\r         \rend\r\nFGT # ", "home")},
            "global": {"end": ("\r\nFGT # ", "home")},
        },
        typed=("admin", "Secret-1", "admin", "", "Secret-1", "Secret-1", "show", " "),
        script=(Line("show"),),
        answers=("config system global\nend",),
    ),
    "aoscx": Session(
        boot="\r\nswitch login: ",
        replies={
            **_login(),
            "!empty": {"": ("\r\nPlease configure the password.\r\nEnter new password: ", "!new")},
            "!new": {"Secret-1": ("\r\nConfirm new password: ", "!confirm")},
            "!confirm": {"Secret-1": ("\r\nswitch# ", "home")},
            **_shell("switch# ", ("no page",), "show version", "ArubaOS-CX", {
                "home": {"configure terminal": ("\r\nswitch(config)# ", "conf")},
                "conf": {"hostname r1": ("\r\nr1(config)# ", "conf"), "end": ("\r\nr1# ", "home")},
            }),
        },
        typed=("admin", "Secret-1", "admin", "", "Secret-1", "Secret-1", "no page", "show version",
               "configure terminal", "hostname r1"),
        script=(Line("show version"), Line("hostname r1", prompt="configure")),
        answers=("ArubaOS-CX", ""),
    ),
    "routeros": Session(
        boot="\r\nMikroTik 7.16.2 (stable)\r\nMikroTik Login: ",
        replies={
            "login": {"admin+ct1000w": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nLogin failed, incorrect password\r\n\r\nMikroTik Login: ", "again")},
            "again": {"admin+ct1000w": ("\r\nPassword: ", "!empty")},
            "!empty": {"": ("\r\nChange your password\r\nnew password> ", "!new")},
            "!new": {"Secret-1": ("\r\nrepeat new password> ", "!repeat")},
            "!repeat": {"Secret-1": ("\r\n[admin@MikroTik] > ", "home")},
            "home": {"export": ("\r\n/system identity\r\nset name=r1\r\n[admin@MikroTik] > ", "home")},
        },
        typed=(),
        script=(Line("export"),),
        answers=("/system identity\nset name=r1",),
    ),
    "vyos": Session(
        boot="\r\nWelcome to VyOS - vyos ttyS0\r\n\r\nvyos login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nWelcome to VyOS!\r\nadmin@vyos:~$ ", "home")},
            **_shell("admin@vyos:~$ ", ("set terminal length 0", "set terminal width 500"),
                     "show configuration commands", "set system host-name 'vyos'", {
                "home": {"configure": ("\r\n[edit]\r\nadmin@vyos# ", "conf")},
                "conf": {"commit": ("\r\n[edit]\r\nadmin@vyos# ", "conf")},
            }),
        },
        typed=("admin", "Secret-1", "set terminal length 0", "set terminal width 500", "show configuration commands",
               "configure", "commit"),
        script=(Line("show configuration commands"), Line("commit", prompt="configure")),
        answers=("set system host-name 'vyos'", ""),
    ),
    "sonic": Session(
        boot="\r\nDebian GNU/Linux 12 sonic ttyS0\r\n\r\nsonic login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nLinux sonic 6.1\r\nadmin@sonic:~$ ", "home")},
            "home": {
                "*": ("\r\nadmin@sonic:~$ ", "home"),
                "sudo vtysh -c 'show running-config'": ("\r\nhostname sonic\r\nend\r\nadmin@sonic:~$ ", "home"),
                "sudo vtysh": ("\r\nHello, this is FRRouting.\r\n\r\nsonic# ", "vtysh"),
            },
            "vtysh": {"configure terminal": ("\r\nsonic(config)# ", "conf")},
            "conf": {"hostname r1": ("\r\nr1(config)# ", "conf")},
        },
        typed=("admin", "Secret-1", "stty cols 1000 2>/dev/null; export PAGER=cat SYSTEMD_PAGER=cat",
               "sudo vtysh -c 'show running-config'", "sudo vtysh", "configure terminal", "hostname r1"),
        script=(Line("sudo vtysh -c 'show running-config'"), Line("hostname r1", prompt="configure")),
        answers=("hostname sonic\nend", ""),
    ),
    "exos": Session(
        boot="\r\n(pending-AAA) login: \r\nThe node is now available for login.\r\n(pending-AAA) login: ",
        replies={
            "login": {"admin": ("\r\npassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nLogin incorrect\r\nlogin: ", "again")},
            "again": {"admin": ("\r\npassword: ", "!empty")},
            "!empty": {"": ("\r\nWould you like to disable MSTP? [y/N/q]: ", "ask")},
            "ask": {"q": ("\r\nEXOS-VM.1 # ", "home")},
            **_shell("EXOS-VM.2 # ", ("disable clipaging",), "show configuration", "configure snmp sysName x"),
        },
        typed=("admin", "Secret-1", "admin", "", "q", "disable clipaging", "show configuration"),
        script=(Line("show configuration"),),
        answers=("configure snmp sysName x",),
    ),
    "vrp": Session(
        boot="\r\n<HUAWEI>",
        replies=_shell("<HUAWEI>", ("screen-length 0 temporary",), "display version", "VRP (R) software", {
            "home": {"system-view": ("\r\nEnter system view\r\n[~HUAWEI]", "conf")},
            "conf": {"sysname r1": ("\r\n[*HUAWEI]", "conf"), "commit": ("\r\n[~r1]", "conf")},
        }),
        typed=("screen-length 0 temporary", "display version", "system-view", "sysname r1", "commit"),
        script=(Line("display version"), Line("sysname r1", prompt="configure"), Line("commit", prompt="configure")),
        answers=("VRP (R) software", "", ""),
        state="home",
    ),
    "os10": Session(
        boot="\r\nOS10 login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nloading-OS10# ", "loading")},
            "loading": {"": ("\r\nOS10# ", "home")},
            **_shell("OS10# ", ("terminal length 0",), "show version", "Dell SmartFabric OS10"),
        },
        typed=("admin", "Secret-1", "", "terminal length 0", "show version"),
        script=(Line("show version"),),
        answers=("Dell SmartFabric OS10",),
    ),
    "sdwan": Session(
        boot="\r\nviptela 20.12\r\n\r\nvsmart login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nWelcome to Viptela CLI\r\nvsmart# ", "home")},
            **_shell("vsmart# ", ("paginate false",), "show version", "20.12.1"),
        },
        typed=("admin", "Secret-1", "paginate false", "show version"),
        script=(Line("show version"),),
        answers=("20.12.1",),
    ),
    "cumulus": Session(
        boot="\r\nDebian GNU/Linux 10 cumulus ttyS0\r\n\r\ncumulus login: ",
        replies={
            **_login(login="cumulus login: "),
            "!empty": {"cumulus": ("\r\nYou are required to change your password.\r\nCurrent password: ", "!current")},
            "!current": {"cumulus": ("\r\nNew password: ", "!new")},
            "!new": {"Secret-1": ("\r\nRetype new password: ", "!confirm")},
            "!confirm": {"Secret-1": ("\r\nadmin@cumulus:mgmt:~$ ", "home")},
            "home": {
                "*": ("\r\nadmin@cumulus:mgmt:~$ ", "home"),
                "nv show system": ("\r\nhostname cumulus\r\nadmin@cumulus:mgmt:~$ ", "home"),
            },
        },
        typed=(),
        script=(Line("nv show system"),),
        answers=("hostname cumulus",),
    ),
    "openwrt": Session(
        boot="\r\n[    7.1] br-lan: port 1(eth0) entered\r\nPlease press Enter to activate this console.\r\n",
        replies={
            "login": {"": ("\r\nBusyBox v1.36\r\nroot@OpenWrt:/# ", "home")},
            "home": {
                "*": ("\r\nroot@OpenWrt:/# ", "home"),
                "uci show": ("\r\nsystem.ntp=timeserver\r\nroot@OpenWrt:/# ", "home"),
                "uci batch << 'WIRELOOM-END' && uci commit && reload_config": ("\r\n> ", "text"),
            },
            "text": {"*": ("\r\n> ", "text"), "WIRELOOM-END": ("\r\nroot@OpenWrt:/# ", "home")},
        },
        typed=("", "stty cols 1000 2>/dev/null; export PAGER=cat SYSTEMD_PAGER=cat", "uci show",
               "uci batch << 'WIRELOOM-END' && uci commit && reload_config", "set a.b=c", "set a.d=e", "WIRELOOM-END",
               "exit"),
        script=(Line("uci show"), Line("set a.b=c", prompt="configure"), Line("set a.d=e", prompt="configure")),
        answers=("system.ntp=timeserver", "", ""),
        leave=True,
    ),
    "srlinux": Session(
        boot="\r\nsrl login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\n--{ running }--[  ]--\r\nA:srl# ", "home")},
            "home": {
                "*": ("\r\n--{ running }--[  ]--\r\nA:srl# ", "home"),
                "info flat": ("\r\nset / system name host-name srl\r\n--{ running }--[  ]--\r\nA:srl# ", "home"),
            },
        },
        typed=("admin", "Secret-1", "environment cli-engine type basic", "environment complete-on-space false",
               "info flat"),
        script=(Line("info flat"),),
        answers=("set / system name host-name srl",),
    ),
    "sros": Session(
        boot="\r\nLogin: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\n\r\n[/]\r\nA:admin@vsr# ", "home")},
            "home": {
                "*": ("\r\n\r\n[/]\r\nA:admin@vsr# ", "home"),
                "show version": ("\r\nTiMOS-B-22.10.R3\r\n\r\n[/]\r\nA:admin@vsr# ", "home"),
            },
        },
        typed=("admin", "Secret-1", "environment more false", "show version"),
        script=(Line("show version"),),
        answers=("TiMOS-B-22.10.R3",),
    ),
    "ftd": Session(
        boot="\r\nfirepower login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nCisco Firepower Threat Defense\r\n> ", "home")},
            **_shell("> ", (), "show version", "Model : Cisco Firepower"),
        },
        typed=("admin", "Secret-1", "show version"),
        script=(Line("show version"),),
        answers=("Model : Cisco Firepower",),
    ),
    "opnsense": Session(
        boot="\r\nFreeBSD/amd64 (OPNsense.localdomain) (ttyu0)\r\n\r\nlogin: ",
        replies={
            "login": {"admin": ("\r\nPassword:", "!first")},
            "!first": {"Secret-1": ("\r\n  0) Logout\r\n  8) Shell\r\n\r\nEnter an option: ", "menu")},
            "menu": {"8": ("\r\n\r\nroot@OPNsense:~ # ", "home")},
            "home": {
                "*": ("\r\nroot@OPNsense:~ # ", "home"),
                "cat /conf/config.xml": ("\r\n<?xml version=\"1.0\"?>\r\nroot@OPNsense:~ # ", "home"),
            },
        },
        typed=("admin", "Secret-1", "8", "stty columns 1000", "cat /conf/config.xml"),
        script=(Line("cat /conf/config.xml"),),
        answers=('<?xml version="1.0"?>',),
    ),
    "arcos": Session(
        boot="\r\nlocalhost login: \r\nStarting Zero Touch Provisioning\r\n\r\nlocalhost login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nroot@localhost:~# ", "shell")},
            "shell": {"cli": ("\r\nWelcome to the ArcOS CLI\r\nroot@localhost# ", "home")},
            "home": {
                "*": ("\r\nroot@localhost# ", "home"),
                "show version": ("\r\nArcOS 5\r\nroot@localhost# ", "home"),
            },
        },
        typed=("admin", "Secret-1", "cli", "screen-length 0", "show version"),
        script=(Line("show version"),),
        answers=("ArcOS 5",),
    ),
    "bigip": Session(
        boot="\r\nlocalhost login: ",
        replies={
            **_login(),
            "!empty": {"default": ("\r\n(current) BIG-IP password: ", "!current")},
            "!current": {"default": ("\r\nNew BIG-IP password: ", "!new")},
            "!new": {"Secret-1": ("\r\nRetype new BIG-IP password: ", "!confirm")},
            "!confirm": {"Secret-1": ("\r\n[root@localhost:Active:Standalone] config # ", "shell")},
            "shell": {"tmsh": ("\r\nroot@(localhost)(cfg-sync Standalone)(Active)(/Common)(tmos)# ", "home")},
            "home": {
                "*": ("\r\nroot@(localhost)(cfg-sync Standalone)(Active)(/Common)(tmos)# ", "home"),
                "show sys version": (
                    "\r\nSys::Version\r\nroot@(localhost)(cfg-sync Standalone)(Active)(/Common)(tmos)# ", "home",
                ),
            },
        },
        typed=(),
        script=(Line("show sys version"),),
        answers=("Sys::Version",),
    ),
    "netscaler": Session(
        boot="\r\nlogin: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\n Done\r\n> ", "home")},
            "home": {
                "*": ("\r\n Done\r\n> ", "home"),
                "show ns version": ("\r\n\tNetScaler NS13.1\r\n Done\r\n> ", "home"),
            },
        },
        typed=("admin", "Secret-1", "set cli mode -page OFF", "show ns version"),
        script=(Line("show ns version"),),
        answers=("\tNetScaler NS13.1\n Done",),
    ),
    "voss": Session(
        boot="\r\nLogin: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nVOSS:1>", "user")},
            "user": {"enable": ("\r\nVOSS:1#", "home")},
            **_shell("VOSS:1#", ("terminal more disable",), "show sys-info", "SysName : VOSS"),
        },
        typed=("admin", "Secret-1", "enable", "terminal more disable", "show sys-info"),
        script=(Line("show sys-info"),),
        answers=("SysName : VOSS",),
    ),
    "ocnos": Session(
        boot="\r\nOcNOS login: ",
        replies={
            "login": {"admin": ("\r\nPassword: ", "!first")},
            "!first": {"Secret-1": ("\r\nOcNOS>", "user")},
            "user": {"enable": ("\r\nOcNOS#", "home")},
            **_shell("OcNOS#", ("terminal length 0",), "show version", "OcNOS 6.5"),
        },
        typed=("admin", "Secret-1", "enable", "terminal length 0", "show version"),
        script=(Line("show version"),),
        answers=("OcNOS 6.5",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_a_command_line_is_reached_and_a_command_answers(name: str, cut: Cut) -> None:
    session = SESSIONS[name]
    guest = Guest(boot=session.boot, state=session.state, replies=session.replies)
    script = Script(session.script, leave=session.leave)
    talked = talk(command_line(name), guest, script, VALUES, cut=cut)
    assert tuple(answer.text for answer in talked.outcome.answers) == session.answers
    assert not any(answer.refused for answer in talked.outcome.answers)
    if session.typed:
        assert tuple(talked.typed) == session.typed
