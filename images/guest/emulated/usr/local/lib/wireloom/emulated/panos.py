"""Palo Alto PAN-OS, as a VM-Series firewall."""

from __future__ import annotations

import re

from .machine import Machine, Medium, Result
from .persona import Persona, collect
from .script import CTRL_C, CTRL_D, Flush, ReadLine, Say, Schedule, Script, Sleep, page
from .xml_tree import Elements

__all__ = ["PANOS"]

_FACTORY = (
    '<config version="10.1.0" urldb="paloaltonetworks"><mgt-config><users><entry name="admin"><permissions>'
    "<role-based><superuser>yes</superuser></role-based></permissions></entry></users></mgt-config>"
    '<devices><entry name="localhost.localdomain"><deviceconfig><system><hostname>PA-VM</hostname>'
    "<type><dhcp-client/></type></system></deviceconfig></entry></devices></config>"
)
_BOOTSTRAP = ("bootstrap",)
_SYSTEM = ("config", "devices", "entry localhost.localdomain", "deviceconfig", "system")
_UNKNOWN = "Invalid syntax.\n\n"


class PANOS(Persona):
    """Logins that change while it boots, a forced change of password, a candidate that is committed slowly."""

    name = "panos"
    factory_hostname = "PA-VM"
    factory_accounts = {"admin": "admin"}
    media = (Medium("config/bootstrap.xml", labels=_BOOTSTRAP),)
    _names = Medium("config/init-cfg.txt", labels=_BOOTSTRAP)

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.running = Elements()

    def start_configuration(self) -> None:
        """Factory settings, what is saved, the medium."""
        first = self.first_configuration()
        saved = self.machine.host.load("running-config.xml")
        self.running.parse(first or saved or _FACTORY)
        names = self.machine.host.read(self._names)
        if first is not None or saved is None:
            for found in re.finditer(r"(?m)^hostname=(\S+)", names or ""):
                self.running.set([*_SYSTEM, "hostname"], found[1])
        password = self.machine.host.load("admin-password")
        if password is not None:
            self.machine.accounts["admin"] = password
        self.apply()

    def apply(self) -> None:
        """Take over names and accounts."""
        self.machine.hostname = self.running.value([*_SYSTEM, "hostname"]) or self.factory_hostname
        users = self.running.at(["config", "mgt-config", "users"])
        for entry in users.children if users is not None else ():
            name = entry.removeprefix("entry ")
            secret = self.running.value(["config", "mgt-config", "users", entry, "phash"])
            if secret:
                self.machine.account(name, secret)

    @property
    def must_change(self) -> bool:
        """Whether the factory's password is still in force."""
        return self.machine.accounts.get("admin") == "admin"

    def console(self) -> Script[None]:
        yield Say("\nPAN-OS (emulation for tests)\nStarting PAN Software: [  OK  ]\n", 4000)
        yield Sleep(0.2)
        # Logins at these names are refused: the management plane does not run yet.
        yield Say("\nvm login: ")
        yield Sleep(0.8)
        self.start_configuration()
        yield Say("\n\nPA-HDF login: ")
        yield Sleep(0.8)
        yield Say("\n")
        self.machine.booted = True
        while True:
            yield Flush()
            user = yield from self.login(f"\n{self.machine.hostname} login: ", refusal="\nLogin incorrect\n")
            if user == "admin" and self.must_change and not (yield from self._change_password()):
                continue
            yield Schedule(0.3, "Jan  1 00:01:01 PA-VM mgmtsrvr[2345]: Autocommit job succeeded")
            yield from PanSession(self, user, console=True).play()

    def _change_password(self) -> Script[bool]:
        old = yield ReadLine("Enter old password : ", echo=False)
        first = yield ReadLine("Enter new password : ", echo=False)
        second = yield ReadLine("Confirm password   : ", echo=False)
        if old != self.machine.accounts["admin"] or first != second or len(first) < 8:
            yield Say("\nPassword change failed.\n")
            return False
        self.machine.account("admin", first)
        self.machine.host.save("admin-password", first)
        yield Say("Password changed\n\n\n")
        return True

    def remote(self, user: str) -> Script[None]:
        yield Say("\n\nNumber of failed attempts since last successful login: 0\n\n\n")
        yield from PanSession(self, user, console=False).play()

    def execute(self, user: str, command: str, stdin: str = "") -> Result:
        """PAN-OS opens its command line whatever command SSH is given, and reads its input."""
        session = PanSession(self, user, console=False)
        session.length = 0
        printed = ""
        for line in [*command.splitlines(), *stdin.splitlines()]:
            printed += f"{session.prompt()}{line}\n{collect(session.command(line))}"
        return Result(printed)


