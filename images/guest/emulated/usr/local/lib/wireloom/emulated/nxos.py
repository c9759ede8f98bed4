"""Cisco NX-OS, as a Nexus 9000v."""

from __future__ import annotations

import re

from .cisco_like import CiscoLike, Session
from .machine import Medium
from .script import Flush, ReadLine, Say, Script, Sleep

__all__ = ["NXOS"]

_POAP = (
    "Abort Power On Auto Provisioning [yes - continue with normal setup, skip - bypass password and basic configuration, "
    "no - continue with Power On Auto Provisioning] (yes/skip/no)[no]: "
)
_POAP_NOISE = (
    "2026 Jan  1 00:00:30 switch %$ VDC-1 %$ %POAP-2-POAP_DHCP_DISCOVER_START: POAP DHCP Discover phase started"
)
_FACTORY = (
    """version 10.3(1) Bios:version
feature telnet
no password strength-check
vrf context management
"""
    + "".join(f"interface Ethernet1/{n}\n switchport\n" for n in range(1, 9))
    + "interface mgmt0\n vrf member management\n"
)


class NXOS(CiscoLike):
    """POAP, forced password, setup dialog, login."""

    name = "nxos"
    factory_hostname = "switch"
    media = (Medium("nxos_config.txt"),)
    factory_config = _FACTORY
    executes_anywhere = True
    more = "--More--"
    erase = "\r" + " " * 8 + "\r"
    refusal = "                          ^\n% Invalid command at '^' marker.\n"
    saved_text = "\r[#                                       ]   1%\r[########################################] 100%\nCopy complete, now saving to disk (please wait)...\nCopy complete.\n"
    noise = ("2026 Jan  1 00:01:01 switch %$ VDC-1 %$ %LLDP-5-SERVER_ADDED: Server with Chassis ID 0c00 joined",)
    configured = (
        "2026 Jan  1 00:02:02 switch %$ VDC-1 %$ %VSHD-5-VSHD_SYSLOG_CONFIG_I: Configured from vty by admin on console0"
    )
    version_text = (
        "Cisco Nexus Operating System (NX-OS) Software\nThis is an emulation for tests.\n\nSoftware\n"
        "  NXOS: version 10.3(1)\nHardware\n  cisco Nexus9000 C9300v Chassis\n  Device name: {hostname}\n"
        "Kernel uptime is 0 day(s), 0 hour(s), 1 minute(s), 2 second(s)\n"
    )

    def console(self) -> Script[None]:
        yield Say("\nNX-OS 9000v (emulation for tests)\nLoader Version 5.9.0\n", 4000)
        yield Sleep(0.3)
        yield Say(
            "Mounting filesystems... done\n2026 Jan  1 00:00:20 switch %$ VDC-1 %$ %DAEMON-2-SYSTEM_MSG: Starting sshd\n",
            4000,
        )
        configured = self.start_configuration()
        if not configured or not self.machine.accounts:
            yield from self._provision()
        self.machine.booted = True
        while True:
            yield from self._line()

    def _provision(self) -> Script[None]:
        yield Say(f"{_POAP_NOISE}\n")
        answer = ""
        for _ in range(100):
            answer = (yield ReadLine(_POAP)).strip()
            if answer in {"y", "yes", "skip"}:
                break
            yield Say(f"{_POAP_NOISE}\n")
        yield Say(
            "Disabling POAP.......Disabling POAP\npoap: Rolling back, please wait... (This may take 5-15 minutes)\n",
            4000,
        )
        yield Sleep(0.5)
        if answer != "skip":
            yield from self._first_password()
        if not self.machine.accounts:
            self.machine.account("admin", "")
        yield Say("\n\n")

    def _first_password(self) -> Script[None]:
        yield Flush()
        yield Say("\n\n         ---- System Admin Account Setup ----\n\n\n")
        while True:
            strict = yield ReadLine("Do you want to enforce secure password standard (yes/no) [y]: ")
            first = yield ReadLine('\n  Enter the password for "admin": ', echo=False)
            second = yield ReadLine('  Confirm the password for "admin": ', echo=False)
            if first != second:
                yield Say("password mismatch\n")
            elif strict.strip() not in {"n", "no"} and not _is_strong(first):
                yield Say("Password is weak: Password should contain characters from at least three classes\n")
            elif first:
                break
        self.enter(self.running, [], f"username admin password 0 {first} role network-admin")
        self.apply()
        yield Say("\n         ---- Basic System Configuration Dialog VDC: 1 ----\n\n")
        yield ReadLine("Would you like to enter the basic configuration dialog (yes/no): ")

    def _line(self) -> Script[None]:
        yield Flush()
        yield Say("\n\nUser Access Verification\n")
        user = yield from self.login(f"{self.machine.hostname} login: ", refusal="Login incorrect\n\n")
        yield Say("\nCisco NX-OS Software (emulation for tests)\nCopyright (c) 2002-2026 none\n")
        yield from Session(self, console=True, privileged=True, user=user).play()

    def on_configure(self, session: Session) -> Script[None]:
        yield Say("Enter configuration commands, one per line. End with CNTL/Z.\n")

    def show_running(self) -> str:
        return f"\n!Command: show running-config\n!Running configuration last done at: Thu Jan  1 00:02:02 2026\n!Time: Thu Jan  1 00:02:10 2026\n\n{self.text()}\n"


def _is_strong(password: str) -> bool:
    return (
        len(password) >= 8
        and sum(bool(re.search(kind, password)) for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^a-zA-Z0-9]")) >= 3
    )
