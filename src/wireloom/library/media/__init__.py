"""Media that hold more than one image: reference-platform CDs and GNS3 appliance files.

A CD is read in a process with limits (``reader``), after its structure was looked at (``structure``, ``records``); it
tells values (``listing``, ``definitions``). ``platform`` holds them against the devices that we have, copies images,
and makes devices of the rest (``nodes``, ``day0``, ``portnames``, ``devicetext``). ``appliance`` reads GNS3's files.

All functions block.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wireloom.library.media.appliance import Appliance, ApplianceImage, ImageMatch, read_appliance
from wireloom.library.media.platform import MediumImage, Platform, read_platform
from wireloom.library.values import Limits, Progress, no_progress
from wireloom.model.device import Device
from wireloom.model.images import JobChoices

__all__ = [
    "Appliance",
    "ApplianceImage",
    "ImageMatch",
    "MediumImage",
    "Platform",
    "device",
    "extract",
    "gns3",
    "image",
    "offers",
    "read_platform",
]


def offers(path: Path, devices: Iterable[Device], limits: Limits) -> JobChoices:
    """What a reference platform's CD offers. :raises ImageRefused: it cannot be read, or is no such CD."""
    return read_platform(path, devices, limits).choices()


def image(path: Path, key: str, devices: Iterable[Device], limits: Limits) -> MediumImage:
    """What is known of an image on it: file, device, version.

    :raises NotFound: there is no such one. :raises ImageRefused: it, or the CD, cannot be used.
    """
    return read_platform(path, devices, limits).image(key)


def extract(path: Path, key: str, folder: Path, limits: Limits, progress: Progress = no_progress) -> Path:
    """Copy an image of it into ``folder``, under the name that it has there; goes on where an earlier try ended.

    :raises NotFound: there is no such one. :raises ImageRefused: it, or the CD, cannot be used.
    """
    return read_platform(path, (), limits).extract(key, folder, limits, progress)


def device(path: Path, key: str, devices: Iterable[Device], limits: Limits) -> str:
    """The text of a user's device file for a node definition of it; empty: one that is there is what it is.

    :raises NotFound: there is no such one. :raises InvalidInput: it is no machine.
    :raises ImageRefused: it, or the CD, cannot be used.
    """
    made = read_platform(path, devices, limits).device(key)
    return "" if made is None else made.text


def gns3(text: str, devices: Iterable[Device] = ()) -> Appliance:
    """A GNS3 appliance file. :raises ImageRefused: it is none."""
    return read_appliance(text, devices)
