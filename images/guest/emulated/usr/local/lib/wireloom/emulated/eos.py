"""Arista EOS: a container with a flash folder (cEOS), or a machine with a CD (vEOS)."""

from __future__ import annotations

import re

from .cisco_like import CiscoLike, Session
from .machine import Medium, Result
from .persona import collect
from .script import Flush, Say, Script, Sleep
from .tree import Tree

__all__ = ["EOS"]

_FACTORY = (
    "transceiver qsfp default-mode 4x10G\nspanning-tree mode mstp\n"
    + "".join(f"interface Ethernet{n}\n" for n in range(1, 9))
    + "interface Management0\nno ip routing\n"
)


class EOS(CiscoLike):
    """Login ``admin`` without password, ``enable`` without password."""

    name = "eos"
    factory_hostname = "localhost"
    factory_accounts = {"admin": ""}
    media = (
        Medium("mnt/flash/startup-config", kinds=("folder",)),
        Medium("veos_usr.dat", labels=("ARISTA_CONFIG_DRIVE",)),
        Medium("startup-config"),
    )
    factory_config = _FACTORY
    executes_anywhere = True
    refusal = "% Invalid input\n"
    saved_text = "Copy completed successfully.\n"
    noise = ("Jan  1 00:01:01 localhost Lldp: %LLDP-5-NEIGHBOR_NEW: LLDP neighbor added on interface Ethernet1",)
    configured = "Jan  1 00:02:02 localhost ConfigAgent: %SYS-5-CONFIG_I: Configured from console by admin on ttyS0"
    version_text = (
        "Arista vEOS-lab\nThis is an emulation for tests.\nHardware version: \nSerial number: \n"
        "Hardware MAC address: 0011.2233.4455\n\nSoftware image version: 4.32.0F\nArchitecture: x86_64\n\nUptime: 1 minute\n"
    )

    def console(self) -> Script[None]:
        yield Say("\nAboot (emulation for tests)\nWelcome to Arista Networks EOS 4.32.0F\n", 4000)
        yield Sleep(0.3)
        configured = self.start_configuration()
        if not configured:
            yield Say("%ZTP-6-CANCEL: Zero Touch Provisioning is disabled\n")
        yield Say(
            "Jan  1 00:00:20 localhost ConfigAgent: %SYS-5-CONFIG_I: Configured from startup-config by root\n", 4000
        )
        yield Say("Jan  1 00:00:21 localhost EosInit: %SYS-5-SYSTEM_INITIALIZED: System initialized\n", 4000)
        self.machine.booted = True
        while True:
            yield Flush()
            yield Say("\n\n")
            user = yield from self.login(f"{self.machine.hostname} login: ", refusal="\nLogin incorrect\n")
            yield Say("Last login: Thu Jan  1 00:00:30 UTC 2026 on ttyS0\n")
            yield from Session(self, console=True, privileged=False, user=user).play()

    def remote(self, user: str) -> Script[None]:
        yield Say("Last login: Thu Jan  1 00:00:30 UTC 2026 from 172.20.20.1\n")
        level = self.machine.privileges.get(user, 1)
        yield from Session(self, console=False, privileged=level >= 15, user=user).play()

    def execute(self, user: str, command: str, stdin: str = "") -> Result:
        session = Session(self, console=False, privileged=True, user=user)
        session.length = 0
        lines = [*command.splitlines(), *stdin.splitlines()] or [""]
        printed = "".join(collect(session.command(line)) for line in lines)
        return Result(printed, 1 if self.refusal in printed else 0)

    def own_command(self, session: Session, line: str) -> Script[bool]:
        """``configure replace flash:FILE``: the file's configuration in place of the running one."""
        named = re.fullmatch(r"configure replace flash:(\S+)", line)
        if named is None:
            return False
        text = self.machine.host.read(Medium(f"mnt/flash/{named[1]}", kinds=("folder",)))
        if text is None:
            yield Say(f"% Error opening flash:{named[1]} (No such file or directory)\n{self.refusal}")
            return True
        self.running = Tree()
        self.load(self.factory_config)
        self.load(text)
        self.apply()
        return True

    def show_running(self) -> str:
        body = "\n".join(self.running.lines(indent="   ")) + "\n"
        return f"! Command: show running-config\n! device: {self.machine.hostname} (vEOS-lab, EOS-4.32.0F)\n!\n{body}!\nend\n"
