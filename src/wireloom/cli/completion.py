"""Names for the shell's completion, asked from the controller under a short deadline; silence when it is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import typer

from wireloom.cli.state import state_of

if TYPE_CHECKING:
    from wireloom.client import Client

__all__ = [
    "complete_end",
    "complete_far_end",
    "complete_host",
    "complete_image",
    "complete_job",
    "complete_lab",
    "complete_node",
    "complete_preset",
    "complete_segment",
]

#: A person waits for this with a finger on the Tab key.
DEADLINE_S: Final = 1.0


def complete_lab(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of labs."""

    async def names(client: Client) -> list[str]:
        return [lab.lab for lab in await client.labs()]

    return _matching(ctx, names, incomplete)


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of nodes in the lab that was typed before."""
    lab = str(ctx.params.get("lab") or "")

    async def names(client: Client) -> list[str]:
        return [node.name for node in (await client.lab(lab)).nodes]

    return _matching(ctx, names, incomplete) if lab else []


def complete_end(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ends of links, ``node:interface``, in the lab that was typed before."""
    return _ends(ctx, incomplete, segments=False)


def complete_far_end(ctx: typer.Context, incomplete: str) -> list[str]:
    """Second ends of links: ``node:interface``, or a segment."""
    return _ends(ctx, incomplete, segments=True)


def _ends(ctx: typer.Context, incomplete: str, *, segments: bool) -> list[str]:
    lab = str(ctx.params.get("lab") or "")

    async def names(client: Client) -> list[str]:
        view = await client.lab(lab)
        ports = {end for link in view.links for end in (link.a, link.b) if ":" in end}
        begun = {f"{node.name}:" for node in view.nodes}
        return sorted(ports | begun | {segment.name for segment in view.segments if segments})

    return _matching(ctx, names, incomplete) if lab else []


def complete_segment(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of segments in the lab that was typed before."""
    lab = str(ctx.params.get("lab") or "")

    async def names(client: Client) -> list[str]:
        return [segment.name for segment in (await client.lab(lab)).segments]

    return _matching(ctx, names, incomplete) if lab else []


def complete_host(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of hosts."""

    async def names(client: Client) -> list[str]:
        return [host.host for host in await client.hosts()]

    return _matching(ctx, names, incomplete)


def complete_image(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of images of the library."""

    async def names(client: Client) -> list[str]:
        return [image.name for image in await client.images.all()]

    return _matching(ctx, names, incomplete)


def complete_job(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the work on the library."""

    async def names(client: Client) -> list[str]:
        return [job.id for job in await client.images.jobs()]

    return _matching(ctx, names, incomplete)


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets, which are the same everywhere."""
    from wireloom.model.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def _matching(ctx: typer.Context, names: Callable[[Client], Awaitable[list[str]]], incomplete: str) -> list[str]:
    import asyncio

    from wireloom.errors import WireloomError

    async def asked() -> list[str]:
        async with state_of(ctx).client(timeout_s=DEADLINE_S) as client:
            return await names(client)

    try:
        found = asyncio.run(asyncio.wait_for(asked(), DEADLINE_S))
    except (WireloomError, TimeoutError):
        return []
    return [name for name in found if name.startswith(incomplete)]
