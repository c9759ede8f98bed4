"""``wireloom images secret``: licences and the like, which nodes of some devices are given."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from wireloom.cli.failures import FAILED
from wireloom.cli.state import JsonFlag, YesFlag, confirmed, state_of

__all__ = ["register"]

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as iol-licence; a device's page names its own.")
]


def register(group: typer.Typer) -> None:
    """Add the command group."""
    secrets = typer.Typer(no_args_is_help=True, help="Licences and the like, which nodes of some devices are given.")
    secrets.command(name="ls")(ls)
    secrets.command(name="set")(set_)
    secrets.command(name="rm")(remove)
    group.add_typer(secrets, name="secret")


def ls(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the names of the secrets that were given; what they are is never told."""
    state = state_of(ctx)
    names = state.ask(lambda client: client.images.secrets())
    if json:
        state.output.data(names)
    else:
        state.output.table(("secret",), [(name,) for name in names], empty="no secret was given")


def set_(
    ctx: typer.Context,
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What it is; - for standard input.", allow_dash=True)],
) -> None:
    """Keep a secret, in the place of what had that name."""
    from wireloom.errors import InvalidInput

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}") from error
    state = state_of(ctx)
    state.ask(lambda client: client.images.put_secret(name, content))
    state.output.remark(f"kept; nodes that are made from now on have it as {name}")


def remove(ctx: typer.Context, name: NameArgument, yes: YesFlag = False) -> None:
    """Forget a secret; nodes that have it keep it."""
    if not confirmed(f"Forget {name}?", yes=yes):
        raise typer.Exit(FAILED)
    state_of(ctx).ask(lambda client: client.images.delete_secret(name))
