"""A device's command line as data: what it prints, and what to type then. ``wireloom.dialogue`` plays it.

Patterns are regular expressions on text from which terminal escapes, carriage returns and NULs are already stripped.
Text to type is a Jinja2 template over the values of a login: ``hostname``, ``username``, ``password``,
``enable_password``.
"""

from __future__ import annotations

from typing import Literal

from wireloom.model.base import Value

__all__ = ["Cli", "Move", "Prompt", "Reaction", "Recovery"]


class Prompt(Value):
    """A state of the command line, known by its prompt.

    :ivar name: ``user``, ``privileged``, ``configure``, ``shell`` or what fits the device.
    :ivar pattern: regex that fits the whole last, unfinished line (blanks at its end do not count).
    """

    name: str
    pattern: str


class Move(Value):
    """What to type at prompt ``source`` to get to prompt ``target``; questions on the way are reactions."""

    source: str
    target: str
    line: str


class Reaction(Value):
    """What to do when a text appears.

    :ivar when: regex, looked for in each line, finished or not, behind what was reacted to before. What its named
        groups match is a value for templates from then on.
    :ivar send: what to type; ``None`` types nothing (the text only opens a gate, fails, or calls a recovery).
    :ivar raw: type it as it is, without a line end (a pager's space).
    :ivar secret: what is typed must not appear in any record.
    :ivar after: name of a reaction that must have happened before this one counts (a gate).
    :ivar until: name of a reaction that ends its counting; its own name makes it count once.
    :ivar hold_off_s: seconds to wait between the match and the typing.
    :ivar limit: how often it may happen in one dialogue before that is a failure.
    :ivar phase: ``login`` until the first prompt was reached, ``command`` after that, ``any``.
    :ivar fail: the dialogue ends in failure, with this text as the reason.
    :ivar recovery: name of the recovery that this text calls for.
    """

    name: str
    when: str
    send: str | None = None
    raw: bool = False
    secret: bool = False
    after: str = ""
    until: str = ""
    hold_off_s: float = 0
    limit: int = 5
    phase: Literal["login", "command", "any"] = "any"
    fail: str = ""
    recovery: str = ""


class Recovery(Value):
    """A named, bounded way out of a stuck dialogue; each can be switched off by its name.

    :ivar action: ``type`` sends ``send``; ``retype`` sends the command at hand again; ``restart`` ends the dialogue
        with an error that asks for a restart of the node.
    :ivar silent_s: do it when nothing was printed for so many seconds; 0: only when a reaction names it.
    :ivar limit: how often in one dialogue.
    :ivar phase: where silence counts: before the first prompt, after it, or both.
    :ivar anywhere: silence makes it type also behind a text that nothing knows, which may be a question; without it,
        it types at the beginning of a line only.
    :ivar enabled: it may be used; a file that extends another switches one off by this.
    :ivar wait_s: how long the next prompt may take after it (it reboots the device); 0: as long as after any line.
    """

    name: str
    action: Literal["type", "retype", "restart"]
    send: str = ""
    silent_s: float = 0
    limit: int = 3
    phase: Literal["login", "command", "any"] = "login"
    anywhere: bool = False
    wait_s: float = 0
    enabled: bool = True


class Cli(Value):
    """The command line of a family of devices.

    :ivar line_end: what ends a typed line.
    :ivar home: the prompt at which commands run unless a step names another.
    :ivar prepare: lines typed once after the home prompt is reached (pager off, width).
    :ivar leave: lines typed at the end, so that the next one finds a login or a plain prompt.
    :ivar errors: regexes of output lines by which the device refuses a command.
    :ivar noise: regexes of lines that come in between (syslog); they are taken out of a command's output.
    :ivar open_text: regexes of output lines after which the device takes lines without showing a prompt, until one of
        them ends the text (a banner).
    :ivar step_timeout_s: for one step to end in a prompt; ``overall_timeout_s`` for a whole dialogue; both on native
        speed.
    """

    name: str
    line_end: Literal["\r", "\n", "\r\n"] = "\r"
    home: str = "privileged"
    prompts: tuple[Prompt, ...]
    moves: tuple[Move, ...] = ()
    reactions: tuple[Reaction, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    prepare: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    open_text: tuple[str, ...] = ()
    step_timeout_s: float = 30
    overall_timeout_s: float = 600

    def prompt(self, name: str) -> Prompt | None:
        """The prompt called ``name``."""
        return next((prompt for prompt in self.prompts if prompt.name == name), None)
