"""What tests of imports have in common: a disk, an archive, a medium, and a hold on any step."""

from __future__ import annotations

import asyncio
import hashlib

from library_rig import Rig

from wireloom.library.media import MediumImage
from wireloom.model.images import ImportRequest, JobChoices, JobView, Offer

DISK = b"qcow2 clean\n" + bytes(range(256)) * 10
ARCHIVE = b"docker-archive ceos:4.32\n" + bytes(range(256)) * 10


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def imported(rig: Rig, content: bytes, file: str = "vios.qcow2", **wish: object) -> JobView:
    """The import of an upload, ended."""
    upload = await rig.uploaded(content, file)
    request = ImportRequest.model_validate({"upload": upload, **wish})
    return await rig.ended(await rig.imports.import_file(request))


def a_medium(rig: Rig) -> None:
    medium = rig.medium
    medium.choices = JobChoices(
        title="Reference platform",
        offers=(
            Offer(key="image:a", kind="image", title="A 1", size=len(DISK), needs=("device:a",)),
            Offer(key="image:bad", kind="image", title="Bad", size=10),
            Offer(key="device:a", kind="device", title="Router A"),
        ),
    )
    medium.files = {"image:a": ("a-1.qcow2", DISK), "image:bad": ("bad.qcow2", b"qcow2 bad\n")}
    medium.images = {
        key: MediumImage(key=key, title=key, file=key, device="vios" if key == "image:a" else "", version="1", size=1)
        for key in medium.files
    }
    medium.devices = {"device:a": "name: router-a"}


def hold(rig: Rig, at: str, reached: asyncio.Event, go: asyncio.Event) -> None:
    """Have the step ``at`` wait at its end."""
    loop = asyncio.get_running_loop()

    def held(real):  # type: ignore[no-untyped-def]
        def step(*args: object, **kwargs: object) -> object:
            result = real(*args, **kwargs)
            loop.call_soon_threadsafe(reached.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result(5)
            return result

        return step

    def held_async(real):  # type: ignore[no-untyped-def]
        async def step(*args: object, **kwargs: object) -> object:
            result = await real(*args, **kwargs)
            reached.set()
            await go.wait()
            return result

        return step

    intake = rig.imports._intake
    if at == "commit":
        rig.uploads.commit = held_async(rig.uploads.commit)  # type: ignore[method-assign]
    elif at == "add":
        rig.catalogue.add = held_async(rig.catalogue.add)  # type: ignore[method-assign]
    elif at == "adopt":
        rig.blobs.adopt = held(rig.blobs.adopt)  # type: ignore[method-assign]
    else:
        tools = intake._tools
        intake._tools = type(tools)(**{**vars(tools), at: held(getattr(tools, at))})


def unhold(rig: Rig) -> None:
    for thing, name in ((rig.catalogue, "add"), (rig.blobs, "adopt")):
        thing.__dict__.pop(name, None)
