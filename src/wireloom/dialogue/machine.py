"""The machine that plays a command line: bytes in, bytes out, time as a parameter.

It types only at a text that it knows and that the device has stopped at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wireloom.dialogue.budget import Budget
from wireloom.dialogue.flow import AwaitLogin, Flow, Parting, Reached, Request, SessionLost
from wireloom.dialogue.grammar import CLEAR_LINE, RELOGIN, Found, grammar_of
from wireloom.dialogue.reader import Front, Reader, ReadLine
from wireloom.dialogue.standing import Phase, Standing, for_login, for_prompt, for_reaction
from wireloom.dialogue.step import PartingKind, Step
from wireloom.dialogue.values import Outcome, Script, Secrets, rendered, with_defaults
from wireloom.errors import DeadlineExceeded, GuestFailed, InternalError, Unavailable, WireloomError
from wireloom.model.dialogue import Cli, Reaction, Recovery

__all__ = ["RESTART", "Dialogue"]

#: In the details of an error: a recovery asks for a restart of the node.
RESTART: Final = "restart"

#: A slow guest pauses longer in the middle of a line, but not without limit.
_MOST_SLOWNESS = 5.0
_PARTING_SILENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class _Held:
    """A reaction that waits out its hold-off."""

    found: Found
    front: Front
    due: float


@dataclass(frozen=True, slots=True)
class _Shown:
    """A prompt on the screen; ``before`` is output that stands before it on its line."""

    name: str
    text: str
    before: str = ""


class Dialogue:
    """One dialogue with one device.

    :param values: what templates may name: ``hostname``, ``username``, ``password``, ``enable_password`` and others.
    :param now: seconds on any clock that only grows; the same is meant wherever ``now`` is a parameter.
    :param slow_factor: by how much the guest is slower than on native hardware; all deadlines are scaled by it.
    :param disabled: names of recoveries that must not be used, beside those that ``cli`` has switched off;
        ``relogin`` and ``clear-line`` are such that every command line has.
    :raises InvalidInput: the script names a prompt that there is not, or a pattern is no regular expression.
    """

    def __init__(
        self,
        cli: Cli,
        script: Script,
        values: Mapping[str, str],
        *,
        now: float,
        slow_factor: float = 1,
        disabled: frozenset[str] = frozenset(),
    ) -> None:
        self._grammar = grammar_of(cli)
        self._cli = cli
        self._values = with_defaults(values)
        self._secrets = Secrets.of(self._values, script.lines)
        self._slow = max(1.0, slow_factor)
        self._factor = min(self._slow, _MOST_SLOWNESS)
        self._now = self._heard_at = now
        self._deadline = now + cli.overall_timeout_s * self._slow
        self._reader = Reader(self._grammar, now)
        off = {name for name, recovery in self._grammar.recoveries.items() if not recovery.enabled}
        self._budget = Budget(disabled | off)
        self._flow = Flow(self._grammar, script, lambda template: rendered(template, self._values))
        self._course = self._flow.course()
        self._phase: Phase = "login"
        self._step: Step | None = None
        self._held: _Held | None = None
        self._looked: tuple[tuple[int, str, int], Standing] | None = None
        self._asked = False
        #: What comes without a pause from the beginning on is what the console had shown before: failures of the past.
        self._live = False
        self._prompt_text = ""
        self._prompts: dict[str, str] = {}  # names by the texts that were seen
        self._out = bytearray()
        self._failure: WireloomError | None = None
        self._done = False
        #: What there may be to do, in this order; each says whether it did something.
        self._acts = (self._end_hold_off, self._type_again, self._look, self._end_in_silence, self._break_silence)
        self._begin(next(self._course))

    # ---- what a caller does -----------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """It is over; what is left to :meth:`take` should still be typed."""
        return self._done

    @property
    def wake_at(self) -> float | None:
        """When :meth:`tick` is due unless something is received before; ``None`` when it is over."""
        return None if self._done else min(self._timers())

    def receive(self, data: bytes, now: float) -> None:
        """The device has printed ``data``, which may begin and end anywhere."""
        self._now = now
        if self._done or not data:
            return
        self._live = self._live or now >= self._heard_at + Standing.SETTLED.seconds * self._factor
        self._heard_at = now
        self._budget.heard()
        try:
            for read in self._reader.receive(data, now):
                self._on_line(read)
            self._check_size()
            self._advance()
        except WireloomError as error:
            self._fail(error)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._now = now
        try:
            self._advance()
        except WireloomError as error:
            self._fail(error)

    def take(self) -> bytes:
        """What is to be typed now; each byte is handed out once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def close(self, now: float) -> None:
        """The console has ended; a dialogue that is not over fails."""
        self._now = now
        if not self._done:
            self._fail(Unavailable("the console ended in the middle of a dialogue", hint="is the node still running?"))

    def outcome(self) -> Outcome:
        """What was found.

        :raises GuestFailed: the device did not take a login, a question or a move; with ``details["restart"]`` it asks
            for a restart of the node.
        :raises DeadlineExceeded: a step or the whole took too long.
        :raises Unavailable: the console ended.
        :raises InternalError: it is not over yet.
        """
        if self._failure is not None:
            raise self._failure
        if not self._done:
            raise InternalError("the dialogue is not over")
        return Outcome(tuple(self._flow.answers), self._flow.at, tuple(self._budget.used))

    # ---- what is printed --------------------------------------------------------------------------------------

    def _on_line(self, read: ReadLine) -> None:
        for found in self._grammar.silent_reactions_to(read.line.text, read.line.seen):
            ends = found.reaction.fail or found.reaction.recovery
            if self._budget.counts(found.reaction, self._phase) and (self._live or not ends):
                self._happen(found)
        if self._step is not None:
            self._step.add(read)

    def _check_size(self) -> None:
        overflowed, self._reader.terminal.overflowed = self._reader.terminal.overflowed, False
        step = self._step
        if step is not None and not step.parting and (overflowed or step.oversized):
            raise GuestFailed(f"the answer to {step.typed!r} is larger than can be kept")

    def _advance(self) -> None:
        while not self._done and any(act() for act in self._acts):
            pass
        if not self._done:
            self._check_deadlines()

    # ---- what the device waits at -----------------------------------------------------------------------------

    def _look(self) -> bool:
        """Act on the text at which the device stands, once for each length of time it has stood."""
        front = self._reader.front()
        if self._held is not None or not front.text:
            return False
        standing, key = Standing.of(front, self._now, self._factor), (front.number, front.text, front.start)
        if self._looked is not None and self._looked[0] == key and self._looked[1] >= standing:
            return False
        self._looked = (key, standing)
        if self._step is not None and front.number == self._step.number:
            return False  # still the line on which was typed
        return (
            self._react(front, standing)
            or self._arrive(front, standing)
            or self._log_out(front, standing)
            or self._open_text(front, standing)
            or self._clear_line(front, standing)
        )

    def _react(self, front: Front, standing: Standing) -> bool:
        """Answer a question, or take note of a text on which the cursor stands."""
        search = self._grammar.raw_reactions_to if standing is Standing.NEW else self._grammar.reactions_to
        for found in search(front.text, front.start):
            if not self._budget.counts(found.reaction, self._phase):
                continue
            if self._grammar.types(found.reaction):
                if standing >= for_reaction(front, found, self._phase):
                    self._held = _Held(found, front, self._now + found.reaction.hold_off_s * self._slow)
                    return True
            elif front.unfinished and standing >= Standing.SETTLED:
                self._reader.consume(front, found.end)
                self._happen(found)
                return True
        return False

    def _arrive(self, front: Front, standing: Standing) -> bool:
        """Take ``front`` for a prompt, which ends the step at hand."""
        if not (front.unfinished or front.noisy) or front.start >= len(front.text.rstrip()):
            return False
        if standing is Standing.NEW and front.text.rstrip() not in self._prompts:
            return False
        shown, step = self._shown_prompt(front), self._step
        if shown is None or standing < self._needed(front, shown):
            return False
        self._reader.consume(front, len(front.text))
        self._prompts[shown.text] = shown.name
        self._prompt_text = shown.text
        if step is not None and step.retype_after is not None:
            step.retype_at = self._now + step.retype_after
            return True
        self._phase, self._step = "command", None
        output = () if step is None else step.output(self._prompts, shown.before)
        self._resume(Reached(shown.name, output, asked=self._asked))
        return True

    def _shown_prompt(self, front: Front) -> _Shown | None:
        """The prompt in ``front``: all of it, what follows an answered question, or its end after output."""
        for text in (front.text, front.text[front.start :]):
            if prompt := self._grammar.prompt_of(text):
                return _Shown(prompt.name, text.rstrip())
        line = front.text.rstrip()
        if self._step is None or not front.unfinished:
            return None
        known = max((text for text in self._prompts if line.endswith(text)), key=len, default="")
        return _Shown(self._prompts[known], known, line.removesuffix(known)) if known else None

    def _needed(self, front: Front, shown: _Shown) -> Standing:
        if self._step is None:
            return Standing.SETTLED
        return for_prompt(
            front,
            known=shown.text in self._prompts and not shown.before,
            echoed=self._step.echoed,
        )

    def _log_out(self, front: Front, standing: Standing) -> bool:
        """A question of the login after the first prompt: the session has ended, by us or by something else."""
        step = self._step
        if step is None or standing < for_login(front, parting=bool(step.parting)):
            return False
        asked = [found.reaction for found in self._grammar.reactions_to(front.text, front.start)]
        if not any(reaction.phase == "login" and reaction.send is not None for reaction in asked):
            return False
        self._step = None
        if step.parting:
            self._resume(Reached())
            return True
        if self._budget.is_off(RELOGIN):
            raise GuestFailed("the session was lost: the device asks for a login again")
        self._budget.use(self._grammar.recoveries[RELOGIN])
        self._resume(SessionLost())
        return True

    def _open_text(self, front: Front, standing: Standing) -> bool:
        """The device says that it takes further lines now, and shows no prompt for them."""
        step = self._step
        if step is None or front.unfinished or standing < Standing.SETTLED or front.number < step.number:
            return False
        if not step.echoed or not self._grammar.opens_text(front.text):
            return False
        self._step = None
        self._resume(Reached(output=step.output(self._prompts)))
        return True

    def _clear_line(self, front: Front, standing: Standing) -> bool:
        """Clear a line that somebody has begun at a prompt and left, so that the prompt is there again."""
        if self._step is not None or not front.unfinished or front.start or standing is not Standing.PATIENT:
            return False
        recovery = self._grammar.recoveries[CLEAR_LINE]
        if self._budget.is_off(CLEAR_LINE) or not self._grammar.begins_with_prompt(front.text):
            return False
        self._budget.use(recovery)
        self._type(recovery.send, line_end=False)
        return True

    # ---- reactions and recoveries -----------------------------------------------------------------------------

    def _end_hold_off(self) -> bool:
        """Perform the reaction that is held off once it is due, if the device still waits at the same text."""
        held = self._held
        if held is None:
            return False
        front = self._reader.front()
        if (front.number, front.text) != (held.front.number, held.front.text):
            self._held = None
            return True
        if self._now < held.due:
            return False
        self._held = None
        self._reader.consume(front, held.found.end)
        self._happen(held.found)
        return True

    def _happen(self, found: Found) -> None:
        reaction = found.reaction
        self._budget.happen(reaction)
        self._looked = None  # what did not count before may count now
        self._values |= found.groups
        if reaction.send is not None:
            self._answer(reaction)
        if reaction.fail:
            raise GuestFailed(reaction.fail)
        if reaction.recovery:
            self._recover(self._grammar.recoveries[reaction.recovery], after_s=reaction.hold_off_s)

    def _answer(self, reaction: Reaction) -> None:
        self._asked = True
        text = rendered(reaction.send or "", self._values)
        if reaction.secret:
            self._secrets.add(text)
        if self._step is not None:
            self._step.deadline = self._now + self._step.allowed_s
        self._type(text, line_end=not reaction.raw)

    def _recover(self, recovery: Recovery, *, after_s: float = 0) -> None:
        if self._budget.is_off(recovery.name):
            return
        self._budget.use(recovery)
        step = self._step
        if recovery.action == "type":
            if step is not None and recovery.wait_s:
                step.deadline = self._now + recovery.wait_s * self._slow
            self._type(rendered(recovery.send, self._values))
        elif recovery.action == "restart":
            message = f"the device does not get on, and its recovery {recovery.name!r} asks for a restart"
            raise GuestFailed(message, hint="restart the node", details={RESTART: True})
        elif step is not None:
            step.retype_after = after_s * self._slow

    def _break_silence(self) -> bool:
        for recovery in self._cli.recoveries:
            due = self._silence_due(recovery)
            if due is not None and self._now >= due:
                self._heard_at = self._now
                self._budget.unanswered()
                self._recover(recovery)
                return True
        return False

    def _silence_due(self, recovery: Recovery) -> float | None:
        """When ``recovery`` is due if nothing is printed until then; ``None`` when it is not to be used now."""
        silence_s = self._budget.silence_s(recovery, self._phase)
        step = self._step
        if silence_s is None or self._held is not None:
            return None
        if step is not None and (step.parting or step.retype_at is not None):
            return None
        if recovery.action == "type" and not recovery.anywhere and self._reader.front().unfinished:
            return None  # something is asked there that nothing knows, and a blind line end may choose the wrong answer
        return self._heard_at + silence_s * self._slow

    # ---- course -----------------------------------------------------------------------------------------------

    def _resume(self, result: Reached | SessionLost) -> None:
        """Tell the course what was reached, and begin what it wants next."""
        self._looked = None
        try:
            request = self._course.throw(result) if isinstance(result, SessionLost) else self._course.send(result)
        except StopIteration:
            self._done = True
        else:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        if isinstance(request, AwaitLogin):
            self._phase, self._asked = "login", False
            return
        if isinstance(request, Parting):
            parting = PartingKind.MOVES if request.moves else PartingKind.LEAVES
            self._open_step(request.text, self._cli.step_timeout_s * self._slow, parting)
            return
        if request.secret:
            self._secrets.add(request.text)
        allowed_s = (request.timeout_s or self._cli.step_timeout_s) * self._slow
        self._open_step(request.text, allowed_s, into_text=request.into_text)

    def _open_step(
        self, text: str, allowed_s: float, parting: PartingKind = PartingKind.NO, *, into_text: bool = False
    ) -> None:
        self._step = Step(
            text,
            self._prompt_text,
            self._reader.terminal,
            allowed_s=allowed_s,
            deadline=self._now + allowed_s,
            parting=parting,
            into_text=into_text,
        )
        self._type(text)

    def _type_again(self) -> bool:
        """Type the line at hand once more, after its pause."""
        step = self._step
        if step is None or step.retype_at is None or self._now < step.retype_at:
            return False
        self._open_step(step.typed, step.allowed_s, step.parting)
        return True

    def _type(self, text: str, *, line_end: bool = True) -> None:
        self._out += text.encode()
        if line_end:
            self._out += self._cli.line_end.encode()
        self._heard_at = self._now

    def _end_in_silence(self) -> bool:
        """End a line of parting, or one that is part of a text, when nothing comes any more."""
        step = self._step
        silent_at = None if step is None else self._silent_at(step)
        if silent_at is None or self._now < silent_at:
            return False
        self._step = None
        self._resume(Reached())
        return True

    def _silent_at(self, step: Step) -> float | None:
        """When silence ends ``step``; ``None``: it needs a prompt."""
        if step.into_text:
            # Its line must have ended, and the cursor stand at the beginning of the next.
            ended = self._reader.terminal.number > step.number and not self._reader.terminal.text.strip()
            return self._heard_at + Standing.SETTLED.seconds * self._factor if ended else None
        if step.parting is PartingKind.LEAVES:
            return min(self._heard_at + _PARTING_SILENCE_S * self._factor, step.deadline)
        return step.deadline if step.parting else None

    # ---- time and failures ------------------------------------------------------------------------------------

    def _timers(self) -> Iterator[float]:
        yield self._deadline
        step = self._step
        if step is not None:
            yield step.deadline
            if (silent_at := self._silent_at(step)) is not None:
                yield silent_at
            if step.retype_at is not None:
                yield step.retype_at
        if self._held is not None:
            yield self._held.due
        front = self._reader.front()
        if front.text and (longer_at := Standing.next_at(front, self._now, self._factor)) is not None:
            yield longer_at
        for recovery in self._cli.recoveries:
            if (due := self._silence_due(recovery)) is not None:
                yield due

    def _check_deadlines(self) -> None:
        step = self._step
        if self._now >= self._deadline:
            seconds = self._cli.overall_timeout_s * self._slow
            what = "no prompt was reached" if self._phase == "login" else "the dialogue was not over"
            raise DeadlineExceeded(f"{what} within {seconds:g} s")
        if step is not None and self._now >= step.deadline:
            raise DeadlineExceeded(f"no prompt came in time after {step.typed!r}")

    def _fail(self, error: WireloomError) -> None:
        """End in failure: ``error`` with the screen, and without secrets. What was asked for may be done already."""
        self._done = True
        if self._step is not None and self._step.parting:
            return
        masked = self._secrets.masked
        details: dict[str, Any] = {
            **error.details,
            "screen": [masked(line) for line in self._reader.screen()],
            "recoveries": list(self._budget.used),
        }
        hint = error.hint or "look at the console: its last lines are in the details"
        self._failure = type(error)(masked(error.message), hint=masked(hint), details=details)
