"""``wireloom images import|pull|adopt|save|extract|verify``: how images come in."""

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wireloom.cli.commands.image_jobs import WaitFlag, finish_job, followed, succeeded, tell_job
from wireloom.cli.commands.image_names import ImageArgument, found
from wireloom.cli.commands.image_progress import shown
from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.completion import complete_node
from wireloom.cli.failures import FAILED, report
from wireloom.cli.output import Output, as_data
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.cli.uploads import UploadRecords
    from wireloom.client import Client
    from wireloom.errors import WireloomError
    from wireloom.model.images import ImportRequest, JobView

__all__ = ["register"]

_URLS = ("http://", "https://")

NameOption = Annotated[str, typer.Option("--name", "-n", help="Name of the image; made from the file's otherwise.")]
DeviceOption = Annotated[str, typer.Option("--device", "-d", help="What it is; found out otherwise.")]
DefaultFlag = Annotated[bool, typer.Option("--default", help="Nodes of the device that name no image take this one.")]


def register(group: typer.Typer) -> None:
    """Add this module's commands."""
    group.command(name="import")(import_)
    for command in (pull, adopt, save, extract, verify):
        group.command()(command)


def import_(
    ctx: typer.Context,
    *,
    source: Annotated[str, typer.Argument(metavar="FILE|FOLDER|URL", help="What to bring in.")],
    name: NameOption = "",
    device: DeviceOption = "",
    version: Annotated[str, typer.Option("--version", help="Its version; found out otherwise.")] = "",
    default: DefaultFlag = False,
    sha256: Annotated[str, typer.Option("--sha256", help="What the file must have.")] = "",
    auto_build: Annotated[
        bool, typer.Option("--auto-build/--no-auto-build", help="Build a node's image of an IOL binary.")
    ] = True,
    wait: WaitFlag = True,
    json: JsonFlag = False,
) -> None:
    """Bring a file in: an archive of Docker, a disk, a vendor's bundle, an ISO, an IOL binary, an appliance.

    Of a folder every file comes in, and each that is refused is told. What comes by URL is fetched by the controller.
    """
    from wireloom.errors import InvalidInput
    from wireloom.model.images import ImportRequest

    state = state_of(ctx)
    request = ImportRequest(
        name=name, device=device, version=version, default=default, sha256=sha256, auto_build=auto_build
    )
    if source.startswith(_URLS):
        wanted = request.model_copy(update={"url": source})
        _finish(state, lambda client: client.images.import_file(wanted), wait=wait)
        return
    path = Path(source)
    if not path.is_dir():
        _need_files(source, [path])
        state.ask(lambda client: _import_one(state, client, path, request, wait=wait))
        return
    if name or device or sha256 or version:
        raise InvalidInput("a folder's files have no name, device, version or digest in common", hint="import one file")
    files = sorted(item for item in path.iterdir() if item.is_file())
    _need_files(source, files)
    if not _import_all(state, files, request, wait=wait):
        raise typer.Exit(FAILED)


def _need_files(source: str, files: Sequence[Path]) -> None:
    """:raises InvalidInput: there is nothing to be imported."""
    from wireloom.errors import InvalidInput

    if not files:
        raise InvalidInput(f"there are no files in {source}")
    for file in files:
        if not file.exists():
            raise InvalidInput(f"there is no file {file}")
        if not file.is_file():
            raise InvalidInput(f"{file} is not a regular file")


def _import_all(state: CliState, files: Sequence[Path], request: "ImportRequest", *, wait: bool) -> bool:
    """Import one file after the other, and return whether all went well; as JSON one list tells of all of them."""
    from wireloom.errors import WireloomError

    told: list[dict[str, object]] = []
    well = True
    for file in files:
        state.output.remark(f"{file}:")
        try:
            view = state.ask(partial(_told, state, file, request, wait=wait))
        except WireloomError as error:
            told.append({"file": str(file), "error": error.to_wire()})
            report(error, Output())
            well = False
            continue
        told.append({"file": str(file), "job": as_data(view)})
        well = succeeded(view) and well
    if state.output.json:
        state.output.data(told)
    return well


async def _told(state: CliState, file: Path, request: "ImportRequest", client: "Client", *, wait: bool) -> "JobView":
    """One of several files: how it ended is told, and is no end of the command."""
    view = await _job_of(state, client, file, request, wait=wait)
    if not state.output.json:
        with suppress(typer.Exit):
            await tell_job(state, client, view)
    return view


async def _import_one(state: CliState, client: "Client", file: Path, request: "ImportRequest", *, wait: bool) -> None:
    await tell_job(state, client, await _job_of(state, client, file, request, wait=wait))


async def _job_of(state: CliState, client: "Client", file: Path, request: "ImportRequest", *, wait: bool) -> "JobView":
    """Upload a file and have it imported. What was cut off goes on, until its import has begun."""
    from wireloom.cli.uploads import UploadRecords

    records, controller = UploadRecords(), client.endpoint.url
    upload, sent = await _sent(state, client, records, file, request.sha256)
    # What arrived is held against what was read here, where the user has not said what it must be.
    wanted = request.model_copy(update={"upload": upload.rpartition("/")[2], "sha256": request.sha256 or sent})
    job = await client.images.import_file(wanted)
    records.forget(controller, file, request.sha256)
    return await followed(client, job, wait=wait)


