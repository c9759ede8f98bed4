"""What users ask to be brought in, checked before a job is made of it, and as the job keeps it: without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from wireloom.controller.library.intake import fitting_name
from wireloom.controller.library.urls import read_address
from wireloom.errors import InvalidInput
from wireloom.model.base import Value
from wireloom.model.images import (
    FORMAT_OF_PROVIDER,
    AdoptRequest,
    ImageFormat,
    ImportRequest,
    PullRequest,
    SaveRequest,
)

__all__ = [
    "AdoptTask",
    "ExtractTask",
    "ImportTask",
    "PullTask",
    "SaveTask",
    "VerifyTask",
    "check_name",
    "checked_sha256",
    "format_of",
    "pull_task",
    "web_task",
]

_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
#: A reference by digest: what stands before it, and the digest.
_BY_DIGEST: Final = re.compile(r"(.+?)(?::[\w.-]+)?@(sha256:[0-9a-f]{64})")
#: Digits of a digest that become the tag of an image that has none.
_TAG_DIGITS: Final = 12


class ImportTask(ImportRequest):
    """:ivar file: name of an uploaded file. :ivar withheld: the address had more, which is held in memory alone."""

    file: str = ""
    withheld: bool = False


class PullTask(PullRequest):
    """:ivar withheld: there were credentials, which are held in memory alone."""

    withheld: bool = False


class AdoptTask(AdoptRequest):
    pass


class SaveTask(SaveRequest):
    pass


class ExtractTask(Value):
    image_id: str
    name: str = ""


class VerifyTask(Value):
    image_id: str


def checked_sha256(text: str) -> str:
    """``text`` as 64 digits, or empty. :raises InvalidInput:"""
    found = _SHA256.fullmatch(text.strip().lower())
    if text and found is None:
        raise InvalidInput("the expected sha256 is no digest", hint="it is 64 hexadecimal digits")
    return found[1] if found else ""


def check_name(name: str) -> None:
    """See to it that an image of some format can have that name. :raises InvalidInput:"""
    for image_format in FORMAT_OF_PROVIDER.values():
        try:
            fitting_name(name, image_format)
        except InvalidInput:
            continue
        return
    raise InvalidInput(
        f"{name!r} is no name for an image", hint="disks are called like vios-159.qcow2, containers like ceos:4.32.0F"
    )


def format_of(provider: str) -> ImageFormat:
    """:raises InvalidInput: its images are not kept in the library."""
    if provider not in FORMAT_OF_PROVIDER:
        raise InvalidInput(
            f"images of {provider} are not kept in the library", hint=f"those of {', '.join(FORMAT_OF_PROVIDER)} are"
        )
    return FORMAT_OF_PROVIDER[provider]


def web_task(request: ImportRequest) -> tuple[ImportTask, Mapping[str, str]]:
    """A file to be fetched, and what of the request is held in memory alone, by name.

    :raises InvalidInput: its address is none.
    """
    address = read_address(request.url)
    fields = {**request.model_dump(), "url": address.plain, "withheld": bool(address.secret)}
    secrets = {"url": address.secret, "password": address.password} if address.secret else {}
    return ImportTask.model_validate(fields), {key: value for key, value in secrets.items() if value}


def pull_task(request: PullRequest) -> tuple[PullTask, Mapping[str, str]]:
    """An image to be pulled, its reference complete, and what is held in memory alone, by name.

    :raises InvalidInput: it is none, or its name.
    """
    reference, name = request.reference.strip(), request.name
    if found := _BY_DIGEST.fullmatch(reference):
        proposed = f"{found[1]}:{found[2].removeprefix('sha256:')[:_TAG_DIGITS]}"
        fitting_name(found[1], "docker-archive")
    else:
        reference = proposed = fitting_name(reference, "docker-archive")
    fields = {
        **request.model_dump(),
        "reference": reference,
        "name": fitting_name(name or proposed, "docker-archive"),
        "username": "",
        "password": "",
        "withheld": bool(request.username or request.password),
    }
    secrets = {"username": request.username, "password": request.password}
    return PullTask.model_validate(fields), {key: value for key, value in secrets.items() if value}
