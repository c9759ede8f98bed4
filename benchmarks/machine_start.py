"""A virtual machine made and started by the provider, against libvirt alone.

The provider: ``create`` (overlay disk, definition), ``start`` (to the gate, guest paused), ``release``. Libvirt alone:
``qemu-img create`` for the overlay, ``defineXML`` with the very definition that the provider renders, ``create``. In
both cases the connection is open, the image is known and the taps exist already, as with an agent that has been running
for a while (but the provider opens a second connection for its first start, which counts), and the clock stops when the
guest's processor runs. Rounds alternate, so that what else the machine does
hits both alike; the ratio is the median of the rounds' ratios. Needs root, libvirt and the reference images.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import libvirt
from common import Result, compared, median, parser, report

from wireloom.model.identity import Identity, device_name, mac_address
from wireloom.model.runtime import RuntimeSpec
from wireloom.model.slice import PortIntent
from wireloom.providers.libvirt import LibvirtProvider
from wireloom.providers.libvirt.layout import system_disk
from wireloom.testing.guests import run_command
from wireloom.testing.installation import IMAGES, own_folder

URI: Final = "qemu:///system"
IMAGE: Final = "linux.qcow2"
PORTS: Final = 3
#: What the project aims at; the work of both is mostly the start of the emulator.
AIM: Final = 1.15


def specification(folder: Path, installation: str) -> RuntimeSpec:
    """One machine with a few ports."""
    node_id = secrets.token_hex(6)
    ports = tuple(
        PortIntent(
            index=index,
            name=f"eth{index}",
            guest_name=f"eth{index}",
            device=device_name("p", node_id, index),
            mac=mac_address(node_id, index),
        )
        for index in range(PORTS)
    )
    identity = Identity(installation=installation, lab_id="benchmark", lab="benchmark", node_id=node_id, node="v")
    own = folder / node_id
    own.mkdir(mode=0o755)
    return RuntimeSpec(
        identity=identity,
        incarnation=1,
        spec_hash="benchmark",
        hostname="v",
        image=IMAGE,
        memory_mb=256,
        ports=ports,
        folder=own,
    )


@contextlib.asynccontextmanager
async def taps(spec: RuntimeSpec) -> AsyncIterator[None]:
    """The host's side of the ports, which the data plane would have made."""
    made: list[str] = []
    try:
        for port in spec.ports:
            await run_command("ip", "tuntap", "add", port.device, "mode", "tap")
            made.append(port.device)
            await run_command("ip", "link", "set", port.device, "up")
        yield
    finally:
        for device in made:
            await run_command("ip", "link", "del", device)


@contextlib.asynccontextmanager
async def warm_provider(spec: RuntimeSpec) -> AsyncIterator[LibvirtProvider]:
    """A provider that has made a machine before: it is connected and has verified the image."""
    provider = LibvirtProvider(spec.identity.installation, image_folder=IMAGES)
    try:
        await provider.destroy(await provider.create(spec))
        _empty(spec.folder)
        yield provider
    finally:
        await provider.close()


def _empty(folder: Path) -> None:
    for child in folder.iterdir():
        shutil.rmtree(child)


async def by_provider(spec: RuntimeSpec) -> tuple[float, str]:
    """Seconds, and the definition that was used."""
    async with warm_provider(spec) as provider:
        began = time.perf_counter()
        runtime_id = await provider.create(spec)
        try:
            await provider.start(runtime_id)
            await provider.release(runtime_id)
            passed = time.perf_counter() - began
            with connection() as opened:
                definition = opened.lookupByUUIDString(runtime_id).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        finally:
            await provider.destroy(runtime_id)
        _empty(spec.folder)
    return passed, definition


@contextlib.contextmanager
def connection() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open(URI)
    try:
        yield opened
    finally:
        opened.close()


def by_libvirt(spec: RuntimeSpec, definition: str) -> float:
    """Seconds with nothing of ours in between."""
    for name in ("storage", "console", "logs"):
        (spec.folder / name).mkdir(mode=0o711)
    base = (IMAGES / IMAGE).resolve()
    overlay = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(system_disk(spec)))
    domain = None
    with connection() as opened:
        try:
            began = time.perf_counter()
            subprocess.run(overlay, check=True, timeout=60)
            domain = opened.defineXML(definition)
            domain.create()
            return time.perf_counter() - began
        finally:
            if domain is not None:
                _remove(domain)
            _empty(spec.folder)


def _remove(domain: libvirt.virDomain) -> None:
    if domain.isActive():
        domain.destroy()
    domain.undefine()
    with contextlib.suppress(OSError):
        os.unlink(f"/var/log/libvirt/qemu/{domain.name()}.log")


async def measure(rounds: int) -> list[Result]:
    ours: list[float] = []
    bare: list[float] = []
    with own_folder(show_logs=False) as folder:
        spec = specification(folder, f"benchmark-{secrets.token_hex(4)}")
        async with taps(spec):
            _, definition = await by_provider(spec)  # fills the caches of both
            for turn in range(rounds):
                for one in ("ours", "bare") if turn % 2 else ("bare", "ours"):
                    if one == "ours":
                        ours.append((await by_provider(spec))[0])
                    else:
                        bare.append(by_libvirt(spec, definition))
                print(f"round {turn + 1} of {rounds}", file=sys.stderr)
    ratio = median([mine / alone for mine, alone in zip(ours, bare, strict=True)])
    name = "virtual machine created and started"
    return [compared(name, median(ours), median(bare), "s", ratio=ratio, at_most=AIM)]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=15)
    arguments = options.parse_args()
    report("machine start", asyncio.run(measure(arguments.rounds)), arguments.json)
