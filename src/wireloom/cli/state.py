"""What all commands share: the global options, the client, and how coroutines are run."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from wireloom.cli.output import Output, as_data

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.base import Value
    from wireloom.settings import Settings

__all__ = ["CliState", "JsonFlag", "YesFlag", "confirmed", "state_of"]

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound="Value | Iterable[Value]")


@dataclass
class CliState:
    """The state of one invocation, kept in Typer's context.

    :ivar config: settings file named by ``--config``; ``url`` the controller named by ``--url``, ``ca`` the
        file with certificates named by ``--ca``.
    """

    config: Path | None = None
    url: str | None = None
    ca: Path | None = None
    debug: bool = False
    output: Output = field(default_factory=Output)

    def settings(self, **overrides: Any) -> Settings:
        """The settings in force, with a command's own flags on top. :raises InvalidInput:"""
        from wireloom.settings import load_settings

        return load_settings(config=self.config, overrides=overrides)

    def environment(self) -> dict[str, str]:
        """The environment as changed by the global options, as clients read it."""
        from wireloom.paths import ENV_CA, ENV_CONFIG, ENV_URL

        files = {ENV_CONFIG: self.config, ENV_CA: self.ca}
        chosen = {**{name: str(file) for name, file in files.items() if file}, ENV_URL: self.url}
        return {**os.environ, **{name: value for name, value in chosen.items() if value}}

    def client(self, *, timeout_s: float = 30) -> Client:
        """A client of the controller. :raises WireloomError: none is known."""
        from wireloom.client import Client, find_endpoint

        return Client(find_endpoint(self.environment()), timeout_s=timeout_s)

    def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Run ``question`` with a client, from a command that is not a coroutine."""
        import asyncio

        async def asked() -> T:
            async with self.client() as client:
                return await question(client)

        return asyncio.run(asked())

    def show(self, answer: AnswerT, for_people: Callable[[CliState, AnswerT], None]) -> None:
        """Print ``answer`` as JSON when that is asked for, otherwise as ``for_people`` does it."""
        if self.output.json:
            self.output.data(as_data(answer))
        else:
            for_people(self, answer)


def state_of(ctx: typer.Context) -> CliState:
    """The state of this invocation."""
    state = ctx.find_root().obj
    if not isinstance(state, CliState):  # a command that runs without the root callback, e.g. in a completion
        state = CliState()
        ctx.find_root().obj = state
    return state


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether to go on: a person at a terminal is asked, a script has decided already."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return typer.confirm(question, err=True)


def _remember_json(ctx: typer.Context, value: bool) -> bool:
    # Known before the command runs, so that even an early error is printed as JSON.
    with suppress(AttributeError):
        state_of(ctx).output.json = value or state_of(ctx).output.json
    return value


JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print data as JSON on stdout; progress goes to stderr.", callback=_remember_json),
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
