"""The application and its entry point."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from wireloom import __version__
from wireloom.cli.failures import FAILED, INTERRUPTED, report
from wireloom.cli.state import CliState, state_of
from wireloom.errors import WireloomError

if TYPE_CHECKING:
    from wireloom.cli.output import Output

__all__ = ["PANELS", "app", "run"]

#: Headings of the help, in order; every command is registered under one of them.
PANELS: Final = ("Topologies", "Labs", "Nodes", "Links", "Installation", "Programs")


class WireloomGroup(TyperGroup):
    """Turns the errors of every command into a message and an exit code, in one place."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WireloomError as error:
            if state_of(ctx).debug:
                raise
            report(error, self._output(ctx))
            raise typer.Exit(FAILED) from error
        except BrokenPipeError:
            # The reader left, e.g. `| head`; a new stdout keeps the interpreter's last flush quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted\n")
            raise typer.Exit(INTERRUPTED) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands under the headings that they were registered with, each in one line."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if isinstance(command, TyperCommand | TyperGroup) and not command.hidden:
                panels[str(command.rich_help_panel)].append((name, command.get_short_help_str(limit=90)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    @staticmethod
    def _output(ctx: typer.Context) -> "Output":
        return state_of(ctx).output


app = typer.Typer(
    name="wireloom",
    cls=WireloomGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in plain text: Typer's Rich help costs 80 ms of start-up
    help="Network labs in which containers and virtual machines are equals.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage (for `plan`: there are changes).",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"wireloom {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings file instead of /etc/wireloom/wireloom.toml.", dir_okay=False),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Address of another controller.")] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="Certificates (PEM) by which that controller is known.", dir_okay=False),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version
    ctx.obj = CliState(config=config, url=url, ca=ca, debug=debug)


def _register() -> None:
    """Hang every command into the application; the order is the order of the help."""
    from wireloom.cli.commands import (
        captures,
        configs,
        counters,
        database,
        devices,
        fabric,
        history,
        host,
        hosts,
        images,
        labs,
        links,
        moves,
        nodes,
        orphans,
        processes,
        segments,
        topologies,
    )

    on_links = (links, segments, counters, captures)
    for module in (
        topologies,
        labs,
        history,
        nodes,
        moves,
        configs,
        *on_links,
        processes,
        hosts,
        host,
        orphans,
        fabric,
        database,
        images,
        devices,
    ):
        module.register(app)


_register()


def run() -> None:
    """The ``wireloom`` program."""
    # Looking for plugins of pydantic reads the metadata of every installed package; we use none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()
