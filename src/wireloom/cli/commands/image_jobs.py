"""``wireloom images jobs|job|log|cancel|retry|choose``: the work that brings images in."""

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.image_names import JobArgument, show_facts, size
from wireloom.cli.commands.image_progress import follow_job, shown
from wireloom.cli.failures import FAILED, report
from wireloom.cli.output import Output, as_data
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.images import JobView

__all__ = ["WaitFlag", "finish_job", "followed", "register", "succeeded", "tell_job"]


WaitFlag = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")]


def register(group: typer.Typer) -> None:
    """Add this module's commands."""
    for name, command in (
        ("jobs", jobs), ("job", job), ("log", log), ("cancel", cancel), ("retry", retry), ("choose", choose),
    ):  # fmt: skip
        group.command(name=name)(command)


def jobs(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the work on the library, newest first."""
    state = state_of(ctx)
    found = state.ask(lambda client: client.images.jobs())
    if json:
        state.output.data(as_data(found))
        return
    state.output.table(
        ("job", "what", "state", "at", "remark"),
        [(item.id, item.title, item.state.value, _far(item), _remark(item)) for item in found],
        empty="no work was done lately",
    )


def _far(view: "JobView") -> str:
    if view.finished_at is not None:
        return ""
    return f"{view.stage.value} {100 * view.done // view.total} %" if view.total else view.stage.value


def _remark(view: "JobView") -> str:
    if view.error:
        return str(view.error.get("message"))
    if view.choices is not None and view.state == "choice":
        return f"wireloom images choose {view.id} …"
    return view.report[-1] if view.report else ""


def job(ctx: typer.Context, job_id: JobArgument, json: JsonFlag = False) -> None:
    """Show a job, and what there is to choose from."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.images.job(job_id)), _show)


def _show(state: CliState, view: "JobView") -> None:
    rows = [
        ("what", view.title),
        ("state", view.state.value),
        ("at", _far(view)),
        ("images", ", ".join(view.images)),
        ("devices", ", ".join(view.devices)),
        ("problem", str(view.error.get("message")) if view.error else ""),
    ]
    show_facts(state.output, rows)
    for line in view.report:
        state.output.line(f"  {line}")
    if view.state == "choice":
        _show_offers(state, view)


def _show_offers(state: CliState, view: "JobView") -> None:
    if view.choices is None:
        return
    state.output.table(
        ("key", "kind", "what", "for device", "size", "remark"),
        [
            (
                offer.key,
                offer.kind,
                offer.title,
                offer.device or ("a new one" if offer.kind == "device" else ""),
                size(offer.size) if offer.size else "",
                offer.problem or ("is here already" if offer.exists else ""),
            )
            for offer in view.choices.offers
        ],
    )
    for warning in view.choices.warnings:
        state.output.remark(warning)
    state.output.remark(f"choose with `wireloom images choose {view.id} KEY…`, or `--everything`")


def log(
    ctx: typer.Context,
    job_id: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
) -> None:
    """Print what a job told."""

    async def printed(client: "Client") -> None:
        async with aclosing(client.images.log(job_id, follow=follow)) as pieces:
            async for piece in pieces:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    state_of(ctx).ask(printed)


def cancel(ctx: typer.Context, job_id: JobArgument, json: JsonFlag = False) -> None:
    """End a job; what it has made by then stays."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.images.cancel(job_id)), _show)


def retry(ctx: typer.Context, job_id: JobArgument, wait: WaitFlag = True, json: JsonFlag = False) -> None:
    """Do again what failed or was cancelled, from where it was."""
    state = state_of(ctx)

    async def done(client: "Client") -> None:
        await finish_job(state, client, await client.images.retry(job_id), wait=wait)

    state.ask(done)


def choose(
    ctx: typer.Context,
    *,
    job_id: JobArgument,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="What to import.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All that can be imported.")] = False,
    wait: WaitFlag = True,
    json: JsonFlag = False,
) -> None:
    """Say what of a medium is to be imported."""
    from wireloom.errors import InvalidInput
    from wireloom.model.images import Choice

    if bool(keys) == everything:
        raise InvalidInput("name what is to be imported, or say --everything")
    state = state_of(ctx)

    async def done(client: "Client") -> None:
        view = await client.images.choose(job_id, Choice(keys=tuple(keys or ()), everything=everything))
        await finish_job(state, client, view, wait=wait)

    state.ask(done)


async def finish_job(state: CliState, client: "Client", view: "JobView", *, wait: bool = True) -> None:
    """Follow a job to its end, and print what became of it; one that did not succeed ends the command."""
    await tell_job(state, client, await followed(client, view, wait=wait))


async def followed(client: "Client", view: "JobView", *, wait: bool) -> "JobView":
    """The job once it does nothing more by itself; without ``wait`` as it is."""
    if not wait:
        return view
    with shown() as tell:
        return await follow_job(client, view, tell)


async def tell_job(state: CliState, client: "Client", view: "JobView") -> None:
    """Print what became of a job. :raises typer.Exit: it failed, or was cancelled."""
    from wireloom.errors import FileRefused, from_wire

    if state.output.json:
        state.output.data({"error": view.error} if view.error else as_data(view))
    if view.error:
        report(from_wire(view.error), Output())
        again = f"; `wireloom images retry {view.id}` tries again"
        refused = view.error.get("code") == FileRefused.code  # it would be so the next time, too
        state.output.remark(f"`wireloom images log {view.id}` tells more{'' if refused else again}")
    elif view.state == "cancelled":
        state.output.remark(f"{view.title}: cancelled")
    elif not state.output.json:
        await _tell_outcome(state, client, view)
    if not succeeded(view):
        raise typer.Exit(FAILED)


def succeeded(view: "JobView") -> bool:
    """Whether a job is done, or may still be."""
    return view.state not in {"failed", "cancelled"}


async def _tell_outcome(state: CliState, client: "Client", view: "JobView") -> None:
    if view.state == "choice":
        _show_offers(state, view)
        return
    if view.state != "done":
        state.output.line(f"job {view.id}")
        return
    known = {image.id: image.name for image in await client.images.all()}
    for line in view.report:
        state.output.remark(f"  {line}")
    for image_id in view.images:
        state.output.line(f"image {known.get(image_id, image_id)}")
    for device in view.devices:
        state.output.line(f"device {device}")
