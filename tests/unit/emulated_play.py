"""Plays the dialogue machine against an emulated device, both without I/O, on one pretended clock."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from wireloom.devices import DeviceCatalogue
from wireloom.dialogue import Dialogue, Line, Outcome, Script
from wireloom.model.dialogue import Cli

_PROGRAM = Path(__file__).resolve().parents[2] / "images/guest/emulated/usr/local/lib/wireloom"
sys.path.insert(0, str(_PROGRAM))

from emulated.machine import Machine, Memory, fresh_machine  # noqa: E402
from emulated.persona import Persona  # noqa: E402
from emulated.personas import PERSONAS  # noqa: E402
from emulated.terminal import Terminal  # noqa: E402

__all__ = ["PERSONAS", "Console", "cli_of"]

#: A pretended hour is more than any dialogue with an emulation may take.
LONGEST_S = 3600.0


@cache
def _catalogue() -> DeviceCatalogue:
    return DeviceCatalogue.load(strict=False)


def cli_of(device: str) -> Cli:
    """The command line of a device of the catalogue."""
    cli = _catalogue().get(device).cli
    assert cli is not None
    return cli


class Console:
    """An emulated device that was powered on, and its first serial line.

    :param chunk: how many bytes at a time the dialogue gets.
    """

    def __init__(self, persona: str, *, media: Mapping[str, str] | None = None, chunk: int = 4096) -> None:
        self.machine: Machine
        self.host: Memory
        self.machine, self.host = fresh_machine(dict(media or {}))
        self.persona: Persona = PERSONAS[persona](self.machine)
        self.now = 0.0
        self.log = b""
        self.chunk = chunk
        self._terminal = Terminal(self.persona.console(), now=0.0)

    def restart(self) -> None:
        """Power off and on; what was saved stays."""
        machine = Machine(self.host)
        self.machine, self.persona = machine, PERSONAS[self.persona.name](machine)
        self._terminal = Terminal(self.persona.console(), now=self.now)

    def remote(self, user: str) -> None:
        """From now on the dialogue is played in an SSH session of ``user``."""
        self._terminal = Terminal(self.persona.remote(user), now=self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass with nobody at the console."""
        end = self.now + seconds
        while self._terminal.wake_at is not None and self._terminal.wake_at <= end:
            self.now = max(self.now, self._terminal.wake_at)
            self._terminal.tick(self.now)
        self.now = end
        self.log += self._terminal.take()

    def play(self, cli: Cli, *lines: str | Line, values: Mapping[str, str], leave: bool = True) -> Outcome:
        """One dialogue; what the device prints meanwhile is in ``log``."""
        script = Script(lines=tuple(Line(line) if isinstance(line, str) else line for line in lines), leave=leave)
        dialogue = Dialogue(cli, script, values, now=self.now)
        end = self.now + LONGEST_S
        while not dialogue.done and self.now < end:
            self._exchange(dialogue)
            wakes = [wake for wake in (dialogue.wake_at, self._terminal.wake_at) if wake is not None]
            if dialogue.done or not wakes:
                break
            self.now = max(self.now, min(wakes))
            self._terminal.tick(self.now)
            dialogue.tick(self.now)
        self._exchange(dialogue)
        return dialogue.outcome()

    def _exchange(self, dialogue: Dialogue) -> None:
        while True:
            printed, typed = self._terminal.take(), dialogue.take()
            self.log += printed
            if not printed and not typed:
                return
            for begin in range(0, len(printed), self.chunk):
                dialogue.receive(printed[begin : begin + self.chunk], self.now)
            if typed:
                self._terminal.receive(typed, self.now)
