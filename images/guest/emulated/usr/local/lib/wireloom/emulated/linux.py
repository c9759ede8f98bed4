"""A Linux guest with cloud-init. The shell is the image's own; what is emulated is login and cloud-init."""

from __future__ import annotations

import re

from .machine import Medium, Result
from .persona import Persona
from .script import CTRL_C, CTRL_D, Flush, ReadLine, Say, Script

__all__ = ["Linux"]

_LABELS = ("cidata", "CIDATA")


class Linux(Persona):
    """NoCloud or a config drive: name, accounts, files and commands of the user data."""

    name = "linux"
    factory_hostname = "ubuntu"
    media = (
        Medium("user-data", labels=_LABELS, kinds=("iso9660", "vfat")),
        Medium("openstack/latest/user_data", labels=("config-2",), kinds=("iso9660", "vfat")),
    )

    def console(self) -> Script[None]:
        yield Say("[    0.000000] Linux version 5.15.0 (emulation of an installed system, for tests)\n", 4000)
        yield Say(
            "Cloud-init v. 22.4.2 running 'init-local' at Thu, 01 Jan 2026 00:00:03 +0000. Up 3.00 seconds.\n", 4000
        )
        first = self.first_configuration()
        text = first if first is not None else self.machine.host.load("user-data")
        if text is not None:
            self.machine.host.save("user-data", text)
            yield Say(self._apply(text, first_boot=first is not None), 4000)
        yield Say(
            "Cloud-init v. 22.4.2 running 'modules:final' at Thu, 01 Jan 2026 00:00:07 +0000. Up 7.00 seconds.\n", 4000
        )
        yield Say(
            "Cloud-init v. 22.4.2 finished at Thu, 01 Jan 2026 00:00:08 +0000. Datasource DataSourceNoCloud. Up 8.00 seconds\n",
            4000,
        )
        self.machine.booted = True
        while True:
            yield Flush()
            yield Say(f"\nUbuntu 22.04.4 LTS {self.machine.hostname} ttyS0\n\n")
            user = yield from self.login(f"{self.machine.hostname} login: ", refusal="\nLogin incorrect\n")
            yield Say("Welcome to Ubuntu 22.04.4 LTS (emulation for tests)\n\n")
            yield from self._shell(user)

    def _apply(self, text: str, *, first_boot: bool) -> str:
        """What cloud-init would do of the user data; what it prints."""
        if (name := re.search(r"(?m)^(?:hostname|fqdn): *\"?([\w-]+)", text)) is not None:
            self.machine.hostname = name[1]
            self.machine.host.set_hostname(name[1])
        self._accounts(text)
        if not first_boot:
            return ""
        printed = []
        for path, content in _written_files(text):
            self.machine.host.run(
                f"mkdir -p '{path.rpartition('/')[0]}'; cat >'{path}' <<'END-OF-FILE'\n{content}\nEND-OF-FILE"
            )
        for command in _commands(text):
            printed.append(self.machine.host.run(command).text)
        return "".join(printed)

    def _accounts(self, text: str) -> None:
        default = "ubuntu"
        for block in re.split(r"(?m)^ *- (?=name:)", text)[1:]:
            default = _value(block, "name") or default
            secret = _value(block, "plain_text_passwd") or _value(block, "passwd")
            if secret:
                self.machine.account(default, secret)
        if (password := re.search(r"(?m)^password: *(\S+)", text)) is not None:
            self.machine.account(default, password[1].strip("'\""))
        for found in re.finditer(r"(?m)^ +(?:- )?([a-z][\w-]*):([^\s:'\"]+)$", text):
            self.machine.account(found[1], found[2])

    def _shell(self, user: str) -> Script[None]:
        code = 0
        sign = "#" if user == "root" else "$"
        while True:
            line = yield ReadLine(f"{user}@{self.machine.hostname}:~{sign} ")
            if line.strip() in {"exit", "logout", CTRL_D}:
                return
            if line.strip() in {"", CTRL_C}:
                continue
            if line.strip() in {"sudo -i", "sudo su", "sudo su -"}:
                user, sign = "root", "#"
                continue
            result = self.machine.host.run(f"(exit {code})\n{line}")
            code = result.code
            yield Say(result.text)

    def remote(self, user: str) -> Script[None]:
        yield from self._shell(user)

    def execute(self, user: str, command: str, stdin: str = "") -> Result:
        return self.machine.host.run(command if not stdin else f"{command} <<'END-OF-INPUT'\n{stdin}\nEND-OF-INPUT")


def _value(block: str, key: str) -> str:
    found = re.search(rf"(?m)^ *{key}: *(.+?) *$", block)
    return found[1].strip("'\"") if found is not None else ""


def _written_files(text: str) -> list[tuple[str, str]]:
    files = []
    for block in re.split(r"(?m)^ *- (?=path:)", text)[1:]:
        content = re.search(r"(?m)^( *)content: *\|-?\n((?:\1 +.*\n?|\n)+)", block)
        if content is not None:
            lines = content[2].rstrip().splitlines()
            indent = len(lines[0]) - len(lines[0].lstrip())
            files.append((_value(block, "path"), "\n".join(line[indent:] for line in lines)))
    return files


def _commands(text: str) -> list[str]:
    section = re.search(r"(?m)^runcmd:\n((?:[ -].*\n?)+)", text)
    if section is None:
        return []
    return [line.strip()[2:].strip() for line in section[1].splitlines() if line.strip().startswith("- ")]
