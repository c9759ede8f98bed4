"""Cisco ASA, as an ASAv."""

from __future__ import annotations

from .cisco_like import CiscoLike, Session
from .machine import Machine, Medium
from .script import ReadLine, Say, Script, Sleep

__all__ = ["ASA"]

_FACTORY = (
    "".join(
        f"interface GigabitEthernet0/{n}\n shutdown\n no nameif\n no security-level\n no ip address\n" for n in range(4)
    )
    + "interface Management0/0\n management-only\n shutdown\n no nameif\n no security-level\n no ip address\n"
    + ("ftp mode passive\npager lines 23\n")
)


class ASA(CiscoLike):
    """No login on the console; an enable password that has to be set first; a question before configuration."""

    name = "asa"
    factory_hostname = "ciscoasa"
    media = (Medium("day0-config"),)
    factory_config = _FACTORY
    executes_anywhere = True
    more = "<--- More --->"
    erase = "\r" + " " * 14 + "\r"
    refusal = "                  ^\nERROR: % Invalid input detected at '^' marker.\n"
    saved_text = "Building configuration...\nCryptochecksum: 5ecb1a2b 3c4d5e6f 70818293 a4b5c6d7\n\n1234 bytes copied in 0.10 secs\n[OK]\n"
    version_text = (
        "Cisco Adaptive Security Appliance Software Version 9.18(2)\nThis is an emulation for tests.\n\n"
        "{hostname} up 1 min 2 secs\n\nHardware:   ASAv, 2048 MB RAM\n"
    )

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._asked_to_report = False

    def console(self) -> Script[None]:
        yield Say("\nBooting ASAv (emulation for tests)\nLoading disk0:/asa9182-smp-k8.bin...\n", 4000)
        yield Sleep(0.3)
        configured = self.start_configuration()
        if configured:
            yield Say("INFO: Converting to disk0:/day0-config... done\nReading from flash...\n!.\n", 4000)
        yield Say(
            "Cryptochecksum (changed): d41d8cd9 8f00b204 e9800998 ecf8427e\n\nINFO: Power-On Self-Test in process.\n",
            4000,
        )
        yield Say("...................\nINFO: Power-On Self-Test complete.\n", 400)
        yield Say(
            "\nUser enable_1 logged in to ciscoasa\nLogins over the last 1 days: 1.\nType help or '?' for a list of available commands.\n"
        )
        self.machine.booted = True
        while True:
            yield from Session(self, console=True, privileged=False, user="enable_1").play()
            yield Say("\nLogoff\n\n")

    def remote(self, user: str) -> Script[None]:
        yield Say(
            f"User {user} logged in to {self.machine.hostname}\nType help or '?' for a list of available commands.\n"
        )
        yield from Session(self, console=False, privileged=False, user=user).play()

    def enable(self, session: Session) -> Script[None]:
        secrets = [found[1] for found in self.running.values(r"enable (?:secret|password) (\S+)")]
        if not secrets:
            yield Say("The enable password is not set.  Please set it now.\n")
            while not secrets:
                first = yield ReadLine("Enter  Password: ", echo=False, mask="*")
                second = yield ReadLine("Repeat Password: ", echo=False, mask="*")
                if first == second and len(first) >= 3:
                    secrets = [first]
                    self.running.enter([], f"enable password {first}")
                else:
                    yield Say("ERROR: Passwords do not match or are too short.\n")
            yield Say(
                'Note: Save your configuration so that the password persists across reboots\n("write memory" or "copy running-config startup-config").\n'
            )
            session.privileged = True
            return
        for _ in range(3):
            typed = yield ReadLine("Password: ", echo=False, mask="*")
            if typed == secrets[0]:
                session.privileged = True
                return
            yield Say("Invalid password\n")
        yield Say("Access denied.\n")

    def on_configure(self, session: Session) -> Script[None]:
        if self._asked_to_report or self.startup is not None:
            return
        self._asked_to_report = True
        yield Say(
            "\n***************************** NOTICE *****************************\n\n"
            "Help to improve the ASA platform by enabling anonymous reporting.\n\n"
        )
        yield ReadLine(
            "Would you like to enable anonymous error reporting to help improve\nthe product? [Y]es, [N]o, [A]sk later: "
        )
        yield Say(
            '\nIn the future, if you would like to enable this feature,\nissue the command "call-home reporting anonymous".\n\n'
        )

    def show_running(self) -> str:
        return f": Saved\n\n: \n: Serial Number: 9AEMULATION\n: Hardware:   ASAv, 2048 MB RAM\n:\nASA Version 9.18(2) \n!\n{self.text()}Cryptochecksum:5ecb1a2b3c4d5e6f70818293a4b5c6d7\n: end\n"
