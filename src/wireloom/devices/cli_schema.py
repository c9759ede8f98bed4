"""What may stand in a command-line file (``cli/*.yaml``), and how it becomes a ``Cli`` of the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from wireloom.devices.values import Name, Regex
from wireloom.model.dialogue import Cli, Move, Prompt, Reaction, Recovery
from wireloom.yamlfile import FileModel
from wireloom.yamlfile.values import wrong

__all__ = ["CliFile"]

_LINE_ENDS: dict[str, Literal["\r", "\n", "\r\n"]] = {"cr": "\r", "lf": "\n", "crlf": "\r\n"}

Seconds = Annotated[float, Field(ge=0)]


class MoveFields(FileModel):
    """From one prompt to another."""

    source: Name = Field(alias="from", description="prompt at which the line is typed")
    target: Name = Field(alias="to", description="prompt that it leads to")
    line: str = Field(description="what is typed")


class ReactionFields(FileModel):
    """What to do when a text appears."""

    when: Regex = Field(description="regex of the text, escapes and carriage returns stripped")
    send: str | None = Field(None, description="template of what is typed; a line end is added")
    raw: bool = Field(False, description="type it without a line end")
    secret: bool = Field(False, description="keep what is typed out of every record")
    after: str = Field("", description="reaction that must have happened before (a gate)")
    until: str = Field("", description="reaction that ends its counting; its own name: it counts once")
    hold_off: Seconds = Field(0, description="seconds between the text and the typing")
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="how often in one dialogue")
    phase: Literal["login", "command", "any"] = Field("any", description="before or after the first prompt")
    fail: str = Field("", description="the dialogue ends in failure with this reason")
    recovery: str = Field("", description="recovery that the text calls for")

    def value(self, name: str) -> Reaction:
        fields = self.model_dump(exclude={"hold_off"})
        return Reaction(name=name, hold_off_s=self.hold_off, **fields)


class RecoveryFields(FileModel):
    """A named, bounded way out of a stuck dialogue."""

    action: Literal["type", "retype", "restart"] = Field(description="what is done")
    send: str = Field("", description="what is typed; a line end is added")
    silent: Seconds = Field(0, description="after so many seconds without output; 0: only when a reaction calls for it")
    limit: Annotated[int, Field(ge=1, le=100)] = Field(3, description="how often in one dialogue")
    phase: Literal["login", "command", "any"] = Field("login", description="where silence counts")
    anywhere: bool = Field(False, description="silence makes it type also behind a text that nothing knows")
    enabled: bool = Field(True, description="it may be used")
    wait: Seconds = Field(0, description="seconds that the next prompt may take after it; 0: as after any line")

    def value(self, name: str) -> Recovery:
        return Recovery(
            name=name, silent_s=self.silent, wait_s=self.wait, **self.model_dump(exclude={"silent", "wait"})
        )


def _line_end(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class CliFile(FileModel):
    """The command line of a family of devices. Reactions are tried in the order in which they stand."""

    name: Name = Field(description="by which device files name it")
    extends: str = Field("", description="another command line whose entries this one takes over; equal names replace")
    line_end: Annotated[Literal["cr", "lf", "crlf"], BeforeValidator(_line_end)] = Field(
        "cr", description="what ends a typed line"
    )
    home: Name = Field("privileged", description="prompt at which commands run")
    prompts: dict[str, Regex] = Field({}, description="prompts by name; the regex fits the last line in full")
    moves: list[MoveFields] = Field([], description="ways from prompt to prompt")
    reactions: dict[str, ReactionFields] = Field({}, description="what to do when a text appears")
    recoveries: dict[str, RecoveryFields] = Field({}, description="ways out of a stuck dialogue")
    prepare: list[str] = Field([], description="lines typed once at the home prompt")
    leave: list[str] = Field([], description="lines typed at the end")
    errors: list[Regex] = Field([], description="lines by which a command is refused")
    noise: list[Regex] = Field([], description="lines that come in between and belong to no command")
    open_text: list[Regex] = Field([], description="lines after which further lines are taken without a prompt")
    step_timeout: Annotated[float, Field(gt=0)] = Field(30, description="seconds for one step, on native speed")
    overall_timeout: Annotated[float, Field(gt=0)] = Field(600, description="seconds for a dialogue, on native speed")

    @model_validator(mode="after")
    def _names_are_known(self) -> CliFile:
        self.check()
        return self

    def check(self) -> None:
        """:raises ValueError: a name is used that there is not. One that extends another is checked once complete."""
        if self.extends:
            return
        for move in self.moves:
            for prompt in (move.source, move.target):
                if prompt not in self.prompts:
                    raise wrong(f"there is no prompt {prompt!r}", f"known are {', '.join(self.prompts)}")
        if self.home not in self.prompts:
            raise wrong(f"the home prompt {self.home!r} is not among the prompts")
        for name, reaction in self.reactions.items():
            for other in (reaction.after, reaction.until):
                if other and other not in self.reactions:
                    raise wrong(f"reaction {name!r} waits for {other!r}, which there is not")
            if reaction.recovery and reaction.recovery not in self.recoveries:
                raise wrong(f"reaction {name!r} calls for {reaction.recovery!r}, which there is not")

    def on(self, base: CliFile) -> CliFile:
        """This file completed by ``base``: tables are merged (own entries first), lists and values replace when set."""
        given = self.model_fields_set
        merged: dict[str, Any] = {}
        for field in type(self).model_fields:
            own, theirs = getattr(self, field), getattr(base, field)
            if isinstance(own, dict):
                merged[field] = {**own, **{key: value for key, value in theirs.items() if key not in own}}
            else:
                merged[field] = own if field in given else theirs
        complete = self.model_copy(update={**merged, "name": self.name, "extends": ""})
        complete.check()
        return complete

    def value(self) -> Cli:
        """The command line; ``extends`` must have been resolved."""
        return Cli(
            name=self.name,
            line_end=_LINE_ENDS[self.line_end],
            home=self.home,
            prompts=tuple(Prompt(name=name, pattern=pattern) for name, pattern in self.prompts.items()),
            moves=tuple(Move(source=move.source, target=move.target, line=move.line) for move in self.moves),
            reactions=tuple(reaction.value(name) for name, reaction in self.reactions.items()),
            recoveries=tuple(recovery.value(name) for name, recovery in self.recoveries.items()),
            prepare=tuple(self.prepare),
            leave=tuple(self.leave),
            errors=tuple(self.errors),
            noise=tuple(self.noise),
            open_text=tuple(self.open_text),
            step_timeout_s=self.step_timeout,
            overall_timeout_s=self.overall_timeout,
        )
