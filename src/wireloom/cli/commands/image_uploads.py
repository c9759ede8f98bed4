"""``wireloom images uploads|discard``: files that were sent and are no images yet."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.image_names import size
from wireloom.cli.output import as_data
from wireloom.cli.state import JsonFlag, state_of
from wireloom.errors import NotFound

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.images import UploadView

__all__ = ["register"]

_HOUR_S = 3600


def register(group: typer.Typer) -> None:
    """Add this module's commands."""
    group.command()(uploads)
    group.command()(discard)


def uploads(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List files that were sent, or are being sent, and are no images yet."""
    state = state_of(ctx)
    found = state.ask(lambda client: client.images.uploads())
    if json:
        state.output.data(as_data(found))
        return
    state.output.table(
        ("upload", "file", "size", "arrived", "state"),
        [(item.id, item.file, _size(item), _arrived(item), _state(item)) for item in found],
        empty="nothing was sent that is no image yet",
    )


def _size(upload: "UploadView") -> str:
    return "" if upload.size is None else size(upload.size)


def _arrived(upload: "UploadView") -> str:
    if upload.size is None:
        return size(upload.offset)
    return f"{100 * upload.offset // upload.size if upload.size else 100} %"


def _state(upload: "UploadView") -> str:
    if upload.job:
        return f"job {upload.job}"
    hours = max(upload.expires_at - time.time(), 0) / _HOUR_S
    left = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"
    return f"{'whole, not imported' if upload.size == upload.offset else 'not whole'}; goes in {left}"


def discard(
    ctx: typer.Context,
    upload: Annotated[str, typer.Argument(metavar="UPLOAD", help="Its id; `wireloom images uploads` lists them.")],
) -> None:
    """Remove a file that was sent and is no image yet, and what has arrived of it."""
    state = state_of(ctx)

    async def discarded(client: "Client") -> str:
        for item in await client.images.uploads():
            if item.id == upload:
                await client.images.discard_upload(item.id)
                return item.file
        raise NotFound(f"there is no upload {upload}", hint="`wireloom images uploads` lists what there is")

    state.output.line(f"{state.ask(discarded)} is removed")
