"""The machine that plays a command line: bytes in, bytes out, time as a parameter.

It types only at a text that it knows and that the device has stopped at. What is known at once (the same prompt as
before, after the echo of the line) is acted on at once; the less a text is known, the longer it must stand unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wireloom.dialogue.flow import AwaitLogin, Flow, Parting, Reached, Request, SessionLost, TypeLine
from wireloom.dialogue.grammar import RELOGIN, Found, grammar_of
from wireloom.dialogue.reader import Front, Reader, ReadLine
from wireloom.dialogue.step import PartingKind, Step
from wireloom.dialogue.values import Outcome, Script, Secrets, rendered, with_defaults
from wireloom.errors import DeadlineExceeded, GuestFailed, InternalError, Unavailable, WireloomError
from wireloom.model.dialogue import Cli, Reaction, Recovery

__all__ = ["Dialogue"]

#: Seconds for which a text must have stood unchanged, by how little it is known: see `_level_for_prompt`.
_AT_ONCE, _SETTLED, _DOUBTFUL, _PATIENT = range(4)
_STOOD_S = {_SETTLED: 0.2, _DOUBTFUL: 0.6, _PATIENT: 2.0}
#: A slow guest pauses longer in the middle of a line, but not without limit.
_MOST_SLOWNESS = 5.0
_PARTING_SILENCE_S = 3.0
#: Silence doubles after each typing that brought no answer, up to this many seconds.
_LONGEST_SILENCE_S = 120.0

_LOOK_HINT = "look at the console: the last lines are in the details"


@dataclass(frozen=True, slots=True)
class _Held:
    """A reaction that waits out its hold-off."""

    found: Found
    front: Front
    due: float


class Dialogue:
    """One dialogue with one device.

    :param values: what templates may name: ``hostname``, ``username``, ``password``, ``enable_password`` and others.
    :param now: seconds on any clock that only grows; the same is meant wherever ``now`` is a parameter.
    :param slow_factor: by how much the guest is slower than on native hardware; all deadlines are scaled by it.
    :param disabled: names of recoveries that must not be used; ``relogin`` is one that every command line has.
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
        self._patience = min(self._slow, _MOST_SLOWNESS)
        self._disabled = disabled
        self._now = self._heard_at = now
        self._overall_deadline = now + cli.overall_timeout_s * self._slow
        self._reader = Reader(self._grammar, now)
        self._flow = Flow(self._grammar, script, lambda template: rendered(template, self._values))
        self._course = self._flow.course()
        self._phase: Literal["login", "command"] = "login"
        self._step: Step | None = None
        self._held: _Held | None = None
        self._looked: tuple[tuple[int, str, int], int] | None = None
        self._prompt_text = ""
        self._prompt_texts: set[str] = set()
        self._happened: Counter[str] = Counter()
        self._used: list[str] = []
        self._unanswered = 0
        self._asked = False
        self._out = bytearray()
        self._failure: WireloomError | None = None
        self._done = False
        #: What there may be to do, in this order; each says whether it did something.
        self._acts = (self._hold, self._type_again, self._look, self._part, self._break_silence)
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
        if self._done:
            return
        self._now = now
        if data:
            self._heard_at, self._unanswered = now, 0
        for read in self._reader.receive(data, now):
            if not self._done:
                self._on_line(read)
        self._check_size()
        self._advance()

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._now = now
        self._advance()

    def take(self) -> bytes:
        """What is to be typed now; each byte is handed out once."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def close(self, now: float) -> None:
        """The console has ended; a dialogue that is not over fails."""
        self._now = now
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
        return Outcome(answers=tuple(self._flow.answers), prompt=self._flow.at, recoveries=tuple(self._used))

    # ---- what is printed --------------------------------------------------------------------------------------

    def _on_line(self, read: ReadLine) -> None:
        for found in self._grammar.silent_reactions_to(read.line.text, read.line.seen):
            if self._counts(found.reaction):
                self._happen(found)
        if self._step is not None:
            self._step.add(read)

    def _check_size(self) -> None:
        overflowed, self._reader.terminal.overflowed = self._reader.terminal.overflowed, False
        step = self._step
        if step is not None and not step.parting and (overflowed or step.oversized):
            self._fail(GuestFailed(f"the answer to {step.typed!r} is larger than can be kept", hint=_LOOK_HINT))

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
        level, key = self._level(front), (front.number, front.text, front.start)
        if self._looked is not None and self._looked[0] == key and self._looked[1] >= level:
            return False
        self._looked = (key, level)
        if self._step is not None and front.number == self._step.number:
            return False  # still the line on which was typed
        return self._react(front, level) or self._arrive(front, level) or self._log_out(front, level)

    def _level(self, front: Front) -> int:
        return max(
            (level for level, stood in _STOOD_S.items() if self._now >= front.since + stood * self._patience),
            default=_AT_ONCE,
        )

    def _react(self, front: Front, level: int) -> bool:
        search = self._grammar.raw_reactions_to if level == _AT_ONCE else self._grammar.reactions_to
        for found in search(front.text, front.start):
            if not self._counts(found.reaction):
                continue
            if self._grammar.types(found.reaction):
                if level >= self._level_for_reaction(front, found):
                    return self._hold_off(found, front)
            elif front.unfinished and level >= _SETTLED:
                self._reader.consume(front, found.end)
                self._happen(found)
                return True
        return False

    def _level_for_reaction(self, front: Front, found: Found) -> int:
        if found.reaction.raw and front.unfinished and found.end >= len(front.text.rstrip()):
            return _AT_ONCE
        if front.unfinished or self._phase == "login":
            return _SETTLED
        return _PATIENT  # a line of output that ended is hardly a question

    def _arrive(self, front: Front, level: int) -> bool:
        if not (front.unfinished or front.noisy):
            return False
        text = front.text.rstrip()
        if level == _AT_ONCE and text not in self._prompt_texts:
            return False
        prompt = self._grammar.prompt_of(front.text) or self._grammar.prompt_of(front.text[front.start :])
        if prompt is None or front.start >= len(text) or level < self._level_for_prompt(front, text):
            return False
        self._reader.consume(front, len(front.text))
        self._prompt_text = text
        self._prompt_texts.add(text)
        step = self._step
        if step is not None and step.retype_after is not None:
            step.retype_at = self._now + step.retype_after
            return True
        self._phase, self._step = "command", None
        output = () if step is None else step.output(self._prompt_texts)
        self._resume(Reached(prompt.name, output, asked=self._asked))
        return True

    def _level_for_prompt(self, front: Front, text: str) -> int:
        if self._step is None:
            return _SETTLED
        known, echoed = text in self._prompt_texts, self._step.echoed
        if not echoed:
            return _PATIENT  # it may be an old prompt, and the answer is still to come
        if not known:
            return _DOUBTFUL
        return _AT_ONCE if front.unfinished else _SETTLED

    def _log_out(self, front: Front, level: int) -> bool:
        """A question of the login after the first prompt: the session has ended, by us or by something else."""
        step = self._step
        if step is None or level < (_SETTLED if front.unfinished or step.parting else _PATIENT):
            return False
        asked = [found.reaction for found in self._grammar.reactions_to(front.text, front.start)]
        if not any(reaction.phase == "login" and reaction.send is not None for reaction in asked):
            return False
        if step.parting:
            self._step = None
            self._resume(Reached())
        elif RELOGIN.name in self._disabled:
            self._fail(GuestFailed("the session was lost: the device asks for a login again", hint=_LOOK_HINT))
        elif self._use(RELOGIN):
            self._step = None
            self._resume(SessionLost())
        return True

    # ---- reactions and recoveries -----------------------------------------------------------------------------

    def _counts(self, reaction: Reaction) -> bool:
        if reaction.recovery in self._disabled and reaction.send is None and not reaction.fail:
            return False  # it is there for its recovery alone
        if reaction.until and self._happened[reaction.until]:
            return False
        return reaction.phase in {"any", self._phase} and (not reaction.after or self._happened[reaction.after] > 0)

    def _hold_off(self, found: Found, front: Front) -> bool:
        self._held = _Held(found, front, self._now + found.reaction.hold_off_s * self._slow)
        return True

    def _hold(self) -> bool:
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
        self._happened[reaction.name] += 1
        self._looked = None  # what did not count before may count now
        if self._happened[reaction.name] > reaction.limit:
            times = f"{reaction.limit + 1} times"
            self._fail(GuestFailed(f"the device asks or says the same {times} ({reaction.name})", hint=_LOOK_HINT))
            return
        self._values |= found.groups
        if reaction.send is not None:
            self._answer(reaction)
        if reaction.fail:
            self._fail(GuestFailed(reaction.fail, hint=_LOOK_HINT))
        if reaction.recovery and not self._done:
            self._recover(self._grammar.recoveries[reaction.recovery], after_s=reaction.hold_off_s)

    def _answer(self, reaction: Reaction) -> None:
        self._asked = True
        text = rendered(reaction.send or "", self._values)
        if reaction.secret:
            self._secrets.add(text)
        if self._step is not None:
            # The device is at work on the line: it has answered, so the time for the next answer begins anew.
            self._step.deadline = self._now + self._step.allowed_s
        self._type(text, line_end=not reaction.raw)

    def _recover(self, recovery: Recovery, *, after_s: float = 0) -> None:
        if recovery.name in self._disabled or not self._use(recovery):
            return
        if recovery.action == "type":
            if self._step is not None and recovery.wait_s:
                self._step.deadline = self._now + recovery.wait_s * self._slow
            self._type(rendered(recovery.send, self._values))
        elif recovery.action == "restart":
            message = f"the device does not get on, and its recovery {recovery.name!r} asks for a restart"
            self._fail(GuestFailed(message, hint="restart the node", details={"restart": True}))
        elif self._step is not None:
            self._step.retype_after = after_s * self._slow

    def _use(self, recovery: Recovery) -> bool:
        """Write down that ``recovery`` is used; ``False`` when it was used as often as it may be."""
        if self._used.count(recovery.name) >= recovery.limit:
            message = f"recovery {recovery.name!r} was used {recovery.limit} times and did not help"
            self._fail(GuestFailed(message, hint=_LOOK_HINT))
            return False
        self._used.append(recovery.name)
        return True

    def _break_silence(self) -> bool:
        for recovery in self._cli.recoveries:
            due = self._silence_due(recovery)
            if due is not None and self._now >= due:
                self._heard_at = self._now
                self._unanswered += 1
                self._recover(recovery)
                return True
        return False

    def _silence_due(self, recovery: Recovery) -> float | None:
        """When ``recovery`` is due if nothing is printed until then; ``None`` when it is not to be used now."""
        if not recovery.silent_s or recovery.name in self._disabled or self._held is not None:
            return None
        if recovery.phase not in {"any", self._phase} or self._used.count(recovery.name) >= recovery.limit:
            return None
        if self._step is not None and (self._step.parting or self._step.retype_at is not None):
            return None
        if recovery.action == "type" and self._reader.front().unfinished and not recovery.anywhere:
            return None  # something is asked there that nothing knows, and a blind line end may choose the wrong answer
        silent_s = recovery.silent_s
        if recovery.action == "type":
            silent_s = max(silent_s, min(silent_s * 2.0 ** min(self._unanswered, 16), _LONGEST_SILENCE_S))
        return self._heard_at + silent_s * self._slow

    # ---- course -----------------------------------------------------------------------------------------------

    def _resume(self, result: Reached | SessionLost) -> None:
        self._looked = None
        try:
            if isinstance(result, SessionLost):
                self._begin(self._course.throw(result))
            else:
                self._begin(self._course.send(result))
        except StopIteration:
            self._done = True
        except WireloomError as error:
            self._fail(error)

    def _begin(self, request: Request) -> None:
        if isinstance(request, AwaitLogin):
            self._phase, self._step, self._asked = "login", None, False
            return
        timeout_s = request.timeout_s if isinstance(request, TypeLine) else 0
        if isinstance(request, TypeLine) and request.secret:
            self._secrets.add(request.text)
        allowed_s = (timeout_s or self._cli.step_timeout_s) * self._slow
        parting: PartingKind = ""
        if isinstance(request, Parting):
            parting = "moves" if request.moves else "leaves"
        self._open_step(request.text, allowed_s, parting=parting)

    def _open_step(self, text: str, allowed_s: float, *, parting: PartingKind = "") -> None:
        self._step = Step(
            text,
            self._prompt_text,
            self._reader.terminal,
            allowed_s=allowed_s,
            deadline=self._now + allowed_s,
            parting=parting,
        )
        self._type(text)

    def _type_again(self) -> bool:
        """Type the line at hand once more, after its pause."""
        step = self._step
        if step is None or step.retype_at is None or self._now < step.retype_at:
            return False
        self._open_step(step.typed, step.allowed_s)
        return True

    def _type(self, text: str, *, line_end: bool = True) -> None:
        self._out += text.encode()
        if line_end:
            self._out += self._cli.line_end.encode()
        self._heard_at = self._now

    def _part(self) -> bool:
        """End a line of parting when nothing comes any more."""
        step = self._step
        if step is None or not step.parting or self._now < self._parts_at(step):
            return False
        self._step = None
        self._resume(Reached())
        return True

    def _parts_at(self, step: Step) -> float:
        silent_from = self._heard_at + _PARTING_SILENCE_S * self._patience
        return step.deadline if step.parting == "moves" else min(silent_from, step.deadline)

    # ---- time and failures ------------------------------------------------------------------------------------

    def _timers(self) -> Iterator[float]:
        yield self._overall_deadline
        if self._step is not None:
            yield self._step.deadline
            if self._step.parting:
                yield self._parts_at(self._step)
            if self._step.retype_at is not None:
                yield self._step.retype_at
        if self._held is not None:
            yield self._held.due
        front = self._reader.front()
        level = self._level(front)
        if front.text and level < _PATIENT:
            yield front.since + _STOOD_S[level + 1] * self._patience
        for recovery in self._cli.recoveries:
            if (due := self._silence_due(recovery)) is not None:
                yield due

    def _check_deadlines(self) -> None:
        step = self._step
        if self._now >= self._overall_deadline:
            seconds = self._cli.overall_timeout_s * self._slow
            what = "no prompt was reached" if self._phase == "login" else "the dialogue was not over"
            self._fail(DeadlineExceeded(f"{what} within {seconds:g} s", hint=_LOOK_HINT))
        elif step is not None and self._now >= step.deadline:
            self._fail(DeadlineExceeded(f"no prompt came in time after {step.typed!r}", hint=_LOOK_HINT))

    def _fail(self, error: WireloomError) -> None:
        """End in failure. The first cause stays; its text and details show no secret."""
        if self._done:
            return
        details: dict[str, Any] = {
            **error.details,
            "screen": [self._secrets.masked(line) for line in self._reader.screen()],
            "recoveries": list(self._used),
        }
        message, hint = self._secrets.masked(error.message), self._secrets.masked(error.hint)
        self._failure = type(error)(message, hint=hint, details=details)
        self._done = True
