"""Images for a controller on a memory fabric, and hosts that tell what they have of them."""

from __future__ import annotations

import hashlib
from typing import Any

from controller_rig import Rig, until

from wireloom.controller.library.records import NewImage
from wireloom.fabric.image_documents import HostLibrary, HostShelf, ShelfEntry
from wireloom.model.images import ImageView, PresenceState, Provenance
from wireloom.model.runtime import Capabilities

DOCKER = Capabilities(name="docker", privileged=True, pulls=True)
LIBVIRT = Capabilities(name="libvirt", ports_fixed=True, disk=True)
SIMULATED = Capabilities(name="simulated", ports_fixed=True, fractional_cpu=True, binds=True)
BOTH = (DOCKER, LIBVIRT)

#: A lab of one container and one virtual machine, neither of which names an image that any device has.
MIXED = """\
name: mixed
nodes:
  c: {device: generic, provider: docker, image: "box:1"}
  v: {device: generic, provider: libvirt, image: box.qcow2}
"""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def stored(rig: Rig, name: str, data: bytes = b"content", /, **changes: Any) -> NewImage:
    """An image that can be taken up: its file is in the store."""
    digest = digest_of(data)
    file = rig.folder / f"file-{digest[-8:]}"
    file.write_bytes(data)
    rig.controller.library.blobs.adopt(file, digest, move=True)
    is_disk = name.endswith(".qcow2")
    known: dict[str, Any] = {
        "provider": "libvirt" if is_disk else "docker",
        "format": "qcow2" if is_disk else "docker-archive",
        "digest": digest,
        "content": digest if is_disk else digest_of(b"config of " + data),
        "size": len(data),
        "provenance": Provenance(origin="upload", source=name, kind="qcow2" if is_disk else "docker-archive"),
    }
    return NewImage(name=name, **{**known, **changes})


async def add(rig: Rig, name: str, data: bytes = b"content", /, **changes: Any) -> ImageView:
    return await rig.controller.library.catalogue.add(stored(rig, name, data, **changes))


def entry(image: ImageView, state: PresenceState = PresenceState.PRESENT, **more: Any) -> ShelfEntry:
    return ShelfEntry(provider=image.provider, name=image.name, content=image.content, state=state, **more)


async def told(rig: Rig, host: str) -> HostLibrary:
    """What ``host`` is to do, once it was written."""
    await until(lambda: rig.fabric.library(host) is not None)
    document = rig.fabric.library(host)
    assert document is not None
    return document


async def tell(rig: Rig, host: str, *entries: ShelfEntry, **more: Any) -> HostShelf:
    """``host`` tells what it has, of the document that it was given last."""
    known: dict[str, Any] = {"generation": (await told(rig, host)).generation, "free": 1 << 40}
    shelf = HostShelf(host=host, entries=entries, **{**known, **more})
    await rig.fabric.put_shelf(shelf)
    library = rig.controller.library
    await until(lambda: library.distribution.shelf(host) == shelf)
    return shelf
