"""The database: upgrade, backup, restore, copy."""

import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from wireloom.cli.state import JsonFlag, YesFlag, confirmed, state_of

if TYPE_CHECKING:
    from wireloom.controller.store.backups import Carried
    from wireloom.settings import Settings

__all__ = ["register"]

T = TypeVar("T")

Database = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="Another database than that of the settings.")
]
Force = Annotated[bool, typer.Option("--force", help="Delete first what Wireloom has in the database that is filled.")]
_DELETES = "Delete all that Wireloom has in the database that is filled?"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for command in (upgrade, backup, restore, copy):
        group.command()(command)
    app.add_typer(group, name="db", help="The controller's database.", rich_help_panel="Installation")


def upgrade(ctx: typer.Context, *, database: Database = None, json: JsonFlag = False) -> None:
    """Bring the schema up to date.

    A controller does so itself when it starts; this does it ahead.
    """
    from wireloom.controller.store import backups

    output = state_of(ctx).output
    done = _run(backups.upgrade(_url(state_of(ctx).settings(), database)))
    if json:
        output.data(done.model_dump(mode="json"))
    elif done.before == done.after:
        output.remark(f"{done.database} is up to date (revision {done.after})")
    else:
        output.remark(f"{done.database}: revision {done.before or 'none'} -> {done.after}")


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write; it must not be there.", dir_okay=False)],
    *,
    database: Database = None,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Take the fabric's keys and the installation's authority along.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Write the database to a file, while the controller runs.

    The file holds secrets; only its owner can read it. Images are not in it.
    """
    from wireloom.controller.store import backups

    state = state_of(ctx)
    settings = state.settings()
    files = _key_files(settings) if with_keys else {}
    with _progress() as tell:
        done = _run(backups.backup(_url(settings, database), file.absolute(), files, tell))
    if json:
        state.output.data(done.model_dump(mode="json"))
        return
    _tell(ctx, done)
    if not with_keys:
        state.output.remark(
            f"not in it: {settings.fabric_key_file} and {settings.authority_folder} (--with-keys takes them along)"
        )
    state.output.remark(f"not in it: images and what nodes keep, in {settings.data_dir}")


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that `wireloom db backup` wrote.", dir_okay=False)],
    *,
    database: Database = None,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Put the keys of the file into the data folder as well.")
    ] = False,
    force: Force = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Fill an empty database from a file, and bring it up to date.

    No controller may have the database open. A file of an older version is good.
    """
    from wireloom.controller.store import backups

    state = state_of(ctx)
    settings = state.settings()
    if force and not confirmed(_DELETES, yes=yes):
        raise typer.Exit(1)
    folder = settings.data_dir if with_keys else None
    with _progress() as tell:
        done = _run(backups.restore(file.absolute(), _url(settings, database), force=force, files_to=folder, tell=tell))
    if json:
        state.output.data(done.model_dump(mode="json"))
        return
    _tell(ctx, done)
    for path in done.files:
        state.output.remark(f"written: {path}")
    if done.manifest.files and not with_keys:
        state.output.remark("the file has keys as well: --with-keys puts them into the data folder")


def copy(
    ctx: typer.Context,
    *,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The database to fill.")],
    database: Database = None,
    force: Force = False,
    running: Annotated[
        bool, typer.Option("--running", help="Even while controllers run: what they write meanwhile is left out.")
    ] = False,
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Copy the database into another, for instance from SQLite to PostgreSQL.

    The source is left as it is.
    """
    from wireloom.controller.store import backups

    state = state_of(ctx)
    if force and not confirmed(_DELETES, yes=yes):
        raise typer.Exit(1)
    with _progress() as tell:
        source = _url(state.settings(), database)
        done = _run(backups.copy(source, to, force=force, running=running, tell=tell))
    if json:
        state.output.data(done.model_dump(mode="json"))
        return
    _tell(ctx, done)
    state.output.remark(f'to use it, set: database_url = "{done.target}"')


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


def _url(settings: "Settings", database: str | None) -> str:
    return database or settings.database


def _key_files(settings: "Settings") -> dict[str, Path]:
    """The files of keys by their places within the data folder."""
    found = {"fabric/keys.json": settings.fabric_key_file} if settings.fabric_key_file.is_file() else {}
    folder = settings.authority_folder
    files = (path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else ()
    return found | {f"fabric/tls/{path.relative_to(folder)}": path for path in files}


def _tell(ctx: typer.Context, done: "Carried") -> None:
    manifest = done.manifest
    state_of(ctx).output.remark(
        f"{done.source} -> {done.target}: {manifest.rows} {'row' if manifest.rows == 1 else 'rows'},"
        f" installation {manifest.installation or 'none'}, schema {manifest.revision}"
        + (f" -> {done.revision}" if done.revision != manifest.revision else "")
    )


@contextmanager
def _progress() -> "Iterator[Callable[[str, int, int], None]]":
    """A bar for each table on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _table, _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from wireloom.cli.output import rich_console

    bars: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=rich_console(stderr=True), transient=True) as progress:

        def tell(table: str, done: int, total: int) -> None:
            if table not in bars:
                bars[table] = progress.add_task(table, total=total)
            progress.update(bars[table], completed=done)

        yield tell
