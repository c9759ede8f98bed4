"""Devices: list and show them, add and remove one's own, hide those that one does not need."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from wireloom.cli.failures import FAILED, diagnostic_lines, report
from wireloom.cli.state import CliState, JsonFlag, state_of
from wireloom.errors import InvalidInput

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.device_views import DeviceDetails, DeviceFileRequest, DeviceFileView, DeviceView, ValueView
    from wireloom.model.diagnostic import Diagnostic

__all__ = ["register", "value_rows"]

LONGEST_VALUE = 60


class Kind(StrEnum):
    """What a file is."""

    DEVICE = "device"
    OVERRIDE = "override"
    CLI = "cli"


NameArgument = Annotated[str, typer.Argument(help="Name or alias of a device.", metavar="NAME")]
FileArgument = Annotated[Path, typer.Argument(help="The file.", exists=True, dir_okay=False)]
KindOption = Annotated[
    Kind, typer.Option("--kind", help="What the file is: a device, what differs from one, or a command line.")
]

HiddenFlag = Annotated[bool, typer.Option("--all", help="Hidden devices too.")]
ProviderOption = Annotated[str | None, typer.Option(help="Only those that run on this provider.")]
VendorOption = Annotated[str | None, typer.Option(help="Only those of this vendor.")]
FamilyOption = Annotated[str | None, typer.Option(help="Only routers, switches, firewalls, hosts, …")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(
        name="devices",
        invoke_without_command=True,
        callback=list_,  # `devices` alone lists
        help="List the devices that a topology can name; show, add, hide them.",
        rich_markup_mode=None,
    )
    group.command(name="list", rich_help_panel="Installation")(list_)
    for command in (show, validate, add, remove, hide, unhide, reload):
        group.command(rich_help_panel="Installation")(command)
    app.add_typer(group, rich_help_panel="Installation")


def list_(
    ctx: typer.Context,
    *,
    everything: HiddenFlag = False,
    provider: ProviderOption = None,
    vendor: VendorOption = None,
    family: FamilyOption = None,
    json: JsonFlag = False,
) -> None:
    """List the devices that a topology can name: the same as `devices` alone."""
    if ctx.invoked_subcommand is not None:  # the group's own turn, before that of its command
        return
    state = state_of(ctx)

    async def asked(client: "Client") -> "tuple[list[DeviceView], list[Diagnostic]]":
        return await client.devices(), await client.device_problems()

    found, problems = state.ask(asked)
    _refuse_unknown("provider", provider, {name for device in found for name in device.providers})
    kind = None if family is None else _singular(family)
    _refuse_unknown("family", kind, {device.family for device in found})
    wanted = [
        device
        for device in found
        if (everything or not device.hidden)
        and (provider is None or provider in device.providers)
        and (vendor is None or vendor.casefold() in device.vendor.casefold())
        and (kind is None or device.family == kind)
    ]
    left_out = 0 if provider or vendor or family else len(found) - len(wanted)
    state.show(wanted, lambda state, wanted: _show_list(state, wanted, left_out))
    _show_problems(state, problems)


def _singular(family: str) -> str:
    word = family.casefold()
    return word.removesuffix("es" if word.endswith("ches") else "s") if word != "wireless" else word


def _refuse_unknown(what: str, word: str | None, known: "set[str]") -> None:
    """:raises InvalidInput: ``word`` is none of the ``known``, so that an empty list would say nothing."""
    if word is not None and word not in known:
        from wireloom.yamlfile.suggest import did_you_mean

        raise InvalidInput(f"no device has the {what} {word!r}", hint=did_you_mean(word, sorted(known)))


def _show_list(state: CliState, found: "list[DeviceView]", left_out: int) -> None:
    state.output.table(
        ("device", "title", "vendor", "kind", "providers", "default", "cpu", "memory MiB", "ports", "from"),
        [
            (
                d.name,
                d.title,
                d.vendor,
                d.family,
                ", ".join(d.providers),
                d.default_provider,
                f"{d.cpu:g}",
                f"{d.memory_mb:g}",
                d.ports,
                _origin(d),
            )
            for d in found
        ],
        empty="no devices",
    )
    if left_out:
        state.output.remark(f"{left_out} hidden devices are left out; `wireloom devices --all` lists them")


def _origin(device: "DeviceView") -> str:
    words = [device.origin, "overridden" if device.overridden else "", "hidden" if device.hidden else ""]
    return ", ".join(word for word in words if word)


def _show_problems(state: CliState, problems: "list[Diagnostic]") -> None:
    for problem in problems:
        for line in diagnostic_lines(problem.model_dump(mode="json"), {}):
            state.output.remark(line)
    if problems:
        state.output.remark("files with mistakes are left out")


def show(ctx: typer.Context, name: NameArgument, json: JsonFlag = False) -> None:
    """Show a device: every value with where it comes from, its ports, and how things are done with it."""
    state = state_of(ctx)
    state.show(state.ask(lambda client: client.device(name)), _show_details)


def _show_details(state: CliState, details: "DeviceDetails") -> None:
    out, device = state.output, details.device
    aliases = f" (also {', '.join(device.aliases)})" if device.aliases else ""
    out.line(f"{device.name}: {device.title}{aliases}")
    out.line(f"{_origin(device)}, from {details.file}{' and ' + details.override if details.override else ''}")
    if details.ports:
        out.line(f"ports: {', '.join(details.ports[:6])}{', … ' + details.ports[-1] if len(details.ports) > 6 else ''}")
    if details.machines:
        out.line(f"made of several machines (also {', '.join(details.machines)}): it cannot be deployed yet")
    for provider, needs in details.needs.items():
        out.line(f"needs on {provider}: {', '.join(needs)}")
    for provider, purposes in details.purposes.items():
        out.line(f"\n{provider}:")
        out.table(("purpose", "how"), list(purposes.items()), empty="nothing is known of its guest")
    out.line()
    out.table(("value", "is", "from"), value_rows(details.values))
    if details.notes:
        out.line(f"\n{details.notes.strip()}")
    if details.sources:
        out.line(f"\nsources: {'; '.join(details.sources)}")


def value_rows(values: "tuple[ValueView, ...]") -> list[tuple[str, str, str]]:
    """Rows of a table of values; what nobody said and is nothing is left out."""
    return [
        (item.path, _shown(item.value, off=item.origin.off), _place(item)) for item in values if not _says_nothing(item)
    ]


def _says_nothing(value: "ValueView") -> bool:
    """An empty value that nobody wrote, or a bound that is none."""
    unbounded = value.path.endswith((".minimum", ".maximum")) and not value.value
    return unbounded or (value.origin.layer == "default" and value.value in (None, "", 0, [], {}, False))


def _place(value: "ValueView") -> str:
    """The device's own file speaks for itself; every other layer is named."""
    layer, where = value.origin.layer, value.origin.where
    return where if layer == "device" else f"{layer}: {where}" if where else layer


