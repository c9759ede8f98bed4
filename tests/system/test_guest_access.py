"""Every purpose over every channel on emulated guests, as containers and as virtual machines, with the same checks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from wireloom.devices import DeviceCatalogue
from wireloom.errors import WireloomError
from wireloom.model.views import DeployRequest
from wireloom.testing.conformance.guest_access import CHECKS, LAB, Access, topology_of
from wireloom.testing.conformance.guest_devices import GUESTS, TECHNOLOGIES, device_file
from wireloom.testing.conformance.guest_table import RECORD, Entry, dump
from wireloom.testing.installation import Installation, installed, own_folder

CASES = [(technology, guest) for technology in TECHNOLOGIES for guest in GUESTS if technology in guest.technologies]
#: Two machines boot at a time: the next one begins when the one before is checked.
AHEAD = 1

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(420)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        devices = folder / "data" / "devices"
        catalogue = DeviceCatalogue.load(strict=False)
        async with installed(folder, prepare=lambda: _write_devices(devices, catalogue)) as installation:
            yield installation
            for guest in GUESTS:
                await installation.destroy(LAB.format(name=guest.name))


def _write_devices(folder: Path, catalogue: DeviceCatalogue) -> None:
    folder.mkdir(parents=True)
    for guest in GUESTS:
        (folder / f"{guest.device_name}.yaml").write_text(device_file(guest, catalogue))


@pytest.fixture(scope="module")
def record() -> Iterator[list[Entry]]:
    """What was found, kept for the generated table."""
    entries: list[Entry] = []
    yield entries
    path = Path(RECORD)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(entries))


async def _deploy(host: Installation, number: int) -> None:
    """Have a case's lab run, once."""
    if number >= len(CASES):
        return
    technology, guest = CASES[number]
    async with host.client() as client:
        known = {summary.lab for summary in await client.labs()}
        if LAB.format(name=guest.name) not in known:
            await client.deploy(DeployRequest(topology=topology_of(guest, technology)))


def _chosen(request: pytest.FixtureRequest) -> set[int]:
    """Cases of this module that are to be run."""
    items = [
        item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module
    ]
    return {item.callspec.params["number"] for item in items}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{guest.name}-{tech}" for tech, guest in CASES])
async def test_guest(host: Installation, record: list[Entry], number: int, request: pytest.FixtureRequest) -> None:
    technology, guest = CASES[number]
    await _deploy(host, number)
    for ahead in range(number + 1, number + 1 + AHEAD):
        if ahead in _chosen(request) and CASES[ahead][1].name != guest.name:
            await _deploy(host, ahead)
    failures = []
    async with host.client() as client:
        access = Access(guest, technology, client)
        for purpose, check in CHECKS.items():
            began = time.monotonic()
            try:
                channel = await check(access)
            except (AssertionError, WireloomError) as error:
                failures.append(f"{purpose}: {error} {getattr(error, 'details', '')}")
                if purpose == "ready":
                    break
            else:
                print(f"{purpose}: {channel or 'nothing to do'} in {time.monotonic() - began:.1f} s")
                if channel:
                    record.append(Entry(guest.device, purpose, channel, technology))
        if failures:
            log = b"".join([chunk async for chunk in client.log(access.lab, access.node_name)])
            print(log.decode(errors="replace")[-3000:])
    await host.destroy(access.lab)
    assert not failures, "\n".join(failures)
