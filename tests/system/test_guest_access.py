"""Every purpose over every channel on emulated guests, as containers and as virtual machines, with the same checks.

All cases of a technology are under way at once, as many as the machine bears; each test waits for its own case.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from wireloom.client import Client
from wireloom.devices import DeviceCatalogue
from wireloom.errors import WireloomError
from wireloom.model.views import DeployRequest
from wireloom.testing.conformance.guest_access import CHECKS, Access, topology_of
from wireloom.testing.conformance.guest_devices import GUESTS, TECHNOLOGIES, Guest, Technology, device_file
from wireloom.testing.conformance.guest_table import RECORD, Entry, dump, load, merge
from wireloom.testing.installation import Installation, installed, own_folder

CASES = [(technology, guest) for technology in TECHNOLOGIES for guest in GUESTS if technology in guest.technologies]
#: Cases under way at once. Containers cost little; two machines boot at a time.
AT_ONCE: Final[dict[Technology, int]] = {"docker": 7, "libvirt": 2}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(420)]


@dataclass
class Outcome:
    """What a case showed: lines for people, what failed, and entries of the table."""

    guest: Guest
    technology: Technology
    told: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


class Cases:
    """The cases that were chosen. Those of a technology begin when the first of them is asked for."""

    def __init__(self, host: Installation, chosen: list[int]) -> None:
        self._host = host
        self._chosen = chosen
        self._tasks: dict[int, asyncio.Task[Outcome]] = {}

    async def outcome(self, number: int) -> Outcome:
        technology = CASES[number][0]
        if number not in self._tasks:
            places = asyncio.Semaphore(AT_ONCE[technology])
            for other in self._chosen:
                if CASES[other][0] == technology:
                    self._tasks[other] = asyncio.create_task(self._run(other, places))
        return await asyncio.shield(self._tasks[number])

    async def close(self) -> list[Outcome]:
        """End what nobody waits for; what was finished."""
        for task in self._tasks.values():
            task.cancel()
        done = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return [outcome for outcome in done if isinstance(outcome, Outcome)]

    async def _run(self, number: int, places: asyncio.Semaphore) -> Outcome:
        technology, guest = CASES[number]
        async with places, self._host.client() as client:
            access = Access(guest, technology, client)
            await client.deploy(DeployRequest(topology=topology_of(guest, technology)))
            try:
                return await _checked(access, client)
            finally:
                await self._host.destroy(access.lab)


async def _checked(access: Access, client: Client) -> Outcome:
    """Every check on a node that was deployed; without readiness the rest is not tried."""
    outcome = Outcome(access.guest, access.technology)
    for purpose, check in CHECKS.items():
        began = time.monotonic()
        try:
            channel = await check(access)
        except (AssertionError, WireloomError) as error:
            took = time.monotonic() - began
            outcome.failures.append(f"{purpose} after {took:.1f} s: {error} {getattr(error, 'details', '')}")
            if purpose == "ready":
                break
            continue
        outcome.told.append(f"{purpose}: {channel or 'nothing to do'} in {time.monotonic() - began:.1f} s")
        if channel:
            outcome.entries.append(Entry(access.guest.device, purpose, channel, access.technology))
    if outcome.failures:
        log = b"".join([chunk async for chunk in client.log(access.lab, access.node_name)])
        outcome.told.append(log.decode(errors="replace")[-3000:])
    return outcome


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host() -> AsyncIterator[Installation]:
    with own_folder() as folder:
        devices = folder / "data" / "devices"
        catalogue = DeviceCatalogue.load(strict=False)
        async with installed(folder, prepare=lambda: _write_devices(devices, catalogue)) as installation:
            yield installation


def _write_devices(folder: Path, catalogue: DeviceCatalogue) -> None:
    folder.mkdir(parents=True)
    for guest in GUESTS:
        (folder / f"{guest.device_name}.yaml").write_text(device_file(guest, catalogue))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cases(host: Installation, request: pytest.FixtureRequest) -> AsyncIterator[Cases]:
    """The cases; at the end, what they showed is kept for the generated table, beside what other runs showed."""
    cases = Cases(host, _chosen(request))
    yield cases
    path = Path(RECORD)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = {f"{found.guest.name}-{found.technology}": found.entries for found in await cases.close()}
    known = load(path.read_text()) if path.exists() else {}
    path.write_text(dump(merge(known, shown)))


def _chosen(request: pytest.FixtureRequest) -> list[int]:
    """Cases of this module that are to be run, in order."""
    items = request.session.items
    ours = [item for item in items if isinstance(item, pytest.Function) and item.module is request.module]
    return [number for item in ours if isinstance(number := item.callspec.params["number"], int)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{guest.name}-{tech}" for tech, guest in CASES])
async def test_guest(cases: Cases, number: int) -> None:
    outcome = await cases.outcome(number)
    print(*outcome.told, sep="\n")
    assert not outcome.failures, "\n".join(outcome.failures)
