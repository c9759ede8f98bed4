"""``wireloom capture``: frames of a port, a link or a segment, to Wireshark, into a file, or as lines of text."""

import json as jsonlib
import sys
import time
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import typer

from wireloom.cli.commands.labs import LabArgument
from wireloom.cli.completion import complete_far_end
from wireloom.cli.output import as_data
from wireloom.cli.state import CliState, JsonFlag, state_of

if TYPE_CHECKING:
    from wireloom.client import Client
    from wireloom.model.capture import CaptureEnd, CaptureOptions, DecodedFrame

__all__ = ["register"]

SNAPLEN = 262_144


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(rich_help_panel="Links")(capture)


def capture(
    ctx: typer.Context,
    *,
    lab: LabArgument,
    of: Annotated[
        list[str],
        typer.Argument(
            metavar="NODE:IF|A:IF B:IF|SEGMENT",
            help="A port, a link by both of its ends, or a segment.",
            autocompletion=complete_far_end,
            show_default=False,
        ),
    ],
    capture_filter: Annotated[
        str, typer.Option("--filter", "-f", help="Only frames that match, as of pcap-filter(7).")
    ] = "",
    packets: Annotated[int, typer.Option("--packets", "-c", min=0, help="Leave after so many; 0: never.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Leave after so long; 0: never.")] = 0,
    snaplen: Annotated[
        int, typer.Option("--snaplen", "-s", min=14, max=SNAPLEN, help="Bytes of a frame that are kept.")
    ] = SNAPLEN,
    out: Annotated[Path | None, typer.Option("--out", "-w", help="Write to this file.", dir_okay=False)] = None,
    decode: Annotated[bool, typer.Option("--decode", "-d", help="Print a line for each frame instead.")] = False,
    json: JsonFlag = False,
) -> None:
    """Capture frames while they pass, until Ctrl-C.

    Writes pcapng to standard output, for `wireloom capture LAB r1:eth1 | wireshark -k -i -`. On a link and in a segment
    each frame is there once, with the port where it came in; on a port both ways.
    """
    from wireloom.errors import InvalidInput
    from wireloom.model.capture import CaptureOptions

    name = " -- ".join(of)
    if len(of) > 2:
        raise InvalidInput(f"{name} is neither a port nor a link nor a segment", hint="a link is named by its two ends")
    if decode and out is not None:
        raise InvalidInput("--out takes a capture as it is, not decoded", hint="leave out --decode, or redirect it")
    options = CaptureOptions(filter=capture_filter, packets=packets, seconds=seconds, snaplen=snaplen)
    state = state_of(ctx)
    if decode or json:
        end = _decoded(state, lab, name, options)
    elif out is None and sys.stdout.isatty():
        raise InvalidInput(
            "a capture is no text for a terminal",
            hint=f"`wireloom capture {lab} {name} | wireshark -k -i -`, or --out FILE, or --decode",
        )
    else:
        end = _raw(state, lab, name, options, out)
    state.output.remark(_closing(end))


def _raw(state: CliState, lab: str, name: str, options: "CaptureOptions", out: Path | None) -> "CaptureEnd":
    """Copy the capture to a file or to standard output, and sum it up."""
    from wireloom.model.capture import CaptureEnd
    from wireloom.pcapng import BlockReader

    reader = BlockReader()

    async def copied(client: "Client") -> None:
        async with aclosing(client.captures.read(lab, name, options)) as pieces:
            with ExitStack() as files:
                target: BinaryIO | None = None if out else sys.stdout.buffer
                async for piece in pieces:
                    if target is None:  # a capture that is refused leaves the file as it was
                        target = files.enter_context(cast("Path", out).open("wb"))
                    target.write(piece)
                    target.flush()
                    reader.feed(piece)

    with suppress(KeyboardInterrupt):
        state.ask(copied)
    summary = reader.summary
    return CaptureEnd(packets=summary.packets, dropped=summary.dropped, reason=summary.ended)


def _decoded(state: CliState, lab: str, name: str, options: "CaptureOptions") -> "CaptureEnd":
    """Print a line for each frame, or a JSON document."""
    from wireloom.model.capture import CaptureEnd

    ends: list[CaptureEnd] = []
    printed = 0

    async def shown(client: "Client") -> None:
        nonlocal printed
        async with aclosing(client.captures.decoded(lab, name, options)) as messages:
            async for message in messages:
                for frame in message.frames:
                    sys.stdout.write((_json_line if state.output.json else _line)(frame) + "\n")
                sys.stdout.flush()
                printed += len(message.frames)
                ends.extend(filter(None, [message.end]))

    with suppress(KeyboardInterrupt):
        state.ask(shown)
    return ends[-1] if ends else CaptureEnd(packets=printed)


def _json_line(frame: "DecodedFrame") -> str:
    return jsonlib.dumps(as_data(frame), ensure_ascii=False)


def _line(frame: "DecodedFrame") -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(frame.time)) + f"{frame.time % 1:.6f}"[1:]
    way = f"{frame.source} > {frame.destination}"
    return f"{clock}  {frame.port:<12} {way:<34} {frame.protocol:<8} {frame.length:>5}  {frame.info}"


def _closing(end: "CaptureEnd") -> str:
    lost = f", {end.dropped} more came faster than they were read" if end.dropped else ""
    noun = "packet" if end.packets == 1 else "packets"
    return f"{end.packets} {noun}{lost} ({end.reason or 'interrupted'})"
