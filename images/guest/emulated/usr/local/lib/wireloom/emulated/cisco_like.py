"""Command lines with user, privileged and configuration mode over a configuration of indented lines."""

from __future__ import annotations

import re

from .machine import Machine, Result
from .persona import Persona, abbreviates, collect
from .script import CTRL_C, CTRL_D, ReadLine, Say, Schedule, Script, page
from .tree import Tree

__all__ = ["CiscoLike", "Session"]

#: What texts of configurations hold beside configuration.
_NO_LINES = ("Building configuration", "Current configuration", "echo ", ":", "Cryptochecksum", "ASA Version")
#: Lines that belong to the top level wherever they are typed.
_TOP = re.compile(
    r"(no )?(hostname|switchname|username|ip (route|domain|ssh|http|name-server)|ntp|snmp-server|aaa|service|enable"
    r"|feature|crypto|license|platform|netconf-yang|restconf|ssh|telnet|banner|xml|grpc|lldp|cdp) "
)


class CiscoLike(Persona):
    """A device of this family.

    :cvar more: the pager's prompt; ``erase`` is what takes it away again.
    :cvar length: lines of a screen. :cvar rate: characters a second that the console prints of an answer.
    :cvar parents: lines that open a sub-mode, and the name of that mode. :cvar words: first words of configuration lines.
    :cvar refusal: what it says of a line that it does not know.
    :cvar noise: syslog that comes in between an answer; ``configured`` is what follows a change.
    :cvar executes_anywhere: commands may be given while configuring.
    :cvar candidate: changes take effect with ``commit``.
    """

    more = " --More-- "
    erase = "\b" * 10 + " " * 10 + "\b" * 10
    length = 24
    rate: float = 6000
    parents: tuple[tuple[str, str], ...] = (
        (r"interface ", "if"),
        (r"router ", "router"),
        (r"line ", "line"),
        (r"vrf (definition|instance|context) |vrf \S+$", "vrf"),
        (r"(ip access-list|class-map|policy-map|route-map) ", "sub"),
        (r"event manager applet ", "applet"),
    )
    inner_parents = r"address-family |neighbor \S+$"
    words = frozenset(
        "aaa access-list address-family banner boot bgp call-home cdp clock crypto default description domain enable encapsulation"
        " event action errdisable feature hostname http interface ip ipv4 ipv6 key license line lldp logging login"
        " management nameif neighbor netconf-yang network no ntp password platform privilege rd redundancy restconf"
        " router route route-map router-id secret security-level service shutdown snmp-server spanning-tree ssh switchname"
        " switchport system telnet transport user username version vlan vrf exec-timeout group mtu ethernet nxapi"
        " negotiation duplex speed media-type stopbits control-plane license grpc xml subscriber diagnostic memory"
        " agent daemon trigger delay on-boot timeout pager names threat-detection call names aaa-server".split()
    )
    refusal = "% Invalid input detected at '^' marker.\n\n"
    noise: tuple[str, ...] = ()
    configured = ""
    candidate = False
    executes_anywhere = False
    factory_config = ""
    version_text = ""
    saved_text = "Building configuration...\n[OK]\n"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.running = Tree()
        self.startup: str | None = None

    # -- configuration ---------------------------------------------------------------------------------------

    def start_configuration(self) -> bool:
        """Load factory settings and what is saved or on a medium; whether there was anything beyond the factory's."""
        self.load(self.factory_config)
        first = self.first_configuration()
        self.startup = first if first is not None else self.machine.host.load("startup")
        if self.startup is not None:
            self.load(self.startup)
        self.apply()
        return self.startup is not None

    def load(self, text: str) -> None:
        """Enter a configuration, sub-modes told by indentation."""
        path: list[tuple[int, str]] = []
        for raw in text.splitlines():
            line = raw.strip()
            if not line or line[0] in "!#" or line in {"end", "exit"} or line.startswith(_NO_LINES):
                continue
            depth = len(raw) - len(raw.lstrip())
            path = [entry for entry in path if entry[0] < depth]
            self.enter(self.running, [entry[1] for entry in path], line)
            path.append((depth, line))

    def enter(self, tree: Tree, path: list[str], line: str) -> None:
        """One line into a tree; personas may treat some of their own way."""
        tree.enter(path, line)

    def apply(self) -> None:
        """Take over what the configuration says of name and accounts."""
        self.machine.hostname = self.factory_hostname
        for found in self.running.values(r"(?:hostname|switchname) \"?([\w.-]+)"):
            self.machine.hostname = found[1]
        for found in self.running.values(r"username (\S+)(.*)"):
            self._account(found[1], found[2])
        for line, node in self.running.children.items():
            if (named := re.match(r"username (\S+)$", line)) is not None:
                self._account(named[1], " ".join(node.children))

    def _account(self, name: str, rest: str) -> None:
        if (level := re.search(r"\bprivilege (\d+)", rest)) is not None:
            self.machine.privileges[name] = int(level[1])
        if "nopassword" in rest:
            self.machine.account(name, "")
        elif (secret := re.search(r"\b(?:password|secret)(?: (?:0|5|7|9|10|sha512))? (\S+)", rest)) is not None:
            self.machine.account(name, secret[1])

    def text(self) -> str:
        """The running configuration as it is shown, between its first and its last line."""
        return "\n".join(self.running.lines()) + "\n"

    def show_running(self) -> str:
        """``show running-config``."""
        raise NotImplementedError

    def save(self) -> None:
        """Keep the running configuration over a restart."""
        self.startup = self.text()
        self.machine.host.save("startup", self.startup)

    # -- prompts ---------------------------------------------------------------------------------------------

    def prompt(self, *, privileged: bool, mode: str) -> str:
        """The prompt; ``mode`` is empty, ``config`` or ``config-if`` and its like."""
        inside = f"({mode})" if mode else ""
        return f"{self.machine.hostname}{inside}{'#' if privileged else '>'}"

    def enable(self, session: Session) -> Script[None]:
        """``enable``; personas that ask for a password say how."""
        session.privileged = True
        yield from ()

    def own_command(self, session: Session, line: str) -> Script[bool]:
        """A command that only this persona has; whether it was one."""
        yield from ()
        return False

    def on_configure(self, session: Session) -> Script[None]:
        """What is asked when configuration mode is entered."""
        yield from ()

    # -- sessions --------------------------------------------------------------------------------------------

    def remote(self, user: str) -> Script[None]:
        privileged = self.machine.privileges.get(user, 15) >= 15
        yield from Session(self, console=False, privileged=privileged, user=user).play()

    def execute(self, user: str, command: str, stdin: str = "") -> Result:
        session = Session(self, console=False, privileged=True, user=user)
        session.length = 0
        printed = "".join(collect(session.command(line)) for line in (command.splitlines() or [""]))
        return Result(printed, 1 if self.refusal.strip() in printed else 0)