async def _sent(
    state: CliState, client: "Client", records: "UploadRecords", file: Path, sha256: str
) -> tuple[str, str]:
    """URL of the upload in which all of ``file`` has arrived, and the digest of what was sent."""
    import asyncio

    from wireloom.errors import NotFound, WireloomError

    controller = client.endpoint.url
    cut_off = _CutOff(state)
    with shown() as tell:

        def far(done: int, total: int) -> None:
            cut_off.over()
            tell("upload", done, total)

        for known in (records.find(controller, file, sha256), None):
            upload = known or await client.images.begin_upload(file, sha256=sha256)
            records.remember(controller, file, upload, sha256)
            try:
                digest = await client.images.send(upload, file, far, interrupted=cut_off.tell)
            except NotFound:
                records.forget(controller, file, sha256)
                if known is None:
                    raise
            except (WireloomError, asyncio.CancelledError):
                state.output.remark("what has arrived is kept; the same command goes on from there")
                raise
            else:
                return upload, digest
    raise NotFound("the upload is gone", hint="try again")


class _CutOff:
    """Says that an upload is cut off: once, until it goes on."""

    def __init__(self, state: CliState) -> None:
        self._output = state.output
        self._told = False

    def tell(self, cause: "WireloomError") -> None:
        if not self._told:
            self._output.remark(f"the upload is cut off ({cause.message}), and goes on as soon as it can")
        self._told = True

    def over(self) -> None:
        self._told = False


def pull(
    ctx: typer.Context,
    *,
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Such as registry.example/vendor/router:1.2.")],
    host: Annotated[str, typer.Option("--host", help="Whose engine fetches it; any that can, otherwise.")] = "",
    username: Annotated[str, typer.Option("--username", "-u", help="Its user at the registry.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    name: NameOption = "",
    device: DeviceOption = "",
    default: DefaultFlag = False,
    wait: WaitFlag = True,
    json: JsonFlag = False,
) -> None:
    """Have a host's engine fetch an image from a registry, and bring it in.

    The password is asked for, or read from standard input; it is stored nowhere.
    """
    from wireloom.errors import InvalidInput
    from wireloom.model.images import PullRequest

    password = ""
    if password_stdin and not username:
        raise InvalidInput("a password needs a user", hint="add --username")
    if username:
        password = sys.stdin.readline().rstrip("\n") if password_stdin else _asked_password()
    request = PullRequest(
        reference=reference, host=host, username=username, password=password, name=name, device=device, default=default
    )
    _finish(state_of(ctx), lambda client: client.images.pull(request), wait=wait)


def _asked_password() -> str:
    return str(typer.prompt("Password", hide_input=True, err=True))


def adopt(
    ctx: typer.Context,
    *,
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="Who has it; `wireloom images host` lists what there is.")
    ],
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="As the host has it.")],
    provider: Annotated[str, typer.Option("--provider", help="docker or libvirt; by the name otherwise.")] = "",
    name: NameOption = "",
    device: DeviceOption = "",
    default: DefaultFlag = False,
    wait: WaitFlag = True,
    json: JsonFlag = False,
) -> None:
    """Bring in an image that a host has already."""
    from wireloom.model.images import AdoptRequest

    chosen = provider or ("libvirt" if os.path.splitext(image)[1] in {".qcow2", ".img", ".raw"} else "docker")
    request = AdoptRequest(host=host, provider=chosen, image=image, name=name, device=device, default=default)
    _finish(state_of(ctx), lambda client: client.images.adopt(request), wait=wait)


def save(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A stopped node.", autocompletion=complete_node)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new image.")],
    default: DefaultFlag = False,
    wait: WaitFlag = True,
    json: JsonFlag = False,
) -> None:
    """Make an image of a stopped node: its disk, or its container's files."""
    from wireloom.model.images import SaveRequest

    request = SaveRequest(lab=lab, node=node, name=name, default=default)
    _finish(state_of(ctx), lambda client: client.images.save(request), wait=wait)


def extract(
    ctx: typer.Context, image: ImageArgument, name: NameOption = "", wait: WaitFlag = True, json: JsonFlag = False
) -> None:
    """Take the disk out of a container's image that wraps a virtual machine, to run it natively."""

    async def asked(client: "Client") -> "JobView":
        return await client.images.extract((await found(client, image)).id, name=name)

    _finish(state_of(ctx), asked, wait=wait)


def verify(ctx: typer.Context, image: ImageArgument, wait: WaitFlag = True, json: JsonFlag = False) -> None:
    """Read an image again, in the library and on the hosts that have it."""

    async def asked(client: "Client") -> "JobView":
        return await client.images.verify((await found(client, image)).id)

    _finish(state_of(ctx), asked, wait=wait)


def _finish(state: CliState, verb: "Callable[[Client], Awaitable[JobView]]", *, wait: bool) -> None:
    async def done(client: "Client") -> None:
        await finish_job(state, client, await verb(client), wait=wait)

    state.ask(done)