def _shown(value: Any, *, off: bool) -> str:
    if off:
        return "off"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    lines = str(value).splitlines() or [""]
    text = f"{value:g}" if isinstance(value, float) else lines[0]
    return text if len(lines) == 1 and len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 2]} …"


def validate(ctx: typer.Context, file: FileArgument, kind: KindOption = Kind.DEVICE, json: JsonFlag = False) -> None:
    """Check FILE and show every mistake in it, with the devices of this machine's data folder around it.

    Needs no running controller.
    """
    from wireloom.devices import DeviceFolder

    state = state_of(ctx)
    request = _request(file, kind)
    try:
        folder = DeviceFolder(state.settings().paths.device_folder)
        name = folder.check(request.text, kind=request.kind, source=request.source)
    except InvalidInput as error:
        _refuse(state, error, request)
    if json:
        state.output.data({"name": name, "kind": request.kind})
    else:
        state.output.line(f"{file}: {kind.value} {name} is well")


def add(ctx: typer.Context, file: FileArgument, kind: KindOption = Kind.DEVICE, json: JsonFlag = False) -> None:
    """Add FILE to the devices of one's own, in place of an own one of that name."""
    state = state_of(ctx)
    request = _request(file, kind)
    try:
        view = state.ask(lambda client: client.add_device_file(request))
    except InvalidInput as error:
        _refuse(state, error, request)
    state.show(view, lambda state, view: state.output.line(f"{kind.value} {view.name} added"))


def remove(ctx: typer.Context, name: NameArgument, kind: KindOption = Kind.DEVICE, json: JsonFlag = False) -> None:
    """Remove a device of one's own, an override or a command line; what is built in is there again."""

    def told(state: CliState, view: "DeviceFileView") -> None:
        after = " and the built-in one is there again" if kind is Kind.DEVICE and view.device else ""
        state.output.line(f"{kind.value} {view.name} removed{after}")

    state = state_of(ctx)
    state.show(state.ask(lambda client: client.remove_device_file(name, kind=kind.value)), told)


def hide(ctx: typer.Context, name: NameArgument, json: JsonFlag = False) -> None:
    """Leave a device out of lists. Topologies can name it all the same."""
    _set_hidden(ctx, name, hidden=True)


def unhide(ctx: typer.Context, name: NameArgument, json: JsonFlag = False) -> None:
    """List a hidden device."""
    _set_hidden(ctx, name, hidden=False)


def _set_hidden(ctx: typer.Context, name: str, *, hidden: bool) -> None:
    state = state_of(ctx)
    view = state.ask(lambda client: client.hide_device(name, hidden=hidden))
    state.show(view, lambda state, view: state.output.line(f"{view.name} is {'hidden' if view.hidden else 'listed'}"))


def reload(ctx: typer.Context, json: JsonFlag = False) -> None:
    """Read all device files again, and show what is wrong with them."""
    state = state_of(ctx)
    problems = state.ask(lambda client: client.device_problems(reload=True))
    state.show(problems, _show_problems)
    state.output.line("device files read")
    if problems:
        raise typer.Exit(FAILED)


def _request(file: Path, kind: Kind) -> "DeviceFileRequest":
    from wireloom.model.device_views import DeviceFileRequest

    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 text: {error.reason}") from None
    return DeviceFileRequest(text=text, kind=kind.value, source=str(file))


def _refuse(state: CliState, error: InvalidInput, request: "DeviceFileRequest") -> NoReturn:
    report(error, state.output, sources={request.source: request.text})
    raise typer.Exit(FAILED) from error
