"""The carrying of a virtual machine's disk from host to host, against ``cp`` and ``fsync`` of the same file.

Two agents' halves in two processes, as on two hosts: one serves what leaves it, the other fetches, verifies and flushes
it. The disk is random data with holes, in the page cache for both sides; the rounds take turns, so that both meet the
same machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiohttp import web
from common import Result, compared, measured, median, parser, report

from wireloom.agent.moving.cargo import cargo_of
from wireloom.agent.moving.departures import Departures, Parcel
from wireloom.agent.moving.fetch import Fetch, Line, Source
from wireloom.agent.moving.server import DepartureServer
from wireloom.errors import NotFound
from wireloom.model.slice import Departure

MIB: Final = 1 << 20
LIMIT: Final = 0.8
TOKEN: Final = "t" * 48
DEPARTURE: Final = Departure(move="m1", node_id="n1", name="vm", provider="libvirt", host="h2", relay="", token=TOKEN)


class _OneDeparture(Departures):
    """One node, packed already."""

    def __init__(self, folder: Path) -> None:
        self._parcel = Parcel(DEPARTURE, folder, cargo_of(folder, {}, {}))

    def parcel(self, move: str, token: str) -> Parcel:
        if (move, token) != (DEPARTURE.move, TOKEN):
            raise NotFound("there is no such move here")
        return self._parcel


async def serve(folder: Path) -> None:
    """The host that the node leaves."""
    server = DepartureServer(_OneDeparture(folder))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await server.answer(request) or web.Response(status=404)

    listener = await asyncio.get_running_loop().create_server(web.Server(answer), "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


@contextlib.contextmanager
def source_host(folder: Path) -> Iterator[str]:
    """Its URL."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/moves/{DEPARTURE.move}"
        finally:
            process.terminate()


def carry(url: str, target: Path) -> float:
    """Seconds to have all of it, verified and flushed."""
    began = time.perf_counter()
    source = Source([Line(url, TOKEN)])
    cargo = source.cargo()
    fetch = Fetch(source, lambda _: None, {})
    for number, entry in enumerate(cargo.files):
        path = target / entry.path
        if entry.kind == "folder":
            path.mkdir(parents=True)
        else:
            fetch.file(number, entry, path, lambda: None)
    return time.perf_counter() - began


def copy(source: Path, target: Path) -> float:
    """Seconds of ``cp`` and a flush."""
    began = time.perf_counter()
    subprocess.run(["cp", "--sparse=never", str(source), str(target)], check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began


def make_disk(disk: Path, size: int) -> None:
    disk.parent.mkdir(parents=True)
    with disk.open("wb") as file:
        for _ in range(size // (16 * MIB)):
            file.write(os.urandom(16 * MIB))
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, default=1024, help="MiB of the disk")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--folder", type=Path, help="where the disks lie (default: a temporary folder)")
    arguments.add_argument("--serve", type=Path, help="be the host that the node leaves")
    options = arguments.parse_args()
    if options.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(options.serve))
        return
    with tempfile.TemporaryDirectory(prefix="wireloom-moves-", dir=options.folder) as name:
        folder = Path(name)
        results = compare(folder, options.size, options.rounds)
    report("moves", results, options.json)


def compare(folder: Path, size: int, rounds: int) -> list[Result]:
    disk = folder / "node" / "storage" / "system.qcow2"
    make_disk(disk, size * MIB)
    carried, copied = [], []
    with source_host(folder / "node") as url:
        for _ in range(rounds):
            target = folder / "arrived"
            target.mkdir()
            carried.append(carry(url, target))
            assert (target / "storage" / "system.qcow2").stat().st_size == size * MIB
            shutil.rmtree(target)
            copied.append(copy(disk, folder / "copy"))
            (folder / "copy").unlink()
    ours, theirs = size / median(carried), size / median(copied)
    return [
        compared("a disk is carried, verified and flushed", ours, theirs, "MiB/s", at_least=LIMIT),
        measured("of it, the slowest round", size / max(carried), "MiB/s"),
    ]


if __name__ == "__main__":
    main()
