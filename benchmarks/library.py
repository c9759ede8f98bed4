"""A large library: 2,000 images, 200 hosts each of which has some of them. How soon the controller has read them, every
host is told, what hosts have is known, and all of it is listed; and what others notice of that meanwhile.

The controller, its database and the fabric are real processes; the hosts are this program, which tells what agents
tell, and hears what agents hear. Images are written into the database before the controller starts; their files
are small, and nobody reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, cast

from common import Result, measured, median, parser, report

from wireloom.agent.login import AgentLogin
from wireloom.client import Client
from wireloom.controller.store import Store
from wireloom.errors import WireloomError
from wireloom.fabric.connection import Fabric
from wireloom.fabric.documents import HostFacts
from wireloom.fabric.image_documents import HostLibrary, HostShelf, ShelfEntry
from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.subjects import HOST_TTL_S
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImageView, PresenceState, Provenance
from wireloom.model.runtime import Capabilities
from wireloom.settings import Paths
from wireloom.testing.installation import Installation, own_folder

PROVIDERS: Final = (Capabilities(name="docker", pulls=True), Capabilities(name="libvirt", disk=True))
DEADLINE_S: Final = 180.0
LOOK_S: Final = 0.02
SIZE: Final = 4096
#: Seconds: what people wait for without wondering, and for how long others may wait meanwhile.
START_S, TOLD_S, KNOWN_S, LIST_S, HELD_UP_S = 5.0, 10.0, 10.0, 2.0, 0.5


def digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def image(number: int) -> ImageView:
    """Every other one is a disk."""
    is_disk = number % 2 == 0
    name = f"device-{number}-17.3.{number}.qcow2" if is_disk else f"vendor/device-{number}:17.3.{number}"
    return ImageView(
        id=f"{number:012x}",
        name=name,
        provider="libvirt" if is_disk else "docker",
        format="qcow2" if is_disk else "docker-archive",
        digest=digest(name),
        content=digest(name if is_disk else f"config of {name}"),
        size=SIZE,
        version=f"17.3.{number}",
        provenance=Provenance(origin="upload", source=name, kind="qcow2" if is_disk else "docker-archive"),
    )


def host_name(number: int) -> str:
    return f"h{number:04}"


@dataclass
class Hosts:
    """What agents do, for many hosts at once.

    :ivar documents: what some of them were told last; they stand for the others, who are told between them.
    """

    fabric: Fabric
    installation: str
    count: int
    documents: dict[str, HostLibrary] = field(default_factory=dict)

    async def beat(self) -> None:
        """All hosts are here."""
        for number in range(self.count):
            await self.fabric.put_host(
                HostFacts(
                    host=host_name(number),
                    version="1",
                    installation=self.installation,
                    time=time.time(),
                    providers=PROVIDERS,
                )
            )

    async def beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(HOST_TTL_S / 3)
            await self.beat()

    async def hear(self, host: str) -> None:
        """Keep what ``host`` is told."""
        watcher = cast(Any, self.fabric.watch_library(host))
        async with aclosing(watcher) as changes:
            async for change in changes:
                if change.value is not None:
                    self.documents[host] = change.value

    def heard(self, check: Callable[[HostLibrary], bool]) -> bool:
        """Whether the first, the middle and the last host were told something for which ``check`` holds."""
        told = [self.documents.get(host) for host in self.listening]
        return all(document is not None and check(document) for document in told)

    @property
    def listening(self) -> tuple[str, ...]:
        return tuple(host_name(number) for number in (0, self.count // 2, self.count - 1))

    @staticmethod
    def share(images: Sequence[ImageView], number: int, each: int) -> list[ImageView]:
        """What the host of that number has."""
        return [images[(number * each + offset) % len(images)] for offset in range(each)]

    async def tell(self, images: Sequence[ImageView], each: int) -> None:
        """Every host has ``each`` of the images."""
        for number in range(self.count):
            mine = self.share(images, number, each)
            entries = [
                ShelfEntry(provider=one.provider, name=one.name, content=one.content, state=PresenceState.PRESENT)
                for one in mine
            ]
            host = host_name(number)
            known = self.documents.get(host) or next(iter(self.documents.values()))
            shelf = HostShelf(host=host, generation=known.generation, entries=tuple(entries), free=1 << 40)
            await self.fabric.put_shelf(shelf)


@contextlib.asynccontextmanager
async def hosts_of(host: Installation, count: int) -> AsyncIterator[Hosts]:
    login = AgentLogin.load(host.data)
    keys = FabricKeys.load(host.data / "fabric" / "keys.json")
    if login is None:
        raise FileNotFoundError("the controller has not introduced its host")
    fabric = await Fabric.connect(login.urls, name="benchmark", login=keys.controller_login)
    hosts = Hosts(fabric, login.installation, count)
    tasks = [asyncio.create_task(work) for work in (hosts.beat_for_ever(), *map(hosts.hear, hosts.listening))]
    try:
        yield hosts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await fabric.close()


async def held_up(client: Client, work: Awaitable[None]) -> tuple[float, float]:
    """Seconds until ``work`` is done, and how long others, who ask for something small, waited meanwhile at most."""
    longest, over = 0.0, asyncio.Event()

    async def ask_again_and_again() -> None:
        nonlocal longest
        while not over.is_set():
            began = time.perf_counter()
            await client.labs()
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(LOOK_S)

    asking = asyncio.create_task(ask_again_and_again())
    began = time.perf_counter()
    try:
        async with asyncio.timeout(DEADLINE_S):
            await work
        seconds = time.perf_counter() - began
    finally:
        over.set()
        await asking
    return seconds, longest


async def when(check: Callable[[], Awaitable[bool]]) -> None:
    """Return soon after ``check`` holds; a controller that is not there yet is waited for."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(WireloomError):
                if await check():
                    return
            await asyncio.sleep(LOOK_S)


