"""The fabric: files for NATS servers that an installation of several controllers shares."""

from pathlib import Path
from typing import Annotated

import typer

from wireloom.cli.state import JsonFlag, state_of

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command(name="config")(config)
    app.add_typer(
        group, name="fabric", help="NATS servers of your own for an installation.", rich_help_panel="Installation"
    )


def config(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where to write; keys that are there are kept.", file_okay=False)],
    *,
    server: Annotated[
        list[str], typer.Option("--server", help="A server's name or address, `:PORT` if not 4222; several: a cluster.")
    ],
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A further name or address at which servers are reached.")
    ] = None,
    cluster_port: Annotated[int, typer.Option("--cluster-port", help="Port between servers.", min=1, max=65535)] = 6222,
    listen: Annotated[str, typer.Option("--listen", help="Address on which servers listen.")] = "0.0.0.0",  # noqa: S104
    at: Annotated[
        Path | None, typer.Option("--at", help="Where a server's folder will be on its machine; else as written.")
    ] = None,
    store: Annotated[Path, typer.Option("--store", help="Folder of what a server stores.")] = Path(
        "/var/lib/wireloom-nats"
    ),
    json: JsonFlag = False,
) -> None:
    """Write configuration, certificates and keys for NATS servers.

    Controllers get `keys.json` and the settings that are printed; each server gets its folder.
    """
    from wireloom.fabric.deployment import Deployment, write_deployment

    deployment = Deployment(
        servers=tuple(server), names=tuple(name or ()), cluster_port=cluster_port, at=at, store=store, listen=listen
    )
    written = write_deployment(folder, deployment)
    settings = {
        "fabric_url": ",".join(written.urls),
        "fabric_keys": str(written.keys.absolute()),
        "fabric_ca": str(written.ca.absolute()),
    }
    output = state_of(ctx).output
    if json:
        output.data({"settings": settings, "configurations": [str(path) for path in written.configurations]})
        return
    for path in written.configurations:
        output.remark(f"server: nats-server -c {path}")
    output.remark("settings of every controller:")
    for key, value in settings.items():
        output.line(f'{key} = "{value}"')
