"""``wireloom doctor``: brings the readings of the machine together with what the providers decide for themselves."""

from __future__ import annotations

import asyncio
import os

from wireloom.agent.facts import read_machine
from wireloom.agent.link_findings import judge_links, untested_links
from wireloom.agent.probes import Finding, judge
from wireloom.dataplane.contract import DataPlane
from wireloom.errors import Unavailable, WireloomError
from wireloom.providers.docker.gate import find_busybox
from wireloom.providers.libvirt.acceleration import probe
from wireloom.settings import Settings

__all__ = ["examine"]


def examine(settings: Settings) -> list[Finding]:
    """Every check of this machine. Blocks for some seconds, and leaves nothing behind."""
    acceleration = probe(settings.acceleration)
    try:
        busybox: str | None = str(find_busybox())
    except Unavailable:
        busybox = None
    readings = read_machine(
        settings, kvm=acceleration.kind == "kvm", kvm_reason=acceleration.reason, static_busybox=busybox
    )
    links = asyncio.run(_links(settings)) if readings.root else [untested_links("it needs root")]
    return [*judge(readings), *links]


async def _links(settings: Settings) -> list[Finding]:
    """Real frames over each kind of path of the data plane that the settings name."""
    plane = _dataplane(settings)
    try:
        return await _tried(plane)
    except WireloomError as error:
        return [untested_links(str(error))]
    finally:
        await plane.close()


async def _tried(plane: DataPlane) -> list[Finding]:
    """:raises WireloomError: it could not be tried; nothing of the trial is left."""
    try:
        return list(judge_links(await plane.abilities(), await plane.self_test()))
    finally:
        # Where the data plane itself is away this fails too, and says the same.
        await plane.withdraw()


def _dataplane(settings: Settings) -> DataPlane:
    """One of an installation of its own, so that it touches nothing of any other."""
    from wireloom.app import data_planes

    return data_planes()[settings.dataplane](f"doctor-{os.getpid()}")
