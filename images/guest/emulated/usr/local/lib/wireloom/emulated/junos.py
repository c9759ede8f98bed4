"""Juniper Junos, as a vJunos switch, router or vSRX."""

from __future__ import annotations

import re

from .junos_tree import Statements
from .machine import Machine, Medium, Result
from .netconf import serve_netconf
from .persona import Persona, collect
from .script import CTRL_C, CTRL_D, Flush, ReadLine, Say, Schedule, Script, Sleep, page

__all__ = ["Junos"]

_FACTORY = """
version 23.2R1.15;
system {
    syslog { file messages { any notice; authorization info; } }
    services { web-management { http; } }
}
chassis { fpc 0 { pic 0 { number-of-ports 12; } } }
interfaces { fxp0 { unit 0 { family inet { dhcp; } } } }
"""
_UNKNOWN = "          ^\nunknown command.\n\n"
_MORE = "---(more)---"


class Junos(Persona):
    """A shell for root, ``cli``, a candidate that is committed, configurations pasted or set."""

    name = "junos"
    factory_accounts = {"root": ""}
    media = (
        Medium("config/juniper.conf", labels=("vmm-data",), archive="vmm-config.tgz", kinds=("vfat",)),
        Medium("juniper.conf"),
        Medium("config/startup-config.cfg", kinds=("folder",)),
    )

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.running = Statements()

    # -- configuration ---------------------------------------------------------------------------------------

    def start_configuration(self) -> None:
        """Factory settings, or what is saved or on a medium in their place."""
        first = self.first_configuration()
        text = first if first is not None else self.machine.host.load("juniper.conf")
        try:
            self.running.parse(text if text is not None else _FACTORY)
        except ValueError:
            self.running = Statements()
            self.running.parse(_FACTORY)
        self.apply()

    def apply(self) -> None:
        """Take over names and accounts."""
        self.machine.hostname = self.running.value("system", "host-name")
        root = self._secret("system", "root-authentication")
        if root:
            self.machine.account("root", root)
        login = self.running.find("system", "login")
        for name in login.children if login is not None else ():
            if name.startswith("user ") and (secret := self._secret("system", "login", name, "authentication")):
                self.machine.account(name.removeprefix("user "), secret)

    def _secret(self, *path: str) -> str:
        plain = self.running.value(*path, "plain-text-password-value")
        return plain or self.running.value(*path, "encrypted-password")

    def commit(self, candidate: Statements) -> str:
        """Put a candidate in force; what is said."""
        if candidate.find("system", "root-authentication") is None:
            return (
                "[edit]\n  'system'\n    Missing mandatory statement: 'root-authentication'\n"
                "error: commit failed: (missing mandatory statements)\n"
            )
        self.running = candidate.copy()
        self.apply()
        self.machine.host.save("juniper.conf", self.text())
        return "commit complete\n"

    def text(self) -> str:
        """The configuration in braces."""
        return "\n".join(self.running.lines()) + "\n"

    def show_configuration(self) -> str:
        """``show configuration``."""
        return f"## Last commit: 2026-01-01 00:02:02 UTC by root\n{self.text()}"

    def show_version(self) -> str:
        """``show version``."""
        name = f"Hostname: {self.machine.hostname}\n" if self.machine.hostname else ""
        return f"{name}Model: vjunos-switch\nJunos: 23.2R1.15\nThis is an emulation for tests.\n"

    # -- sessions --------------------------------------------------------------------------------------------

    def console(self) -> Script[None]:
        yield Say("\nBooting (emulation for tests)\nFreeBSD/amd64 bootstrap loader, Revision 1.1\n", 4000)
        yield Sleep(0.3)
        yield Say("Loading configuration ...\n", 2000)
        self.start_configuration()
        yield Say("Thu Jan  1 00:00:40 UTC 2026\n\n\nFreeBSD/amd64 (ttyu0)\n\n", 4000)
        self.machine.booted = True
        while True:
            yield Flush()
            name = self.machine.hostname
            yield Say(f"{name or 'Amnesiac'} (ttyu0)\n\n")
            if not name:
                yield Schedule(0.4, "Auto Image Upgrade: DHCP INET Client Bound interfaces : fxp0.0")
            user = yield from self.login("login: ", refusal="Login incorrect\n", password_prompt="Password:")
            yield Say(
                "\nLast login: Thu Jan  1 00:01:00 on ttyu0\n--- JUNOS 23.2R1.15 Kernel 64-bit (emulation for tests)\n"
            )
            yield from (self._shell() if user == "root" else JunosSession(self, user, console=True).play())

    def _shell(self) -> Script[None]:
        while True:
            line = (yield ReadLine(f"root@{self.machine.hostname or ''}:~ # ")).strip()
            if line in {"exit", "logout", CTRL_D}:
                return
            if line == "cli":
                yield from JunosSession(self, "root", console=True).play()
            elif line.startswith("cli -c"):
                yield Say(self.execute("root", line).text)
            elif line not in {"", CTRL_C}:
                yield Say(f"{line.split()[0]}: Command not found.\n")

    def remote(self, user: str) -> Script[None]:
        yield Say("--- JUNOS 23.2R1.15 Kernel 64-bit (emulation for tests)\n")
        yield from (self._shell() if user == "root" else JunosSession(self, user, console=False).play())

    def execute(self, user: str, command: str, stdin: str = "") -> Result:
        inner = re.fullmatch(r"cli -c (['\"])(.*)\1", command.strip(), re.DOTALL)
        session = JunosSession(self, user, console=False)
        session.length = 0
        typed = iter(stdin.splitlines())
        lines = re.split(r"[;\n]\s*", inner[2] if inner else command)
        printed = "".join(collect(session.command(line), typed) for line in lines)
        # A shell without a command reads what to do from its input.
        printed += "".join(collect(session.command(line), typed) for line in typed)
        return Result(printed, 1 if "unknown command" in printed or "error:" in printed else 0)

    def netconf(self, user: str) -> Script[None] | None:
        return serve_netconf(self.text)


