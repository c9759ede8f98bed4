"""What every persona has: a console from power-on, sessions over SSH, single commands."""

from __future__ import annotations

from collections.abc import Iterator

from .machine import Machine, Medium, Result
from .script import CTRL_C, CTRL_D, ReadKey, ReadLine, Request, Say, Script

__all__ = ["Persona", "abbreviates", "collect"]


class Persona:
    """One kind of device.

    :cvar name: by which it is chosen. :cvar factory_hostname: name before any configuration.
    :cvar factory_accounts: who may log in before any configuration.
    :cvar media: where the first configuration may come from, in order.
    """

    name = ""
    factory_hostname = ""
    factory_accounts: dict[str, str] = {}
    media: tuple[Medium, ...] = ()

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.hostname = self.factory_hostname
        machine.accounts = dict(self.factory_accounts)

    def console(self) -> Script[None]:
        """The first serial line, from power-on and for ever."""
        raise NotImplementedError

    def auxiliary(self, line: int) -> Script[None]:
        """Any further serial line; nothing speaks on it unless the persona says otherwise."""
        while True:
            yield ReadLine(echo=False)

    def remote(self, user: str) -> Script[None]:
        """An interactive SSH session."""
        raise NotImplementedError

    def execute(self, user: str, command: str, stdin: str = "") -> Result:
        """A command given to SSH."""
        raise NotImplementedError

    def netconf(self, user: str) -> Script[None] | None:
        """A NETCONF session; ``None``: the device has none."""
        return None

    # -- shared ----------------------------------------------------------------------------------------------

    def first_configuration(self) -> str | None:
        """What the media hold, unless this very text was taken before: then the device's own is newer."""
        for medium in self.media:
            text = self.machine.host.read(medium)
            if text is not None and text != self.machine.host.load("taken"):
                self.machine.host.save("taken", text)
                return text
        return None

    def login(self, user_prompt: str, *, refusal: str, password_prompt: str = "Password: ") -> Script[str]:
        """Ask until somebody is let in; the user."""
        while True:
            user = yield ReadLine(user_prompt)
            if user.strip(" \r\n") in {"", CTRL_C, CTRL_D}:
                continue
            password = ""
            if self.machine.accounts.get(user) != "":
                password = yield ReadLine(password_prompt, echo=False)
            if self.machine.admits(user, password):
                return user
            yield Say(refusal)


def abbreviates(line: str, full: str) -> bool:
    """Whether ``line`` is ``full``, each word shortened or not (``sh run`` is ``show running-config``)."""
    words, names = line.split(), full.split()
    return len(words) == len(names) and all(name.startswith(word) for word, name in zip(words, names, strict=True))


def collect(script: Script[None], lines: Iterator[str] | None = None) -> str:
    """What a script prints when ``lines`` are all that is typed: then the input ends, and questions get a line end."""
    printed = []
    try:
        request: Request = next(script)
        while True:
            if isinstance(request, Say):
                printed.append(request.text)
            request = script.send(_answer(request, iter(()) if lines is None else lines))
    except StopIteration:
        return "".join(printed)


def _answer(request: Request, lines: Iterator[str]) -> str:
    if isinstance(request, ReadKey):
        return "\r"
    if isinstance(request, ReadLine):
        return next(lines, "" if request.prompt else CTRL_D)
    return ""
