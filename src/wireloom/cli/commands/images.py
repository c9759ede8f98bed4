"""``wireloom images``: what the library has, what it is for, where it is."""

from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.image_names import ImageArgument, found, show_facts, size
from wireloom.cli.failures import FAILED
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, YesFlag, confirmed, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.images import EngineImageView, ImageUse, ImageView, ServedDevice

__all__ = ["register", "show_image"]

_SHORT = 12
_UNPACKED = {"qcow2": "for the guest"}


def register(app: typer.Typer) -> None:
    """Add the command group, with the commands that bring images in and those about the work."""
    from wireloom.cli.commands import image_imports, image_jobs, image_secrets, image_uploads

    group = typer.Typer(no_args_is_help=True, help="Images of nodes: bring them in, say what they are, take them away.")
    for name, command in (("ls", ls), ("show", show), ("set", set_), ("rm", remove)):
        group.command(name=name)(command)
    group.command()(push)
    group.command()(unpush)
    image_imports.register(group)
    group.command()(host)
    group.command()(collect)
    image_jobs.register(group)
    image_uploads.register(group)
    image_secrets.register(group)
    app.add_typer(group, name="images", rich_help_panel="Installation")


def ls(ctx: typer.Context, json: JsonFlag = False) -> None:
    """List the images of the library."""
    state = state_of(ctx)
    images = state.ask(lambda client: client.images.all())
    if json:
        state.output.data(as_data(images))
        return
    state.output.table(
        ("image", "provider", "device", "version", "size", "state", "on hosts", "used by"),
        [
            (
                image.name,
                image.provider,
                _devices(image),
                image.version,
                size(image.size),
                image.state.value,
                ", ".join(_where(image)),
                len(image.used_by) or "",
            )
            for image in images
        ],
        empty="the library is empty; bring an image in with `wireloom images import FILE`",
    )


def _devices(image: "ImageView") -> str:
    served = [f"{item.device} (default)" if item.default else item.device for item in image.devices]
    if served or not image.proposals:
        return ", ".join(served)
    best = image.proposals[0]
    return f"{best.device}? ({best.confidence:.0%})"


def _where(image: "ImageView") -> list[str]:
    return [
        item.host if item.state == "present" else f"{item.host} ({_coming(item.state.value, item.done, item.total)})"
        for item in image.presence
    ]


def _coming(state: str, done: int, total: int) -> str:
    return f"{state} {100 * done // total} %" if total else state


def show(ctx: typer.Context, image: ImageArgument, json: JsonFlag = False) -> None:
    """Show an image: what it is, where it is from, where it is, and what uses it."""
    state = state_of(ctx)
    view = state.ask(lambda client: found(client, image))
    state.show(view, show_image)


def show_image(state: CliState, image: "ImageView") -> None:
    """For people."""
    origin = image.provenance
    rows = [
        ("name", image.name),
        ("provider", image.provider),
        ("device", _devices(image)),
        ("version", image.version),
        ("state", image.state.value),
        ("size", _sizes(image)),
        ("architecture", image.architecture),
        ("needs", ", ".join(image.needs)),
        ("digest", image.digest),
        ("from", f"{origin.origin} {origin.source} ({origin.kind})"),
        ("what was done", "; ".join(origin.notes)),
        ("on hosts", ", ".join(_where(image))),
        ("used by", ", ".join(map(_use, image.used_by))),
    ]
    show_facts(state.output, rows)
    if image.proposals and not image.devices:
        state.output.line()
        state.output.table(
            ("may be", "version", "sure", "because"),
            [
                (item.device, item.version, f"{item.confidence:.0%}", "; ".join(item.reasons))
                for item in image.proposals
            ],
        )
        best = image.proposals[0]
        state.output.remark(f"confirm it with `wireloom images set {image.name} --device {best.device}`")
    if image.problem:
        state.output.remark(f"{image.problem.get('message')}")


def _sizes(image: "ImageView") -> str:
    if not image.virtual_size:
        return size(image.size)
    return f"{size(image.size)}, {size(image.virtual_size)} {_UNPACKED.get(image.format, 'unpacked')}"


def _use(use: "ImageUse") -> str:
    return f"{use.kind} {use.lab}/{use.name}" if use.lab else f"{use.kind} {use.name}"


