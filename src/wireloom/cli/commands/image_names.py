"""Images by name or id, and sizes as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.completion import complete_image, complete_job
from wireloom.errors import NotFound

if TYPE_CHECKING:
    from wireloom.cli.output import Output
    from wireloom.client import Client
    from wireloom.model.images import ImageView

__all__ = ["ImageArgument", "JobArgument", "found", "show_facts", "size"]

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Name of the image, or its id.", autocompletion=complete_image)
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", autocompletion=complete_job)]


async def found(client: Client, name: str) -> ImageView:
    """The image of that name or id. :raises NotFound: with names that look alike."""
    from difflib import get_close_matches

    images = await client.images.all()
    for image in images:
        if name in {image.name, image.id}:
            return image
    near = get_close_matches(name, [image.name for image in images], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`wireloom images ls` lists what there is"
    raise NotFound(f"the library has no image {name}", hint=hint)


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def show_facts(output: Output, facts: Sequence[tuple[str, str]]) -> None:
    """What is known of one thing, a line each."""
    known = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        output.line(f"{name.ljust(width)}  {value}")