async def store(host: Installation, images: Sequence[ImageView]) -> None:
    blobs = BlobStore(host.data / "library" / "blobs")
    for one in images:
        file = blobs.path(one.digest)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(one.size))
    database = await Store.open(f"sqlite+aiosqlite:///{Paths(data_dir=host.data).database_file}")
    try:
        for one in images:
            await database.images.add(one)
    finally:
        await database.close()


async def start(host: Installation, count: int) -> float:
    """Seconds from the controller's start until it has listed as many images."""

    async def listed() -> bool:
        async with host.client() as client:
            return len(await client.images.all()) == count

    began = time.perf_counter()
    await host.start("controller")
    await when(listed)
    return time.perf_counter() - began


async def course(hosts: Hosts, client: Client, images: Sequence[ImageView], each: int) -> list[Result]:
    """From hosts that come, over what they tell, to an image that goes."""
    victim = images[-1]

    async def come() -> None:
        await hosts.beat()
        await when(lambda: _soon(hosts.heard(lambda document: len(document.known) == len(images))))

    async def tell() -> None:
        await hosts.tell(images, each)
        last = hosts.count - 1
        await when(lambda: _known(client, hosts.share(images, last, each)[-1], host_name(last)))

    async def go() -> None:
        await client.images.delete(victim.id)
        await when(lambda: _soon(hosts.heard(lambda document: victim.pin in document.unwanted)))

    found = []
    for what, work, limit in (
        (f"{hosts.count} hosts come and are told of {len(images)} images", come, TOLD_S),
        (f"{hosts.count} hosts tell what they have, {each} images each, and it is known", tell, KNOWN_S),
        (f"an image is deleted, and {hosts.count} hosts are told", go, TOLD_S),
    ):
        seconds, longest = await held_up(client, work())
        found.append(measured(what, seconds, "s", at_most=limit))
        found.append(measured("others wait at most meanwhile", longest, "s", at_most=HELD_UP_S))
    return found


async def _soon(value: bool) -> bool:
    return value


async def _known(client: Client, image: ImageView, host: str) -> bool:
    return host in {item.host for item in (await client.images.get(image.id)).presence}


async def listing(client: Client, rounds: int = 5) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await client.images.all()
        taken.append(time.perf_counter() - began)
    return median(taken)


async def measure(options: Namespace) -> Sequence[Result]:
    images = [image(number) for number in range(options.images)]
    with own_folder(show_logs=False) as folder:
        host = Installation(folder, {"WIRELOOM_IMAGE_VERIFY_DAYS": "0"})
        await store(host, images)
        try:
            until_there = await start(host, len(images))
            async with hosts_of(host, options.hosts) as hosts, host.client() as client:
                found = await course(hosts, client, images, options.each)
                listed = await listing(client)
        finally:
            await host.down()
    return [
        measured(f"a controller with {len(images)} images starts and lists them", until_there, "s", at_most=START_S),
        *found,
        measured(f"{len(images)} images on {options.hosts} hosts listed by the client", listed, "s", at_most=LIST_S),
    ]


if __name__ == "__main__":
    choices = parser(__doc__)
    choices.add_argument("--images", type=int, default=2000)
    choices.add_argument("--hosts", type=int, default=200)
    choices.add_argument("--each", type=int, default=50, help="images that a host has")
    arguments = choices.parse_args()
    report("library", asyncio.run(measure(arguments)), arguments.json)