def set_(
    ctx: typer.Context,
    *,
    image: ImageArgument,
    device: Annotated[
        list[str] | None, typer.Option("--device", "-d", help="A device that it is for; may be given again.")
    ] = None,
    default: Annotated[
        bool | None,
        typer.Option("--default/--no-default", help="Nodes of these devices that name no image take this one."),
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="Its version.")] = None,
    json: JsonFlag = False,
) -> None:
    """Say what an image is, and whose default it is."""
    from wireloom.errors import InvalidInput
    from wireloom.model.images import ImageUpdate

    if device is None and default is None and version is None:
        raise InvalidInput("say what is to be set", hint="--device, --default or --version")
    state = state_of(ctx)

    async def changed(client: "Client") -> "ImageView":
        view = await found(client, image)
        devices = None if device is None and default is None else _served(view, device, default)
        return await client.images.update(view.id, ImageUpdate(devices=devices, version=version))

    state.show(state.ask(changed), show_image)


def _served(image: "ImageView", devices: list[str] | None, default: bool | None) -> "tuple[ServedDevice, ...]":
    from wireloom.errors import InvalidInput
    from wireloom.model.images import ServedDevice

    known = {item.device: item.default for item in image.devices}
    named = devices if devices is not None else list(known)
    if not named:
        raise InvalidInput(f"nobody has said what {image.name} is", hint="add --device")
    return tuple(
        ServedDevice(device=name, default=known.get(name, False) if default is None else default) for name in named
    )


def remove(ctx: typer.Context, image: ImageArgument, yes: YesFlag = False, json: JsonFlag = False) -> None:
    """Take an image off the library and off every host; refused while something uses it."""
    state = state_of(ctx)
    view = state.ask(lambda client: found(client, image))
    if not confirmed(f"Remove {view.name} ({size(view.size)}) from the library and all hosts?", yes=yes):
        raise typer.Exit(FAILED)

    def told(state: CliState, gone: "ImageView") -> None:
        left = ", ".join(item.host for item in gone.presence)
        state.output.line(f"{gone.name} goes" + (f" as soon as it is off {left}" if left else ""))

    state.show(state.ask(lambda client: client.images.delete(view.id)), told)


HostsArgument = Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="All hosts when none is named.")]


def push(ctx: typer.Context, image: ImageArgument, hosts: HostsArgument = None, json: JsonFlag = False) -> None:
    """Have hosts fetch an image before a node needs it."""
    state = state_of(ctx)
    wanted = state.ask(lambda client: found(client, image))
    pushed = state.ask(lambda client: client.images.push(wanted.id, hosts or ()))
    where = ", ".join(_where(pushed)) or "told to the hosts"
    state.show(pushed, lambda _, view: state.output.line(f"{view.name}: {where}"))


def unpush(ctx: typer.Context, image: ImageArgument, hosts: HostsArgument = None, json: JsonFlag = False) -> None:
    """Take a push back: hosts keep the image no longer than they keep others that nothing uses."""
    state = state_of(ctx)
    wanted = state.ask(lambda client: found(client, image))
    freed = state.ask(lambda client: client.images.unpush(wanted.id, hosts or ()))
    where = f"{', '.join(hosts)} no" if hosts else "no host any"
    state.show(freed, lambda _, view: state.output.line(f"{view.name}: pushed to {where} more"))


def host(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[HOST]", help="All hosts when none is named.")] = "",
    json: JsonFlag = False,
) -> None:
    """List what hosts have in their engines and image folders, whoever brought it."""
    state = state_of(ctx)
    images = state.ask(lambda client: client.images.engine(name))
    if json:
        state.output.data(as_data(images))
        return

    def row(image: "EngineImageView") -> tuple[object, ...]:
        content = image.content.removeprefix("sha256:")[:_SHORT]
        return image.host, image.provider, image.name, content, size(image.size), "yes" if image.library else "no"

    state.output.table(
        ("host", "provider", "image", "content", "size", "in the library"), [row(image) for image in images]
    )


def collect(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JsonFlag = False,
) -> None:
    """Remove stored files that no image and no work needs."""
    from wireloom.model.images import CollectView

    def told(state: CliState, view: CollectView) -> None:
        for item in view.removed:
            state.output.line(item)
        count = len(view.removed)
        files = f"{count} {'file' if count == 1 else 'files'}, {size(view.size)}"
        state.output.remark(f"{files}, not removed" if dry_run else files)

    state = state_of(ctx)
    state.show(state.ask(lambda client: client.images.collect(dry_run=dry_run)), told)
