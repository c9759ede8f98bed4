"""The processes of an installation: up, down, and the two programs that they consist of."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom import __version__
from wireloom.cli.state import CliState, JsonFlag, YesFlag, confirmed, state_of
from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.client import Client

__all__ = ["register"]

_ENV_JOIN = "WIRELOOM_JOIN_TOKEN"

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="What must survive a reboot.", file_okay=False)]
RunDir = Annotated[Path | None, typer.Option("--run-dir", help="Sockets and pid files.", file_okay=False)]
LogDir = Annotated[Path | None, typer.Option("--log-dir", help="Log files with --detach.", file_okay=False)]
Host = Annotated[str | None, typer.Option("--host", help="This host's name in labs.")]
ListenHost = Annotated[str | None, typer.Option("--listen-host", help="Address of the API.")]
ListenPort = Annotated[int | None, typer.Option("--listen-port", help="Port of the API.", min=0, max=65535)]
FabricUrl = Annotated[str | None, typer.Option("--fabric-url", help="An existing NATS deployment.")]
Acceleration = Annotated[str | None, typer.Option("--acceleration", help="auto, kvm or tcg.")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(rich_help_panel="Installation")(up)
    app.command(rich_help_panel="Installation")(down)
    app.command(rich_help_panel="Installation")(version)
    app.command(rich_help_panel="Programs")(controller)
    app.command(rich_help_panel="Programs")(agent)
    app.command("fence-guard", hidden=True)(fence_guard)


def up(
    ctx: typer.Context,
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is healthy.")] = False,
    data_dir: DataDir = None,
    run_dir: RunDir = None,
    log_dir: LogDir = None,
    host: Host = None,
    listen_host: ListenHost = None,
    listen_port: ListenPort = None,
    fabric_url: FabricUrl = None,
    acceleration: Acceleration = None,
    log_level: LogLevel = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds until all must be healthy.")] = 60,
    log_files: Annotated[bool, typer.Option("--log-files", hidden=True)] = False,
) -> None:
    """Start Wireloom on this machine.

    Starts fabric, controller and agent, and restarts what dies, until Ctrl-C or `wireloom down`.
    """
    from wireloom.supervisor import start

    state = state_of(ctx)
    settings = state.settings(
        data_dir=data_dir,
        run_dir=run_dir,
        log_dir=log_dir,
        host=host,
        listen_host=listen_host,
        listen_port=listen_port,
        fabric_url=fabric_url,
        acceleration=acceleration,
        log_level=log_level,
    )
    start(settings, detach=detach, log_to_files=log_files, healthy_within_s=timeout, tell=state.output.remark)


def down(
    ctx: typer.Context,
    *,
    destroy_labs: Annotated[bool, typer.Option("--destroy-labs", help="Destroy every lab first.")] = False,
    run_dir: RunDir = None,
    yes: YesFlag = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")] = 120,
) -> None:
    """Stop Wireloom on this machine.

    Nodes and their wires go on running unless --destroy-labs is given.
    """
    from wireloom.supervisor import stop

    state = state_of(ctx)
    if destroy_labs:
        if not confirmed("Destroy every lab with all its disks?", yes=yes):
            raise typer.Exit(1)
        state.ask(lambda client: _destroy_all(client, timeout))
    stopped = stop(state.settings(run_dir=run_dir).paths, timeout_s=timeout)
    state.output.remark("Wireloom has stopped" if stopped else "Wireloom is not running")


async def _destroy_all(client: "Client", timeout_s: float) -> None:
    from wireloom.cli.progress import following

    for lab in await client.labs():
        await following(client, await client.destroy(lab.lab), timeout_s=timeout_s)


def version(ctx: typer.Context, json: JsonFlag = False) -> None:
    """Print the version."""
    output = state_of(ctx).output
    if json:
        output.data({"version": __version__})
    else:
        output.line(f"wireloom {__version__}")


def fence_guard(ctx: typer.Context) -> None:
    """Stop nodes whose lease ran out while no agent is there; started by the agent."""
    from wireloom.app import run_fence_guard

    run_fence_guard(state_of(ctx).settings())


def controller(
    ctx: typer.Context,
    *,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            metavar="URL",
            help="In place of the setting database_url, e.g. postgresql+asyncpg://wireloom@db.example.net/wireloom;"
            " its password comes from database_password_file.",
        ),
    ] = "",
) -> None:
    """Run only the controller, in the foreground."""
    from wireloom.app import run_controller

    settings = state_of(ctx).settings()
    if database:
        _refuse_password(database)
        settings = settings.model_copy(update={"database_url": database})
    run_controller(settings)


def _refuse_password(url: str) -> None:
    """:raises InvalidInput: everybody on this machine would read it in the list of processes."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    if at and ":" in login:
        raise InvalidInput(
            "a password on the command line is read by everybody on this machine",
            hint="put it in a file that only its owner reads, and name that with WIRELOOM_DATABASE_PASSWORD_FILE",
        )


def agent(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="[URL]", help="With --join: the controller's address.")] = "",
    *,
    join: Annotated[
        str,
        typer.Option(
            "--join",
            metavar="TOKEN",
            envvar=_ENV_JOIN,
            show_envvar=True,
            help="Join first, by this token; - reads it from standard input.",
        ),
    ] = "",
    join_only: Annotated[bool, typer.Option("--join-only", help="Join, and do not run the agent.")] = False,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Take an http:// address: the way there is safe.")
    ] = False,
) -> None:
    """Run only this host's agent, in the foreground."""
    from wireloom.app import run_agent

    state = state_of(ctx)
    source = ctx.get_parameter_source("join")
    # A token in the environment alone is no wish to join again at every start.
    if url or join_only or (source is not None and source.name == "COMMANDLINE"):
        _join(state, join, url, plain=plain_http)
        if join_only:
            return
        # Anew, so that the token is in no list of processes for as long as the agent runs.
        os.environ.pop(_ENV_JOIN, None)
        chosen = ["--config", str(state.config)] if state.config is not None else []
        command = [sys.executable, "-m", "wireloom.cli", *chosen, "agent"]
        os.execv(sys.executable, command)  # noqa: S606 - ourselves, no shell
    run_agent(state.settings())


def _join(state: CliState, token: str, url: str, *, plain: bool) -> None:
    import asyncio

    from wireloom.agent.joining import join

    if not url or not token:
        raise InvalidInput("to join takes a token and the controller's address", hint="wireloom agent --join TOKEN URL")
    text = sys.stdin.readline() if token == "-" else token  # noqa: S105 - the word for standard input
    ca = state.ca.read_text() if state.ca is not None else ""
    joined = asyncio.run(join(state.settings(), text, url, plain=plain, ca=ca))
    if joined.already:
        state.output.remark(f"this host has joined installation {joined.installation} already, as {joined.host}")
        return
    if joined.before:
        state.output.remark(f"this host has left installation {joined.before}; what ran there is not touched")
    state.output.remark(f"joined installation {joined.installation} as {joined.host}")
