"""What all sessions of one emulated device share, and what it may ask of the system that it runs on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Host", "Machine", "Medium", "Memory", "Result", "fresh_machine"]


class Medium(NamedTuple):
    """A place that a device reads its first configuration from.

    :ivar path: of the file, from the root of the medium.
    :ivar labels: of the media that count; empty: any.
    :ivar archive: the ``.tar.gz`` on the medium that holds ``path``.
    :ivar kinds: file systems that the device reads: ``iso9660``, ``vfat``.
    """

    path: str
    labels: tuple[str, ...] = ()
    archive: str = ""
    kinds: tuple[str, ...] = ("iso9660",)


class Result(NamedTuple):
    """What a command printed, and its exit code."""

    text: str
    code: int = 0


class Host(Protocol):
    """The system under an emulation; a test gives one without I/O."""

    def read(self, medium: Medium) -> str | None:
        """The text of the medium's file; ``None``: there is no such medium."""

    def load(self, name: str) -> str | None:
        """What was saved under ``name``."""

    def save(self, name: str, text: str) -> None:
        """Keep a text over restarts."""

    def set_accounts(self, accounts: dict[str, str]) -> None:
        """Who may log in over SSH: passwords by name."""

    def verify(self, stored: str, password: str) -> bool:
        """Whether ``password`` is the one that was stored, in clear or as a hash."""

    def run(self, command: str) -> Result:
        """Run a command line of the system itself (personas that are one)."""

    def set_hostname(self, name: str) -> None:
        """The name of the system."""

    def restart(self) -> None:
        """Begin again from power-on."""


class Machine:
    """State of one device.

    :ivar accounts: passwords by name. :ivar privileges: levels by name, where not the persona's default.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.hostname = ""
        self.accounts: dict[str, str] = {}
        self.privileges: dict[str, int] = {}
        self.booted = False

    def account(self, name: str, password: str) -> None:
        """Let somebody in, on the console and over SSH."""
        self.accounts[name] = password
        self.host.set_accounts(dict(self.accounts))

    def admits(self, name: str, password: str) -> bool:
        """Whether these open the console."""
        return name in self.accounts and self.host.verify(self.accounts[name], password)


class Memory:
    """A host without a system: what unit tests play on."""

    def __init__(self, media: dict[str, str]) -> None:
        self.media = media
        self.saved: dict[str, str] = {}
        self.accounts: dict[str, str] = {}
        self.hostname = ""
        self.restarts = 0
        self.commands: list[str] = []

    def read(self, medium: Medium) -> str | None:
        return self.media.get(medium.path)

    def load(self, name: str) -> str | None:
        return self.saved.get(name)

    def save(self, name: str, text: str) -> None:
        self.saved[name] = text

    def set_accounts(self, accounts: dict[str, str]) -> None:
        self.accounts = accounts

    def verify(self, stored: str, password: str) -> bool:
        return stored == password

    def run(self, command: str) -> Result:
        self.commands.append(command)
        return Result(f"ran {command}\n")

    def set_hostname(self, name: str) -> None:
        self.hostname = name

    def restart(self) -> None:
        self.restarts += 1


def fresh_machine(media: dict[str, str] | None = None) -> tuple[Machine, Memory]:
    """A machine in memory with the given media (path to text), and the host that it runs on."""
    host = Memory(media or {})
    return Machine(host), host
