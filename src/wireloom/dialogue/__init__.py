"""Plays a device's command line over a console, without I/O and without a clock. See README.md beside this file."""

from wireloom.dialogue.grammar import RELOGIN
from wireloom.dialogue.machine import RESTART, Dialogue
from wireloom.dialogue.reader import at_prompt
from wireloom.dialogue.terminal import strip_terminal
from wireloom.dialogue.values import Answer, Line, Outcome, Script

__all__ = ["RELOGIN", "RESTART", "Answer", "Dialogue", "Line", "Outcome", "Script", "at_prompt", "strip_terminal"]