class Session:
    """Somebody on the command line."""

    def __init__(self, device: CiscoLike, *, console: bool, privileged: bool, user: str) -> None:
        self.device = device
        self.console = console
        self.privileged = privileged
        self.user = user
        self.length = device.length
        self.over = False
        self.configuring = False
        self.path: list[str] = []
        self._pasted: list[tuple[int, str]] = []
        self.candidate: Tree | None = None

    @property
    def mode(self) -> str:
        """``config``, ``config-if`` or empty."""
        if not self.configuring:
            return ""
        if not self.path:
            return "config"
        names = [name for pattern, name in self.device.parents if re.match(pattern, self.path[0])]
        return f"config-{names[0] if names else 'sub'}" + ("-af" if len(self.path) > 1 else "")

    def play(self) -> Script[None]:
        """Prompt and obey until ``exit``."""
        while not self.over:
            line = yield ReadLine(self.device.prompt(privileged=self.privileged, mode=self.mode))
            yield from self.command(line)

    def command(self, line: str) -> Script[None]:
        """One line."""
        depth = len(line) - len(line.lstrip(" "))
        line = line.strip()
        if line in {"", CTRL_C, CTRL_D} or line[0] in "!#":
            return
        if self.configuring and not line.startswith("do "):
            yield from self._configure(line, depth)
        else:
            yield from self._execute(line.removeprefix("do "))

    # -- exec mode -------------------------------------------------------------------------------------------

    def _execute(self, line: str) -> Script[None]:
        device = self.device
        if line in {"exit", "logout", "quit"}:
            self.over = True
        elif abbreviates(line, "enable"):
            if not self.privileged:
                yield from device.enable(self)
        elif line == "disable":
            self.privileged = False
        elif (length := re.match(r"term\S* (?:len\S*|pager(?: lines)?) (\d+)", line)) is not None:
            self.length = int(length[1])
        elif re.match(r"term\S* |no terminal|no page", line):
            pass
        elif abbreviates(line, "configure terminal") or line in {"configure", "config", "conf"}:
            yield from self._start_configuring()
        elif (yield from device.own_command(self, line)):
            pass
        else:
            yield from self._show(line)

    def _show(self, line: str) -> Script[None]:
        device = self.device
        if abbreviates(line, "show running-config") and self.privileged:
            if self.console and device.noise:
                yield Schedule(0.1, device.noise[0])
            yield from self.answer(device.show_running())
        elif abbreviates(line, "show version"):
            yield from self.answer(device.version_text.format(hostname=device.machine.hostname))
        elif abbreviates(line, "show startup-config") and self.privileged:
            yield from self.answer(device.startup or "startup-config is not present\n")
        elif (abbreviates(line, "write memory") or line == "write" or _saves(line)) and self.privileged:
            device.save()
            yield Say(device.saved_text)
        elif abbreviates(line, "reload") and self.privileged:
            answer = yield ReadLine("Proceed with reload? [confirm]")
            if answer in {"", "y", "yes"}:
                device.machine.host.restart()
        else:
            yield Say(device.refusal)

    def answer(self, text: str) -> Script[None]:
        """Print through the pager, at the console's speed."""
        rate = self.device.rate if self.console else 0
        yield from page(text, length=self.length, more=self.device.more, erase=self.device.erase, rate=rate)

    # -- configuration mode ----------------------------------------------------------------------------------

    def _start_configuring(self) -> Script[None]:
        if not self.privileged:
            yield Say(self.device.refusal)
            return
        yield from self.device.on_configure(self)
        self.configuring, self.path = True, []
        self.candidate = self.device.running.copy() if self.device.candidate else None

    def _configure(self, line: str, depth: int) -> Script[None]:
        if line == "end" or (line == "exit" and not self.path):
            yield from self._leave()
        elif line in {"exit", "exit-address-family", "exit-vrf", "quit"}:
            self.path.pop()
        elif line == "root":
            self.path = []
        elif self.candidate is not None and line.split()[0] == "commit":
            yield from self._commit()
        elif (yield from self.device.own_command(self, line)):
            pass
        elif line.split()[0] not in self.device.words:
            # Some take commands of the mode below here too, and refuse the rest.
            yield from self._execute(line) if self.device.executes_anywhere else self._refuse()
        else:
            self._enter(line, depth)

    def _refuse(self) -> Script[None]:
        yield Say(self.device.refusal)

    def _enter(self, line: str, depth: int) -> None:
        tree = self.candidate if self.candidate is not None else self.device.running
        if depth:
            # Pasted text tells by its indentation where it belongs.
            self._pasted = [entry for entry in self._pasted if entry[0] < depth]
            self.path = [entry[1] for entry in self._pasted]
            self._pasted.append((depth, line))
            self.device.enter(tree, self.path, line)
            return
        self._pasted = [(0, line)]
        if any(re.match(pattern, line) for pattern, _ in self.device.parents):
            self.path = [line]
        elif self.path and re.match(self.device.inner_parents, line):
            self.path = [self.path[0], line]
        elif self.path and _TOP.match(line):
            self.path = []
        inside = [part for part in self.path if part != line]
        self.device.enter(tree, inside, line)
        if self.candidate is None:
            self.device.apply()

    def _commit(self) -> Script[None]:
        if self.candidate is None:
            return
        self.device.running = self.candidate
        self.candidate = self.device.running.copy()
        self.device.apply()
        self.device.save()
        yield from ()

    def _leave(self) -> Script[None]:
        if self.candidate is not None and list(self.candidate.lines()) != list(self.device.running.lines()):
            question = "Uncommitted changes found, commit them before exiting(yes/no/cancel)? [cancel]:"
            answer = yield ReadLine(question)
            if answer not in {"yes", "y", "no", "n"}:
                return
            if answer.startswith("y"):
                yield from self._commit()
        self.configuring, self.path, self.candidate = False, [], None
        if self.console and self.device.configured:
            yield Schedule(0.2, self.device.configured)


def _saves(line: str) -> bool:
    return any(abbreviates(line, full) for full in ("copy running-config startup-config", "copy running-config start"))