class PanSession:
    """The CLI of one user."""

    def __init__(self, device: PANOS, user: str, *, console: bool) -> None:
        self.device = device
        self.user = user
        self.console = console
        self.length = 24
        self.form = "default"
        self.candidate: Elements | None = None
        self.over = False

    def prompt(self) -> str:
        """``admin@PA-VM>``, or ``#`` below ``[edit]``."""
        name = f"{self.user}@{self.device.machine.hostname}"
        return f"{name}> " if self.candidate is None else f"[edit]                                      \n{name}# "

    def play(self) -> Script[None]:
        """Prompt and obey until ``exit``."""
        while not self.over:
            line = yield ReadLine(self.prompt())
            yield from self.command(line)

    def command(self, line: str) -> Script[None]:
        """One line."""
        line = line.strip()
        if line in {"", CTRL_C, CTRL_D}:
            return
        if line.startswith("set cli "):
            self._set_cli(line)
        elif self.candidate is None:
            yield from self._operate(line)
        else:
            yield from self._edit(self.candidate, line)

    def _set_cli(self, line: str) -> None:
        if line.startswith(("set cli pager off", "set cli scripting-mode on")):
            self.length = 0
        elif (form := re.match(r"set cli config-output-format (\S+)", line)) is not None:
            self.form = form[1]

    def _operate(self, line: str) -> Script[None]:
        device = self.device
        if line in {"exit", "quit"}:
            self.over = True
        elif line == "configure":
            self.candidate = device.running.copy()
            yield Say("Entering configuration mode\n")
        elif line == "show config running":
            yield from self._answer(_shown(device.running, "xml" if self.form == "default" else self.form))
        elif line == "show system info":
            yield from self._answer(
                f"\nhostname: {device.machine.hostname}\nmodel: PA-VM\nsw-version: 10.1.0\nThis is an emulation for tests.\n\n"
            )
        elif line == "show jobs processed":
            yield Say(
                "\nEnqueued              Dequeued           ID                              Type                         Status Result Completed\n"
                "------------------------------------------------------------------------------------------------------------------------------\n"
                "2026/01/01 00:00:50   00:00:50            1                           AutoCom                            FIN     OK 00:01:01\n\n"
            )
        elif line == "request restart system":
            if (
                yield ReadLine(
                    "Executing this command will disconnect the current session. Do you want to continue? (y or n) "
                )
            ) == "y":
                device.machine.host.restart()
        else:
            yield Say(_UNKNOWN)

    def _edit(self, candidate: Elements, line: str) -> Script[None]:
        verb, _, rest = line.partition(" ")
        words = re.findall(r'"[^"]*"|\S+', rest)
        if verb in {"exit", "quit"}:
            self.candidate = None
            yield Say("Exiting configuration mode\n")
        elif verb == "set" and words:
            candidate.set_words([word.strip('"') for word in words])
        elif verb == "delete" and words:
            candidate.delete_words([word.strip('"') for word in words])
        elif verb == "commit":
            yield from self._commit(candidate)
        elif verb == "show":
            yield from self._answer(_shown(candidate, "set" if self.form == "set" else "xml"))
        elif verb == "run":
            yield from self._operate(rest)
        else:
            yield Say(_UNKNOWN)

    def _commit(self, candidate: Elements) -> Script[None]:
        yield Say("\nCommit job 2 is in progress. Use Ctrl+C to return to command prompt\n")
        for percent in ("...", "...55%", "...75%", "...98%"):
            yield Say(percent, 200)
        yield Say(".......100%\nConfiguration committed successfully\n\n")
        self.device.running = candidate.copy()
        self.device.apply()
        self.device.machine.host.save("running-config.xml", self.device.running.text())

    def _answer(self, text: str) -> Script[None]:
        rate = 6000 if self.console else 0
        yield from page(text, length=self.length, more="lines 1-24 ", erase="\r\x1b[K", rate=rate)


def _shown(elements: Elements, form: str) -> str:
    return "\n".join(elements.set_lines()) + "\n" if form == "set" else elements.text()