class JunosSession:
    """The CLI of one user."""

    def __init__(self, device: Junos, user: str, *, console: bool) -> None:
        self.device = device
        self.user = user
        self.console = console
        self.length = 24
        self.candidate: Statements | None = None
        self.over = False

    def prompt(self) -> str:
        """``user@host>`` or, configuring, ``user@host#`` below the level at hand."""
        host = self.device.machine.hostname
        name = f"{self.user}@{host}" if host else self.user
        return f"\n{name}> " if self.candidate is None else f"\n[edit]\n{name}# "

    def play(self) -> Script[None]:
        """Prompt and obey until ``exit``."""
        while not self.over:
            line = yield ReadLine(self.prompt())
            yield from self.command(line)

    def command(self, line: str) -> Script[None]:
        """One line."""
        line = line.strip()
        if line in {"", CTRL_C, CTRL_D} or line.startswith("#"):
            return
        line, _, pipe = (part.strip() for part in line.partition("|"))
        if self.candidate is None:
            yield from self._operate(line, pipe)
        else:
            yield from self._edit(self.candidate, line, pipe)

    def _operate(self, line: str, pipe: str) -> Script[None]:
        device = self.device
        if line in {"exit", "quit"}:
            self.over = True
        elif line in {"configure", "edit", "configure exclusive", "configure private"}:
            self.candidate = device.running.copy()
            yield Say("Entering configuration mode\n")
        elif (length := re.match(r"set cli screen-length (\d+)", line)) is not None:
            self.length = int(length[1])
            yield Say(f"Screen length set to {length[1]}\n")
        elif line.startswith("set cli "):
            yield Say("Screen width set to 0\n" if "width" in line else "")
        elif line == "show configuration":
            text = device.show_configuration()
            if "display set" in pipe:
                text = "\n".join(device.running.set_lines()) + "\n"
            if self.console:
                yield Schedule(0.1, "Jan  1 00:01:01   mgd[1234]: UI_CHILD_EXITED: Child exited: PID 4711, status 7")
            yield from self._answer(text, pipe)
        elif line == "show version":
            yield from self._answer(device.show_version(), pipe)
        else:
            yield from self._request(line)

    def _request(self, line: str) -> Script[None]:
        if line != "request system reboot":
            yield Say(_UNKNOWN)
        elif (yield ReadLine("Reboot the system ? [yes,no] (no) ")).strip() == "yes":
            self.device.machine.host.restart()

    def _edit(self, candidate: Statements, line: str, pipe: str) -> Script[None]:
        verb, _, rest = line.partition(" ")
        if verb == "set":
            candidate.set(_words(rest))
        elif verb == "delete":
            candidate.delete(_words(rest))
        elif verb == "load":
            yield from self._load(candidate, rest)
        elif verb == "commit":
            said = self.device.commit(candidate)
            yield Sleep(0.2)
            yield Say(said)
            if "and-quit" in rest and said.startswith("commit complete"):
                yield from self._leave()
        elif verb in {"exit", "quit"}:
            yield from self._exit(candidate)
        else:
            yield from self._other(candidate, line, pipe)

    def _other(self, candidate: Statements, line: str, pipe: str) -> Script[None]:
        verb, _, rest = line.partition(" ")
        if verb == "rollback":
            self.candidate = self.device.running.copy()
            yield Say("load complete\n")
        elif verb == "show":
            yield from self._answer("\n".join(candidate.lines()) + "\n", pipe)
        elif verb == "run":
            yield from self._operate(rest, pipe)
        elif verb not in {"top", "edit"}:
            yield Say(_UNKNOWN)

    def _load(self, candidate: Statements, how: str) -> Script[None]:
        """``load override|merge|replace|set terminal``: what is pasted until Ctrl-D."""
        yield Say("[Type ^D at a new line to end input]\n")
        pasted: list[str] = []
        while (line := (yield ReadLine())) not in {CTRL_D, CTRL_C}:
            pasted.append(line)
        new = Statements() if how.startswith("override") else candidate.copy()
        try:
            if how.startswith("set"):
                for line in pasted:
                    verb, _, rest = line.strip().partition(" ")
                    (new.delete if verb == "delete" else new.set)(_words(rest))
            else:
                new.parse("\n".join(pasted))
        except ValueError as error:
            yield Say(f"terminal:1:(1) {error}\nload complete (1 errors)\n")
            return
        self.candidate = new
        yield Say("load complete\n")

    def _exit(self, candidate: Statements) -> Script[None]:
        if list(candidate.lines()) != list(self.device.running.lines()):
            question = (
                "The configuration has been changed but not committed\nExit with uncommitted changes? [yes,no] (yes) "
            )
            if (yield ReadLine(question)).strip() == "no":
                return
        yield from self._leave()

    def _leave(self) -> Script[None]:
        self.candidate = None
        yield Say("Exiting configuration mode\n")

    def _answer(self, text: str, pipe: str) -> Script[None]:
        length = 0 if "no-more" in pipe else self.length
        rate = 6000 if self.console else 0
        yield from page(text, length=length, more=_MORE, erase="\r" + " " * 40 + "\r", rate=rate)


def _words(text: str) -> list[str]:
    return re.findall(r'"(?:\\.|[^"\\])*"|\S+', text.rstrip(";"))
